// A new machine in five short steps with defaults that fit, and a review before anything is made. The step is in the address,
// so that the browser's back goes a step back.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { ArrowLeft, ArrowRight, Check as Tick, MonitorCog } from "lucide-react";
import { useState, type ReactNode } from "react";
import { ApiError, api, call, type Image } from "../../api/client";
import { useHosts, useImages, useNetworks, usePools } from "../../api/queries";
import { Head } from "../../components/Page";
import { PlacementFields } from "../../components/PlacementFields";
import { useFollow } from "../../components/shell/Orders";
import {
  Button,
  Check,
  Fact,
  Facts,
  Failure,
  Select,
  Text,
  Warning,
  buttonClass,
  cx,
} from "../../components/ui";
import { NO_SETUP, setupFaults } from "../../lib/cloud";
import {
  OLD_DEVICES_NEED,
  ON_QEMU_HINT,
  RUNS_ON,
  disk,
  faults,
  likelyDisk,
  machine,
  refusals,
  type Faults,
  type Form,
  type RunsOn,
} from "../../lib/create";
import { makeDisk, ready } from "../../lib/disks";
import { bytes, parseSize } from "../../lib/format";
import { GuestSetup } from "./GuestSetup";
import { ANYWHERE, ruleText } from "../../lib/placement";
import { RESTART, TPM_HINT } from "./Summary";

const EMPTY: Form = {
  name: "",
  labels: "",
  image: "",
  iso: "",
  cpus: "2",
  cpusMost: "",
  memory: "2G",
  memoryMost: "",
  disk: "",
  pool: "",
  network: "",
  kernel: "",
  initrd: "",
  cmdline: "console=ttyS0",
  tpm: false,
  runsOn: "",
  oldDevices: false,
  setup: NO_SETUP,
  placement: ANYWHERE,
  restart: "on-failure",
  autostart: true,
  start: true,
};

/** Which fields each step asks. */
const STEPS: { title: string; fields: (keyof Form)[] }[] = [
  { title: "Name and source", fields: ["name", "labels", "image", "iso"] },
  { title: "Hardware", fields: ["cpus", "cpusMost", "memory", "memoryMost", "disk", "pool", "network"] },
  {
    title: "Boot and behaviour",
    fields: ["kernel", "initrd", "cmdline", "tpm", "runsOn", "oldDevices", "placement"],
  },
  { title: "Guest set-up", fields: ["setup"] },
  { title: "Review", fields: [] },
];
const LAST = STEPS.length - 1;

