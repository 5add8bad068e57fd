import { expect, it } from "vitest";
import type { Vm } from "../api/client";
import { diskErrors } from "./diskErrors";

const vm = { spec: { disks: [{ volume: "a" }, { volume: "b" }] } } as unknown as Vm;
const name = (id: string) => (id === "a" ? "root" : undefined);

it("names the disks whose requests failed, and no others", () => {
  expect(diskErrors(vm, { disks: [{ errors: 1 }, { errors: 0 }] }, name)).toEqual(["root: 1 failed request"]);
  expect(diskErrors(vm, { disks: [{ errors: 0 }, { errors: 4442 }] }, name)).toEqual([
    "b: 4442 failed requests",
  ]);
  // More than the specification has any more.
  expect(diskErrors(vm, { disks: [{ errors: 0 }, { errors: 0 }, { errors: 2 }] }, name)).toEqual([
    "disk 3: 2 failed requests",
  ]);
  expect(diskErrors(vm, undefined, name)).toEqual([]);
});
