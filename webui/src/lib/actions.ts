// What can be done to a machine in which state, and why not where it cannot.

export type VmState = "stopped" | "starting" | "running" | "paused" | "stopping" | "failed";
export type Action = "start" | "stop" | "restart" | "force-stop" | "reset" | "pause" | "resume" | "delete";

interface Entry {
  label: string;
  states: VmState[];
  why: string;
  danger?: boolean;
  /** What the person is asked before. */
  confirm?: string;
}

export const ACTIONS: Record<Action, Entry> = {
  start: { label: "Start", states: ["stopped", "failed"], why: "It is not stopped." },
  resume: { label: "Resume", states: ["paused"], why: "It is not paused." },
  stop: { label: "Stop", states: ["running", "starting"], why: "It does not run." },
  restart: { label: "Restart guest", states: ["running"], why: "It does not run." },
  pause: { label: "Pause", states: ["running"], why: "It does not run." },
  reset: {
    label: "Reset",
    states: ["running"],
    why: "It does not run.",
    danger: true,
    confirm:
      "The guest restarts at once, as by its reset button. What it has not written to its disks is lost.",
  },
  "force-stop": {
    label: "Force stop",
    states: ["running", "paused", "starting", "stopping"],
    why: "It does not run.",
    danger: true,
    confirm:
      "The machine ends at once, as by pulling its plug. What the guest has not written to its disks is lost.",
  },
  delete: {
    label: "Delete",
    states: ["stopped", "failed"],
    why: "Stop it first.",
    danger: true,
    confirm: "The machine is deleted for good.",
  },
};

/** Why an action cannot be done now; `undefined` where it can. */
export function refusal(action: Action, state: VmState): string | undefined {
  return ACTIONS[action].states.includes(state) ? undefined : ACTIONS[action].why;
}

/** What it takes. */
export const permission = (action: Action) => (action === "delete" ? "vm.write" : "vm.power");

/** The one action offered first. */
export function primary(state: VmState): Action {
  if (state === "paused") return "resume";
  return state === "stopped" || state === "failed" ? "start" : "stop";
}
