import { expect, it } from "vitest";
import { Splice } from "./splice";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (data: Uint8Array) => new TextDecoder().decode(data);

it("shows all of the first scroll-back", () => {
  expect(new Splice().fresh(bytes("boot\n"))).toEqual({ bytes: bytes("boot\n"), gap: false });
});

it("shows only what is new after a break", () => {
  const splice = new Splice();
  splice.shown(bytes("boot\n"));
  splice.shown(bytes("login: "));
  const { bytes: fresh, gap } = splice.fresh(bytes("boot\nlogin: root\n"));
  expect(text(fresh)).toBe("root\n");
  expect(gap).toBe(false);
});

it("has nothing to show where nothing happened", () => {
  const splice = new Splice();
  splice.shown(bytes("x".repeat(5000)));
  expect(splice.fresh(bytes("x".repeat(5000))).bytes.length).toBe(0);
});

it("says where the thread was lost", () => {
  const splice = new Splice();
  splice.shown(bytes("long ago"));
  expect(splice.fresh(bytes("today"))).toEqual({ bytes: bytes("today"), gap: true });
});
