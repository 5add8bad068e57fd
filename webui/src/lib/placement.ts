// Rules about the place of machines: from a form to what the API wants, and which machines break them now.
import type { Placement, Vm } from "../api/client";

export interface Rule {
  kind: "apart" | "near";
  /** `key=value` */
  label: string;
  /** Rather not at all than otherwise. */
  strict: boolean;
}

export interface PlacementForm {
  /** Id of the only host; empty for any. */
  host: string;
  rules: Rule[];
}

export const ANYWHERE: PlacementForm = { host: "", rules: [] };

export function placementForm(placement: Placement | undefined): PlacementForm {
  const of = (kind: Rule["kind"]) =>
    (placement?.[kind] ?? []).map(({ label, strict }) => ({ kind, label, strict: strict ?? false }));
  return { host: placement?.host ?? "", rules: [...of("apart"), ...of("near")] };
}

/** What is asked for; absent where nothing is. */
export function placement(form: PlacementForm): Placement | undefined {
  const of = (kind: Rule["kind"]) =>
    form.rules
      .filter((rule) => rule.kind === kind)
      .map(({ label, strict }) => ({ label: label.trim(), ...(strict ? { strict } : {}) }));
  const [apart, near] = [of("apart"), of("near")];
  if (!form.host && apart.length === 0 && near.length === 0) return undefined;
  return {
    ...(form.host ? { host: form.host } : {}),
    ...(apart.length ? { apart } : {}),
    ...(near.length ? { near } : {}),
  };
}

/** Key and value of a rule's label. */
function pair(label: string): [string, string] | undefined {
  const at = label.indexOf("=");
  return at > 0 ? [label.slice(0, at), label.slice(at + 1)] : undefined;
}

/** The first rule whose label is none. */
export function ruleFault(form: PlacementForm): string | undefined {
  const wrong = form.rules.find(({ label }) => pair(label.trim()) === undefined);
  if (!wrong) return undefined;
  return wrong.label.trim()
    ? `“${wrong.label.trim()}” is not of the form key=value.`
    : "Give the label of the other machines, like tier=db.";
}

export const ruleText = ({ kind, label, strict }: Rule) =>
  `${kind === "apart" ? "not on the hosts of" : "on the hosts of"} machines with ${label}${strict ? "" : ", if possible"}`;

/** Every label that a machine has, as `key=value`, most used first. */
export function labelsInUse(vms: readonly Vm[]): string[] {
  const counts = new Map<string, number>();
  for (const { meta } of vms)
    for (const [key, value] of Object.entries(meta.labels ?? {})) {
      const label = `${key}=${value}`;
      counts.set(label, (counts.get(label) ?? 0) + 1);
    }
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([label]) => label);
}

const named = (vm: Vm, label: string) => {
  const both = pair(label);
  return both !== undefined && vm.meta.labels?.[both[0]] === both[1];
};

/** A rule a machine has, and why it is broken where the machine is now. */
export interface Standing {
  vm: Vm;
  rule: Rule;
  /** The machines it should not be with; for `near` those it should be with. Empty where the rule holds. */
  against: Vm[];
}

/** As the daemon judges them: a machine does not count against itself, and the first of a group may be anywhere. */
export function standings(vms: readonly Vm[]): Standing[] {
  return vms.flatMap((vm) =>
    placementForm(vm.spec.placement).rules.map((rule) => {
      const others = vms.filter((other) => other !== vm && named(other, rule.label));
      const here = others.filter(({ status }) => status.host != null && status.host === vm.status.host);
      if (vm.status.host == null) return { vm, rule, against: [] };
      if (rule.kind === "apart") return { vm, rule, against: here };
      return { vm, rule, against: here.length > 0 ? [] : others };
    }),
  );
}

/** Machines with the same rule. */
export interface RuleGroup {
  rule: Rule;
  members: Standing[];
  broken: Standing[];
}

/** The rules of all machines, those that are broken first. */
export function ruleGroups(vms: readonly Vm[]): RuleGroup[] {
  const groups = new Map<string, RuleGroup>();
  for (const standing of standings(vms)) {
    const { rule } = standing;
    const key = `${rule.kind} ${rule.strict} ${rule.label}`;
    let group = groups.get(key);
    if (!group) groups.set(key, (group = { rule, members: [], broken: [] }));
    group.members.push(standing);
    if (standing.against.length > 0) group.broken.push(standing);
  }
  return [...groups.values()].sort(
    (a, b) => b.broken.length - a.broken.length || a.rule.label.localeCompare(b.rule.label),
  );
}
