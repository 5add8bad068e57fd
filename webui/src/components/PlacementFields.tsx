// Where a machine may be: only one host, and near to or apart from others by their labels.
import { Plus, Trash2 } from "lucide-react";
import { useId } from "react";
import { useHosts, useVms } from "../api/queries";
import { labelsInUse, type PlacementForm, type Rule } from "../lib/placement";
import { Button, Check, Select, Text } from "./ui";

/** As many as the host takes of each kind. */
const MOST = 16;

export function PlacementFields({
  value,
  fault,
  onValue,
}: {
  value: PlacementForm;
  fault?: string | undefined;
  onValue: (value: PlacementForm) => void;
}) {
  const hosts = useHosts().data ?? [];
  const labels = labelsInUse(useVms().data ?? []).slice(0, 100);
  const list = useId();
  const change = (at: number, to: Partial<Rule>) =>
    onValue({ ...value, rules: value.rules.map((rule, n) => (n === at ? { ...rule, ...to } : rule)) });
  return (
    <fieldset className="flex flex-col gap-3" aria-describedby={fault ? `${list}-fault` : undefined}>
      <legend className="mb-2 font-semibold">Placement</legend>
      <Select
        label="Host"
        value={value.host}
        none="The one that fits best"
        options={hosts.filter(({ witness }) => !witness).map(({ meta }) => [meta.id, meta.name] as const)}
        hint={value.host ? "It is never moved elsewhere, not even when this host fails." : undefined}
        onValue={(host) => onValue({ ...value, host })}
      />
      {value.rules.map((rule, n) => (
        <div
          key={n}
          role="group"
          aria-label={`Rule ${n + 1}`}
          className="flex flex-wrap items-end gap-3 rounded-md border border-line p-3"
        >
          <div className="w-44">
            <Select
              label="It is kept"
              value={rule.kind}
              options={[
                ["apart", "apart from"],
                ["near", "together with"],
              ]}
              onValue={(kind) => change(n, { kind: kind as Rule["kind"] })}
            />
          </div>
          <div className="min-w-44 flex-1">
            <Text
              label="machines with the label"
              placeholder="tier=db"
              list={list}
              value={rule.label}
              onChange={({ target }) => change(n, { label: target.value })}
            />
          </div>
          <div className="flex w-full items-center gap-3">
            <Check
              checked={rule.strict}
              hint="Otherwise it is only preferred."
              onChange={({ target }) => change(n, { strict: target.checked })}
            >
              Strictly: rather not at all than otherwise
            </Check>
            <Button
              small
              kind="quiet"
              icon={Trash2}
              className="ml-auto"
              aria-label={`Remove rule ${n + 1}`}
              onClick={() => onValue({ ...value, rules: value.rules.filter((_, at) => at !== n) })}
            />
          </div>
        </div>
      ))}
      <datalist id={list}>
        {labels.map((label) => (
          <option key={label} value={label} />
        ))}
      </datalist>
      {fault && (
        <p id={`${list}-fault`} className="text-sm text-bad" role="alert">
          {fault}
        </p>
      )}
      <div>
        <Button
          small
          icon={Plus}
          refusal={value.rules.length >= MOST ? `At most ${MOST} rules.` : undefined}
          onClick={() =>
            onValue({ ...value, rules: [...value.rules, { kind: "apart", label: "", strict: false }] })
          }
        >
          Add a rule
        </Button>
      </div>
    </fieldset>
  );
}
