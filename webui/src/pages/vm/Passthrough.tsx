// Functions of the host's PCI bus that a machine has for itself.
import { Plus, Trash2 } from "lucide-react";
import { useState } from "react";
import type { Vm } from "../../api/client";
import { useHosts, useVms } from "../../api/queries";
import { FormDialog } from "../../components/Dialog";
import { Button, Card, Failure, Select, Warning } from "../../components/ui";
import { holders, offers, words } from "../../lib/passthrough";
import { Pending } from "./Pending";
import { moving, runs, useSaveSpec, useWriteRefusal } from "./save";

const MOST = 8;

export function Passthrough({ vm }: { vm: Vm }) {
  const host = useHosts().data?.find(({ meta }) => meta.id === vm.status.host);
  const taken = holders(useVms().data ?? [], vm.status.host ?? "");
  const functions = host?.status?.pci ?? [];
  const [adding, setAdding] = useState(false);
  const save = useSaveSpec(vm, () => undefined);
  const has = vm.spec.passthrough ?? [];
  const offered = offers(functions, taken);
  const refusal =
    useWriteRefusal(vm) ??
    moving(vm) ??
    (vm.spec.hypervisor === "qemu" && has.length === 0
      ? "A machine on QEMU has no functions of its host: have lq-vmm run it first."
      : undefined) ??
    (runs(vm) ? "PCI functions come and go only while the machine is off: stop it first." : undefined);
  const none = host
    ? "Its host has no PCI function that could be given to it; the host's hardware page says why."
    : "Its host is not known.";
  return (
    <Card
      title="PCI passthrough"
      actions={
        <Button
          small
          icon={Plus}
          refusal={
            refusal ??
            (has.length >= MOST ? `A machine has at most ${MOST} PCI functions.` : undefined) ??
            (offered.length === 0 ? none : undefined)
          }
          onClick={() => setAdding(true)}
        >
          Add function
        </Button>
      }
    >
      <Failure error={save.error} />
      <Pending vm={vm} of="spec.passthrough" />
      {has.length === 0 && <p className="text-dim">It has no function of its host for itself.</p>}
      <ul className="flex flex-col">
        {has.map(({ address }) => {
          const known = functions.find((one) => one.address === address);
          const group = [address, ...(known?.together_with ?? [])];
          return (
            <li
              key={address}
              className="flex flex-wrap items-center gap-4 border-line py-2 not-first:border-t"
            >
              <span className="min-w-40 flex-1">{known ? words(known) : address}</span>
              <span className="text-dim">
                {known?.iommu_group != null && `IOMMU group ${known.iommu_group}`}
              </span>
              <Button
                small
                icon={Trash2}
                refusal={refusal}
                onClick={() =>
                  save.mutate({ passthrough: has.filter((each) => !group.includes(each.address)) })
                }
              >
                Remove
              </Button>
            </li>
          );
        })}
      </ul>
      {adding && <Add vm={vm} offered={offered} onClose={() => setAdding(false)} />}
    </Card>
  );
}

function Add({ vm, offered, onClose }: { vm: Vm; offered: ReturnType<typeof offers>; onClose: () => void }) {
  const [chosen, setChosen] = useState(offered[0]?.address ?? "");
  const save = useSaveSpec(vm, onClose);
  return (
    <FormDialog
      title={`Give ${vm.meta.name} a PCI function`}
      verb="Add"
      busy={save.isPending}
      error={save.error}
      onClose={onClose}
      onSubmit={() => {
        const group = offered.find(({ address }) => address === chosen)?.group ?? [];
        save.mutate({
          passthrough: [...(vm.spec.passthrough ?? []), ...group.map((address) => ({ address }))],
          placement: { ...vm.spec.placement, host: vm.status.host ?? null },
        });
      }}
    >
      <Warning>
        The machine is bound to its host from then on: it is not moved while it runs and not protected, and
        all of its memory is taken when it starts.
      </Warning>
      <Select
        label="Function"
        hint="The functions of an IOMMU group are given together."
        value={chosen}
        options={offered.map(({ address, label }) => [address, label] as const)}
        onValue={setChosen}
      />
    </FormDialog>
  );
}
