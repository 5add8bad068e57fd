import { NO_SETUP } from "./cloud";
import { expect, it, vi } from "vitest";
import type { Image } from "../api/client";
import { disk, faults, likelyDisk, machine, refusals, type Form, board, runsOn } from "./create";
import { diskName } from "./disks";

vi.hoisted(() => {
  // Where the page came from.
  (globalThis as { location?: unknown }).location ??= new URL("https://192.0.2.1");
});

const form: Form = {
  setup: NO_SETUP,
  name: "web1",
  labels: "env=test",
  iso: "",
  image: "i",
  cpus: "2",
  cpusMost: "",
  memory: "1G",
  memoryMost: "",
  disk: "",
  pool: "",
  network: "n",
  kernel: "",
  initrd: "",
  cmdline: "",
  tpm: false,
  runsOn: "",
  oldDevices: false,
  placement: { host: "", rules: [] },
  restart: "on-failure",
  autostart: true,
  start: true,
};
const image = {
  spec: { kind: "disk", format: "qcow2", boot: { kernel: "k", cmdline: "" } },
  status: { state: "ready", virtual_size_bytes: 2 ** 31 },
} as Image;

it("finds nothing wrong with what is right", () => expect(faults(form, image)).toEqual({}));

it("names every fault at once", () => {
  const wrong = { ...form, name: "-x", cpus: "1.5", memory: "32M", disk: "1G" };
  expect(Object.keys(faults(wrong, image)).sort()).toEqual(["cpus", "disk", "memory", "name"]);
  expect(Object.keys(faults({ ...form, image: "" }, undefined))).toEqual(["disk"]);
});

it("has memory that can be raised in whole pieces", () => {
  expect(machine(form, "v").spec.memory_max_bytes).toBeUndefined();
  expect(machine({ ...form, memoryMost: "4G" }, "v").spec.memory_max_bytes).toBe(2 ** 32);
  const named = (memory: string, memoryMost: string) =>
    Object.keys(faults({ ...form, memory, memoryMost }, image)).join();
  expect(named("1G", "4G")).toBe("");
  expect(named("1G", "512M")).toBe("memoryMost");
  expect(named("1G", "1100M")).toBe("memoryMost");
  expect(named("1000M", "4G")).toBe("memory");
});

it("has as many CPUs as it may have", () => {
  expect(machine(form, "v").spec.vcpus_max).toBeUndefined();
  expect(machine({ ...form, cpusMost: "8" }, "v").spec.vcpus_max).toBe(8);
  for (const wrong of ["1", "65", "x"])
    expect(Object.keys(faults({ ...form, cpusMost: wrong }, image))).toEqual(["cpusMost"]);
});

it("asks for a place only where something is asked", () => {
  expect(machine(form, "v").spec.placement).toBeUndefined();
  const rules = [{ kind: "apart" as const, label: "tier=db", strict: true }];
  expect(machine({ ...form, placement: { host: "h", rules } }, "v").spec.placement).toEqual({
    host: "h",
    apart: [{ label: "tier=db", strict: true }],
  });
  const unfinished = { host: "", rules: [{ ...rules[0]!, label: "db" }] };
  expect(Object.keys(faults({ ...form, placement: unfinished }, image))).toEqual(["placement"]);
  expect(refusals([{ field: "spec.placement.apart[0].label", reason: "no" }])).toEqual({ placement: "no" });
});

it("makes the disk and the machine", () => {
  expect(disk({ ...form, disk: "10G" })).toEqual({ format: "qcow2", size_bytes: 10 * 2 ** 30, source: "i" });
  expect(diskName("x".repeat(63)).length).toBe(63);
  expect(diskName("web1", 2)).toBe("web1-disk-2");
  expect(likelyDisk(image)).toBe("20G");
  expect(likelyDisk({ status: { virtual_size_bytes: 2 ** 36 } } as Image)).toBe("64G");
  expect(machine(form, "v").labels).toEqual({ env: "test" });
  expect(machine(form, "v").spec).toMatchObject({
    vcpus: 2,
    memory_bytes: 2 ** 30,
    disks: [{ volume: "v" }],
  });
  expect(machine(form, "v").spec.boot).toBeUndefined();
  expect(machine(form, "v").spec.tpm).toBeUndefined();
  expect(machine({ ...form, tpm: true }, "v").spec.tpm).toBe(true);
  expect(machine({ ...form, kernel: "k", cmdline: "quiet" }, "v").spec.boot).toEqual({
    kernel: "k",
    cmdline: "quiet",
  });
});

it("puts refusals where they belong", () => {
  expect(
    refusals([
      { field: "spec.disks[0].volume", reason: "a" },
      { field: "spec.vcpus", reason: "b" },
      { field: "spec.boot.cmdline", reason: "c" },
      { field: "elsewhere", reason: "d" },
    ]),
  ).toEqual({ disk: "a", cpus: "b", cmdline: "c" });
});

it("has a machine on QEMU keep its board while it fits, and give it up with QEMU", () => {
  expect(machine(form, "v").spec.hypervisor).toBeUndefined();
  const made = machine({ ...form, runsOn: "qemu-bios", oldDevices: true }, "v").spec;
  expect(made).toMatchObject({ hypervisor: "qemu", firmware: "bios", device_model: "legacy" });
  expect(made.machine).toBeUndefined();
  const before = { hypervisor: "qemu", firmware: "bios", machine: "pc-i440fx-7.2" } as const;
  expect(runsOn(before)).toBe("qemu-bios");
  expect(board("qemu-bios", false, before).machine).toBe("pc-i440fx-7.2");
  expect(board("qemu-uefi", false, before).machine).toBeUndefined();
  expect(board("", false, before)).toEqual({
    hypervisor: "lq-vmm",
    firmware: "uefi",
    device_model: "virtio",
    machine: null,
  });
});
