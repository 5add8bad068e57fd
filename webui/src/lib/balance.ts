// Balance, in words.
import type { Recommendation } from "../api/client";

/** Who decides about moves. */
export const MODES = [
  ["off", "Off: nothing is recommended"],
  ["advise", "Advise: a person decides"],
  ["automatic", "Automatic: the cluster does what it recommends"],
] as const;

/** What a move is worth: thousandths of a full host, squared, say nobody anything. */
export function worth({ gain, cost }: Pick<Recommendation, "gain" | "cost">): string {
  const times = gain / Math.max(cost, 1);
  const word = times >= 20 ? "very much" : times >= 5 ? "much" : "some";
  return `gains ${word} (${gain} for ${cost})`;
}
