// The tabs of a host.
import { Link } from "@tanstack/react-router";
import { usePools, useVms } from "../../api/queries";
import { EventList } from "../../components/EventList";
import { LastHour } from "../../components/History";
import type { DiskHealth, PciFunction } from "../../api/client";
import { Labels } from "../../components/Labels";
import { Rows } from "../../components/Rows";
import { Bar, Card, Fact, Facts, State } from "../../components/ui";
import { age, bytes, time } from "../../lib/format";
import { holders, what } from "../../lib/passthrough";
import { VmList } from "../vm/List";
import { WithHost, useHostId } from "./Layout";
import { memoryShare } from "./List";
import { CPU } from "./Performance";

export function HostSummary() {
  const id = useHostId();
  const vms = useVms().data?.filter((vm) => vm.status.host === id) ?? [];
  const pools =
    usePools().data?.filter(({ spec, hosts }) =>
      spec.driver === "dir" ? spec.host === id : hosts?.some((on) => on.host === id && on.state === "ready"),
    ) ?? [];
  return (
    <WithHost>
      {(host, status) => {
        const promised = vms
          .filter((vm) => vm.status.state === "running" || vm.status.state === "paused")
          .reduce((sum, vm) => sum + vm.spec.memory_bytes, 0);
        return (
          <div className="grid gap-4 xl:grid-cols-2">
            <Card title="General">
              <Facts>
                <Fact name="Version">{status.version}</Fact>
                <Fact name="Kernel">{status.kernel}</Fact>
                <Fact name="Booted from">{status.boot}</Fact>
                <Fact name="Up for">
                  {age(status.booted_at)} <span className="text-dim">since {time(status.booted_at)}</span>
                </Fact>
                <Fact name="Processor">{status.cpu.model}</Fact>
                <Fact name="Machines">
                  {vms.length}{" "}
                  <span className="text-dim">
                    ({vms.filter((vm) => vm.status.state === "running").length} running)
                  </span>
                </Fact>
                <Fact name="Addresses">
                  {status.interfaces
                    .flatMap(({ addresses }) => addresses)
                    .map((address) => (
                      <code key={address} className="block">
                        {address}
                      </code>
                    ))}
                </Fact>
                {Object.keys(host.meta.labels ?? {}).length > 0 && (
                  <Fact name="Labels">
                    <Labels labels={host.meta.labels} />
                  </Fact>
                )}
                <Fact name="Id">
                  <code>{host.meta.id}</code>
                </Fact>
              </Facts>
            </Card>
            <Card title="Capacity">
              <div className="flex flex-col gap-5">
                <Bar label="CPU" share={status.cpu.usage} />
                <Bar
                  label="Memory"
                  share={memoryShare(status)}
                  text={`${bytes(status.memory.total_bytes - status.memory.available_bytes)} of ${bytes(status.memory.total_bytes)}`}
                />
                <Bar
                  label="Memory of running machines"
                  share={promised / Math.max(1, status.memory.total_bytes)}
                  text={`${bytes(promised)} of ${bytes(status.memory.total_bytes)}`}
                />
                {pools.map(
                  (pool) =>
                    pool.status && (
                      <Bar
                        key={pool.meta.id}
                        label={`Pool ${pool.meta.name}`}
                        share={1 - pool.status.free_bytes / Math.max(1, pool.status.capacity_bytes)}
                        text={`${bytes(pool.status.capacity_bytes - pool.status.free_bytes)} of ${bytes(pool.status.capacity_bytes)}`}
                      />
                    ),
                )}
              </div>
            </Card>
            <div className="xl:col-span-2">
              <LastHour of={{ kind: "host", id }} panel={{ ...CPU, title: "Processors in use, last hour" }} />
            </div>
          </div>
        );
      }}
    </WithHost>
  );
}

export const HostVms = () => <VmList host={useHostId()} />;

export function HostHardware() {
  return (
    <WithHost>
      {(_, status) => (
        <>
          <Card title="Processor and memory">
            <Facts>
              <Fact name="Model">{status.cpu.model}</Fact>
              <Fact name="Sockets">{status.cpu.sockets}</Fact>
              <Fact name="Cores">{status.cpu.cores}</Fact>
              <Fact name="Threads">{status.cpu.threads}</Fact>
              <Fact name="Memory">{bytes(status.memory.total_bytes)}</Fact>
              <Fact name="Virtualization">
                {status.virtualization.available
                  ? "available"
                  : `not available: ${status.virtualization.reason ?? "no reason given"}`}
              </Fact>
            </Facts>
          </Card>
          <Card title="Disks">
            <Rows
              label="Disks"
              head={["Name", "Size", "Model", "Serial number", "Health"]}
              rows={status.disks.map((disk) => [
                disk.name,
                bytes(disk.size_bytes),
                disk.model ?? "–",
                disk.serial ?? "–",
                <Health key="health" health={disk.health} />,
              ])}
            />
          </Card>
          <Functions functions={status.pci ?? []} />
        </>
      )}
    </WithHost>
  );
}

/** What is on the PCI bus, who has it, and what can be given to a machine. */
function Functions({ functions }: { functions: PciFunction[] }) {
  const taken = holders(useVms().data ?? [], useHostId());
  return (
    <Card title="PCI functions">
      <Rows
        label="PCI functions"
        head={["Address", "Function", "Driver", "IOMMU group", "Passthrough"]}
        rows={functions.map((one) => {
          const holder = taken.get(one.address);
          return [
            one.address,
            what(one),
            one.driver ?? "–",
            one.iommu_group ?? "–",
            holder ? (
              <Link key="vm" className="link" to="/vms/$id" params={{ id: holder.meta.id }}>
                {holder.meta.name}
              </Link>
            ) : (
              (one.obstacle ??
              (one.together_with?.length ? `possible, with ${one.together_with.join(", ")}` : "possible"))
            ),
          ];
        })}
      />
    </Card>
  );
}

/** What a disk says of itself; one that says nothing is not taken for healthy. */
function Health({ health }: { health?: DiskHealth | null | undefined }) {
  if (!health || health.state === "unknown")
    return (
      <span className="text-dim" title={health?.state === "unknown" ? health.reason : undefined}>
        not known
      </span>
    );
  if (health.state === "healthy") return <State state="ready" word="healthy" />;
  const state = health.state === "failing" ? "failed" : "warning";
  return <State state={state} word={`${health.state}: ${health.reason}`} />;
}

export function HostEvents() {
  return (
    <Card title="Events">
      <EventList target={`host/${useHostId()}`} limit={200} />
    </Card>
  );
}
