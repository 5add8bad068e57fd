// Changes of a machine that wait, in words.
import type { components } from "../api/schema";

type PendingChange = components["schemas"]["PendingChange"];

/** Fields with a place of their own on the page. */
const DEVICES: readonly string[] = ["spec.disks", "spec.nics", "spec.cdroms"];

/** Names of the other fields, as the page calls them. */
const FIELDS: Record<string, string> = {
  "spec.vcpus": "CPUs",
  "spec.vcpus_max": "CPUs at most",
  "spec.memory_bytes": "Memory",
  "spec.memory_max_bytes": "Memory at most",
  "spec.boot": "Boot",
  "spec.display": "Display",
  "spec.cpu": "CPU model",
  "spec.watchdog": "Watchdog",
  "spec.tpm": "TPM",
  "spec.passthrough": "PCI passthrough",
  "spec.rng": "Random numbers",
  "spec.cloud_init": "Guest setup",
  spec: "Hardware",
};

/** A line for each change of the field; without one, for each that is of no device. */
export function pendingOf(
  pending: readonly PendingChange[],
  field?: string,
  name: (device: string) => string | undefined = () => undefined,
): string[] {
  const here = pending.filter((p) => (field ? p.field === field : !DEVICES.includes(p.field)));
  const what = ({ field, device }: PendingChange) => {
    if (!device) return FIELDS[field] ?? (field === "spec.cdroms" ? "Drives" : "Order");
    return field === "spec.cdroms" ? `Drive ${Number(device) + 1}` : (name(device) ?? device);
  };
  return here.map((p) => `${what(p)}: ${p.reason}`);
}
