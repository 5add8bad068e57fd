import { expect, it } from "vitest";
import type { Host, Vm } from "../api/client";
import { branches, hostState } from "./tree";

const host = (id: string, status?: object) =>
  ({
    meta: { id, name: id },
    status: status && { virtualization: { available: true }, warnings: [], simulated: false, ...status },
  }) as unknown as Host;
const vm = (id: string, on: string | undefined) =>
  ({ meta: { id, name: id }, status: { state: "running", host: on } }) as unknown as Vm;

it("puts machines beneath their hosts, both by name", () => {
  const nodes = branches(
    [host("h10", {}), host("h2", {})],
    [vm("b", "h2"), vm("a", "h2"), vm("c", "h10"), vm("d", undefined)],
    (id) => id === "h2",
  );
  expect(nodes.map(({ id, level, open, count }) => [id, level, open, count])).toEqual([
    ["h2", 1, true, 2],
    ["a", 2, undefined, undefined],
    ["b", 2, undefined, undefined],
    ["h10", 1, false, 1],
  ]);
});

it("has nothing to open where nothing is beneath", () => {
  expect(branches([host("h", {})], [], () => true)[0]!.open).toBeUndefined();
});

it("says how a host is", () => {
  expect(hostState(host("h"))).toBe("away");
  expect(hostState(host("h", {}))).toBe("up");
  expect(hostState(host("h", { warnings: ["the clock is off"] }))).toBe("warning");
  expect(hostState(host("h", { virtualization: { available: false } }))).toBe("warning");
  expect(hostState({ ...host("h", { virtualization: { available: false } }), witness: true })).toBe(
    "witness",
  );
});
