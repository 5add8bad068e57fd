// Machines that move between hosts, and hosts that are left: what is said of them.
import type { Host, Task, Vm } from "../api/client";
import { bytes } from "./format";

/** Nothing of it runs: a move only gives it away. */
export const atRest = ({ spec, status }: Pick<Vm, "spec" | "status">) =>
  (status.state === "stopped" || status.state === "failed") && spec.power !== "running";

/** Why a machine cannot be moved now; `undefined` where it can be tried. */
export function moveRefusal(vm: Pick<Vm, "spec" | "status">, hosts: number): string | undefined {
  if (vm.status.moving_to) return "It is being moved already.";
  if (hosts < 2) return "There is no other host.";
  if (atRest(vm) || vm.status.state === "running" || vm.status.state === "paused") return undefined;
  return "It is starting or stopping: wait a moment.";
}

const PHASES = {
  preparing: "preparing",
  copying: "copying memory",
  switching: "changing hands",
  moved: "moved",
} as const;

/** How far a move is, in a few words; `undefined` for other tasks. */
export function moveWords({ migration }: Pick<Task, "migration">): string | undefined {
  if (!migration) return undefined;
  const { phase, sent_bytes, rounds, throttle_percent } = migration;
  if (phase !== "copying") return PHASES[phase];
  return [
    `${PHASES[phase]}: ${bytes(sent_bytes)} sent`,
    rounds > 1 && `pass ${rounds}`,
    throttle_percent > 0 && `guest slowed by ${throttle_percent} %`,
  ]
    .filter(Boolean)
    .join(", ");
}

/** The newest task that empties a host. */
export const evacuation = (host: Pick<Host, "meta">, tasks: Task[] | undefined): Task | undefined =>
  tasks?.find(({ kind, target }) => kind === "host.evacuate" && target === `host/${host.meta.id}`);

/** The task that moves a machine now. */
export const moveOf = (vm: Pick<Vm, "meta">, tasks: Task[] | undefined): Task | undefined =>
  tasks?.find(
    ({ kind, target, state }) =>
      kind === "vm.migrate" && target === `vm/${vm.meta.id}` && state === "running",
  );
