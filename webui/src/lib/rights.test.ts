import { expect, it } from "vitest";
import type { Right } from "../api/client";
import { may, mayAll, mayEverything } from "./rights";

const rights = [
  { scope: { kind: "labels", labels: { env: "test" } }, permissions: ["vm.power"] },
  { scope: { kind: "object", object: "vm", id: "a" }, permissions: ["vm.console"] },
  { scope: { kind: "cluster" }, permissions: ["host.read"] },
] as unknown as Right[];
const vm = (id: string, labels = {}) => ({ kind: "vm" as const, id, labels });

it("holds where its scope does", () => {
  expect(may(rights, "vm.power", vm("x", { env: "test", team: "web" }))).toBe(true);
  expect(may(rights, "vm.power", vm("x", { env: "live" }))).toBe(false);
  expect(may(rights, "vm.console", vm("a"))).toBe(true);
  expect(may(rights, "vm.console", vm("b"))).toBe(false);
  expect(may(rights, "vm.console", { kind: "host", id: "a" })).toBe(false);
  expect(may(rights, "host.read", { kind: "host", id: "h" })).toBe(true);
  expect(may(rights, "vm.write", vm("a"))).toBe(false);
});

it("without an object asks for anything; for the cluster only its scope counts", () => {
  expect(may(rights, "vm.power")).toBe(true);
  expect(mayAll(rights, "vm.power")).toBe(false);
  expect(mayAll(rights, "host.read")).toBe(true);
  expect(may([], "vm.read")).toBe(false);
});

it("everything is everything on the cluster", () => {
  expect(mayEverything(undefined)).toBe(true);
  expect(mayEverything(rights)).toBe(false);
});
