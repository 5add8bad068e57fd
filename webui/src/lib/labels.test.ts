import { expect, it } from "vitest";
import { changedLabels, labelsText, parseLabels } from "./labels";

it("reads what it writes", () => {
  const labels = { env: "test", team: "a=b", bare: "" };
  expect(parseLabels(labelsText(labels))).toEqual(labels);
});

it("is calm about spaces, ends and empty parts", () => {
  expect(parseLabels(" env = test ,, \n x")).toEqual({ env: "test", x: "" });
  expect(parseLabels(" =y, ")).toEqual({});
});

it("many are labelled at once: set, and taken away by key", () => {
  expect(changedLabels({ env: "test", team: "web" }, { env: "live" }, ["team", "none"])).toEqual({
    env: "live",
  });
  expect(changedLabels(undefined, { a: "" }, [])).toEqual({ a: "" });
  expect(changedLabels({ a: "1" }, { a: "2" }, ["a"])).toEqual({ a: "2" });
});
