import { expect, it } from "vitest";
import type { Vm } from "../api/client";
import { memoryWords } from "./memory";

it("says what is wanted, what there is, and what can be", () => {
  const vm = (most: number | null, has: number | null) =>
    ({ spec: { memory_bytes: 2 ** 31, memory_max_bytes: most }, status: { memory_bytes: has } }) as Vm;
  expect(memoryWords(vm(null, null))).toBe("2 GiB");
  expect(memoryWords(vm(null, 2 ** 31))).toBe("2 GiB");
  expect(memoryWords(vm(2 ** 33, 2 ** 30))).toBe("2 GiB, has 1 GiB now, up to 8 GiB while it runs");
});
