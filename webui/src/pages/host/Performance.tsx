// How much a host does and did.
import { HistoryCharts, rate, type Panel } from "../../components/History";
import { bytes, percent } from "../../lib/format";
import { WithHost } from "./Layout";

export const CPU: Panel = {
  title: "Processors in use",
  format: percent,
  top: 1,
  lines: [{ name: "cpu", label: "CPU" }],
};

const size = (value: number) => bytes(Math.round(value));

const PANELS: readonly Panel[] = [
  CPU,
  { title: "Memory", format: size, lines: [{ name: "memory.used", label: "In use" }] },
  {
    title: "Network throughput",
    format: rate,
    lines: [
      { name: "net.received", label: "Received" },
      { name: "net.sent", label: "Sent" },
    ],
  },
  {
    title: "Disk throughput",
    format: rate,
    lines: [
      { name: "disk.read", label: "Read" },
      { name: "disk.written", label: "Written" },
    ],
  },
  { title: "Storage pools", format: size, lines: [{ name: "pool.used", label: "In use" }] },
];

export const HostPerformance = () => (
  <WithHost>{(host) => <HistoryCharts of={{ kind: "host", id: host.meta.id }} panels={PANELS} />}</WithHost>
);
