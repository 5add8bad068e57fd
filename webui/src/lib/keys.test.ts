import { expect, it } from "vitest";
import { keysyms } from "./keys";

it("types letters, line ends, tabs and the rest of Unicode", () => {
  expect(keysyms("aÜ\t\n")).toEqual([0x61, 0xdc, 0xff09, 0xff0d]);
  expect(keysyms("\r\n\r")).toEqual([0xff0d, 0xff0d]);
  expect(keysyms("€😀")).toEqual([0x010020ac, 0x0101f600]);
});

it("leaves control characters out", () =>
  expect(keysyms("a\x1b[0m\x7fb")).toEqual([..."a[0mb"].map((each) => each.charCodeAt(0))));
