// How much a host does and did.
import { DISK, HistoryCharts, NETWORK, size, type Panel } from "../../components/History";
import { percent } from "../../lib/format";
import { WithHost } from "./Layout";

export const CPU: Panel = {
  title: "Processors in use",
  format: percent,
  top: 1,
  lines: [{ name: "cpu", label: "CPU" }],
};

const PANELS: readonly Panel[] = [
  CPU,
  { title: "Memory", format: size, bytes: true, lines: [{ name: "memory.used", label: "In use" }] },
  NETWORK,
  DISK,
  { title: "Storage pools", format: size, bytes: true, lines: [{ name: "pool.used", label: "In use" }] },
];

export const HostPerformance = () => (
  <WithHost>{(host) => <HistoryCharts of={{ kind: "host", id: host.meta.id }} panels={PANELS} />}</WithHost>
);
