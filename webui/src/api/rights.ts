// What the person of this page may do, as reasons why not: for buttons and menus.
import { may, mayAll, mayEverything, missing, type Permission, type Place } from "../lib/rights";
import { useAccess } from "./queries";

function useRights() {
  const { data } = useAccess();
  return data && "identity" in data ? data.identity.rights : undefined;
}

/** Who one is, by the user's id; absent for root on the host itself. */
export function useMe(): string | undefined {
  const { data } = useAccess();
  return data && "identity" in data ? (data.identity.user ?? undefined) : undefined;
}

/** Why something is not allowed, on an object or on anything; `undefined` where it is. */
export function useRefusal() {
  const rights = useRights();
  return (permission: Permission, on?: Place) =>
    may(rights, permission, on) ? undefined : missing(permission);
}

/** The same for what concerns the whole cluster. */
export function useClusterRefusal() {
  const rights = useRights();
  return (permission: Permission) => (mayAll(rights, permission) ? undefined : missing(permission));
}

/** Why something that takes every permission is not allowed. */
export function useEverythingRefusal() {
  return mayEverything(useRights()) ? undefined : "Only who may do everything may do this.";
}
