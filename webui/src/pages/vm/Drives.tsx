// CD drives of a machine, and what is in them.
import { Disc, Plus, Trash2 } from "lucide-react";
import type { Vm } from "../../api/client";
import { useImages } from "../../api/queries";
import { Button, Card, Failure, Select } from "../../components/ui";
import { Pending } from "./Pending";
import { moving, useSaveSpec, useWriteRefusal } from "./save";

const MOST = 4;

export function Drives({ vm }: { vm: Vm }) {
  const images = useImages().data ?? [];
  const save = useSaveSpec(vm, () => undefined);
  const refusal = useWriteRefusal(vm) ?? moving(vm);
  const drives = vm.spec.cdroms ?? [];
  const options = images
    .filter(({ spec, status }) => spec.kind === "iso" && status.state === "ready")
    .map(({ meta }) => [meta.id, meta.name] as const);
  return (
    <Card
      title="CD drives"
      actions={
        <Button
          small
          icon={Plus}
          refusal={
            refusal ?? (drives.length >= MOST ? `A machine has at most ${MOST} CD drives.` : undefined)
          }
          onClick={() => save.mutate({ cdroms: [...drives, {}] })}
        >
          Add drive
        </Button>
      }
    >
      <Failure error={save.error} />
      <Pending vm={vm} of="spec.cdroms" />
      {drives.length === 0 && <p className="text-dim">It has none.</p>}
      <ul className="flex flex-col gap-2">
        {drives.map((drive, n) => (
          <li key={n} className="flex flex-wrap items-end gap-4">
            <Disc size={18} aria-hidden className="mb-2 text-dim" />
            <Select
              label={`Drive ${n + 1}`}
              value={drive.image ?? ""}
              none="Empty"
              options={options}
              disabled={refusal !== undefined || save.isPending}
              onValue={(image) =>
                save.mutate({ cdroms: drives.map((old, m) => (m === n ? (image ? { image } : {}) : old)) })
              }
            />
            <Button
              small
              icon={Trash2}
              refusal={refusal}
              onClick={() => save.mutate({ cdroms: drives.filter((_, m) => m !== n) })}
            >
              Remove
            </Button>
          </li>
        ))}
      </ul>
    </Card>
  );
}
