// A machine's network interfaces.
import { Link } from "@tanstack/react-router";
import { Network as NetworkIcon, Plus, Unplug } from "lucide-react";
import { useState } from "react";
import { fieldFault, type Vm } from "../../api/client";
import { useNames, useNetworks } from "../../api/queries";
import { Confirm, FormDialog } from "../../components/Dialog";
import { Button, Card, Check, Empty, Select, Text } from "../../components/ui";
import { WithVm } from "./Layout";
import { Pending } from "./Pending";
import { moving, runs, useSaveSpec, useWriteRefusal } from "./save";

export const VmNetworks = () => <WithVm>{(vm) => <NetworksOf vm={vm} />}</WithVm>;

function NetworksOf({ vm }: { vm: Vm }) {
  const networks = useNetworks();
  const name = useNames(networks);
  const [edit, setEdit] = useState<number>();
  const [gone, setGone] = useState<number>();
  const save = useSaveSpec(vm, () => setGone(undefined));
  const refusal = useWriteRefusal(vm) ?? moving(vm);
  const nics = vm.spec.nics ?? [];
  return (
    <Card
      title="Network interfaces"
      actions={
        <Button
          small
          icon={Plus}
          refusal={refusal ?? (nics.length >= 8 ? "A machine has at most 8 interfaces." : undefined)}
          onClick={() => setEdit(nics.length)}
        >
          Add interface
        </Button>
      }
    >
      <Pending vm={vm} of="spec.nics" />
      {nics.length === 0 && <Empty icon={NetworkIcon} title="It has no network interface." />}
      <ul>
        {nics.map((nic, n) => (
          <li
            key={nic.mac ?? n}
            className="flex flex-wrap items-center gap-x-4 gap-y-2 border-line py-2 not-first:border-t"
          >
            <code className="w-12 text-dim">eth{n}</code>
            <Link className="link min-w-32" to="/networks" search={{ q: name(nic.network) }}>
              {name(nic.network) ?? nic.network}
            </Link>
            <code>{nic.mac ?? "address given at creation"}</code>
            <span className="text-dim">{vm.status.addresses?.[n]}</span>
            {nic.connected === false && <span className="text-dim">cable out</span>}
            <span className="ml-auto flex gap-2">
              <Button small refusal={refusal} aria-label={`Change interface ${n}`} onClick={() => setEdit(n)}>
                Change
              </Button>
              <Button
                small
                icon={Unplug}
                refusal={refusal}
                aria-label={`Remove interface ${n}`}
                onClick={() => setGone(n)}
              >
                Remove
              </Button>
            </span>
          </li>
        ))}
      </ul>
      {edit !== undefined && (
        <Edit vm={vm} at={edit} networks={networks.data ?? []} onClose={() => setEdit(undefined)} />
      )}
      {gone !== undefined && (
        <Confirm
          title={`Remove interface ${gone} of ${vm.meta.name}?`}
          verb="Remove"
          busy={save.isPending}
          error={save.error}
          onConfirm={() => save.mutate({ nics: nics.filter((_, n) => n !== gone) })}
          onClose={() => setGone(undefined)}
        >
          <p>Its hardware address is given up: a new interface gets another.</p>
          {runs(vm) && (
            <p>The machine runs: its guest is asked to release the interface, and is cut off at once.</p>
          )}
        </Confirm>
      )}
    </Card>
  );
}

function Edit({
  vm,
  at,
  networks,
  onClose,
}: {
  vm: Vm;
  at: number;
  networks: { meta: { id: string; name: string } }[];
  onClose: () => void;
}) {
  const nics = vm.spec.nics ?? [];
  const old = nics[at];
  const [network, setNetwork] = useState(old?.network ?? networks[0]?.meta.id ?? "");
  const [mac, setMac] = useState(old?.mac ?? "");
  const [connected, setConnected] = useState(old?.connected !== false);
  const save = useSaveSpec(vm, onClose);
  const fault = (field: string) => fieldFault(save.error, `spec.nics[${at}].${field}`);
  return (
    <FormDialog
      title={old ? `Interface ${at} of ${vm.meta.name}` : `Add an interface to ${vm.meta.name}`}
      verb={old ? "Save" : "Add interface"}
      busy={save.isPending}
      error={save.error}
      refusal={network ? undefined : "There is no network: make one first."}
      onClose={onClose}
      onSubmit={() => {
        const fresh = { ...old, network, connected, ...(mac.trim() ? { mac: mac.trim() } : { mac: null }) };
        save.mutate({ nics: old ? nics.map((nic, n) => (n === at ? fresh : nic)) : [...nics, fresh] });
      }}
    >
      <Select
        label="Network"
        value={network}
        options={networks.map(({ meta }) => [meta.id, meta.name])}
        fault={fault("network")}
        onValue={setNetwork}
      />
      <Text
        label="Hardware address"
        value={mac}
        placeholder="52:54:00:12:34:56"
        hint="Empty: the cluster gives one."
        fault={fault("mac")}
        onChange={(event) => setMac(event.target.value)}
      />
      <Check checked={connected} onChange={(event) => setConnected(event.target.checked)}>
        Its cable is in
      </Check>
    </FormDialog>
  );
}
