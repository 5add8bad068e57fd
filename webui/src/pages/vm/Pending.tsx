// What of a machine's wanted hardware it does not have yet, and what that waits for.
import type { Vm } from "../../api/client";
import { Warning } from "../../components/ui";
import { pendingOf } from "../../lib/pending";

/** The changes that wait: of one field, or all that are of no device. */
export function Pending({
  vm,
  of,
  name,
}: {
  vm: Vm;
  of?: string;
  name?: (device: string) => string | undefined;
}) {
  return pendingOf(vm.status.pending ?? [], of, name).map((line) => <Warning key={line}>{line}</Warning>);
}
