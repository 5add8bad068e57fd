// How everything is, at a glance, and the way to what needs a hand.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { CircleCheck, LayoutDashboard, type LucideIcon } from "lucide-react";
import { Disc3, MonitorCog, Network, Server } from "lucide-react";
import type { ReactNode } from "react";
import {
  useAlerts,
  useEvents,
  useHosts,
  useImages,
  useNetworks,
  usePools,
  useVms,
  timeQuery,
} from "../api/queries";
import { useClusterRefusal } from "../api/rights";
import { Head } from "../components/Page";
import { Target, useTargets } from "../components/Target";
import { Bar, Card, Dot, Failure, Loading, buttonClass } from "../components/ui";
import { colour, urgent, weight } from "../lib/alerts";
import { bytes, time } from "../lib/format";
import { standing } from "../lib/pools";
import { seenWith } from "../lib/seen";
import { hostState } from "../lib/tree";
import { AlertTarget } from "./alerts/Target";

export function Dashboard() {
  const vms = useVms();
  const hosts = useHosts();
  const pools = usePools();
  const images = useImages();
  const networks = useNetworks();
  const mayAll = !useClusterRefusal()("cluster.write");
  if (vms.isPending || hosts.isPending) return <Loading />;
  const machines = vms.data ?? [];
  const known = hosts.data ?? [];
  const seen = seenWith(hosts.data);
  const asked = known.flatMap(({ status }) => (status ? [status] : []));
  const in_state = (state: string) => machines.filter((vm) => seen(vm) === state).length;
  const sum = (of: (status: (typeof asked)[number]) => number) =>
    asked.reduce((total, status) => total + of(status), 0);
  const threads = sum(({ cpu }) => cpu.threads);
  const memory = sum(({ memory }) => memory.total_bytes);
  const used = memory - sum(({ memory }) => memory.available_bytes);
  const capacity = (pools.data ?? []).reduce((total, { status }) => total + (status?.capacity_bytes ?? 0), 0);
  const free = (pools.data ?? []).reduce((total, { status }) => total + (status?.free_bytes ?? 0), 0);
  return (
    <>
      <Head title="Dashboard" icon={LayoutDashboard}>
        <Link to="/vms/new" className={buttonClass("primary")}>
          Create virtual machine
        </Link>
      </Head>
      <div className="flex flex-col gap-4">
        <Failure error={vms.error ?? hosts.error ?? pools.error} />
        <div className="grid gap-4 sm:grid-cols-2 xl:grid-cols-4">
          <Count icon={MonitorCog} to="/vms" label="Virtual machines" count={machines.length}>
            {(["running", "stopped", "paused", "failed", "unknown"] as const)
              .map((state) => [state, in_state(state)] as const)
              .filter(([, count]) => count > 0)
              .map(([state, count]) => (
                <Link
                  key={state}
                  to="/vms"
                  search={{ q: `state:${state}` }}
                  className="flex min-h-7 items-center gap-1.5 hover:underline"
                >
                  <Dot state={state} /> {count} {state}
                </Link>
              ))}
          </Count>
          <Count icon={Server} to="/hosts" label="Hosts" count={known.length}>
            <span className="flex items-center gap-1.5">
              <Dot state="up" /> {known.filter((host) => hostState(host) !== "away").length} up
            </span>
            {known.some((host) => hostState(host) === "away") && (
              <span className="flex items-center gap-1.5">
                <Dot state="away" /> {known.filter((host) => hostState(host) === "away").length} cannot be
                asked
              </span>
            )}
          </Count>
          <Count icon={Disc3} to="/images" label="Images" count={images.data?.length}>
            {images.data && (
              <span>
                {bytes(images.data.reduce((total, { status }) => total + (status.size_bytes ?? 0), 0))}
              </span>
            )}
          </Count>
          <Count icon={Network} to="/networks" label="Networks" count={networks.data?.length}>
            <span>
              {networks.data
                ?.map(({ meta }) => meta.name)
                .slice(0, 3)
                .join(", ")}
            </span>
          </Count>
        </div>
        <div className="grid gap-4 xl:grid-cols-2">
          <Card title="Capacity">
            <div className="flex flex-col gap-5">
              <Bar
                label="CPU"
                share={threads ? sum(({ cpu }) => cpu.usage * cpu.threads) / threads : 0}
                text={`${Math.round((sum(({ cpu }) => cpu.usage * cpu.threads) / Math.max(1, threads)) * 100)} % of ${threads} threads`}
              />
              <Bar
                label="Memory"
                share={used / Math.max(1, memory)}
                text={`${bytes(used)} of ${bytes(memory)}`}
              />
              <Bar
                label="Storage"
                share={(capacity - free) / Math.max(1, capacity)}
                text={`${bytes(capacity - free)} of ${bytes(capacity)}`}
              />
            </div>
          </Card>
          <Attention />
        </div>
        {machines.length === 0 && mayAll && <FirstSteps images={images.data?.length} hosts={known.length} />}
        <OpenAlerts />
        <Latest />
      </div>
    </>
  );
}

