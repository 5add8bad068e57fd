import { expect, it } from "vitest";
import type { Right } from "../api/client";
import { may, mayAll, mayEverything, toCancel } from "./rights";

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

it("a task is ended early by those who may change what it works on", () => {
  expect(toCancel("vm/a")).toEqual({ permission: "vm.power", on: { kind: "vm", id: "a" } });
  expect(toCancel("host/h").permission).toBe("host.power");
  expect(toCancel("pool/p").permission).toBe("storage.write");
  expect(toCancel("cluster")).toEqual({ permission: "cluster.write" });
  expect(toCancel("channel/c")).toEqual({ permission: "cluster.write" });
});
