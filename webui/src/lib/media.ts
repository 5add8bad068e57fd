// What the screen is like.
import { useSyncExternalStore } from "react";

function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (changed) => {
      const media = matchMedia(query);
      media.addEventListener("change", changed);
      return () => media.removeEventListener("change", changed);
    },
    () => matchMedia(query).matches,
  );
}

/** Too narrow for tables of many columns. */
export const useNarrow = () => useMedia("(max-width: 767px)");
/** Wide enough for the navigation to stand beside the page. */
export const useRoomy = () => useMedia("(min-width: 1024px)");
