import { expect, it } from "vitest";
import type { Grant } from "../api/client";
import { EMPTY_GRANT, fault, fromForm, toForm } from "./grants";

it("comes back from the form as it went in", () => {
  const grants = [
    { role: "r1", scope: { kind: "cluster" } },
    { role: "r2", scope: { kind: "labels", labels: { env: "test", team: "web" } } },
    { role: "r3", scope: { kind: "object", object: "vm", id: "1-2" } },
  ] as Grant[];
  expect(fromForm(toForm(grants))).toEqual(grants);
  expect(toForm(undefined)).toEqual([]);
});

it("says what is missing", () => {
  expect(fault(EMPTY_GRANT)).toMatch(/role/);
  expect(fault({ ...EMPTY_GRANT, role: "r" })).toBeUndefined();
  expect(fault({ ...EMPTY_GRANT, role: "r", where: "labels", labels: " , " })).toMatch(/label/);
  expect(fault({ ...EMPTY_GRANT, role: "r", where: "object" })).toMatch(/object/);
});
