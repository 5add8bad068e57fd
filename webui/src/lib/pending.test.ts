import { expect, test } from "vitest";
import { pendingOf } from "./pending";

test("changes that wait are told where they belong, by names people know", () => {
  const pending = [
    { field: "spec.memory_bytes", waits_for: "start", reason: "takes effect later" },
    { field: "spec.disks", device: "v1", waits_for: "guest", reason: "waits for the guest" },
    { field: "spec.disks", waits_for: "start", reason: "another order" },
    { field: "spec.cdroms", device: "0", waits_for: "host", reason: "is being ejected" },
    { field: "spec.cdroms", waits_for: "start", reason: "takes effect later" },
  ] as const;
  expect(pendingOf(pending)).toEqual(["Memory: takes effect later"]);
  expect(pendingOf(pending, "spec.disks", (id) => (id === "v1" ? "data" : undefined))).toEqual([
    "data: waits for the guest",
    "Order: another order",
  ]);
  expect(pendingOf(pending, "spec.cdroms")).toEqual([
    "Drive 1: is being ejected",
    "Drives: takes effect later",
  ]);
  expect(pendingOf(pending, "spec.nics")).toEqual([]);
});
