import { expect, test } from "vitest";
import { codeRefusal } from "./pairing";

test("a code is taken however it is typed", () => {
  for (const typed of ["ABCD-EFGH", "abcdefgh", " abcd efgh ", "2345-6789"])
    expect(codeRefusal(typed), typed).toBeUndefined();
});

test("what cannot be a code says why", () => {
  expect(codeRefusal(" - ")).toContain("Type the code");
  expect(codeRefusal("ABCD-EFG0")).toContain("no 0");
  expect(codeRefusal("ABCD-EFG")).toContain("not 7");
  expect(codeRefusal("ABCD-EF_H")).toContain("letters and digits");
});
