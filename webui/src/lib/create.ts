// From the form of a new machine to what the API wants, and back from its refusals to the fields of the form.
import type { CreateVm, CreateVolume, Image } from "../api/client";
import { cloudInit, setupFaults, type Setup } from "./cloud";
import { parseSize, sizeText } from "./format";
import { parseLabels } from "./labels";
import { placement, ruleFault, type PlacementForm } from "./placement";

export type RunsOn = "" | "qemu-bios" | "qemu-uefi";

/** What can run a machine, for a choice. */
export const RUNS_ON: [RunsOn, string][] = [
  ["", "LimiQuantix's own monitor (UEFI, or a kernel directly)"],
  ["qemu-bios", "QEMU, by a legacy BIOS"],
  ["qemu-uefi", "QEMU, by UEFI"],
];

/** What is given up on QEMU. */
export const ON_QEMU_HINT =
  "On QEMU a machine is not moved while it runs, nor protected by high availability; disks and interfaces come and go only while it is off.";

/** Why devices of old machines cannot be chosen. */
export const OLD_DEVICES_NEED = "only where QEMU runs the machine";

type Board = Pick<CreateVm["spec"], "hypervisor" | "firmware" | "device_model" | "machine">;

/** What a machine is made of. The board is the one it has, where that still fits. */
export function board(runsOn: RunsOn, oldDevices: boolean, before?: Board): Board {
  if (!runsOn)
    return before ? { hypervisor: "lq-vmm", firmware: "uefi", device_model: "virtio", machine: null } : {};
  const firmware = runsOn === "qemu-bios" ? "bios" : "uefi";
  const kept = before?.hypervisor === "qemu" && (before.firmware ?? "uefi") === firmware;
  return {
    hypervisor: "qemu",
    firmware,
    device_model: oldDevices ? "legacy" : "virtio",
    ...(kept && before.machine ? { machine: before.machine } : {}),
  };
}

/** The choice a machine is of. */
export function runsOn(spec: Board): RunsOn {
  if (spec.hypervisor !== "qemu") return "";
  return spec.firmware === "bios" ? "qemu-bios" : "qemu-uefi";
}

export interface Form {
  name: string;
  labels: string;
  /** Id of a disk image; empty for an empty disk. */
  image: string;
  /** Id of a CD image; empty for no drive. */
  iso: string;
  cpus: string;
  /** As many as there can be while the machine runs; empty: their number is fixed. */
  cpusMost: string;
  memory: string;
  /** As far as it can be raised while the machine runs; empty: not at all. */
  memoryMost: string;
  /** Empty: the image's own size. */
  disk: string;
  /** Id of the disk's pool; empty for the default one. */
  pool: string;
  /** Id; empty for none. */
  network: string;
  kernel: string;
  initrd: string;
  cmdline: string;
  tpm: boolean;
  /** What runs it, and what it boots by there; empty: our own monitor. */
  runsOn: RunsOn;
  /** Disks and interfaces of old machines. */
  oldDevices: boolean;
  setup: Setup;
  placement: PlacementForm;
  restart: "never" | "on-failure" | "always";
  /** With its host. */
  autostart: boolean;
  start: boolean;
}

export type Faults = Partial<Record<keyof Form, string>>;

const SIZE = "Write a size like 512M, 2G or 1.5T.";

/** What memory that comes and goes is counted in. */
const PLUGGABLE = 128 * 2 ** 20;

/** What can be seen to be wrong without asking the host. */
export function faults(form: Form, image: Image | undefined): Faults {
  const found: Faults = {};
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/i.test(form.name))
    found.name = "1 to 63 letters, digits, dots, underscores or hyphens, beginning with a letter or digit.";
  const cpus = Number(form.cpus);
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > 64) found.cpus = "A whole number from 1 to 64.";
  const most = form.cpusMost.trim() ? Number(form.cpusMost) : cpus;
  if (!found.cpus && (!Number.isInteger(most) || most < cpus || most > 64))
    found.cpusMost = "A whole number from its CPUs to 64, or nothing.";
  const memory = parseSize(form.memory);
  if (memory === undefined) found.memory = SIZE;
  else if (memory < 64 * 2 ** 20) found.memory = "At least 64M. A number without a unit is in bytes.";
  else if (memory % 2 ** 20 !== 0) found.memory = "A whole number of MiB.";
  if (form.memoryMost.trim()) {
    const most = parseSize(form.memoryMost);
    if (most === undefined) found.memoryMost = SIZE;
    else if (most < (memory ?? 0)) found.memoryMost = "Less than its memory.";
    else if (most % PLUGGABLE !== 0) found.memoryMost = "A multiple of 128M.";
    else if ((memory ?? 0) % PLUGGABLE !== 0)
      found.memory ??= "A multiple of 128M, to be raised while it runs.";
  }
  const disk = parseSize(form.disk);
  if (form.disk.trim() === "") {
    if (!image) found.disk = "An empty disk needs a size.";
  } else if (disk === undefined) found.disk = SIZE;
  else if (disk < (image?.status.virtual_size_bytes ?? 2 ** 20)) found.disk = "Smaller than the image.";
  const [wrong] = Object.values(setupFaults(form.setup));
  if (wrong) found.setup = wrong;
  const rule = ruleFault(form.placement);
  if (rule) found.placement = rule;
  return found;
}

