// Who is to be named as lost when a cluster is formed anew.
import type { ReformHost, ReformPreview } from "../api/client";

/** Those that do not answer are; what answers is for the person to give up. */
export const lostAtFirst = (hosts: ReformHost[]): string[] =>
  hosts.filter(({ fate }) => fate === "silent").map(({ host }) => host);

/** Why it would be refused with these. */
export function reformRefusal({ hosts }: Pick<ReformPreview, "hosts">, lost: string[]): string | undefined {
  for (const { host, name, fate } of hosts) {
    if (lost.includes(host)) continue;
    if (fate === "silent") return `${name} does not answer: say that it is lost, or bring it back.`;
    if (fate === "newer")
      return `${name} has changes that this host lacks: form the cluster anew there, or give them up.`;
  }
  return undefined;
}
