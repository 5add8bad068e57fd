// Every machine, and what can be done to one or to many.
import { Link, useNavigate } from "@tanstack/react-router";
import { MonitorCog, MoveRight, Plus, Tags } from "lucide-react";
import { useMemo, useState } from "react";
import type { Vm } from "../../api/client";
import { order, useHosts, useVms } from "../../api/queries";
import { Bulk } from "../../components/Bulk";
import { Head } from "../../components/Page";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Button, Menu, State } from "../../components/ui";
import { ACTIONS, type Action } from "../../lib/actions";
import { bytes } from "../../lib/format";
import { seenWith, unknownBecause } from "../../lib/seen";
import type { Fields } from "../../lib/search";
import { settle } from "../../lib/settle";
import { useRefusal } from "../../api/rights";
import { ALL, ICONS, VmMenu, VmOrders, useVmRefusal } from "./actions";
import { LabelMany, MigrateMany } from "./Many";

const id = (vm: Vm) => vm.meta.id;
const name = (vm: Vm) => vm.meta.name;
const actions = (vm: Vm) => <VmMenu vm={vm} />;
const brief = (vm: Vm) =>
  [`${vm.spec.vcpus} CPU`, bytes(vm.spec.memory_bytes), ...(vm.status.addresses ?? [])].join(" · ");
const fields: Fields<Vm> = {
  label: ({ meta }) =>
    Object.entries(meta.labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(" ") || undefined,
  id,
};

export function Vms() {
  const refusal = useRefusal()("vm.write");
  const navigate = useNavigate();
  return (
    <>
      <Head title="Virtual machines" icon={MonitorCog}>
        <Button
          kind="primary"
          icon={Plus}
          refusal={refusal}
          onClick={() => void navigate({ to: "/vms/new" })}
        >
          Create virtual machine
        </Button>
      </Head>
      <VmList />
    </>
  );
}

/** Machines as a list: all, or those of a host. */
export function VmList({ host }: { host?: string }) {
  const vms = useVms();
  const hosts = useHosts().data;
  const why = useVmRefusal();
  const [bulk, setBulk] = useState<{ action: Action; vms: Vm[] }>();
  const [many, setMany] = useState<{ what: "migrate" | "labels"; vms: Vm[] }>();
  const data = useMemo(
    () => (host === undefined ? vms.data : vms.data?.filter(({ status }) => status.host === host)),
    [vms.data, host],
  );
  const columns = useMemo((): Column<Vm>[] => {
    const names = new Map(hosts?.map(({ meta }) => [meta.id, meta.name]));
    const seen = seenWith(hosts);
    const on = (vm: Vm) => (vm.status.host ? names.get(vm.status.host) : undefined);
    return [
      {
        id: "name",
        label: "Name",
        value: name,
        cell: (vm) => (
          <Link className="link" to="/vms/$id" params={{ id: vm.meta.id }}>
            {vm.meta.name}
          </Link>
        ),
      },
      {
        id: "state",
        label: "State",
        value: seen,
        cell: (vm) => (
          <span title={seen(vm) === "unknown" ? unknownBecause(vm) : (vm.status.reason ?? undefined)}>
            <State state={seen(vm)} />
            {vm.status.reason && <span className="text-dim"> — {vm.status.reason}</span>}
          </span>
        ),
        width: "w-[24%]",
        narrow: true,
      },
      ...(host === undefined
        ? [
            {
              id: "host",
              label: "Host",
              value: on,
              cell: (vm: Vm) =>
                vm.status.host && (
                  <Link className="link" to="/hosts/$id" params={{ id: vm.status.host }}>
                    {on(vm)}
                  </Link>
                ),
              width: "w-[14%]",
            },
          ]
        : []),
      { id: "cpus", label: "CPUs", value: (vm) => vm.spec.vcpus, width: "w-20", right: true },
      {
        id: "memory",
        label: "Memory",
        value: (vm) => vm.spec.memory_bytes,
        cell: (vm) => bytes(vm.spec.memory_bytes),
        width: "w-26",
        right: true,
      },
      {
        id: "address",
        label: "Address",
        value: (vm) => vm.status.addresses?.join(", ") || undefined,
        width: "w-[16%]",
      },
    ];
  }, [hosts, host]);
  return (
    <VmOrders>
      <ListView
        nouns="virtual machines"
        icon={MonitorCog}
        query={{ data, error: vms.error, isPending: vms.isPending }}
        columns={columns}
        fields={fields}
        id={id}
        name={name}
        order="name"
        brief={brief}
        actions={actions}
        bulk={(chosen) => (
          <>
            {(["start", "stop"] as const).map((action) => (
              <Button
                key={action}
                small
                icon={ICONS[action]}
                onClick={() => setBulk({ action, vms: chosen })}
              >
                {ACTIONS[action].label}
              </Button>
            ))}
            <Menu
              label="More for the selected"
              items={[
                ...ALL.slice(2).map((action) => ({
                  label: ACTIONS[action].label,
                  icon: ICONS[action],
                  danger: ACTIONS[action].danger,
                  run: () => setBulk({ action, vms: chosen }),
                })),
                {
                  label: "Migrate",
                  icon: MoveRight,
                  apart: true,
                  run: () => setMany({ what: "migrate", vms: chosen }),
                },
                { label: "Labels", icon: Tags, run: () => setMany({ what: "labels", vms: chosen }) },
              ]}
            />
          </>
        )}
        empty={
          host === undefined ? (
            <p>
              Upload a disk image under{" "}
              <Link className="link" to="/images" search={{ open: "upload" }}>
                Images
              </Link>
              , then create a machine from it.
            </p>
          ) : (
            <p>None is placed on this host.</p>
          )
        }
      />
      {many?.what === "migrate" && <MigrateMany vms={many.vms} onClose={() => setMany(undefined)} />}
      {many?.what === "labels" && <LabelMany vms={many.vms} onClose={() => setMany(undefined)} />}
      {bulk && (
        <Bulk
          title={`${ACTIONS[bulk.action].label}: ${bulk.vms.length} virtual machines`}
          verb={ACTIONS[bulk.action].label}
          items={bulk.vms}
          name={name}
          danger={ACTIONS[bulk.action].danger ?? false}
          refusal={(vm) => why(vm, bulk.action)}
          work={async (vm) => settle(await order(vm, bulk.action))}
          onClose={() => setBulk(undefined)}
        >
          {ACTIONS[bulk.action].confirm && <p>{ACTIONS[bulk.action].confirm}</p>}
          {bulk.action === "delete" && <p>Their disks stay, under Volumes.</p>}
        </Bulk>
      )}
    </VmOrders>
  );
}
