// The state of a machine as far as it is known. What a machine did when its host was last heard is not what it does now: of a
// host that cannot be asked nobody knows whether its machines run. Pure.
import type { Host, Vm } from "../api/client";

/** Would change by itself were its host lost: the rest is as wanted, whatever the host does. */
const LIVE: ReadonlySet<string> = new Set(["running", "paused", "starting", "stopping"]);

/** The words for a machine's state while these hosts are as they are. */
export function seenWith(hosts: readonly Host[] | undefined): (vm: Vm) => string {
  const away = new Set((hosts ?? []).filter(({ status }) => !status).map(({ meta }) => meta.id));
  return ({ status }) =>
    status.host && away.has(status.host) && LIVE.has(status.state) ? "unknown" : status.state;
}

/** Why, where it is not known. */
export const unknownBecause = (vm: Vm) =>
  `Its host cannot be asked. When it was last heard the machine was ${vm.status.state}.`;
