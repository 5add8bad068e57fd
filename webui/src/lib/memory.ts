// A machine's memory in words.
import type { Vm } from "../api/client";
import { bytes } from "./format";

/** What is wanted, what there is where that differs, and how far it can go while the machine runs. */
export function memoryWords({ spec, status }: Pick<Vm, "spec" | "status">): string {
  const has = status.memory_bytes;
  return [
    bytes(spec.memory_bytes),
    has != null && has !== spec.memory_bytes ? `has ${bytes(has)} now` : undefined,
    spec.memory_max_bytes != null ? `up to ${bytes(spec.memory_max_bytes)} while it runs` : undefined,
  ]
    .filter(Boolean)
    .join(", ");
}
