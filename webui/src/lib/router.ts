// Where the person is, kept in the address after `#`, so that a page can be linked, reloaded and gone back from.
import { useSyncExternalStore } from "react";

export type Route =
  | { page: "vms" }
  | { page: "create-vm" }
  | { page: "vm"; id: string }
  | { page: "images" }
  | { page: "activity" };

/** The route an address stands for; an unknown one is the list of machines. */
export function parse(hash: string): Route {
  const [first, second] = hash.replace(/^#?\/?/, "").split("/");
  if (first === "vms" && second === "new") return { page: "create-vm" };
  if (first === "vms" && second) return { page: "vm", id: decodeURIComponent(second) };
  if (first === "images" || first === "activity") return { page: first };
  return { page: "vms" };
}

/** The address of a route. */
export function href(route: Route): string {
  switch (route.page) {
    case "create-vm":
      return "#/vms/new";
    case "vm":
      return `#/vms/${encodeURIComponent(route.id)}`;
    default:
      return `#/${route.page}`;
  }
}

export function go(route: Route) {
  location.hash = href(route);
}

const subscribe = (changed: () => void) => {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
};

export function useRoute(): Route {
  return parse(useSyncExternalStore(subscribe, () => location.hash));
}
