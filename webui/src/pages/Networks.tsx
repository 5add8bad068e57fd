// Networks guests connect to.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Network as NetworkIcon, Pencil, Plus, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, fieldFault, type Network, type NetworkSpec } from "../api/client";
import { useNetworks, useVms } from "../api/queries";
import { useRefusal } from "../api/rights";
import { FormDialog } from "../components/Dialog";
import { LabelsField } from "../components/Labels";
import { Head } from "../components/Page";
import { Remove } from "../components/Remove";
import { ListView } from "../components/list/ListView";
import type { Column } from "../components/list/useList";
import { Button, Check, Menu, Text, Warning } from "../components/ui";
import { labelsText, parseLabels } from "../lib/labels";

const id = (network: Network) => network.meta.id;
const name = (network: Network) => network.meta.name;

type Doing = { what: "edit" | "delete"; network: Network } | { what: "create" };

export function Networks() {
  const networks = useNetworks();
  const vms = useVms().data;
  const [doing, setDoing] = useState<Doing>();
  const close = () => setDoing(undefined);
  const denied = useRefusal();
  const why = (network: Network) =>
    denied("network.write", { kind: "network", id: network.meta.id, labels: network.meta.labels });
  const columns = useMemo((): Column<Network>[] => {
    const counts = new Map<string, number>();
    for (const vm of vms ?? [])
      for (const network of new Set(vm.spec.nics?.map((nic) => nic.network)))
        counts.set(network, (counts.get(network) ?? 0) + 1);
    return [
      { id: "name", label: "Name", value: name },
      { id: "kind", label: "Kind", value: ({ spec }) => spec.kind, width: "w-28", narrow: true },
      {
        id: "vms",
        label: "Machines",
        value: ({ meta }) => counts.get(meta.id) ?? 0,
        cell: ({ meta }) => (
          <Link className="link" to="/vms">
            {counts.get(meta.id) ?? 0}
          </Link>
        ),
        width: "w-26",
        right: true,
      },
      { id: "subnet", label: "Subnet", value: ({ spec }) => spec.dhcp?.subnet, width: "w-40" },
      {
        id: "range",
        label: "Given to guests",
        value: ({ spec }) => (spec.dhcp ? `${spec.dhcp.first} – ${spec.dhcp.last}` : undefined),
        cell: ({ spec }) =>
          spec.dhcp ? (
            `${spec.dhcp.first} – ${spec.dhcp.last}`
          ) : (
            <span className="text-dim">by the uplink</span>
          ),
        width: "w-60",
      },
      {
        id: "gateway",
        label: "Gateway",
        value: ({ spec }) => spec.dhcp?.gateway ?? undefined,
        width: "w-36",
      },
      {
        id: "dns",
        label: "Name servers",
        value: ({ spec }) => spec.dhcp?.dns?.join(", ") || undefined,
        width: "w-[16%]",
      },
    ];
  }, [vms]);
  return (
    <>
      <Head title="Networks" icon={NetworkIcon}>
        <Button
          kind="primary"
          icon={Plus}
          refusal={denied("network.write")}
          onClick={() => setDoing({ what: "create" })}
        >
          Create network
        </Button>
      </Head>
      <ListView
        nouns="networks"
        icon={NetworkIcon}
        query={networks}
        columns={columns}
        id={id}
        name={name}
        order="name"
        brief={({ spec }) => spec.dhcp?.subnet ?? "addresses by the uplink"}
        actions={(network) => (
          <Menu
            label={`Actions for ${network.meta.name}`}
            items={[
              {
                label: "Change",
                icon: Pencil,
                refusal: why(network),
                run: () => setDoing({ what: "edit", network }),
              },
              {
                label: "Delete",
                icon: Trash2,
                danger: true,
                apart: true,
                refusal: why(network),
                run: () => setDoing({ what: "delete", network }),
              },
            ]}
          />
        )}
        empty={<p>Machines without a network are reached by their console alone.</p>}
      />
      {doing?.what === "create" && <Edit onClose={close} />}
      {doing?.what === "edit" && <Edit network={doing.network} onClose={close} />}
      {doing?.what === "delete" && (
        <Remove
          name={name(doing.network)}
          list="networks"
          work={async () => {
            await call(api.DELETE("/networks/{id}", { params: { path: { id: id(doing.network) } } }));
            return undefined;
          }}
          onClose={close}
        >
          <p>The host refuses while a machine is connected to it.</p>
        </Remove>
      )}
    </>
  );
}

