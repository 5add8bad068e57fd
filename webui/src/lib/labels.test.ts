import { expect, it } from "vitest";
import { labelsText, parseLabels } from "./labels";

it("reads what it writes", () => {
  const labels = { env: "test", team: "a=b", bare: "" };
  expect(parseLabels(labelsText(labels))).toEqual(labels);
});

it("is calm about spaces, ends and empty parts", () => {
  expect(parseLabels(" env = test ,, \n x")).toEqual({ env: "test", x: "" });
  expect(parseLabels(" =y, ")).toEqual({});
});
