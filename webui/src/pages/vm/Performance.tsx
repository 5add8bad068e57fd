// How much a machine does. The daemon counts and this page looks at its counters every few seconds while it is open; what it
// saw is kept until the window is closed.
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Suspense, lazy, useMemo } from "react";
import { api, call, type Stats, type Vm } from "../../api/client";
import { Failure, Loading, Select } from "../../components/ui";
import { bytes } from "../../lib/format";
import { History } from "../../lib/rates";
import { WithVm } from "./Layout";

const Chart = lazy(() => import("../../components/Chart"));

/** Time between two looks, in milliseconds. */
const EVERY = 2000;
/** Looks kept per machine: an hour. */
const KEPT = 1800;
/** Machines whose history is kept. */
const MACHINES = 20;
const histories = new Map<string, History>();

function historyOf(vm: string): History {
  let history = histories.get(vm);
  if (!history) {
    history = new History(KEPT);
    histories.set(vm, history);
    const oldest = histories.keys().next().value;
    if (histories.size > MACHINES && oldest !== undefined) histories.delete(oldest);
  }
  return history;
}

function counters(stats: Stats): Record<string, number> {
  const sum = (all: Stats["disks"], field: keyof Stats["disks"][number]) =>
    all.reduce((total, each) => total + each[field], 0);
  return {
    exits: stats.exits,
    "disk-read": sum(stats.disks, "read_bytes"),
    "disk-written": sum(stats.disks, "written_bytes"),
    "disk-reads": sum(stats.disks, "reads"),
    "disk-writes": sum(stats.disks, "writes"),
    "net-in": sum(stats.nics, "read_bytes"),
    "net-out": sum(stats.nics, "written_bytes"),
    "net-packets-in": sum(stats.nics, "reads"),
    "net-packets-out": sum(stats.nics, "writes"),
    errors: sum(stats.disks, "errors") + sum(stats.nics, "errors"),
  };
}

const SPANS = [
  ["300", "Last 5 minutes"],
  ["900", "Last 15 minutes"],
  ["3600", "Last hour"],
] as const;

const perSecond = (value: number) => `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)}/s`;
const rate = (value: number) => `${bytes(Math.round(value))}/s`;

const CHARTS = [
  {
    title: "Disk throughput",
    format: rate,
    lines: [
      { name: "disk-read", label: "Read" },
      { name: "disk-written", label: "Written" },
    ],
  },
  {
    title: "Disk requests",
    format: perSecond,
    lines: [
      { name: "disk-reads", label: "Reads" },
      { name: "disk-writes", label: "Writes" },
    ],
  },
  {
    title: "Network throughput",
    format: rate,
    lines: [
      { name: "net-in", label: "Received" },
      { name: "net-out", label: "Sent" },
    ],
  },
  {
    title: "Network packets",
    format: perSecond,
    lines: [
      { name: "net-packets-in", label: "Received" },
      { name: "net-packets-out", label: "Sent" },
    ],
  },
  { title: "Exits to the monitor", format: perSecond, lines: [{ name: "exits", label: "Exits" }] },
  { title: "Errors and drops", format: perSecond, lines: [{ name: "errors", label: "Errors" }] },
] as const;
const NAMES = CHARTS.flatMap(({ lines }) => lines.map(({ name }) => name));

export const Performance = () => <WithVm>{(vm) => <PerformanceOf vm={vm} />}</WithVm>;

function PerformanceOf({ vm }: { vm: Vm }) {
  const { span: wanted } = useSearch({ strict: false }) as { span?: number };
  const span = SPANS.some(([value]) => value === String(wanted)) ? wanted! : 300;
  const navigate = useNavigate();
  const { id } = vm.meta;
  const active = vm.status.state === "running" || vm.status.state === "paused";
  const stats = useQuery({
    queryKey: ["stats", id],
    queryFn: async () => {
      const seen = await call(api.GET("/vms/{id}/stats", { params: { path: { id } } }));
      historyOf(id).add({ at: Date.now() / 1000, counters: counters(seen) });
      return historyOf(id).size;
    },
    enabled: active,
    refetchInterval: EVERY,
    gcTime: 0,
  });
  const at = stats.dataUpdatedAt;
  const series = useMemo(() => historyOf(id).rates(NAMES, at / 1000 - span), [id, at, span]);
  return (
    <>
      <div className="flex flex-wrap items-end gap-3">
        <div className="w-48">
          <Select
            label="Time"
            value={String(span)}
            options={SPANS}
            onValue={(value) =>
              void navigate({
                to: ".",
                search: (old: object) => ({ ...old, span: Number(value) }),
                replace: true,
              })
            }
          />
        </div>
        <p className="pb-2 text-dim">
          {active
            ? "Measured every 2 seconds while this page is open."
            : "The machine does not run: there is nothing to measure."}
        </p>
      </div>
      {active && <Failure error={stats.error} />}
      <Suspense fallback={<Loading />}>
        <div className="grid gap-4 lg:grid-cols-2 2xl:grid-cols-3">
          {CHARTS.map((chart) => (
            <Chart key={chart.title} {...chart} series={series} span={span} />
          ))}
        </div>
      </Suspense>
    </>
  );
}
