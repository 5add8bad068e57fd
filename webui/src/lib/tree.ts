// The inventory as rows of a tree.
import type { Host, Vm } from "../api/client";
import { seenWith } from "./seen";

export interface Node {
  kind: "host" | "vm";
  id: string;
  name: string;
  state: string;
  level: number;
  /** Absent: nothing is beneath it. */
  open?: boolean;
  /** Machines beneath it. */
  count?: number;
}

const collator = new Intl.Collator(undefined, { numeric: true });
const byName = (a: { meta: { name: string } }, b: { meta: { name: string } }) =>
  collator.compare(a.meta.name, b.meta.name);

/** Hosts by name, beneath each that is open its machines by name. */
export function branches(
  hosts: readonly Host[],
  vms: readonly Vm[],
  open: (host: string) => boolean,
): Node[] {
  const seen = seenWith(hosts);
  const on = new Map<string, Vm[]>();
  for (const vm of vms) {
    const host = vm.status.host;
    if (!host) continue;
    const beside = on.get(host);
    if (beside) beside.push(vm);
    else on.set(host, [vm]);
  }
  return [...hosts].sort(byName).flatMap((host) => {
    const { id, name } = host.meta;
    const machines = on.get(id) ?? [];
    const node: Node = { kind: "host", id, name, state: hostState(host), level: 1, count: machines.length };
    if (machines.length === 0) return [node];
    if (!open(id)) return [{ ...node, open: false }];
    return [
      { ...node, open: true },
      ...machines.sort(byName).map((vm): Node => ({
        kind: "vm",
        id: vm.meta.id,
        name: vm.meta.name,
        state: seen(vm),
        level: 2,
      })),
    ];
  });
}

/** How a host is, in a word. */
export function hostState(host: Host): "up" | "warning" | "away" | "maintenance" | "witness" {
  if (!host.status) return "away";
  if (host.maintenance) return "maintenance";
  if (host.witness) return "witness";
  const real = (host.status.warnings ?? []).length > 0 && !host.status.simulated;
  return real || !host.status.virtualization.available ? "warning" : "up";
}