function Edit({ network, onClose }: { network?: Network; onClose: () => void }) {
  const client = useQueryClient();
  const old = network?.spec.dhcp;
  const [form, setForm] = useState({
    name: network?.meta.name ?? "",
    labels: labelsText(network?.meta.labels),
    served: Boolean(old),
    subnet: old?.subnet ?? "192.168.50.0/24",
    first: old?.first ?? "192.168.50.100",
    last: old?.last ?? "192.168.50.199",
    gateway: old?.gateway ?? "",
    dns: old?.dns?.join(", ") ?? "",
    lease: String(old?.lease_seconds ?? 3600),
  });
  const set = (change: Partial<typeof form>) => setForm({ ...form, ...change });
  const save = useMutation({
    mutationFn: () => {
      const spec: NetworkSpec = {
        kind: "bridged",
        ...(form.served
          ? {
              dhcp: {
                subnet: form.subnet.trim(),
                first: form.first.trim(),
                last: form.last.trim(),
                dns: form.dns.split(/[\s,]+/).filter(Boolean),
                lease_seconds: Number(form.lease),
                ...(form.gateway.trim() ? { gateway: form.gateway.trim() } : {}),
              },
            }
          : {}),
      };
      const body = { name: form.name.trim(), labels: parseLabels(form.labels), spec };
      return network
        ? call(
            api.PATCH("/networks/{id}", {
              params: { path: { id: network.meta.id } },
              headers: { "If-Match": `"${network.meta.revision}"` },
              body,
            }),
          )
        : call(api.POST("/networks", { body }));
    },
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: ["networks"] }),
  });
  const text = (field: Exclude<keyof typeof form, "served">, ...names: string[]) => ({
    value: form[field],
    fault: fieldFault(save.error, ...names),
    onChange: (event: { target: { value: string } }) => set({ [field]: event.target.value }),
  });
  return (
    <FormDialog
      title={network ? `Network ${network.meta.name}` : "Create network"}
      verb={network ? "Save" : "Create network"}
      wide
      busy={save.isPending}
      error={save.error}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <Text label="Name" autoFocus {...text("name", "name")} />
      <p className="text-dim">A bridged network: guests are on the host’s uplink, side by side with it.</p>
      <Check
        checked={form.served}
        hint="Only machines of this cluster are answered. Otherwise they ask whoever serves the uplink."
        onChange={(event) => set({ served: event.target.checked })}
      >
        Give guests their addresses by the network’s own DHCP
      </Check>
      {form.served && (
        <div className="grid gap-4 sm:grid-cols-2">
          <Text label="Subnet" {...text("subnet", "spec.dhcp.subnet")} />
          <Text label="Gateway" hint="Empty: none is told." {...text("gateway", "spec.dhcp.gateway")} />
          <Text label="First address" {...text("first", "spec.dhcp.first")} />
          <Text label="Last address" {...text("last", "spec.dhcp.last")} />
          <Text
            label="Name servers"
            hint="Addresses with commas between."
            {...text("dns", "spec.dhcp.dns")}
          />
          <Text label="Lease, in seconds" inputMode="numeric" {...text("lease", "spec.dhcp.lease_seconds")} />
        </div>
      )}
      {network && form.served !== Boolean(old) && (
        <Warning>Guests that run notice the change when they ask for an address again.</Warning>
      )}
      <LabelsField value={form.labels} fault={undefined} onValue={(labels) => set({ labels })} />
    </FormDialog>
  );
}
