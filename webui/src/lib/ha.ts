// High availability, in words.
import type { HaHost, HaMachine, HaStatus } from "../api/client";

/** A dot's state and a word. */
interface Shown {
  dot: string;
  word: string;
}

export const HOST_STATES: Record<HaHost["state"], Shown> = {
  unknown: { dot: "unknown", word: "not watched" },
  present: { dot: "up", word: "beats" },
  silent: { dot: "starting", word: "silent" },
  lost: { dot: "down", word: "lost" },
};

export const MACHINE_STATES: Record<HaMachine["state"], Shown> = {
  protected: { dot: "up", word: "protected" },
  stopped: { dot: "unknown", word: "not wanted running" },
  "not-protectable": { dot: "down", word: "cannot be protected" },
  restarting: { dot: "starting", word: "is started elsewhere" },
  waiting: { dot: "starting", word: "waits" },
};

/** In the order machines are started in. */
export const PRIORITIES: readonly (readonly [HaMachine["priority"], string])[] = [
  ["high", "high priority"],
  ["medium", "medium priority"],
  ["low", "low priority"],
  ["disabled", "not protected"],
];

const place = ({ priority }: HaMachine) => PRIORITIES.findIndex(([value]) => value === priority);

/** As they are started: by priority, then by name. */
export const inOrder = (machines: HaMachine[]): HaMachine[] =>
  [...machines].sort((a, b) => place(a) - place(b) || a.name.localeCompare(b.name));

/** How the whole stands, in a word or two. */
export function protection({ spec, watched_by, hosts, machines }: HaStatus): { ok: boolean; word: string } {
  if (!spec.armed) return { ok: false, word: "disarmed" };
  if (!watched_by) return { ok: false, word: "nobody watches" };
  if (hosts.some(({ state }) => state === "lost")) return { ok: false, word: "a host is lost" };
  if (hosts.some(({ state }) => state === "silent")) return { ok: false, word: "a host is silent" };
  if (machines.some(({ state }) => state === "not-protectable"))
    return { ok: false, word: "not every machine is protected" };
  return { ok: true, word: "armed" };
}

/** Milliseconds, as people say them. */
export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
