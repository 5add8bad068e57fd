// One host: its head and tabs; the tab's page is inside.
import { useMutation } from "@tanstack/react-query";
import { Outlet, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { DoorClosed, DoorOpen, Pencil, Power, RotateCcw, Server } from "lucide-react";
import { useState } from "react";
import { api, call, type Host, type HostPowerAction } from "../../api/client";
import { useHosts, useVms } from "../../api/queries";
import { useClusterRefusal, useRefusal } from "../../api/rights";
import { Await, Head, Tabs } from "../../components/Page";
import { Confirm } from "../../components/Dialog";
import { Rename } from "../../components/Rename";
import { useFollow } from "../../components/shell/Orders";
import { Button, Empty, Menu, State, Warning } from "../../components/ui";
import type { HostOrder } from "../../lib/commands";
import { hostState } from "../../lib/tree";
import { STATES } from "./List";
import { EnterMaintenance, Evacuation, useMaintenance } from "./Maintenance";

const TABS = [
  { to: "/hosts/$id", label: "Summary" },
  { to: "/hosts/$id/vms", label: "Virtual machines" },
  { to: "/hosts/$id/performance", label: "Performance" },
  { to: "/hosts/$id/hardware", label: "Hardware" },
  { to: "/hosts/$id/networks", label: "Networks" },
  { to: "/hosts/$id/storage", label: "Storage" },
  { to: "/hosts/$id/events", label: "Events" },
  { to: "/hosts/$id/bmc", label: "BMC" },
  { to: "/hosts/$id/system", label: "System" },
];

export const useHostId = () => (useParams({ strict: false }) as { id: string }).id;

export function WithHost({
  children,
}: {
  children: (host: Host, status: NonNullable<Host["status"]>) => React.ReactNode;
}) {
  const id = useHostId();
  const host = useHosts().data?.find(({ meta }) => meta.id === id);
  if (!host) return null;
  if (!host.status)
    return (
      <Empty icon={Server} title="This host cannot be asked from here.">
        What is known of it is what the cluster remembers.
      </Empty>
    );
  return children(host, host.status);
}

export function HostLayout() {
  const id = useHostId();
  const hosts = useHosts();
  const found = hosts.data?.find(({ meta }) => meta.id === id);
  if (hosts.data && !found)
    return (
      <Empty icon={Server} title="This host does not exist any more.">
        It may have been removed from the cluster.
      </Empty>
    );
  return (
    <Await
      query={{ ...hosts, data: found }}
      icon={Server}
      gone={{ title: "This host does not exist any more.", to: "/hosts", label: "All hosts" }}
    >
      {(host) => (
        <>
          <Head
            title={host.meta.name}
            icon={Server}
            up={{ to: "/hosts", label: "Hosts" }}
            beside={<State state={hostState(host)} word={STATES[hostState(host)]} />}
          >
            <Naming host={host} />
            <PowerMenu host={host} />
          </Head>
          <Tabs label="Pages of this host" id={id} tabs={TABS} />
          <div className="flex min-h-0 flex-1 flex-col gap-4">
            <Evacuation host={host} />
            {host.status?.warnings?.map((warning) => (
              <Warning key={warning}>{warning}</Warning>
            ))}
            {host.witness && <p className="text-dim">It votes with the others, and runs no machines.</p>}
            {host.status && !host.witness && !host.status.virtualization.available && (
              <Warning>
                It cannot run guests
                {host.status.virtualization.reason && <>: {host.status.virtualization.reason}</>}
              </Warning>
            )}
            <Outlet />
          </div>
        </>
      )}
    </Await>
  );
}

function Naming({ host }: { host: Host }) {
  const [open, setOpen] = useState(false);
  const { id, revision, name } = host.meta;
  return (
    <>
      <Button icon={Pencil} refusal={useClusterRefusal()("cluster.write")} onClick={() => setOpen(true)}>
        Name and labels
      </Button>
      {open && (
        <Rename
          object={host}
          list="hosts"
          work={(body) =>
            call(
              api.PATCH("/hosts/{id}", {
                params: { path: { id } },
                headers: { "If-Match": `"${revision}"` },
                // A name that is given holds, whatever the host calls itself: only one that was changed is given.
                body: body.name === name ? { labels: body.labels } : body,
              }),
            )
          }
          onClose={() => setOpen(false)}
        />
      )}
    </>
  );
}

const WORDS: Record<HostPowerAction, { label: string; text: string }> = {
  reboot: {
    label: "Restart",
    text: "Its machines are asked to switch off, then the host restarts. Those with autostart start again.",
  },
  "power-off": {
    label: "Switch off",
    text: "Its machines are asked to switch off, then the host does. Somebody has to switch it on again by hand.",
  },
};

function PowerMenu({ host }: { host: Host }) {
  // What is asked is in the address: the command palette leads to it.
  const { open } = useSearch({ strict: false }) as { open?: string };
  const navigate = useNavigate();
  const ask = (order: HostOrder | undefined) =>
    void navigate({ to: ".", search: (old: object) => ({ ...old, open: order }), replace: true });
  const asked = open === "reboot" || open === "power-off" ? open : undefined;
  const maintenance = useMaintenance(host);
  const running =
    useVms().data?.filter(
      ({ status }) =>
        status.host === host.meta.id && (status.state === "running" || status.state === "paused"),
    ).length ?? 0;
  const follow = useFollow();
  const power = useMutation({
    mutationFn: (action: HostPowerAction) =>
      call(api.POST("/hosts/{id}/power", { params: { path: { id: host.meta.id } }, body: { action } })),
    onSuccess: (_, action) => {
      follow(`${WORDS[action].label} ${host.meta.name}`, "done");
      ask(undefined);
    },
  });
  const denied = useRefusal()("host.power", { kind: "host", id: host.meta.id, labels: host.meta.labels });
  const unable = host.witness
    ? "This is a witness: its computer's power is left to its owner."
    : host.status
      ? undefined
      : "This host cannot be asked from here.";
  const refusal = denied ?? unable;
  return (
    <>
      <Menu
        label={`Power of ${host.meta.name}`}
        items={[
          host.maintenance
            ? {
                label: "Leave maintenance",
                icon: DoorOpen,
                refusal,
                run: () =>
                  maintenance.mutate(
                    { on: false, shut_down: false },
                    { onError: (error) => follow(`Reopen ${host.meta.name}`, error) },
                  ),
              }
            : {
                label: "Enter maintenance",
                icon: DoorClosed,
                refusal,
                run: () => ask("maintenance"),
              },
          {
            label: "Restart",
            apart: true,
            icon: RotateCcw,
            danger: true,
            refusal,
            run: () => (power.reset(), ask("reboot")),
          },
          {
            label: "Switch off",
            icon: Power,
            danger: true,
            refusal,
            run: () => (power.reset(), ask("power-off")),
          },
        ]}
      >
        Power
      </Menu>
      {refusal === undefined && open === "maintenance" && !host.maintenance && (
        <EnterMaintenance host={host} onClose={() => ask(undefined)} />
      )}
      {refusal === undefined && open === "reopen" && host.maintenance && (
        <Confirm
          title={`Leave the maintenance of ${host.meta.name}?`}
          verb="Leave maintenance"
          busy={maintenance.isPending}
          error={maintenance.error}
          onConfirm={() =>
            maintenance.mutate({ on: false, shut_down: false }, { onSuccess: () => ask(undefined) })
          }
          onClose={() => ask(undefined)}
        >
          <p>Machines may be placed and started on it again.</p>
        </Confirm>
      )}
      {refusal === undefined && asked && (
        <Confirm
          title={`${WORDS[asked].label} ${host.meta.name}?`}
          verb={WORDS[asked].label}
          name={host.meta.name}
          busy={power.isPending}
          error={power.error}
          onConfirm={() => power.mutate(asked)}
          onClose={() => ask(undefined)}
        >
          <p>{WORDS[asked].text}</p>
          <p>
            {running === 0
              ? "No machine runs on it now."
              : running === 1
                ? "One machine runs on it now."
                : `${running} machines run on it now.`}{" "}
            This page loses the host while it is down.
          </p>
        </Confirm>
      )}
    </>
  );
}
