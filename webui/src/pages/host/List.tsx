// Every host.
import { Link } from "@tanstack/react-router";
import { Server } from "lucide-react";
import { useMemo } from "react";
import type { Host } from "../../api/client";
import { useHosts, useVms } from "../../api/queries";
import { Head } from "../../components/Page";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { State, cx } from "../../components/ui";
import { age, bytes, percent } from "../../lib/format";
import { hostState } from "../../lib/tree";

const id = (host: Host) => host.meta.id;
const name = (host: Host) => host.meta.name;

/** A share with a small bar. */
function Share({ share }: { share: number }) {
  return (
    <span className="flex items-center gap-2.5">
      <span className="h-1.5 w-16 flex-none overflow-hidden rounded-full bg-sunken" aria-hidden>
        <span
          className={cx(
            "block h-full",
            share >= 0.9 ? "bg-bad-dot" : share >= 0.75 ? "bg-warn-dot" : "bg-accent",
          )}
          style={{ width: percent(share).replace(" ", "") }}
        />
      </span>
      <span className="tabular-nums">{percent(share)}</span>
    </span>
  );
}

export const memoryShare = ({ memory }: NonNullable<Host["status"]>) =>
  1 - memory.available_bytes / Math.max(1, memory.total_bytes);

export function Hosts() {
  const hosts = useHosts();
  const vms = useVms().data;
  const columns = useMemo((): Column<Host>[] => {
    const counts = new Map<string, number>();
    for (const { status } of vms ?? [])
      if (status.host) counts.set(status.host, (counts.get(status.host) ?? 0) + 1);
    return [
      {
        id: "name",
        label: "Name",
        value: name,
        cell: ({ meta }) => (
          <Link className="link" to="/hosts/$id" params={{ id: meta.id }}>
            {meta.name}
          </Link>
        ),
      },
      {
        id: "state",
        label: "State",
        value: hostState,
        cell: (host) => <State state={hostState(host)} word={STATES[hostState(host)]} />,
        width: "w-36",
        narrow: true,
      },
      {
        id: "vms",
        label: "Machines",
        value: ({ meta }) => counts.get(meta.id) ?? 0,
        width: "w-24",
        right: true,
      },
      {
        id: "cpu",
        label: "CPU",
        value: ({ status }) => (status ? status.cpu.usage * 100 : undefined),
        cell: ({ status }) => status && <Share share={status.cpu.usage} />,
        width: "w-38",
      },
      {
        id: "memory",
        label: "Memory",
        value: ({ status }) => (status ? memoryShare(status) * 100 : undefined),
        cell: ({ status }) => status && <Share share={memoryShare(status)} />,
        width: "w-38",
      },
      {
        id: "threads",
        label: "Threads",
        value: ({ status }) => status?.cpu.threads,
        width: "w-22",
        right: true,
      },
      {
        id: "total",
        label: "Memory in all",
        value: ({ status }) => status?.memory.total_bytes,
        cell: ({ status }) => status && bytes(status.memory.total_bytes),
        width: "w-32",
        right: true,
      },
      { id: "version", label: "Version", value: ({ status }) => status?.version, width: "w-24" },
      {
        id: "up",
        label: "Up for",
        value: ({ status }) => (status ? -Date.parse(status.booted_at) : undefined),
        cell: ({ status }) => status && age(status.booted_at),
        width: "w-22",
      },
    ];
  }, [vms]);
  return (
    <>
      <Head title="Hosts" icon={Server} />
      <ListView
        nouns="hosts"
        icon={Server}
        query={hosts}
        columns={columns}
        id={id}
        name={name}
        order="name"
        brief={({ status }) =>
          status
            ? `CPU ${percent(status.cpu.usage)} · memory ${percent(memoryShare(status))}`
            : "cannot be asked from here"
        }
        empty={<p>This should not be: at least the host that serves this page exists.</p>}
      />
    </>
  );
}

export const STATES = {
  up: "up",
  warning: "needs a look",
  away: "cannot be asked",
  maintenance: "in maintenance",
  witness: "witness",
} as const;
