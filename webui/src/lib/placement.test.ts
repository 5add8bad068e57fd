import { expect, test } from "vitest";
import type { Vm } from "../api/client";
import { labelsInUse, placement, placementForm, ruleFault, ruleGroups, standings } from "./placement";

const vm = (name: string, host: string | undefined, labels: Record<string, string>, placement?: object): Vm =>
  ({
    meta: { id: name, name, labels },
    spec: { vcpus: 1, memory_bytes: 1, ...(placement ? { placement } : {}) },
    status: { state: "running", ...(host ? { host } : {}) },
  }) as unknown as Vm;

const db = { tier: "db" };
const apart = { apart: [{ label: "tier=db", strict: true }] };

test("a form says what it was made of, and nothing where nothing is asked", () => {
  const asked = {
    host: "h1",
    apart: [{ label: "tier=db", strict: true }],
    near: [{ label: "app=web" }],
  };
  expect(placement(placementForm(asked))).toEqual(asked);
  expect(placement(placementForm(undefined))).toBeUndefined();
  expect(placement({ host: "", rules: [{ kind: "near", label: " a=b ", strict: false }] })).toEqual({
    near: [{ label: "a=b" }],
  });
});

test("a label needs a key", () => {
  const rule = (label: string) => ruleFault({ host: "", rules: [{ kind: "apart", label, strict: false }] });
  expect(rule("tier=db")).toBeUndefined();
  expect(rule("tier=")).toBeUndefined();
  expect(rule("tier")).toContain("“tier”");
  expect(rule("=db")).toContain("key=value");
  expect(rule(" ")).toContain("Give the label");
});

test("machines that are to be apart and are not", () => {
  const vms = [
    vm("a", "h1", db, apart),
    vm("b", "h1", db, apart),
    vm("c", "h2", db, apart),
    vm("x", "h2", {}),
  ];
  const [group] = ruleGroups(vms);
  expect(group?.members.map(({ vm }) => vm.meta.name)).toEqual(["a", "b", "c"]);
  expect(
    group?.broken.map(({ vm, against }) => [vm.meta.name, against.map(({ meta }) => meta.name)]),
  ).toEqual([
    ["a", ["b"]],
    ["b", ["a"]],
  ]);
  // One that is nowhere breaks nothing.
  expect(standings([vm("a", undefined, db, apart), vm("b", "h1", db)])[0]?.against).toEqual([]);
});

test("near: the first of a group may be anywhere, the others are to follow", () => {
  const near = { near: [{ label: "app=web" }] };
  const web = { app: "web" };
  expect(standings([vm("a", "h1", web, near)])[0]?.against).toEqual([]);
  expect(standings([vm("a", "h1", web), vm("b", "h1", {}, near)])[0]?.against).toEqual([]);
  expect(standings([vm("a", "h1", web), vm("b", "h2", {}, near)])[0]?.against.length).toBe(1);
});

test("labels in use, the most used first", () => {
  expect(labelsInUse([vm("a", "h", db), vm("b", "h", { ...db, env: "x" })])).toEqual(["tier=db", "env=x"]);
});
