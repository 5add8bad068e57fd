import { expect, test } from "vitest";
import { worth } from "./balance";

test("what a move is worth is told against its cost", () => {
  expect(worth({ gain: 240, cost: 6 })).toBe("gains very much (240 for 6)");
  expect(worth({ gain: 60, cost: 6 })).toContain("gains much");
  expect(worth({ gain: 20, cost: 6 })).toContain("gains some");
  expect(worth({ gain: 5, cost: 0 })).toContain("(5 for 0)");
});
