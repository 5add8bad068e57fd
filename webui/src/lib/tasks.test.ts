import { expect, it } from "vitest";
import type { Task } from "../api/client";
import { later, readAnew, withTold } from "./tasks";

const task = (id: string, state: Task["state"] = "running", progress?: number): Task => ({
  id,
  kind: "vm.stop",
  target: "vm/1",
  actor: "admin",
  state,
  created_at: "2026-01-01T00:00:00Z",
  ...(progress === undefined ? {} : { progress }),
});
const ids = (tasks: Task[]) => tasks.map(({ id }) => id);

it("what is told is laid in, newest first, and no more than wanted", () => {
  const list = [task("3"), task("1", "succeeded")];
  const told = new Map([
    ["3", task("3", "running", 0.5)],
    ["4", task("4")],
    ["2", task("2", "failed")],
  ]);
  const merged = withTold(list, told, 10);
  expect(ids(merged)).toEqual(["4", "3", "2", "1"]);
  expect(merged[1]!.progress).toBe(0.5);
  expect(merged[3]).toBe(list[1]);
  expect(ids(withTold(list, told, 2))).toEqual(["4", "3"]);
  // One that runs for long and is not among the newest stays out.
  expect(ids(withTold(list, new Map([["0", task("0")]]), 2))).toEqual(["3", "1"]);
});

it("what is not to be seen any more goes", () => {
  expect(ids(withTold([task("2"), task("1")], new Map([["2", undefined]]), 10))).toEqual(["1"]);
  expect(withTold([], new Map([["2", undefined]]), 10)).toEqual([]);
});

it("what has ended does not run again, whatever comes late", () => {
  const done = task("1", "succeeded");
  expect(later(done, task("1"))).toBe(done);
  expect(withTold([done], new Map([["1", task("1", "running", 0.9)]]), 10)).toEqual([done]);
  expect(readAnew([done], [task("1")], 10)).toEqual([done]);
  expect(later(task("1"), done)).toBe(done);
});

it("what was told while the list was read is kept, the rest is as it was read", () => {
  const list = [task("5", "failed"), task("3"), task("2")];
  expect(ids(readAnew(list, [task("4"), task("3", "succeeded")], 10))).toEqual(["5", "4", "3"]);
  expect(readAnew(list, [], 10)).toEqual([]);
  expect(ids(readAnew(undefined, [task("1")], 10))).toEqual(["1"]);
});
