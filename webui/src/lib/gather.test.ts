import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Gather } from "./gather";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("a burst is drawn once, with the newest state of each object", () => {
  const drawn: [string, [string, number | undefined][]][][] = [];
  const gather = new Gather<number>((changes) => {
    drawn.push([...changes].map(([kind, each]) => [kind, [...each]]));
  }, 100);
  for (let n = 0; n < 5000; n += 1) gather.take("vm", `vm-${n % 3}`, n);
  gather.take("volume", "v", 1);
  gather.take("volume", "v", undefined);
  expect(drawn).toEqual([]);
  vi.advanceTimersByTime(99);
  expect(drawn).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(drawn).toEqual([
    [
      [
        "vm",
        [
          ["vm-0", 4998],
          ["vm-1", 4999],
          ["vm-2", 4997],
        ],
      ],
      ["volume", [["v", undefined]]],
    ],
  ]);
  // Nothing is left over, and the next burst has a time of its own.
  vi.advanceTimersByTime(1000);
  expect(drawn.length).toBe(1);
  gather.take("vm", "vm-0", 1);
  vi.advanceTimersByTime(100);
  expect(drawn[1]).toEqual([["vm", [["vm-0", 1]]]]);
});

it("what comes while it draws is for the next time", () => {
  const drawn: number[] = [];
  const gather: Gather<number> = new Gather((changes) => {
    drawn.push(changes.get("vm")!.size);
    if (drawn.length === 1) gather.take("vm", "later", 1);
  }, 100);
  gather.take("vm", "a", 1);
  vi.advanceTimersByTime(100);
  expect(drawn).toEqual([1]);
  vi.advanceTimersByTime(100);
  expect(drawn).toEqual([1, 1]);
});

it("stopped, it draws nothing", () => {
  const draw = vi.fn();
  const gather = new Gather<number>(draw, 100);
  gather.take("vm", "a", 1);
  gather.stop();
  vi.advanceTimersByTime(1000);
  expect(draw).not.toHaveBeenCalled();
});
