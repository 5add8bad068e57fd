// A machine's hardware, and changing it.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { HardDrive, Pencil, Plus, Unlink } from "lucide-react";
import { useState } from "react";
import { fieldFault, type Vm, type Volume } from "../../api/client";
import { useImages, useNames, useVolumes } from "../../api/queries";
import { Confirm, FormDialog } from "../../components/Dialog";
import { Button, Card, Check, Empty, Fact, Facts, Select, State, Text, Warning } from "../../components/ui";
import { OLD_DEVICES_NEED, ON_QEMU_HINT, RUNS_ON, board, runsOn, type RunsOn } from "../../lib/create";
import { makeDisk, ready } from "../../lib/disks";
import { bytes, parseSize, sizeText } from "../../lib/format";
import { memoryWords } from "../../lib/memory";
import { Grow } from "../volumes/dialogs";
import { Drives } from "./Drives";
import { WithVm } from "./Layout";
import { Passthrough } from "./Passthrough";
import { Pending } from "./Pending";
import { RESTART, TPM_HINT } from "./Summary";
import { moving, runs, useSaveSpec, useWriteRefusal } from "./save";

/** What becomes of a guest that does not feed its watchdog any more. */
const WATCHDOG: Record<NonNullable<Vm["spec"]["watchdog"]>, string> = {
  reset: "restarts the guest",
  pause: "halts the guest",
  "power-off": "ends the machine",
  report: "only tells of it",
};

export const Hardware = () => <WithVm>{(vm) => <HardwareOf vm={vm} />}</WithVm>;

function HardwareOf({ vm: { spec }, vm }: { vm: Vm }) {
  const image = useNames(useImages());
  const [edit, setEdit] = useState(false);
  const denied = useWriteRefusal(vm) ?? moving(vm);
  return (
    <>
      <Card
        title="Processor, memory, boot"
        actions={
          <Button small icon={Pencil} refusal={denied} onClick={() => setEdit(true)}>
            Change
          </Button>
        }
      >
        <Pending vm={vm} />
        <Facts>
          <Fact name="CPUs">
            {spec.vcpus}
            {spec.vcpus_max != null && `, up to ${spec.vcpus_max} while it runs`}
          </Fact>
          <Fact name="Memory">{memoryWords(vm)}</Fact>
          <Fact name="Kernel">{spec.boot && (image(spec.boot.kernel) ?? spec.boot.kernel)}</Fact>
          <Fact name="Initial RAM disk">
            {spec.boot?.initrd && (image(spec.boot.initrd) ?? spec.boot.initrd)}
          </Fact>
          <Fact name="Command line">{spec.boot?.cmdline && <code>{spec.boot.cmdline}</code>}</Fact>
          <Fact name="CPU model">{spec.cpu ?? "host"}</Fact>
          <Fact name="Watchdog">{spec.watchdog && WATCHDOG[spec.watchdog]}</Fact>
          <Fact name="TPM">{spec.tpm && "2.0"}</Fact>
          <Fact name="Runs on">
            {runsOn(spec) &&
              `${RUNS_ON.find(([value]) => value === runsOn(spec))?.[1]}, board ${spec.machine}${
                spec.device_model === "legacy" ? ", with devices of old machines" : ""
              }`}
          </Fact>
          <Fact name="Random numbers">{spec.rng === false ? "no" : "from the host"}</Fact>
          <Fact name="If it ends">{RESTART[spec.restart ?? "on-failure"]}</Fact>
          <Fact name="With its host">{spec.autostart === false ? "does not start" : "starts"}</Fact>
        </Facts>
      </Card>
      <Disks vm={vm} />
      <Drives vm={vm} />
      <Passthrough vm={vm} />
      {edit && <Edit vm={vm} onClose={() => setEdit(false)} />}
    </>
  );
}

const canGrow = (spec: Vm["spec"]) => Boolean(spec.memory_max_bytes ?? spec.vcpus_max);

