// The object something is about, as `kind/id` in tasks and events: its name, and the way to it while it exists.
import { Link } from "@tanstack/react-router";
import { useHosts, useImages, useNetworks, usePools, useVms, useVolumes } from "../api/queries";
import { useMemo } from "react";

type Names = Map<string, string>;

/** Names of all known objects by `kind/id`. */
export function useTargets(): Names {
  const lists = {
    vm: useVms().data,
    host: useHosts().data,
    image: useImages().data,
    volume: useVolumes().data,
    network: useNetworks().data,
    pool: usePools().data,
  };
  return useMemo(() => {
    const names: Names = new Map();
    for (const [kind, list] of Object.entries(lists))
      for (const { meta } of list ?? []) names.set(`${kind}/${meta.id}`, meta.name);
    return names;
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [lists.vm, lists.host, lists.image, lists.volume, lists.network, lists.pool]);
}

/** What has no list that could tell its name. */
const NAMELESS: Record<string, string> = { cluster: "the cluster" };

/** The name of a target; its kind alone where it is gone. */
export const targetName = (names: Names, target: string) => {
  const kind = target.split("/")[0]!;
  return names.get(target) ?? NAMELESS[kind] ?? `${kind} (gone)`;
};

export function Target({ names, target }: { names: Names; target: string }) {
  const name = names.get(target) ?? NAMELESS[target.split("/")[0]!];
  if (name !== undefined) return <TargetLink target={target} label={name} />;
  const [kind, id] = target.split("/");
  return <span className="text-dim">{id ? `${kind} (gone)` : target}</span>;
}

/** The way to something under this label; the label alone where there is none. */
export function TargetLink({ target, label }: { target: string; label: string }) {
  const [kind, id = ""] = target.split("/");
  switch (kind) {
    case "vm":
      return (
        <Link className="link" to="/vms/$id" params={{ id }}>
          {label}
        </Link>
      );
    case "host":
      return (
        <Link className="link" to="/hosts/$id" params={{ id }}>
          {label}
        </Link>
      );
    case "pool":
      return (
        <Link className="link" to="/pools/$id" params={{ id }}>
          {label}
        </Link>
      );
    case "image":
    case "volume":
    case "network":
      return (
        <Link className="link" to={`/${kind}s`} search={{ q: label }}>
          {label}
        </Link>
      );
    case "cluster":
      return (
        <Link className="link" to="/cluster">
          {label}
        </Link>
      );
    case "channel":
      return (
        <Link className="link" to="/settings/notifications">
          {label}
        </Link>
      );
    default:
      return <span>{label}</span>;
  }
}
