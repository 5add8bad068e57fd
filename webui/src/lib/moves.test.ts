import { expect, it } from "vitest";
import type { Task, Vm } from "../api/client";
import { atRest, evacuation, moveRefusal, moveWords } from "./moves";

const vm = (state: string, power: string, more = {}) =>
  ({ spec: { power }, status: { state, ...more } }) as unknown as Vm;

it("tells what can be moved from what cannot", () => {
  expect(moveRefusal(vm("running", "running"), 2)).toBeUndefined();
  expect(moveRefusal(vm("paused", "paused"), 2)).toBeUndefined();
  expect(moveRefusal(vm("stopped", "stopped"), 2)).toBeUndefined();
  expect(moveRefusal(vm("running", "running"), 1)).toBe("There is no other host.");
  expect(moveRefusal(vm("starting", "running"), 2)).toMatch(/wait/);
  expect(moveRefusal(vm("running", "running", { moving_to: "b" }), 2)).toMatch(/already/);
  expect(atRest(vm("failed", "running"))).toBe(false);
});

it("says how far a move is", () => {
  const task = (migration: unknown) => ({ migration }) as Task;
  const copying = { phase: "copying", sent_bytes: 2 ** 29, rounds: 1, throttle_percent: 0 };
  expect(moveWords(task(undefined))).toBeUndefined();
  expect(moveWords(task({ ...copying, phase: "switching" }))).toBe("changing hands");
  expect(moveWords(task(copying))).toBe("copying memory: 512 MiB sent");
  expect(moveWords(task({ ...copying, rounds: 3, throttle_percent: 20 }))).toBe(
    "copying memory: 512 MiB sent, pass 3, guest slowed by 20 %",
  );
});

it("finds the newest evacuation of a host", () => {
  const task = (id: string, kind: string, target: string) => ({ id, kind, target }) as Task;
  const tasks = [
    task("1", "host.evacuate", "host/b"),
    task("2", "host.reopen", "host/a"),
    task("3", "host.evacuate", "host/a"),
    task("4", "host.evacuate", "host/a"),
  ];
  expect(evacuation({ meta: { id: "a" } } as never, tasks)?.id).toBe("3");
});
