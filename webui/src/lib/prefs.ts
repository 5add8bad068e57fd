// What a person prefers in this browser: how the page looks, not what it shows. Kept by the browser, never sent anywhere.
import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";

const followers = new Set<() => void>();

function read(name: string): string | null {
  try {
    return localStorage.getItem(`lq-${name}`);
  } catch {
    // A browser that keeps nothing.
    return null;
  }
}

function write(name: string, value: string) {
  try {
    localStorage.setItem(`lq-${name}`, value);
  } catch {
    // It holds until the page is closed, by what is set below.
  }
  for (const follower of followers) follower();
}

const follow = (follower: () => void) => {
  followers.add(follower);
  return () => void followers.delete(follower);
};

const dark = matchMedia("(prefers-color-scheme: dark)");
let theme: Theme = (["light", "dark"] as const).find((known) => known === read("theme")) ?? "system";

/** Puts the theme on the page. */
export function applyTheme() {
  const isDark = theme === "dark" || (theme === "system" && dark.matches);
  document.documentElement.dataset["theme"] = isDark ? "dark" : "light";
}
dark.addEventListener("change", applyTheme);

export function setTheme(next: Theme) {
  theme = next;
  applyTheme();
  write("theme", next);
}

export const useTheme = () => useSyncExternalStore(follow, () => theme);

const flags = new Map<string, boolean>();

/** A switch that the browser remembers. */
export function useFlag(name: string, otherwise: boolean): [boolean, (on: boolean) => void] {
  const value = useSyncExternalStore(
    follow,
    () => flags.get(name) ?? (read(name) === null ? otherwise : read(name) === "1"),
  );
  return [
    value,
    (on) => {
      flags.set(name, on);
      write(name, on ? "1" : "0");
    },
  ];
}
