// Charts of what the host measured of itself or of a machine, from an hour to a year. The span is in the address.
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Suspense, lazy, useMemo } from "react";
import { api, call } from "../api/client";
import { SPANS, series, type Kept, type Series } from "../lib/history";
import { bytes } from "../lib/format";
import { Failure, Loading, Select } from "./ui";

const Chart = lazy(() => import("./Chart"));

export interface Of {
  kind: "vm" | "host";
  id: string;
}

export interface Panel {
  title: string;
  format: (value: number) => string;
  lines: readonly { name: string; label: string }[];
  /** Largest value of the scale; what comes where absent. */
  top?: number;
  /** Its values are bytes. */
  bytes?: boolean;
}

export const perSecond = (value: number) =>
  `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)}/s`;
export const size = (value: number) => bytes(Math.round(value));
export const rate = (value: number) => `${size(value)}/s`;

/** What hosts and machines have in common. */
export const DISK: Panel = {
  title: "Disk throughput",
  format: rate,
  bytes: true,
  lines: [
    { name: "disk.read", label: "Read" },
    { name: "disk.written", label: "Written" },
  ],
};
export const NETWORK: Panel = {
  title: "Network throughput",
  format: rate,
  bytes: true,
  lines: [
    { name: "net.received", label: "Received" },
    { name: "net.sent", label: "Sent" },
  ],
};

/** What was measured; looked at again as often as there is something new to see. */
export function useHistory({ kind, id }: Of, span: Kept) {
  const { data, error } = useQuery({
    queryKey: ["history", kind, id, span],
    queryFn: () => {
      const params = { path: { id }, query: { span } };
      return kind === "vm"
        ? call(api.GET("/vms/{id}/history", { params }))
        : call(api.GET("/hosts/{id}/history", { params }));
    },
    refetchInterval: span === "hour" ? 5000 : 60_000,
    gcTime: 0,
  });
  return { series: useMemo(() => series(data), [data]), error };
}

/** How far back charts show: what the address says, one of `spans`. */
export function useSpan(spans = SPANS) {
  const { span: wanted } = useSearch({ strict: false }) as { span?: string };
  return spans.find(([each]) => each === wanted) ?? spans[0]!;
}

export function SpanSelect({ spans = SPANS }: { spans?: typeof SPANS }) {
  const [name] = useSpan(spans);
  const navigate = useNavigate();
  return (
    <div className="w-48">
      <Select
        label="Time"
        value={name}
        options={spans.map(([name, label]) => [name, label] as const)}
        onValue={(value) =>
          void navigate({ to: ".", search: (old: object) => ({ ...old, span: value }), replace: true })
        }
      />
    </div>
  );
}

export function Charts({
  series,
  panels,
  seconds,
}: {
  series: Series;
  panels: readonly Panel[];
  /** How far back. */
  seconds: number;
}) {
  return (
    <Suspense fallback={<Loading />}>
      <div className="grid gap-4 lg:grid-cols-2 2xl:grid-cols-3">
        {panels.map((panel) => (
          <Chart key={panel.title} {...panel} series={series} span={seconds} />
        ))}
      </div>
    </Suspense>
  );
}

export function HistoryCharts({ of, panels }: { of: Of; panels: readonly Panel[] }) {
  const [, , seconds, kept] = useSpan();
  const { series, error } = useHistory(of, kept);
  return (
    <>
      <SpanSelect />
      <Failure error={error} />
      <Charts series={series} panels={panels} seconds={seconds} />
    </>
  );
}

/** One chart of the last hour. */
export function LastHour({ of, panel }: { of: Of; panel: Panel }) {
  const { series, error } = useHistory(of, "hour");
  return (
    <>
      <Failure error={error} />
      <Suspense fallback={<Loading />}>
        <Chart {...panel} series={series} span={3600} />
      </Suspense>
    </>
  );
}
