// Clocks of hosts, in words.
import type { HostTime } from "../api/client";

/** The servers in a text, as they were typed. */
export const serversOf = (text: string): string[] => text.split(/[\s,;]+/).filter(Boolean);

/** How a clock does. */
export function clockWords(status: HostTime["status"]): { dot: string; word: string; detail: string } {
  if (!status) return { dot: "unknown", word: "does not answer", detail: "" };
  if (!status.synchronised) return { dot: "down", word: "follows nobody", detail: status.note ?? "" };
  const off = status.offset_ms ?? 0;
  const by = `${Math.abs(off).toFixed(Math.abs(off) < 10 ? 2 : 0)} ms ${off > 0 ? "behind" : "ahead"}`;
  const near = Math.abs(off) < 0.005 ? "exact" : by;
  const detail = [near, status.server && `${status.server}, stratum ${status.stratum}`, status.note];
  return { dot: status.note ? "starting" : "up", word: "follows", detail: detail.filter(Boolean).join("; ") };
}