function Edit({ vm, onClose }: { vm: Vm; onClose: () => void }) {
  const { spec } = vm;
  const images = useImages().data ?? [];
  const of = (kind: string) =>
    images
      .filter((image) => image.spec.kind === kind && image.status.state === "ready")
      .map(({ meta }) => [meta.id, meta.name] as const);
  const [form, setForm] = useState({
    cpus: String(spec.vcpus),
    mostCpus: spec.vcpus_max ? String(spec.vcpus_max) : "",
    memory: sizeText(spec.memory_bytes),
    most: spec.memory_max_bytes ? sizeText(spec.memory_max_bytes) : "",
    kernel: spec.boot?.kernel ?? "",
    initrd: spec.boot?.initrd ?? "",
    cmdline: spec.boot?.cmdline ?? "",
    restart: spec.restart ?? "on-failure",
    autostart: spec.autostart !== false,
    tpm: spec.tpm === true,
    runsOn: runsOn(spec),
    oldDevices: spec.device_model === "legacy",
    rng: spec.rng !== false,
    cpu: spec.cpu ?? "host",
    watchdog: (spec.watchdog ?? "") as NonNullable<typeof spec.watchdog> | "",
  });
  const set = (change: Partial<typeof form>) => setForm({ ...form, ...change });
  const save = useSaveSpec(vm, onClose);
  const [local, setLocal] = useState<Record<string, string>>({});
  const fault = (field: string, local_name?: string) =>
    (local_name && local[local_name]) || fieldFault(save.error, field);
  return (
    <FormDialog
      title={`Hardware of ${vm.meta.name}`}
      verb="Save"
      wide
      busy={save.isPending}
      error={save.error}
      onClose={onClose}
      onSubmit={() => {
        const cpus = Number(form.cpus);
        const mostCpus = form.mostCpus.trim() ? Number(form.mostCpus) : null;
        const memory = parseSize(form.memory);
        const found: Record<string, string> = {};
        if (!Number.isInteger(cpus) || cpus < 1 || cpus > 64) found["cpus"] = "A whole number from 1 to 64.";
        if (mostCpus !== null && (!Number.isInteger(mostCpus) || mostCpus < cpus || mostCpus > 64))
          found["mostCpus"] = "A whole number from its CPUs to 64, or nothing.";
        if (memory === undefined) found["memory"] = "Write a size like 512M or 2G.";
        const most = form.most.trim() ? parseSize(form.most) : null;
        if (most === undefined) found["most"] = "Write a size like 8G, or nothing.";
        setLocal(found);
        if (memory === undefined || Object.keys(found).length) return;
        save.mutate({
          vcpus: cpus,
          vcpus_max: mostCpus,
          memory_bytes: memory,
          memory_max_bytes: most ?? null,
          restart: form.restart,
          autostart: form.autostart,
          tpm: form.tpm,
          ...board(form.runsOn, form.oldDevices, spec),
          rng: form.rng,
          cpu: form.cpu,
          watchdog: form.watchdog || null,
          ...(form.runsOn ? { boot: null } : {}),
          ...(form.kernel && !form.runsOn
            ? {
                boot: {
                  ...spec.boot,
                  kernel: form.kernel,
                  initrd: form.initrd || null,
                  cmdline: form.cmdline,
                },
              }
            : {}),
        });
      }}
    >
      {runs(vm) && (
        <Warning>
          The machine runs:{" "}
          {canGrow(spec) ? "more memory and CPUs take effect at once, all else" : "these changes take effect"}{" "}
          when it is stopped and started again.
        </Warning>
      )}
      <div className="grid gap-4 sm:grid-cols-2">
        <Text
          label="CPUs"
          inputMode="numeric"
          value={form.cpus}
          fault={fault("spec.vcpus", "cpus")}
          onChange={(event) => set({ cpus: event.target.value })}
        />
        <Text
          label="Memory"
          value={form.memory}
          fault={fault("spec.memory_bytes", "memory")}
          onChange={(event) => set({ memory: event.target.value })}
        />
        <Text
          label="CPUs at most while it runs"
          inputMode="numeric"
          hint="Empty: their number changes only when the machine is started anew."
          value={form.mostCpus}
          fault={fault("spec.vcpus_max", "mostCpus")}
          onChange={(event) => set({ mostCpus: event.target.value })}
        />
        <Text
          label="Memory at most while it runs"
          hint="Empty: it changes only when the machine is started anew."
          value={form.most}
          fault={fault("spec.memory_max_bytes", "most")}
          onChange={(event) => set({ most: event.target.value })}
        />
        <Select
          label="Kernel"
          value={form.kernel}
          options={of("kernel")}
          {...(spec.boot ? {} : { none: "None" })}
          fault={fault("spec.boot.kernel")}
          onValue={(kernel) => set({ kernel })}
        />
        <Select
          label="Initial RAM disk"
          value={form.initrd}
          none="None"
          options={of("initrd")}
          fault={fault("spec.boot.initrd")}
          onValue={(initrd) => set({ initrd })}
        />
      </div>
      <Text
        label="Kernel command line"
        value={form.cmdline}
        fault={fault("spec.boot.cmdline")}
        onChange={(event) => set({ cmdline: event.target.value })}
      />
      <Select
        label="If it ends without being told to"
        value={form.restart}
        options={Object.entries(RESTART)}
        onValue={(restart) => set({ restart: restart as typeof form.restart })}
      />
      <div className="grid gap-4 sm:grid-cols-2">
        <Select
          label="CPU model"
          value={form.cpu}
          options={[
            ["host", "All its host has"],
            ["x86-64-v2", "x86-64-v2: moves to nearly every host"],
            ["x86-64-v3", "x86-64-v3: hosts since about 2015"],
          ]}
          fault={fault("spec.cpu")}
          onValue={(cpu) => set({ cpu: cpu as typeof form.cpu })}
        />
        <Select
          label="Watchdog"
          value={form.watchdog}
          none="None"
          options={Object.entries(WATCHDOG)}
          fault={fault("spec.watchdog")}
          onValue={(watchdog) => set({ watchdog: watchdog as typeof form.watchdog })}
        />
      </div>
      <Check checked={form.autostart} onChange={(event) => set({ autostart: event.target.checked })}>
        Start it with its host, if it was running before
      </Check>
      <Check
        checked={form.tpm}
        disabled={runs(vm)}
        hint={TPM_HINT}
        fault={fault("spec.tpm")}
        onChange={(event) => set({ tpm: event.target.checked })}
      >
        TPM 2.0{runs(vm) && " (only while the machine is off)"}
      </Check>
      <Select
        label={`Runs on${runs(vm) ? " (only while the machine is off)" : ""}`}
        value={form.runsOn}
        options={RUNS_ON}
        disabled={runs(vm)}
        hint={form.runsOn ? ON_QEMU_HINT : undefined}
        fault={
          fault("spec.hypervisor") || fault("spec.firmware") || fault("spec.machine") || fault("spec.boot")
        }
        onValue={(value) => {
          const runsOn = value as RunsOn;
          set(runsOn ? { runsOn } : { runsOn, oldDevices: false });
        }}
      />
      <Check
        checked={form.oldDevices}
        disabled={runs(vm) || !form.runsOn}
        hint="Disks on SATA or IDE and interfaces as Intel e1000, for guests without virtio drivers."
        fault={fault("spec.device_model")}
        onChange={(event) => set({ oldDevices: event.target.checked })}
      >
        Devices of old machines
        {runs(vm) ? " (only while the machine is off)" : !form.runsOn && ` (${OLD_DEVICES_NEED})`}
      </Check>
      <Check checked={form.rng} onChange={(event) => set({ rng: event.target.checked })}>
        Random numbers from the host
      </Check>
    </FormDialog>
  );
}

