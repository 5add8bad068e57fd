// What the host keeps of the past, made fit for charts.
import type { MetricHistory } from "../api/client";

/** Values at times, for a chart; `null` where there is none. */
export interface Series {
  at: number[];
  values: Record<string, (number | null)[]>;
}

/** As the host keeps them. */
export type Kept = "hour" | "day" | "week" | "month" | "year";

/** How far back one can look: its name in the address, in words, in seconds, and what to ask the host for. */
export const SPANS: readonly [name: string, label: string, seconds: number, kept: Kept][] = [
  ["minutes", "Last 10 minutes", 600, "hour"],
  ["hour", "Last hour", 3600, "hour"],
  ["day", "Last day", 86_400, "day"],
  ["week", "Last 7 days", 7 * 86_400, "week"],
  ["month", "Last 30 days", 30 * 86_400, "month"],
  ["year", "Last year", 365 * 86_400, "year"],
];

/** The times are the ends of the intervals: the newest value is that of now. */
export function series(history: MetricHistory | undefined): Series {
  if (!history) return { at: [], values: {} };
  const from = Date.parse(history.from) / 1000 + history.step_seconds;
  const length = history.metrics[0]?.values.length ?? 0;
  return {
    at: Array.from({ length }, (_, n) => from + n * history.step_seconds),
    values: Object.fromEntries(
      history.metrics.map(({ name, values }) => [name, values.map((v) => v ?? null)]),
    ),
  };
}
