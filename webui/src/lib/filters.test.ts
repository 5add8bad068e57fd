import { expect, it } from "vitest";
import { keep, nameFault, ofList, remove, rename, type Filters } from "./filters";

const down = { list: "/vms", name: "Down", query: "state:stopped" };
const big = { list: "/vms", name: "Big", query: "memory>8G" };
const hosts = { list: "/hosts", name: "Down", query: "-state:ready" };
const all: Filters = [down, hosts, big];

it("keeps one of each name in a list, where it was", () => {
  expect(keep(all, { ...down, query: "x" })).toEqual([{ ...down, query: "x" }, hosts, big]);
  expect(keep([hosts], down)).toEqual([hosts, down]);
  expect(ofList(all, "/vms")).toEqual([down, big]);
});

it("renames and removes the one that is meant, and nothing where it is gone", () => {
  expect(rename(all, down, "Off")).toEqual([{ ...down, name: "Off" }, hosts, big]);
  expect(remove(all, hosts)).toEqual([down, big]);
  expect(rename([big], down, "Off")).toEqual([big]);
  expect(remove([big], down)).toEqual([big]);
});

it("says what is wrong with a name", () => {
  expect(nameFault(all, "/vms", "")).toContain("name");
  expect(nameFault(all, "/vms", "x".repeat(61))).toContain("60");
  expect(nameFault(all, "/vms", "Down")).toBeUndefined();
  expect(nameFault(all, "/vms", "Big", down)).toContain("Another");
  expect(nameFault(all, "/vms", "Down", down)).toBeUndefined();
});