function Disks({ vm }: { vm: Vm }) {
  const volumes = useVolumes();
  const find = (id: string) => volumes.data?.find(({ meta }) => meta.id === id);
  const [adding, setAdding] = useState(false);
  const [growing, setGrowing] = useState<Volume>();
  const [leaving, setLeaving] = useState<string>();
  const refusal = useWriteRefusal(vm) ?? moving(vm);
  const save = useSaveSpec(vm, () => setLeaving(undefined));
  const disks = vm.spec.disks ?? [];
  return (
    <Card
      title="Disks"
      actions={
        <Button
          small
          icon={Plus}
          refusal={refusal ?? (disks.length >= 16 ? "A machine has at most 16 disks." : undefined)}
          onClick={() => setAdding(true)}
        >
          Add disk
        </Button>
      }
    >
      <Pending vm={vm} of="spec.disks" name={(id) => find(id)?.meta.name} />
      {disks.length === 0 && (
        <Empty icon={HardDrive} title="It has no disk.">
          It boots from its kernel and initial RAM disk alone.
        </Empty>
      )}
      <ul className="flex flex-col">
        {disks.map((disk, n) => {
          const volume = find(disk.volume);
          return (
            <li
              key={disk.volume}
              className="flex flex-wrap items-center gap-x-4 gap-y-2 border-line py-2 not-first:border-t"
            >
              <code className="w-12 text-dim">vd{String.fromCharCode(97 + n)}</code>
              <span className="min-w-40 flex-1">
                <Link className="link" to="/volumes" search={{ q: volume?.meta.name }}>
                  {volume?.meta.name ?? disk.volume}
                </Link>
                {disk.read_only && <span className="text-dim"> read-only</span>}
              </span>
              {volume && (
                <>
                  <span className="w-24 tabular-nums">{bytes(volume.status.size_bytes ?? 0)}</span>
                  <span className="w-20 text-dim">{volume.spec.format}</span>
                  <State state={volume.status.state} />
                </>
              )}
              <span className="ml-auto flex gap-2">
                <Button
                  small
                  refusal={refusal ?? (volume ? undefined : "Its volume is not known.")}
                  onClick={() => setGrowing(volume)}
                >
                  Grow
                </Button>
                <Button small icon={Unlink} refusal={refusal} onClick={() => setLeaving(disk.volume)}>
                  Detach
                </Button>
              </span>
            </li>
          );
        })}
      </ul>
      {adding && <AddDisk vm={vm} volumes={volumes.data ?? []} onClose={() => setAdding(false)} />}
      {growing && <Grow volume={growing} onClose={() => setGrowing(undefined)} />}
      {leaving && (
        <Confirm
          title={`Detach ${find(leaving)?.meta.name ?? "the disk"}?`}
          verb="Detach"
          busy={save.isPending}
          error={save.error}
          onConfirm={() => save.mutate({ disks: disks.filter(({ volume }) => volume !== leaving) })}
          onClose={() => setLeaving(undefined)}
        >
          <p>The machine loses the disk; the volume and what is on it stay.</p>
          {runs(vm) && (
            <p>
              The machine runs: its guest is asked to release the disk. Unmount it there first. Until it is
              released the volume stays the machine’s.
            </p>
          )}
        </Confirm>
      )}
    </Card>
  );
}

