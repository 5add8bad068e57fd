// Who did most, in an order.
import type { Load } from "../api/client";

export const LOADS = ["cpu", "memory", "disk", "network"] as const;
export type LoadKind = (typeof LOADS)[number];

export const loadKind = (word: string | undefined): LoadKind => LOADS.find((kind) => kind === word) ?? "cpu";

/** The most first; what was not measured last. */
export function ranked<T extends { load: Load }>(
  items: readonly T[],
  by: LoadKind,
  most = items.length,
): T[] {
  return [...items].sort((a, b) => (b.load[by] ?? -1) - (a.load[by] ?? -1)).slice(0, most);
}
