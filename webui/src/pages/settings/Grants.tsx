// What someone may do: roles, and where each holds.
import { Plus, Trash2 } from "lucide-react";
import type { ReactNode } from "react";
import type { Grant } from "../../api/client";
import { useHosts, useImages, useNetworks, usePools, useRoles, useVms, useVolumes } from "../../api/queries";
import { targetName, useTargets } from "../../components/Target";
import { Button, Select, Text } from "../../components/ui";
import { EMPTY_GRANT, type GrantForm } from "../../lib/grants";

/** Grants in words. */
export function useGrantWords() {
  const roles = useRoles().data;
  const names = useTargets();
  return ({ role, scope }: Grant) => {
    const name = roles?.find(({ meta }) => meta.id === role)?.meta.name ?? "?";
    if (scope.kind === "cluster") return name;
    if (scope.kind === "object")
      return `${name} on ${targetName(names, { target: `${scope.object}/${scope.id}` })}`;
    const labels = Object.entries(scope.labels).map(([key, value]) => `${key}=${value}`);
    return `${name} on ${labels.join(", ")}`;
  };
}

/** Every object a role can hold on, as `kind/id`. */
function useObjects() {
  const lists = [
    ["vm", "virtual machine", useVms().data],
    ["host", "host", useHosts().data],
    ["volume", "volume", useVolumes().data],
    ["image", "image", useImages().data],
    ["network", "network", useNetworks().data],
    ["pool", "pool", usePools().data],
  ] as const;
  return lists.flatMap(([kind, word, list]) =>
    (list ?? []).map(({ meta }) => [`${kind}/${meta.id}`, `${meta.name} (${word})`] as const),
  );
}

/** One role and where it holds. */
export function GrantFields({
  value: grant,
  fault,
  onValue,
  children,
}: {
  value: GrantForm;
  fault: string | undefined;
  onValue: (value: GrantForm) => void;
  /** At the end of the row. */
  children?: ReactNode;
}) {
  const roles = useRoles().data ?? [];
  const objects = useObjects();
  const set = (change: Partial<GrantForm>) => onValue({ ...grant, ...change });
  return (
    <div className="flex flex-col gap-1">
      <div className="grid items-end gap-2 sm:grid-cols-[1fr_1fr_1fr_auto]">
        <Select
          label="Role"
          value={grant.role}
          none="Choose one"
          options={roles.map(({ meta }) => [meta.id, meta.name])}
          onValue={(role) => set({ role })}
        />
        <Select
          label="Where"
          value={grant.where}
          options={[
            ["cluster", "Everywhere"],
            ["labels", "Objects with labels"],
            ["object", "One object"],
          ]}
          onValue={(where) => set({ where: where as GrantForm["where"] })}
        />
        {grant.where === "labels" ? (
          <Text
            label="Labels"
            placeholder="env=test"
            value={grant.labels}
            onChange={(event) => set({ labels: event.target.value })}
          />
        ) : grant.where === "object" ? (
          <Select
            label="Object"
            value={grant.object}
            none="Choose one"
            options={objects}
            onValue={(object) => set({ object })}
          />
        ) : (
          <span />
        )}
        {children}
      </div>
      {fault && (
        <p role="alert" className="text-sm text-bad">
          {fault}
        </p>
      )}
    </div>
  );
}

export function GrantsEditor({
  value,
  faults,
  onValue,
}: {
  value: GrantForm[];
  faults: (string | undefined)[];
  onValue: (value: GrantForm[]) => void;
}) {
  return (
    <fieldset className="flex flex-col gap-3 rounded-md border border-line p-3">
      <legend className="px-1 font-medium">May</legend>
      {value.length === 0 && <p className="text-dim">Nothing by itself; perhaps by groups.</p>}
      {value.map((grant, n) => (
        <GrantFields
          key={n}
          value={grant}
          fault={faults[n]}
          onValue={(changed) => onValue(value.map((each, at) => (at === n ? changed : each)))}
        >
          <Button
            kind="quiet"
            icon={Trash2}
            aria-label={`Remove role ${n + 1}`}
            onClick={() => onValue(value.filter((_, at) => at !== n))}
          />
        </GrantFields>
      ))}
      <div>
        <Button small icon={Plus} onClick={() => onValue([...value, EMPTY_GRANT])}>
          Add a role
        </Button>
      </div>
    </fieldset>
  );
}