/** The way from an empty host to the first machine. */
function FirstSteps({ images, hosts }: { images: number | undefined; hosts: number }) {
  const time = useQuery(timeQuery);
  const steps = [
    {
      done: (time.data?.spec.servers ?? []).length > 0,
      text: (
        <>
          Name the{" "}
          <Link className="link" to="/cluster">
            time servers
          </Link>
          : logs, certificates and one-time codes need the right time.
        </>
      ),
    },
    {
      done: (images ?? 0) > 0,
      text: (
        <>
          <Link className="link" to="/images" search={{ open: "upload" }}>
            Upload an image
          </Link>
          : the disk of an installed system (qcow2 or raw), or the CD (ISO) of one to install.
        </>
      ),
    },
    {
      done: false,
      text: (
        <>
          <Link className="link" to="/vms/new">
            Create a virtual machine
          </Link>{" "}
          from it.
        </>
      ),
    },
    {
      done: hosts > 1,
      text: (
        <>
          Where there are more hosts,{" "}
          <Link className="link" to="/cluster">
            add them
          </Link>
          : machines then move between them, and are started elsewhere when a host is lost.
        </>
      ),
    },
  ];
  return (
    <Card title="First steps">
      <ol className="flex flex-col gap-2">
        {steps.map(({ done, text }, n) => (
          <li key={n} className="flex gap-2.5 wrap-anywhere">
            <span className="w-5 flex-none text-dim tabular-nums">
              {done ? <CircleCheck size={18} aria-label="done" className="mt-0.5 text-good" /> : `${n + 1}.`}
            </span>
            <span>{text}</span>
          </li>
        ))}
      </ol>
    </Card>
  );
}

function Count({
  icon: Icon,
  to,
  label,
  count,
  children,
}: {
  icon: LucideIcon;
  to: "/vms" | "/hosts" | "/images" | "/networks";
  label: string;
  count: number | undefined;
  children: ReactNode;
}) {
  return (
    <section className="card p-4" aria-label={label}>
      <Link to={to} className="flex items-center gap-2 text-dim hover:text-accent">
        <Icon size={17} aria-hidden /> {label}
      </Link>
      <p className="mt-1 text-3xl font-semibold tabular-nums">{count ?? "–"}</p>
      <div className="flex min-h-7 flex-wrap items-center gap-x-4 text-sm text-dim">{children}</div>
    </section>
  );
}

interface Note {
  key: string;
  state: string;
  text: ReactNode;
}

/** The first of these, and how many there are beside them. */
function Notes({ notes, shown }: { notes: Note[]; shown: number }) {
  return (
    <ul className="flex flex-col gap-2">
      {notes.slice(0, shown).map(({ key, state, text }) => (
        <li key={key} className="flex gap-2.5 wrap-anywhere">
          <span className="pt-1.5 leading-none">
            <Dot state={state} />
          </span>
          <span>{text}</span>
        </li>
      ))}
      {notes.length > shown && <li className="text-dim">and {notes.length - shown} more</li>}
    </ul>
  );
}

