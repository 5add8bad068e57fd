// Whether the host is reached. One state for the whole page: the stream of changes and every failed request report to it, the
// banner and the stream's reconnection follow it.
import { useSyncExternalStore } from "react";

export interface Link {
  up: boolean;
  /** When it was lost, in milliseconds since the epoch. */
  since?: number;
}

let link: Link = { up: true };
const followers = new Set<() => void>();

function set(next: Link) {
  link = next;
  for (const follower of followers) follower();
}

export function linkUp() {
  if (!link.up) set({ up: true });
}

export function linkLost() {
  if (link.up) set({ up: false, since: Date.now() });
}

export function followLink(follower: () => void) {
  followers.add(follower);
  return () => void followers.delete(follower);
}

export const isUp = () => link.up;

export const useLink = () => useSyncExternalStore(followLink, () => link);