export function CreateVm() {
  const images = useImages();
  const networks = useNetworks();
  const pools = (usePools().data ?? []).filter(({ deleting }) => !deleting);
  const hosts = useHosts().data;
  const follow = useFollow();
  const client = useQueryClient();
  const navigate = useNavigate();
  const search = useSearch({ strict: false }) as { step?: number; image?: string };
  const [form, setForm] = useState<Partial<Form>>(search.image ? { image: search.image } : {});
  const [shown, setShown] = useState<Faults>({});

  const usable = images.data?.filter((image) => image.status.state === "ready") ?? [];
  const disks = usable.filter((image) => image.spec.kind === "disk");
  const options = (kind: Image["spec"]["kind"]) =>
    usable.filter((image) => image.spec.kind === kind).map(({ meta }) => [meta.id, meta.name] as const);
  // What is likely wanted is chosen until something else is.
  const source = form.image ?? disks.find(({ spec }) => spec.boot)?.meta.id ?? disks[0]?.meta.id ?? "";
  const image = disks.find((each) => each.meta.id === source);
  const whole: Form = {
    ...EMPTY,
    image: source,
    disk: likelyDisk(image),
    // Without a root a kernel with a disk ends in a panic.
    cmdline: image ? "root=/dev/vda console=ttyS0" : EMPTY.cmdline,
    network: networks.data?.[0]?.meta.id ?? "",
    ...form,
  };
  const found = faults(whole, image);
  /** The first step that has a fault; no later one can be reached. */
  const open = STEPS.findIndex(({ fields }) => fields.some((field) => found[field]));
  const wanted = Math.min(LAST, Math.max(0, Math.trunc(search.step ?? 1) - 1));
  const step = open < 0 ? wanted : Math.min(wanted, open);
  const go = (to: number) => void navigate({ to: ".", search: (old: object) => ({ ...old, step: to + 1 }) });

  const create = useMutation({
    mutationFn: make,
    onSuccess: (vm) => {
      void client.invalidateQueries({ queryKey: ["volumes"] });
      void navigate({ to: "/vms/$id", params: { id: vm.meta.id } });
      follow(`Create ${vm.meta.name}`, "done");
      if (whole.start)
        call(api.POST("/vms/{id}/start", { params: { path: { id: vm.meta.id } } })).then(
          (task) => follow(`Start ${vm.meta.name}`, task),
          (error: Error) => follow(`Start ${vm.meta.name}`, error),
        );
    },
  });
  const refused = create.error instanceof ApiError ? refusals(create.error.problem.errors) : {};
  const at = (field: keyof Form) => shown[field] ?? refused[field];
  const set = (change: Partial<Form>) => {
    setForm({ ...form, ...change });
    const left = { ...shown };
    for (const field of Object.keys(change)) delete left[field as keyof Form];
    setShown(left);
    if (create.error) create.reset();
  };
  const text = (
    field: "name" | "labels" | "cpus" | "cpusMost" | "memory" | "memoryMost" | "disk" | "cmdline",
  ) => ({
    value: whole[field],
    fault: at(field),
    onChange: (event: { target: { value: string } }) => set({ [field]: event.target.value }),
  });
  const select = (field: "image" | "iso" | "pool" | "network" | "kernel" | "initrd") => ({
    value: whole[field],
    fault: at(field),
    onValue: (value: string) => set({ [field]: value }),
  });
  const next = () => {
    const wrong = Object.fromEntries(
      STEPS[step]!.fields.flatMap((field) => (found[field] ? [[field, found[field]]] : [])),
    );
    setShown(wrong);
    if (Object.keys(wrong).length > 0) return;
    if (step < LAST) go(step + 1);
    else create.mutate(whole);
  };
  const nameOf = (list: readonly { meta: { id: string; name: string } }[] | undefined, id: string) =>
    list?.find(({ meta }) => meta.id === id)?.meta.name;

  return (
    <>
      <Head title="Create virtual machine" icon={MonitorCog} up={{ to: "/vms", label: "Virtual machines" }} />
      <div className="grid gap-4 lg:grid-cols-[14rem_minmax(0,44rem)]">
        <ol className="flex gap-1 overflow-x-auto lg:flex-col" aria-label="Steps">
          {STEPS.map(({ title }, n) => (
            <li key={title} className="flex-none">
              <button
                type="button"
                aria-current={n === step ? "step" : undefined}
                disabled={open >= 0 && n > open}
                onClick={() => go(n)}
                className={cx(
                  "flex w-full items-center gap-2.5 rounded-md px-3 py-2 text-left disabled:text-dim",
                  n === step ? "bg-accent-soft font-medium text-accent" : "hover:not-disabled:bg-sunken",
                )}
              >
                <span
                  className={cx(
                    "flex size-6 flex-none items-center justify-center rounded-full text-sm",
                    n === step ? "bg-accent text-on-accent" : "bg-sunken",
                  )}
                >
                  {n < step ? <Tick size={14} aria-label="done" /> : n + 1}
                </span>
                {title}
              </button>
            </li>
          ))}
        </ol>
        <form
          noValidate
          className="card flex flex-col gap-4 p-5"
          onSubmit={(event) => {
            event.preventDefault();
            next();
          }}
        >
          <h2 className="text-base font-semibold">{STEPS[step]!.title}</h2>
          {step === 0 && (
            <>
              <Text
                label="Name"
                autoFocus
                hint="Letters, digits, dots, underscores, hyphens."
                {...text("name")}
              />
              <Select
                label="Disk image"
                none="None: an empty disk"
                options={options("disk")}
                hint={
                  images.isPending ? (
                    "Loading …"
                  ) : disks.length === 0 ? (
                    <>
                      There is no disk image yet:{" "}
                      <Link className="link" to="/images" search={{ open: "upload" }}>
                        upload one
                      </Link>
                      .
                    </>
                  ) : !image && options("iso").length === 0 ? (
                    <>
                      Nothing boots from an empty disk. To install a system,{" "}
                      <Link className="link" to="/images" search={{ open: "upload" }}>
                        upload its CD (ISO)
                      </Link>{" "}
                      first.
                    </>
                  ) : (
                    "The disk begins as a copy of it; the image stays as it is."
                  )
                }
                {...select("image")}
              />
              {options("iso").length > 0 && (
                <Select
                  label="CD"
                  none="No drive"
                  options={options("iso")}
                  hint="It boots from it while its disk cannot be booted: to install a system."
                  {...select("iso")}
                />
              )}
              <Text
                label="Labels"
                hint="Free words for searching, like: env=test, team=web"
                {...text("labels")}
              />
            </>
          )}
          {step === 1 && (
            <>
              <div className="grid gap-4 sm:grid-cols-3">
                <Text label="CPUs" inputMode="numeric" autoFocus {...text("cpus")} />
                <Text label="Memory" {...text("memory")} />
                <Text
                  label="Disk size"
                  hint={
                    image
                      ? `At least ${bytes(image.status.virtual_size_bytes ?? 0)}. Thin.`
                      : "Thin: uses what is written."
                  }
                  {...text("disk")}
                />
              </div>
              <div className="grid gap-4 sm:grid-cols-2">
                <Text
                  label="CPUs at most while it runs"
                  inputMode="numeric"
                  hint="As many as it can get without a restart. Empty: no more."
                  {...text("cpusMost")}
                />
                <Text
                  label="Memory at most while it runs"
                  hint="As far as it can be raised without a restart, like 8G. Empty: not at all."
                  {...text("memoryMost")}
                />
              </div>
              {pools.length > 1 && (
                <Select
                  label="Pool of the disk"
                  none="The default pool"
                  options={pools.map(({ meta }) => [meta.id, meta.name])}
                  {...select("pool")}
                />
              )}
              <Select
                label="Network"
                none="None"
                options={(networks.data ?? []).map(({ meta }) => [meta.id, meta.name])}
                {...select("network")}
              />
            </>
          )}
          {step === 2 && (
            <>
              {image?.spec.boot && !whole.kernel && (
                <p className="text-dim">
                  The image says how it boots: <code>{image.spec.boot.cmdline || "no command line"}</code>.
                  Nothing is needed here.
                </p>
              )}
              <Select
                label="Kernel"
                none={image?.spec.boot ? "As the image says" : "None: what its disk boots by itself"}
                options={options("kernel")}
                {...select("kernel")}
              />
              {whole.kernel && (
                <>
                  <Select
                    label="Initial RAM disk"
                    none="None"
                    options={options("initrd")}
                    {...select("initrd")}
                  />
                  <Text
                    label="Kernel command line"
                    hint="root=/dev/vda is the first disk as a whole, /dev/vda1 its first partition."
                    {...text("cmdline")}
                  />
                </>
              )}
              <Select
                label="If it ends without being told to"
                value={whole.restart}
                options={Object.entries(RESTART)}
                onValue={(restart) => set({ restart: restart as Form["restart"] })}
              />
              <Check checked={whole.autostart} onChange={(event) => set({ autostart: event.target.checked })}>
                Start it with its host, if it was running before
              </Check>
              <Check
                checked={whole.tpm}
                hint={TPM_HINT}
                fault={at("tpm")}
                onChange={(event) => set({ tpm: event.target.checked })}
              >
                TPM 2.0
              </Check>
              <details open={whole.runsOn !== "" || undefined}>
                <summary className="cursor-pointer py-1 text-sm font-medium">Advanced</summary>
                <div className="mt-3 grid gap-4">
                  <Select
                    label="Runs on"
                    value={whole.runsOn}
                    options={RUNS_ON}
                    hint={whole.runsOn ? ON_QEMU_HINT : undefined}
                    fault={at("runsOn")}
                    onValue={(value) => {
                      const runsOn = value as RunsOn;
                      set(runsOn ? { runsOn } : { runsOn, oldDevices: false });
                    }}
                  />
                  <Check
                    checked={whole.oldDevices}
                    disabled={!whole.runsOn}
                    hint="Disks on SATA or IDE and interfaces as Intel e1000, for guests without virtio drivers."
                    fault={at("oldDevices")}
                    onChange={(event) => set({ oldDevices: event.target.checked })}
                  >
                    Devices of old machines{!whole.runsOn && ` (${OLD_DEVICES_NEED})`}
                  </Check>
                </div>
              </details>
              <PlacementFields
                value={whole.placement}
                fault={at("placement")}
                onValue={(placement) => set({ placement })}
              />
            </>
          )}
          {step === 3 && (
            <>
              <GuestSetup
                setup={whole.setup}
                faults={shown.setup ? setupFaults(whole.setup) : {}}
                onChange={(setup) => set({ setup })}
              />
              {refused.setup && <Failure error={new Error(refused.setup)} />}
            </>
          )}
          {step === LAST && (
            <>
              <Facts>
                <Fact name="Name">{whole.name}</Fact>
                <Fact name="Labels">{whole.labels}</Fact>
                <Fact name="Disk">
                  {bytes(parseSize(whole.disk) ?? image?.status.virtual_size_bytes ?? 0)}
                  {image ? `, a copy of ${image.meta.name}` : ", empty"}
                </Fact>
                {whole.iso && <Fact name="CD">{nameOf(usable, whole.iso)}</Fact>}
                <Fact name="CPUs">
                  {whole.cpus}
                  {whole.cpusMost && `, up to ${whole.cpusMost} while it runs`}
                </Fact>
                <Fact name="Memory">
                  {bytes(parseSize(whole.memory) ?? 0)}
                  {whole.memoryMost && `, up to ${bytes(parseSize(whole.memoryMost) ?? 0)} while it runs`}
                </Fact>
                <Fact name="Network">{nameOf(networks.data, whole.network) ?? "none"}</Fact>
                <Fact name="Boot">
                  {whole.kernel && !whole.runsOn
                    ? `${nameOf(usable, whole.kernel)}: ${whole.cmdline}`
                    : image?.spec.boot && !whole.runsOn
                      ? "as the image says"
                      : "what its disk boots by itself"}
                </Fact>
                {whole.tpm && <Fact name="TPM">2.0</Fact>}
                {whole.runsOn && (
                  <Fact name="Runs on">
                    {RUNS_ON.find(([value]) => value === whole.runsOn)?.[1]}
                    {whole.oldDevices && ", with devices of old machines"}
                  </Fact>
                )}
                <Fact name="Guest set-up">
                  {whole.setup.way === "none"
                    ? "none"
                    : whole.setup.way === "user"
                      ? `the user ${whole.setup.user}, by SSH key`
                      : "by cloud-init data"}
                </Fact>
                <Fact name="Placement">
                  {(whole.placement.host || whole.placement.rules.length > 0) && (
                    <ul>
                      {whole.placement.host && <li>only on {nameOf(hosts, whole.placement.host)}</li>}
                      {whole.placement.rules.map((rule, n) => (
                        <li key={n}>{ruleText(rule)}</li>
                      ))}
                    </ul>
                  )}
                </Fact>
                <Fact name="If it ends">{RESTART[whole.restart]}</Fact>
                <Fact name="With its host">{whole.autostart ? "starts" : "does not start"}</Fact>
              </Facts>
              {!whole.network && (
                <Warning>Without a network the machine is reached by its console alone.</Warning>
              )}
              <Check checked={whole.start} onChange={(event) => set({ start: event.target.checked })}>
                Start it at once
              </Check>
            </>
          )}
          <Failure error={create.error} />
          <Footer>
            <Link className={buttonClass()} to="/vms">
              Cancel
            </Link>
            {step > 0 && (
              <Button icon={ArrowLeft} onClick={() => go(step - 1)}>
                Back
              </Button>
            )}
            <Button type="submit" kind="primary" busy={create.isPending}>
              {step < LAST ? (
                <>
                  Next <ArrowRight size={16} aria-hidden />
                </>
              ) : (
                "Create virtual machine"
              )}
            </Button>
          </Footer>
        </form>
      </div>
    </>
  );
}

const Footer = ({ children }: { children: ReactNode }) => (
  <div className="flex flex-wrap justify-end gap-2 border-t border-line pt-4">{children}</div>
);

/** Disk, then machine; a disk whose machine is refused is removed again. */
async function make(form: Form) {
  const volume = await makeDisk(form.name, disk(form));
  try {
    await ready(volume);
    return await call(api.POST("/vms", { body: machine(form, volume.meta.id) }));
  } catch (error) {
    // After a broken connection the machine may exist and own the disk: then the host refuses to delete it.
    await call(api.DELETE("/volumes/{id}", { params: { path: { id: volume.meta.id } } })).catch(
      () => undefined,
    );
    throw error;
  }
}
