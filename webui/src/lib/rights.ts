// What the person may do, by the rights the host tells of. Only for what is offered: the host decides again.
import type { Right } from "../api/client";
import type { components } from "../api/schema";

/** A permission as it is written, e.g. `vm.power`. */
export type Permission = components["schemas"]["Permission"];

export interface Place {
  kind: "vm" | "host" | "pool" | "volume" | "image" | "network";
  id: string;
  labels?: Record<string, string> | undefined;
}

/** Whether the permission is held: on the object, or, without one, on anything. */
export function may(rights: readonly Right[] | undefined, permission: Permission, on?: Place): boolean {
  // A host that tells of no rights knows none: everyone who is in may do everything.
  if (!rights) return true;
  return rights.some(({ scope, permissions }) => {
    if (!permissions.includes(permission)) return false;
    if (!on || scope.kind === "cluster") return true;
    if (scope.kind === "object") return scope.object === on.kind && scope.id === on.id;
    return Object.entries(scope.labels).every(([key, value]) => on.labels?.[key] === value);
  });
}

/** The same, on the whole cluster. */
export const mayAll = (rights: readonly Right[] | undefined, permission: Permission) =>
  !rights ||
  rights.some(({ scope, permissions }) => scope.kind === "cluster" && permissions.includes(permission));

/** Every permission there is; a new one has to be added here. */
const EVERY: Record<Permission, true> = {
  "vm.read": true,
  "vm.write": true,
  "vm.power": true,
  "vm.console": true,
  "storage.read": true,
  "storage.write": true,
  "network.read": true,
  "network.write": true,
  "host.read": true,
  "host.power": true,
  "cluster.read": true,
  "cluster.write": true,
  "alert.write": true,
  "user.read": true,
  "user.write": true,
  "audit.read": true,
};

/** Whether there is nothing that may not be done. */
export const mayEverything = (rights: readonly Right[] | undefined) =>
  (Object.keys(EVERY) as Permission[]).every((permission) => mayAll(rights, permission));

const CANCEL: Record<Place["kind"], Permission> = {
  vm: "vm.power",
  image: "storage.write",
  volume: "storage.write",
  pool: "storage.write",
  network: "network.write",
  host: "host.power",
};

/** What it takes to end a task early that works on this (`kind/id`); without an object it is the cluster's. */
export function toCancel(target: string): {
  permission: Permission;
  on?: { kind: Place["kind"]; id: string };
} {
  const [kind = "", id] = target.split("/");
  if (!id || !(kind in CANCEL)) return { permission: "cluster.write" };
  const known = kind as Place["kind"];
  return { permission: CANCEL[known], on: { kind: known, id } };
}

export const missing = (permission: Permission) => `Your role lacks the permission ${permission}.`;
