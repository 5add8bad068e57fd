import { expect, test } from "vitest";
import { loadKind, ranked } from "./usage";

test("the most come first, what was not measured last", () => {
  const items = [
    { name: "a", load: { cpu: 1 } },
    { name: "b", load: { memory: 5 } },
    { name: "c", load: { cpu: 3, memory: 7 } },
    { name: "d", load: { cpu: 0, memory: null } },
  ];
  const names = (by: "cpu" | "memory", most?: number) => ranked(items, by, most).map(({ name }) => name);
  expect(names("cpu")).toEqual(["c", "a", "d", "b"]);
  expect(names("memory", 2)).toEqual(["c", "b"]);
});

test("an address may say anything", () => {
  expect(loadKind("disk")).toBe("disk");
  expect(loadKind("speed")).toBe("cpu");
  expect(loadKind(undefined)).toBe("cpu");
});
