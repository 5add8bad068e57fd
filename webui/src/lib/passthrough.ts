// Functions of a host's PCI bus: which of them a machine can be given.
import type { PciFunction, Vm } from "../api/client";

export interface Offer {
  address: string;
  /** All that come with it: its IOMMU group. */
  group: string[];
  /** In words, to choose it by. */
  label: string;
}

/** Who has which function of this host in its specification. */
export function holders(vms: readonly Vm[], host: string): Map<string, Vm> {
  const here = vms.filter(({ status }) => status.host === host);
  return new Map(here.flatMap((vm) => (vm.spec.passthrough ?? []).map(({ address }) => [address, vm])));
}

/** What a function is. */
export const what = ({ name, vendor, device }: PciFunction) => `${name} (${vendor}:${device})`;

/** Where and what a function is. */
export const words = (one: PciFunction) => `${one.address} ${what(one)}`;

/** What can be given now: by nothing forbidden, and nobody's. A group is offered once, by its first function. */
export function offers(functions: readonly PciFunction[], taken: ReadonlyMap<string, unknown>): Offer[] {
  const known = new Map(functions.map((one) => [one.address, one]));
  return functions
    .map((one) => ({ one, group: [one.address, ...(one.together_with ?? [])].sort() }))
    .filter(({ one, group }) => group[0] === one.address)
    .filter(({ group }) => group.every((at) => !known.get(at)?.obstacle && !taken.has(at)))
    .map(({ one, group }) => ({
      address: one.address,
      group,
      label: group
        .map((at) => known.get(at))
        .map((each, n) => (each ? words(each) : group[n]))
        .join(" + "),
    }));
}