function AddDisk({ vm, volumes, onClose }: { vm: Vm; volumes: Volume[]; onClose: () => void }) {
  const client = useQueryClient();
  const images = useImages().data ?? [];
  const free = volumes.filter(({ status }) => status.state === "ready" && !status.attached_to);
  const [how, setHow] = useState<"new" | "existing">(free.length ? "existing" : "new");
  const [volume, setVolume] = useState(free[0]?.meta.id ?? "");
  const [size, setSize] = useState("10G");
  const [source, setSource] = useState("");
  const [readOnly, setReadOnly] = useState(false);
  const [local, setLocal] = useState<string>();
  const save = useSaveSpec(vm, onClose);
  const make = useMutation({
    mutationFn: async () => {
      const wanted = parseSize(size);
      const made = await makeDisk(vm.meta.name, {
        format: "qcow2",
        ...(wanted === undefined ? {} : { size_bytes: wanted }),
        ...(source ? { source } : {}),
      });
      await ready(made);
      void client.invalidateQueries({ queryKey: ["volumes"] });
      return made.meta.id;
    },
  });
  const attach = (id: string) =>
    save.mutate({ disks: [...(vm.spec.disks ?? []), { volume: id, read_only: readOnly }] });
  return (
    <FormDialog
      title={`Add a disk to ${vm.meta.name}`}
      verb="Add disk"
      busy={save.isPending || make.isPending}
      error={make.error ?? save.error}
      onClose={onClose}
      onSubmit={() => {
        setLocal(undefined);
        if (how === "existing") return volume ? attach(volume) : setLocal("Choose a volume.");
        if (parseSize(size) === undefined && !(source && size.trim() === ""))
          return setLocal("Write a size like 10G.");
        make.mutate(undefined, { onSuccess: attach });
      }}
    >
      <Select
        label="Disk"
        value={how}
        options={[
          ["new", "A new volume"],
          ["existing", "A volume that is there"],
        ]}
        onValue={(value) => setHow(value as typeof how)}
      />
      {how === "existing" ? (
        <Select
          label="Volume"
          value={volume}
          none={free.length ? "Choose one" : "No volume is free"}
          options={free.map(({ meta, status }) => [
            meta.id,
            `${meta.name} (${bytes(status.size_bytes ?? 0)})`,
          ])}
          fault={local}
          onValue={setVolume}
        />
      ) : (
        <>
          <Select
            label="Content"
            value={source}
            none="Empty"
            options={images
              .filter(({ spec, status }) => spec.kind === "disk" && status.state === "ready")
              .map(({ meta }) => [meta.id, meta.name])}
            onValue={setSource}
          />
          <Text
            label="Size"
            value={size}
            fault={local}
            hint={source ? "Empty: the image’s own." : undefined}
            onChange={(event) => setSize(event.target.value)}
          />
        </>
      )}
      <Check checked={readOnly} onChange={(event) => setReadOnly(event.target.checked)}>
        Read-only: the guest may not write
      </Check>
    </FormDialog>
  );
}
