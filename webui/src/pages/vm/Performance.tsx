// How much a machine does and did.
import type { Vm } from "../../api/client";
import { DISK, HistoryCharts, NETWORK, perSecond, size, type Panel } from "../../components/History";
import { WithVm } from "./Layout";

const PANELS: readonly Panel[] = [
  {
    title: "Processors in use",
    format: (value) => String(Math.round(value * 100) / 100),
    lines: [{ name: "cpu", label: "Processors" }],
  },
  {
    title: "Memory on the host",
    format: size,
    bytes: true,
    lines: [{ name: "memory.used", label: "In use" }],
  },
  DISK,
  {
    title: "Disk requests",
    format: perSecond,
    lines: [
      { name: "disk.reads", label: "Reads" },
      { name: "disk.writes", label: "Writes" },
    ],
  },
  NETWORK,
  {
    title: "Network packets",
    format: perSecond,
    lines: [
      { name: "net.packets-received", label: "Received" },
      { name: "net.packets-sent", label: "Sent" },
    ],
  },
  { title: "Exits to the monitor", format: perSecond, lines: [{ name: "exits", label: "Exits" }] },
  { title: "Errors and drops", format: perSecond, lines: [{ name: "errors", label: "Errors" }] },
];

export const Performance = () => <WithVm>{(vm) => <PerformanceOf vm={vm} />}</WithVm>;

function PerformanceOf({ vm }: { vm: Vm }) {
  return <HistoryCharts of={{ kind: "vm", id: vm.meta.id }} panels={PANELS} />;
}
