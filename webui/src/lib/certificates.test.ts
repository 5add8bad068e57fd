import { expect, test } from "vitest";
import { standing } from "./certificates";

test("a certificate that ends is seen in time", () => {
  const now = Date.parse("2030-01-01T00:00:00Z");
  const state = (end: string | undefined) => standing(end, now).state;
  expect(state("2049-12-31T00:00:00Z")).toBe("ready");
  expect(standing("2030-01-15T12:00:00Z", now)).toEqual({ state: "warning", word: "ends in 14 days" });
  expect(standing("2030-01-02T12:00:00Z", now).word).toBe("ends in a day");
  expect(state("2029-12-31T23:59:59Z")).toBe("failed");
  expect(state(undefined)).toBe("unknown");
});