/** The disk of the new machine. */
export function disk(form: Form): CreateVolume["spec"] {
  const size = parseSize(form.disk);
  return {
    format: "qcow2",
    ...(size === undefined ? {} : { size_bytes: size }),
    ...(form.image ? { source: form.image } : {}),
    ...(form.pool ? { pool: form.pool } : {}),
  };
}

/** Room a new disk has where nothing else is said, in bytes: thin, so it costs nothing until it is used. */
const ROOM = 20 * 2 ** 30;

/** What is likely wanted for a machine made from this image. */
export function likelyDisk(image: Image | undefined): string {
  return sizeText(Math.max(ROOM, image?.status.virtual_size_bytes ?? 0));
}

/** The new machine, its disk made before. */
export function machine(form: Form, volume: string): CreateVm {
  const cloud_init = cloudInit(form.setup);
  const place = placement(form.placement);
  return {
    name: form.name,
    labels: parseLabels(form.labels),
    spec: {
      vcpus: Number(form.cpus),
      ...(form.cpusMost.trim() ? { vcpus_max: Number(form.cpusMost) } : {}),
      memory_bytes: parseSize(form.memory) ?? 0,
      ...(form.memoryMost.trim() ? { memory_max_bytes: parseSize(form.memoryMost) ?? 0 } : {}),
      disks: [{ volume, read_only: false }],
      nics: form.network ? [{ network: form.network }] : [],
      ...(form.iso ? { cdroms: [{ image: form.iso }] } : {}),
      ...(form.kernel && !form.runsOn
        ? {
            boot: {
              kernel: form.kernel,
              cmdline: form.cmdline,
              ...(form.initrd ? { initrd: form.initrd } : {}),
            },
          }
        : {}),
      ...(cloud_init ? { cloud_init } : {}),
      ...(place ? { placement: place } : {}),
      ...(form.tpm ? { tpm: true } : {}),
      ...board(form.runsOn, form.oldDevices),
      rng: true,
      restart: form.restart,
      autostart: form.autostart,
      power: "stopped",
    },
  };
}

const FIELDS: [prefix: string, field: keyof Form][] = [
  ["name", "name"],
  ["labels", "labels"],
  ["spec.vcpus_max", "cpusMost"],
  ["spec.vcpus", "cpus"],
  ["spec.memory_bytes", "memory"],
  ["spec.memory_max_bytes", "memoryMost"],
  ["spec.size_bytes", "disk"],
  ["spec.source", "image"],
  ["spec.pool", "pool"],
  ["spec.disks", "disk"],
  ["spec.nics", "network"],
  ["spec.cdroms", "iso"],
  ["spec.cloud_init", "setup"],
  ["spec.boot.kernel", "kernel"],
  ["spec.boot.initrd", "initrd"],
  ["spec.boot.cmdline", "cmdline"],
  ["spec.boot", "kernel"],
  ["spec.tpm", "tpm"],
  ["spec.hypervisor", "runsOn"],
  ["spec.firmware", "runsOn"],
  ["spec.machine", "runsOn"],
  ["spec.device_model", "oldDevices"],
  ["spec.placement", "placement"],
];

/** The host's refusals at the fields of the form they are about. */
export function refusals(errors: { field: string; reason: string }[] | undefined): Faults {
  const found: Faults = {};
  for (const { field, reason } of errors ?? []) {
    const at = FIELDS.find(([prefix]) => field.startsWith(prefix))?.[1];
    if (at && !found[at]) found[at] = reason;
  }
  return found;
}
