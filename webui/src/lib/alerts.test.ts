import { expect, test } from "vitest";
import type { Alert } from "../api/client";
import { counts, level, standing, urgent } from "./alerts";

const alert = (over: Partial<Alert>): Alert => ({
  id: "a",
  rule: "host-lost",
  severity: "critical",
  target: "host/h",
  target_name: "h",
  message: "it is lost",
  raised_at: "2026-01-01T00:00:00Z",
  changed_at: "2026-01-01T00:00:00Z",
  ...over,
});
const noted = { at: "2026-01-01T00:00:00Z", by: "eve" };
const silent = { until: "2026-01-02T00:00:00Z", by: "eve" };
const now = Date.parse("2026-01-01T12:00:00Z");

test("urgent is what nobody has seen to yet", () => {
  const all = [
    alert({}),
    alert({ severity: "warning" }),
    alert({ severity: "info" }),
    alert({ acknowledged: noted }),
    alert({ silenced: silent }),
    alert({ resolved_at: "2026-01-01T01:00:00Z" }),
  ];
  expect(urgent(all, now)).toHaveLength(2);
  expect(urgent(all, now + 86_400_000)).toHaveLength(3);
  expect(urgent(undefined)).toHaveLength(0);
  expect(counts(all)).toEqual([
    ["critical", 4],
    ["warning", 1],
    ["info", 1],
  ]);
});

test("an alert stands as it was left", () => {
  expect(standing(alert({}), now)).toBe("active");
  expect(standing(alert({ acknowledged: noted }), now)).toBe("acknowledged");
  expect(standing(alert({ acknowledged: noted, silenced: silent }), now)).toBe("silenced");
  expect(standing(alert({ silenced: silent }), now + 86_400_000)).toBe("active");
  expect(standing(alert({ resolved_at: "2026-01-01T01:00:00Z" }), now)).toBe("over");
});

test("levels are numbers or nothing", () => {
  expect(level(" 12.5 ")).toBe(12.5);
  expect(level("")).toBeNull();
  expect(level("x")).toBeUndefined();
  expect(level("-1")).toBeUndefined();
});
