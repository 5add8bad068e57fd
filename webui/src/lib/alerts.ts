// Alerts as people read them. Pure.
import type { Alert, RuleUnit, Severity } from "../api/client";

/** The worst first. */
export const SEVERITIES: readonly Severity[] = ["critical", "warning", "info"];

const WEIGHT: Record<Severity, number> = { critical: 3, warning: 2, info: 1 };
export const weight = (severity: Severity) => WEIGHT[severity];

/** The state whose colour a severity has. */
export const colour = (severity: Severity) =>
  severity === "critical" ? "error" : severity === "warning" ? "warning" : "info";

const isSilenced = ({ silenced }: Alert, now: number) => !!silenced && Date.parse(silenced.until) > now;

/** What one should look at: active, not taken note of, not silenced, and more than worth knowing. */
export const urgent = (alerts: readonly Alert[] | undefined, now = Date.now()) =>
  (alerts ?? []).filter(
    (alert) =>
      alert.severity !== "info" && !alert.resolved_at && !alert.acknowledged && !isSilenced(alert, now),
  );

/** How many of each severity, the worst first; none with none. */
export const counts = (alerts: readonly Alert[]) =>
  SEVERITIES.map(
    (severity) => [severity, alerts.filter((alert) => alert.severity === severity).length] as const,
  ).filter(([, count]) => count > 0);

/** How an alert stands, in one word. */
export function standing(alert: Alert, now = Date.now()): string {
  if (alert.resolved_at) return "over";
  if (isSilenced(alert, now)) return "silenced";
  return alert.acknowledged ? "acknowledged" : "active";
}

const UNITS: Record<RuleUnit, string> = {
  "percent-used": "% used",
  "percent-free": "% left",
  "days-left": "days left",
  "seconds-off": "s off",
};
export const unitWords = (unit: RuleUnit) => UNITS[unit];

/** `"12.5"` → 12.5, nothing → null; `undefined` where it is not a number. */
export function level(text: string): number | null | undefined {
  if (text.trim() === "") return null;
  const value = Number(text);
  return Number.isFinite(value) && value >= 0 ? value : undefined;
}
