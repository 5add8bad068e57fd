// What a machine asks of its place, whether that holds now, and changing it.
import { Link } from "@tanstack/react-router";
import { Pencil } from "lucide-react";
import { useMemo, useState } from "react";
import { ApiError, type Vm } from "../../api/client";
import { useHosts, useNames, useVms } from "../../api/queries";
import { FormDialog } from "../../components/Dialog";
import { PlacementFields } from "../../components/PlacementFields";
import { Button, Card, State } from "../../components/ui";
import { placement, placementForm, ruleFault, ruleText, standings } from "../../lib/placement";
import { useSaveSpec, useWriteRefusal } from "./save";

export function PlacementCard({ vm }: { vm: Vm }) {
  const [edit, setEdit] = useState(false);
  const vms = useVms().data;
  const host = useNames(useHosts());
  const form = placementForm(vm.spec.placement);
  const rules = useMemo(() => {
    const id = vm.meta.id;
    const all = (vms ?? []).map((each) => (each.meta.id === id ? vm : each));
    return standings(all).filter((standing) => standing.vm.meta.id === id);
  }, [vms, vm]);
  return (
    <Card
      title="Placement"
      actions={
        <Button small icon={Pencil} refusal={useWriteRefusal(vm)} onClick={() => setEdit(true)}>
          Change
        </Button>
      }
    >
      {!form.host && form.rules.length === 0 && (
        <p className="text-dim">Any host that fits. It is moved when its host is emptied.</p>
      )}
      <ul className="flex flex-col gap-2">
        {form.host && (
          <li>
            only on{" "}
            <Link className="link" to="/hosts/$id" params={{ id: form.host }}>
              {host(form.host) ?? form.host}
            </Link>
          </li>
        )}
        {rules.map(({ rule, against }, n) => (
          <li key={n}>
            {ruleText(rule)}
            {against.length > 0 && (
              <span className="block">
                <State
                  state={rule.strict ? "failed" : "warning"}
                  word={rule.kind === "apart" ? "it is with" : "it is not with"}
                />{" "}
                {against.slice(0, 5).map((other, at) => (
                  <span key={other.meta.id}>
                    {at > 0 && ", "}
                    <Link className="link" to="/vms/$id" params={{ id: other.meta.id }}>
                      {other.meta.name}
                    </Link>
                  </span>
                ))}
                {against.length > 5 && ` and ${against.length - 5} more`}
              </span>
            )}
          </li>
        ))}
      </ul>
      {edit && <Edit vm={vm} onClose={() => setEdit(false)} />}
    </Card>
  );
}

function Edit({ vm, onClose }: { vm: Vm; onClose: () => void }) {
  const [form, setForm] = useState(() => placementForm(vm.spec.placement));
  const [fault, setFault] = useState<string>();
  const save = useSaveSpec(vm, onClose);
  const refused =
    save.error instanceof ApiError
      ? save.error.problem.errors?.find(({ field }) => field.startsWith("spec.placement"))?.reason
      : undefined;
  return (
    <FormDialog
      title={`Placement of ${vm.meta.name}`}
      verb="Save"
      busy={save.isPending}
      error={save.error}
      onSubmit={() => {
        const wrong = ruleFault(form);
        setFault(wrong);
        if (!wrong) save.mutate({ placement: placement(form) ?? {} });
      }}
      onClose={onClose}
    >
      <p>
        It counts whenever a host is chosen for the machine. Where it is now it stays: migrate it to follow.
      </p>
      <PlacementFields
        value={form}
        fault={fault ?? refused}
        onValue={(value) => (setFault(undefined), setForm(value))}
      />
    </FormDialog>
  );
}
