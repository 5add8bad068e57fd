import { expect, it } from "vitest";
import { series } from "./history";

it("gives every value the time at which it was known", () => {
  const found = series({
    from: "2026-01-01T00:00:00Z",
    step_seconds: 60,
    metrics: [
      { name: "cpu", unit: "share", values: [0.5, null] },
      { name: "exits", unit: "per-second", values: [1, 2] },
    ],
  });
  const begin = Date.parse("2026-01-01T00:01:00Z") / 1000;
  expect(found).toEqual({ at: [begin, begin + 60], values: { cpu: [0.5, null], exits: [1, 2] } });
});

it("knows nothing at first", () => {
  expect(series(undefined)).toEqual({ at: [], values: {} });
});
