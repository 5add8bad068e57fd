// Requests of a guest to its disks that failed: the guest had I/O errors. Pure.
import type { Vm } from "../api/client";

/** The counters this is read from: of each disk, in the order of the specification. */
type Counted = { disks?: { errors: number }[] };

/** The disks with failed requests since the machine started, by the name of their volume, in words. */
export function diskErrors(
  { spec }: Vm,
  stats: Counted | undefined,
  volume: (id: string) => string | undefined,
): string[] {
  return (stats?.disks ?? []).flatMap(({ errors }, n) => {
    if (errors === 0) return [];
    const id = spec.disks?.[n]?.volume;
    const name = id ? (volume(id) ?? id) : `disk ${n + 1}`;
    return [`${name}: ${errors} failed ${errors === 1 ? "request" : "requests"}`];
  });
}
