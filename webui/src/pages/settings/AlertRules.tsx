// The rules that raise alerts: each on or off, its thresholds, and how long it has to hold.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, call, fieldFault, type AlertRuleInfo } from "../../api/client";
import { useAlertRules } from "../../api/queries";
import { Dialog, FormDialog } from "../../components/Dialog";
import { Button, Check, Failure, Loading, Text } from "../../components/ui";
import { level, unitWords } from "../../lib/alerts";

function levels({ settings, unit }: AlertRuleInfo): string {
  if (!unit) return "";
  const words = [
    settings.warning != null && `warning at ${settings.warning} ${unitWords(unit)}`,
    settings.critical != null && `critical at ${settings.critical} ${unitWords(unit)}`,
  ];
  return words.filter(Boolean).join(", ");
}

export function Rules({ refusal, onClose }: { refusal: string | undefined; onClose: () => void }) {
  const rules = useAlertRules();
  const [rule, setRule] = useState<AlertRuleInfo>();
  if (rule) return <EditRule rule={rule} onClose={() => setRule(undefined)} />;
  return (
    <Dialog title="Alert rules" wide onClose={onClose}>
      {rules.isPending && <Loading />}
      <Failure error={rules.error} />
      <ul className="flex flex-col divide-y divide-line">
        {rules.data?.map((each) => (
          <li key={each.id} className="flex items-start gap-3 py-2.5">
            <div className="min-w-0 flex-1">
              <p className="font-medium">
                {each.title}
                {!each.settings.enabled && <span className="font-normal text-dim"> (off)</span>}
                {JSON.stringify(each.settings) !== JSON.stringify(each.defaults) && (
                  <span className="font-normal text-dim"> (changed)</span>
                )}
              </p>
              <p className="text-sm text-dim">{each.description}</p>
              {each.unit && <p className="text-sm">{levels(each)}</p>}
            </div>
            <Button small refusal={refusal} aria-label={`Change ${each.title}`} onClick={() => setRule(each)}>
              Change
            </Button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function EditRule({ rule, onClose }: { rule: AlertRuleInfo; onClose: () => void }) {
  const client = useQueryClient();
  const { settings, unit } = rule;
  const [enabled, setEnabled] = useState(settings.enabled);
  const [hold, setHold] = useState(String(settings.hold_seconds));
  const [clear, setClear] = useState(String(settings.clear_seconds));
  const [warning, setWarning] = useState(settings.warning == null ? "" : String(settings.warning));
  const [critical, setCritical] = useState(settings.critical == null ? "" : String(settings.critical));
  const [fault, setFault] = useState<string>();
  const params = { path: { id: rule.id } };
  const done = {
    onSuccess: onClose,
    onSettled: () => {
      void client.invalidateQueries({ queryKey: ["alert-rules"] });
      void client.invalidateQueries({ queryKey: ["alerts"] });
    },
  };
  const save = useMutation({
    mutationFn: () => {
      const [low, high] = [level(warning), level(critical)];
      const body = {
        enabled,
        hold_seconds: level(hold) ?? 0,
        clear_seconds: level(clear) ?? 0,
        ...(low == null ? {} : { warning: low }),
        ...(high == null ? {} : { critical: high }),
      };
      return call(api.PUT("/alert-rules/{id}", { params, body }));
    },
    ...done,
  });
  const reset = useMutation({ mutationFn: () => call(api.DELETE("/alert-rules/{id}", { params })), ...done });
  const at = (field: string) => fieldFault(save.error, field);
  const unitText = unit ? ` (${unitWords(unit)})` : "";
  return (
    <FormDialog
      title={rule.title}
      verb="Save"
      busy={save.isPending || reset.isPending}
      error={save.error ?? reset.error}
      onSubmit={() => {
        const bad = [warning, critical, hold, clear].some((text) => level(text) === undefined);
        setFault(bad ? "These have to be numbers." : undefined);
        if (!bad) save.mutate();
      }}
      onClose={onClose}
    >
      <p className="text-dim">{rule.description}</p>
      <Check checked={enabled} onChange={(event) => setEnabled(event.target.checked)}>
        Raise alerts
      </Check>
      {unit && (
        <div className="grid gap-4 sm:grid-cols-2">
          <Text
            label={`Warning${unitText}`}
            inputMode="decimal"
            value={warning}
            fault={at("warning")}
            onChange={(event) => setWarning(event.target.value)}
          />
          <Text
            label={`Critical${unitText}`}
            inputMode="decimal"
            value={critical}
            fault={at("critical")}
            onChange={(event) => setCritical(event.target.value)}
          />
        </div>
      )}
      <div className="grid gap-4 sm:grid-cols-2">
        <Text
          label="Seconds it has to hold"
          inputMode="numeric"
          value={hold}
          fault={at("hold_seconds")}
          onChange={(event) => setHold(event.target.value)}
        />
        <Text
          label="Seconds until it is over"
          inputMode="numeric"
          value={clear}
          fault={at("clear_seconds")}
          onChange={(event) => setClear(event.target.value)}
        />
      </div>
      {fault && (
        <p role="alert" className="text-bad">
          {fault}
        </p>
      )}
      <p>
        <Button busy={reset.isPending} onClick={() => reset.mutate()}>
          Back to the defaults
        </Button>
      </p>
    </FormDialog>
  );
}
