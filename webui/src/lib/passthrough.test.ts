import { expect, test } from "vitest";
import type { PciFunction, Vm } from "../api/client";
import { holders, offers } from "./passthrough";

const one = (address: string, more: Partial<PciFunction> = {}): PciFunction => ({
  address,
  name: "Ethernet controller",
  class: "020000",
  vendor: "8086",
  device: "1521",
  ...more,
});

test("a group is offered whole and once, what is forbidden or taken not at all", () => {
  const functions = [
    one("0000:01:00.0", { obstacle: "the host itself needs it" }),
    one("0000:02:00.0", { together_with: ["0000:02:00.1"] }),
    one("0000:02:00.1", { together_with: ["0000:02:00.0"] }),
    one("0000:03:00.0"),
    one("0000:04:00.0", { together_with: ["0000:04:00.1"] }),
    one("0000:04:00.1", { together_with: ["0000:04:00.0"] }),
  ];
  const vms = [
    { status: { host: "h" }, spec: { passthrough: [{ address: "0000:04:00.1" }] } },
    { status: { host: "other" }, spec: { passthrough: [{ address: "0000:03:00.0" }] } },
    { status: { host: "h" }, spec: {} },
  ] as Vm[];
  const taken = holders(vms, "h");
  expect([...taken.keys()]).toEqual(["0000:04:00.1"]);
  const found = offers(functions, taken);
  expect(found.map(({ group }) => group)).toEqual([["0000:02:00.0", "0000:02:00.1"], ["0000:03:00.0"]]);
  expect(found[0]?.label).toBe(
    "0000:02:00.0 Ethernet controller (8086:1521) + 0000:02:00.1 Ethernet controller (8086:1521)",
  );
});
