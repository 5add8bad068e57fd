// A new machine with its disk, in one form.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, api, call, type Image, type Volume } from "../api/client";
import { useImages, useNetworks } from "../api/queries";
import { useFollow } from "../components/Orders";
import { Button, Failure, Field, Text } from "../components/ui";
import { DISK_NAMES, faults, machine, refusals, volume, type Faults, type Form } from "../lib/create";
import { bytes } from "../lib/format";
import { go, href } from "../lib/router";

const EMPTY: Form = {
  name: "",
  image: "",
  cpus: "1",
  memory: "512M",
  disk: "",
  network: "",
  kernel: "",
  initrd: "",
  cmdline: "console=ttyS0",
  start: true,
};

export function CreateVm() {
  const images = useImages();
  const networks = useNetworks();
  const follow = useFollow();
  const client = useQueryClient();
  const [form, setForm] = useState<Partial<Form>>({});
  const [local, setLocal] = useState<Faults>({});

  const ready = images.data?.filter((image) => image.status.state === "ready") ?? [];
  const disks = ready.filter((image) => image.spec.kind === "disk");
  // What is likely wanted is chosen until something else is.
  const whole: Form = {
    ...EMPTY,
    image: disks[0]?.meta.id ?? "",
    network: networks.data?.[0]?.meta.id ?? "",
    ...form,
  };
  const image = disks.find((each) => each.meta.id === whole.image);

  const create = useMutation({
    mutationFn: make,
    onSuccess: (vm) => {
      void client.invalidateQueries({ queryKey: ["vms"] });
      go({ page: "vm", id: vm.meta.id });
      if (whole.start)
        call(api.POST("/vms/{id}/start", { params: { path: { id: vm.meta.id } } })).then(
          (task) => follow(`Start ${vm.meta.name}`, task),
          (error: Error) => follow(`Start ${vm.meta.name}`, error),
        );
    },
  });
  const refused = create.error instanceof ApiError ? refusals(create.error.problem.errors) : {};
  const at = (field: keyof Form) => local[field] ?? refused[field];
  const text = (field: Exclude<keyof Form, "start">) => ({
    value: whole[field],
    fault: at(field),
    onChange: (event: { target: { value: string } }) => setForm({ ...form, [field]: event.target.value }),
  });

  return (
    <>
      <p className="crumbs">
        <a href={href({ page: "vms" })}>Machines</a>
      </p>
      <h1>Create machine</h1>
      <form
        className="sheet"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          const found = faults(whole, image);
          setLocal(found);
          if (Object.keys(found).length === 0) create.mutate(whole);
        }}
      >
        <Text label="Name" autoFocus {...text("name")} />
        <Choice
          label="Disk image"
          none="None: an empty disk"
          options={disks}
          hint={
            images.isPending ? "Loading …" : disks.length === 0 ? "There is no disk image yet." : undefined
          }
          {...text("image")}
        />
        <div className="row">
          <Text label="CPUs" inputMode="numeric" {...text("cpus")} />
          <Text label="Memory" {...text("memory")} />
          <Text
            label="Disk size"
            placeholder={image ? bytes(image.status.virtual_size_bytes ?? 0) : "10G"}
            hint={image ? "Empty: the image's own." : undefined}
            {...text("disk")}
          />
        </div>
        <Choice label="Network" none="None" options={networks.data ?? []} {...text("network")} />
        <details open={(!image?.spec.boot && images.isSuccess) || at("kernel") !== undefined}>
          <summary>Boot</summary>
          {image?.spec.boot && !whole.kernel && (
            <p className="hint">
              What the image says: <code>{image.spec.boot.cmdline || "no command line"}</code>
            </p>
          )}
          <Choice
            label="Kernel"
            none={image?.spec.boot ? "As the image says" : "Choose one"}
            options={ready.filter((each) => each.spec.kind === "kernel")}
            {...text("kernel")}
          />
          {whole.kernel && (
            <>
              <Choice
                label="Initial RAM disk"
                none="None"
                options={ready.filter((each) => each.spec.kind === "initrd")}
                {...text("initrd")}
              />
              <Text label="Kernel command line" {...text("cmdline")} />
            </>
          )}
        </details>
        <label className="check">
          <input
            type="checkbox"
            checked={whole.start}
            onChange={(event) => setForm({ ...form, start: event.target.checked })}
          />
          Start it at once
        </label>
        <Failure error={create.error} />
        <div className="buttons">
          <Button type="submit" kind="primary" disabled={create.isPending}>
            {create.isPending ? "Creating …" : "Create machine"}
          </Button>
          <a className="button plain" href={href({ page: "vms" })}>
            Cancel
          </a>
        </div>
      </form>
    </>
  );
}

function Choice({
  label,
  none,
  options,
  hint,
  fault,
  ...select
}: {
  label: string;
  none: string;
  options: Pick<Image, "meta">[];
  hint?: string | undefined;
  fault: string | undefined;
  value: string;
  onChange: (event: { target: { value: string } }) => void;
}) {
  return (
    <Field label={label} hint={hint} fault={fault}>
      {(props) => (
        <select {...props} {...select}>
          <option value="">{none}</option>
          {options.map(({ meta }) => (
            <option key={meta.id} value={meta.id}>
              {meta.name}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

/** Disk, then machine; a disk whose machine is refused is removed again. */
async function make(form: Form) {
  const disk = await makeDisk(form);
  try {
    await usable(disk);
    return await call(api.POST("/vms", { body: machine(form, disk.meta.id) }));
  } catch (error) {
    // After a broken connection the machine may exist and own the disk: then the host refuses to delete it.
    await call(api.DELETE("/volumes/{id}", { params: { path: { id: disk.meta.id } } })).catch(
      () => undefined,
    );
    throw error;
  }
}

async function makeDisk(form: Form, n = 1): Promise<Volume> {
  try {
    return await call(api.POST("/volumes", { body: volume(form, n) }));
  } catch (error) {
    const taken = error instanceof ApiError && error.problem.status === 409;
    if (taken && n < DISK_NAMES) return makeDisk(form, n + 1);
    throw error;
  }
}

async function usable(disk: Volume) {
  let seen = disk;
  while (seen.status.state === "creating") {
    await new Promise((resolve) => setTimeout(resolve, 300));
    seen = await call(api.GET("/volumes/{id}", { params: { path: { id: disk.meta.id } } }));
  }
  if (seen.status.state !== "ready")
    throw new Error(`The disk could not be made: ${seen.status.reason ?? "no reason given"}`);
}
