import { describe, expect, it } from "vitest";
import { age, bytes, duration, parseSize, sizeText, taskName } from "./format";

describe("bytes", () => {
  it.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1536, "1.5 KiB"],
    [2 ** 31, "2 GiB"],
  ])("%d is %s", (count, text) => expect(bytes(count)).toBe(text));
});

describe("parseSize", () => {
  it.each([
    ["512M", 512 * 2 ** 20],
    ["2g", 2 * 2 ** 30],
    ["1.5 GiB", 1.5 * 2 ** 30],
    ["10 GB", 10 * 2 ** 30],
    ["7", 7],
  ])("%s is %d", (text, size) => expect(parseSize(text)).toBe(size));
  it.each(["", "G", "-1G", "1,5G", "0.3", "1e3", "9999999999T"])("%s is not a size", (text) =>
    expect(parseSize(text)).toBeUndefined(),
  );
});

it("ages", () => {
  const now = Date.parse("2026-01-02T00:00:00Z");
  expect(age("2026-01-01T23:59:55Z", now)).toBe("5 s");
  expect(age("2026-01-01T22:00:00Z", now)).toBe("2 h");
  expect(age("2026-01-03T00:00:00Z", now)).toBe("0 s");
});

it("measures how long something took", () => {
  const from = "2026-01-01T00:00:00Z";
  expect(duration(from, "2026-01-01T00:00:00.34Z")).toBe("340 ms");
  expect(duration(from, "2026-01-01T00:03:20Z")).toBe("3 min 20 s");
  expect(duration(from, null, Date.parse("2026-01-01T02:05:00Z"))).toBe("2 h 5 min");
});

it("names tasks", () => {
  expect(taskName("vm.stop")).toBe("Stop virtual machine");
  expect(taskName("volume.delete")).toBe("Delete volume");
  expect(taskName("odd")).toBe("odd");
});

it("writes sizes that it reads as the same", () => {
  for (const size of [2 ** 30, 1536 * 2 ** 20, 2 ** 41, 12345]) expect(parseSize(sizeText(size))).toBe(size);
  expect(sizeText(1536 * 2 ** 20)).toBe("1536M");
});
