// Making a disk: under the first free name, and waiting until it can be used.
import { ApiError, api, call, type CreateVolume, type Volume } from "../api/client";

/** Names tried for a disk: an earlier machine of this name may have left its own. */
const NAMES = 9;
/** Longest wait for a disk, in milliseconds. */
const PATIENCE = 300_000;

/** The `n`th name for a disk of a machine: `web-disk`, `web-disk-2` … */
export function diskName(machine: string, n = 1): string {
  const end = n === 1 ? "-disk" : `-disk-${n}`;
  return machine.slice(0, 63 - end.length) + end;
}

export async function makeDisk(machine: string, spec: CreateVolume["spec"], n = 1): Promise<Volume> {
  try {
    return await call(api.POST("/volumes", { body: { name: diskName(machine, n), spec } }));
  } catch (error) {
    const taken = error instanceof ApiError && error.problem.status === 409;
    if (taken && n < NAMES) return makeDisk(machine, spec, n + 1);
    throw error;
  }
}

/** Ends when the disk can be used; rejects with the reason where it cannot. */
export async function ready(disk: Volume): Promise<void> {
  const end = Date.now() + PATIENCE;
  let seen = disk;
  while (seen.status.state === "creating") {
    if (Date.now() > end) throw new Error("The disk is still being made; look under Volumes.");
    await new Promise((resolve) => setTimeout(resolve, 300));
    seen = await call(api.GET("/volumes/{id}", { params: { path: { id: disk.meta.id } } }));
  }
  if (seen.status.state !== "ready")
    throw new Error(`The disk could not be made: ${seen.status.reason ?? "no reason given"}`);
}
