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

/** What a task or an event is about. */
type About = { target: string; target_name?: string | null };

/** The name of a target; where it is gone its kind, and the name it had where that was kept. */
export const targetName = (names: Names, { target, target_name }: About) => {
  const [kind, id] = target.split("/");
  const now = names.get(target) ?? NAMELESS[kind!];
  if (now !== undefined) return now;
  return id ? [kind, target_name, "(gone)"].filter(Boolean).join(" ") : target;
};

export function Target({ names, about }: { names: Names; about: About }) {
  const { target } = about;
  const label = targetName(names, about);
  if (names.has(target) || NAMELESS[target.split("/")[0]!])
    return <TargetLink target={target} label={label} />;
  return <span className="text-dim">{label}</span>;
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
