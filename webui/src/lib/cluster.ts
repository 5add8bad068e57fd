// How a cluster stands, in a word.
import type { Cluster } from "../api/client";

export function standing({ quorum, members = [] }: Pick<Cluster, "quorum" | "members">): {
  ok: boolean;
  word: string;
} {
  if (!quorum) return { ok: false, word: "no majority" };
  const silent = members.filter(({ reachable }) => reachable === false).length;
  if (silent > 0) return { ok: false, word: `${silent} of ${members.length} hosts do not answer` };
  return { ok: true, word: members.length === 1 ? "one host" : `${members.length} hosts` };
}