/** What someone should look at. */
function Attention() {
  const vms = useVms().data ?? [];
  const hosts = useHosts().data ?? [];
  const pools = usePools().data ?? [];
  const items: Note[] = [];
  for (const vm of vms)
    if (vm.status.state === "failed")
      items.push({
        key: vm.meta.id,
        state: "failed",
        text: (
          <>
            <Link className="link" to="/vms/$id" params={{ id: vm.meta.id }}>
              {vm.meta.name}
            </Link>{" "}
            failed{vm.status.reason && `: ${vm.status.reason}`}
          </>
        ),
      });
  for (const host of hosts) {
    const link = (
      <Link className="link" to="/hosts/$id" params={{ id: host.meta.id }}>
        {host.meta.name}
      </Link>
    );
    if (!host.status) items.push({ key: host.meta.id, state: "away", text: <>{link} cannot be asked</> });
    for (const warning of host.status?.warnings ?? [])
      items.push({
        key: host.meta.id + warning,
        state: "warning",
        text: (
          <>
            {link}: {warning}
          </>
        ),
      });
  }
  for (const pool of pools) {
    const how = standing(pool);
    if (how?.state === "failed" || how?.state === "warning")
      items.push({
        key: `${pool.meta.id} hosts`,
        state: how.state,
        text: (
          <>
            The pool{" "}
            <Link className="link" to="/pools/$id" params={{ id: pool.meta.id }}>
              {pool.meta.name}
            </Link>{" "}
            is {how.word}
          </>
        ),
      });
  }
  for (const { meta, status } of pools)
    if (status && status.free_bytes < 0.1 * status.capacity_bytes)
      items.push({
        key: meta.id,
        state: "warning",
        text: (
          <>
            <Link className="link" to="/pools">
              {meta.name}
            </Link>{" "}
            has {bytes(status.free_bytes)} free
          </>
        ),
      });
  return (
    <Card title="Needs attention">
      {items.length === 0 ? (
        <p className="flex items-center gap-2 text-good">
          <CircleCheck size={18} aria-hidden /> Nothing.
        </p>
      ) : (
        <Notes notes={items} shown={8} />
      )}
    </Card>
  );
}

/** The alerts nobody has seen to yet. */
function OpenAlerts() {
  const alerts = useAlerts("active");
  const open = urgent(alerts.data).sort((a, b) => weight(b.severity) - weight(a.severity));
  return (
    <Card
      title="Alerts"
      actions={
        <Link className="link text-sm" to="/alerts">
          All alerts
        </Link>
      }
    >
      <Failure error={alerts.error} />
      {alerts.data && open.length === 0 && (
        <p className="flex items-center gap-2 text-good">
          <CircleCheck size={18} aria-hidden /> No alert waits for somebody.
        </p>
      )}
      <Notes
        shown={6}
        notes={open.map((alert) => ({
          key: alert.id,
          state: colour(alert.severity),
          text: (
            <>
              <span className="font-medium">{alert.severity}: </span>
              <AlertTarget alert={alert} /> {alert.message}
            </>
          ),
        }))}
      />
    </Card>
  );
}

function Latest() {
  const events = useEvents({ limit: 10 });
  const names = useTargets();
  return (
    <Card
      title="Latest events"
      actions={
        <Link className="link text-sm" to="/events">
          All events
        </Link>
      }
    >
      <Failure error={events.error} />
      <ol className="flex flex-col gap-1.5">
        {events.data?.map((event) => (
          <li key={event.id} className="flex flex-wrap gap-x-3 wrap-anywhere sm:flex-nowrap">
            <time dateTime={event.at} className="w-44 flex-none text-dim tabular-nums">
              {time(event.at)}
            </time>
            <span className="pt-1.5 leading-none">
              <Dot state={event.level} />
            </span>
            <span>
              <Target names={names} about={event} /> {event.message}
            </span>
          </li>
        ))}
      </ol>
    </Card>
  );
}
