import { expect, it } from "vitest";
import { History } from "./rates";

const history = (...looks: [at: number, reads: number][]) => {
  const all = new History(100);
  for (const [at, reads] of looks) all.add({ at, counters: { reads } });
  return all;
};

it("makes rates of counters", () => {
  expect(history([0, 0], [2, 10], [4, 10]).rates(["reads"])).toEqual({
    at: [2, 4],
    values: { reads: [5, 0] },
  });
});

it("has no rate over a restart, a gap or an unknown counter", () => {
  expect(history([0, 50], [2, 3], [100, 9]).rates(["reads"]).values["reads"]).toEqual([null, null]);
  expect(history([0, 0], [1, 1]).rates(["writes"]).values["writes"]).toEqual([null]);
});

it("keeps a bounded number, in order of time", () => {
  const short = new History(3);
  for (const at of [1, 2, 3, 3, 2, 4]) short.add({ at, counters: { x: at } });
  expect(short.levels(["x"])).toEqual({ at: [2, 3, 4], values: { x: [2, 3, 4] } });
  expect(short.levels(["x"], 3).at).toEqual([3, 4]);
});
