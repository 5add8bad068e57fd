import { expect, it } from "vitest";
import { ACTIONS, primary, refusal, type Action, type VmState } from "./actions";

const states: VmState[] = ["stopped", "starting", "running", "paused", "stopping", "failed"];

it("gives a reason for everything that cannot be done", () => {
  for (const action of Object.keys(ACTIONS) as Action[])
    for (const state of states)
      expect(refusal(action, state) === undefined).toBe(ACTIONS[action].states.includes(state));
  expect(refusal("delete", "running")).toBe("Stop it first.");
});

it("asks before whatever may lose data", () => {
  for (const entry of Object.values(ACTIONS)) expect(entry.confirm !== undefined).toBe(entry.danger === true);
});

it("offers first what can be done, in every state that is not on its way", () => {
  for (const state of states)
    if (state !== "stopping") expect(refusal(primary(state), state)).toBeUndefined();
});
