import { expect, it } from "vitest";
import { rowFor } from "./rows";

it("keys lead along the rows and not beyond them", () => {
  expect(rowFor("ArrowDown", -1, 3, 2)).toBe(0);
  expect(rowFor("ArrowDown", 2, 3, 2)).toBe(2);
  expect(rowFor("ArrowUp", 0, 3, 2)).toBe(0);
  expect(rowFor("ArrowUp", -1, 3, 2)).toBe(2);
  expect(rowFor("PageDown", 0, 10, 4)).toBe(4);
  expect(rowFor("PageUp", 2, 10, 4)).toBe(0);
  expect(rowFor("End", 0, 10, 4)).toBe(9);
  expect(rowFor("Home", 5, 10, 4)).toBe(0);
  expect(rowFor("x", 5, 10, 4)).toBeUndefined();
  expect(rowFor("ArrowDown", -1, 0, 4)).toBeUndefined();
});
