// Making and growing volumes.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, call, fieldFault, type Volume } from "../../api/client";
import { useImages, usePools } from "../../api/queries";
import { FormDialog } from "../../components/Dialog";
import { useFollow } from "../../components/shell/Orders";
import { Select, Text } from "../../components/ui";
import { bytes, parseSize, sizeText } from "../../lib/format";

const SIZE = "Write a size like 512M, 10G or 1.5T.";

export function Grow({ volume, onClose }: { volume: Volume; onClose: () => void }) {
  const now = volume.status.size_bytes ?? 0;
  const [size, setSize] = useState(sizeText(now));
  const [local, setLocal] = useState<string>();
  const follow = useFollow();
  const client = useQueryClient();
  const grow = useMutation({
    mutationFn: (size_bytes: number) =>
      call(
        api.POST("/volumes/{id}/grow", { params: { path: { id: volume.meta.id } }, body: { size_bytes } }),
      ),
    onSuccess: (task) => {
      void client.invalidateQueries({ queryKey: ["volumes"] });
      follow(`Grow ${volume.meta.name}`, task);
      onClose();
    },
  });
  return (
    <FormDialog
      title={`Grow ${volume.meta.name}`}
      verb="Grow"
      busy={grow.isPending}
      error={grow.error}
      onClose={onClose}
      onSubmit={() => {
        const wanted = parseSize(size);
        const why =
          wanted === undefined
            ? SIZE
            : wanted <= now
              ? `It has ${bytes(now)}: a volume grows, it never shrinks.`
              : undefined;
        setLocal(why);
        if (wanted !== undefined && !why) grow.mutate(wanted);
      }}
    >
      <Text
        label="New size"
        autoFocus
        value={size}
        hint={`It has ${bytes(now)} now. The file system in it is grown by the guest.`}
        fault={local ?? fieldFault(grow.error, "size_bytes")}
        onChange={(event) => setSize(event.target.value)}
      />
    </FormDialog>
  );
}

export function CreateVolumeDialog({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const pools = (usePools().data ?? []).filter(({ deleting }) => !deleting);
  const images = (useImages().data ?? []).filter(
    ({ spec, status }) => spec.kind === "disk" && status.state === "ready",
  );
  const [name, setName] = useState("");
  const [size, setSize] = useState("20G");
  const [source, setSource] = useState("");
  const [format, setFormat] = useState<"qcow2" | "raw">("qcow2");
  const [pool, setPool] = useState("");
  const [local, setLocal] = useState<{ name?: string; size?: string }>({});
  const make = useMutation({
    mutationFn: (size_bytes: number | undefined) =>
      call(
        api.POST("/volumes", {
          body: {
            name: name.trim(),
            spec: {
              format: source ? "qcow2" : format,
              ...(size_bytes === undefined ? {} : { size_bytes }),
              ...(source ? { source } : {}),
              ...(pool ? { pool } : {}),
            },
          },
        }),
      ),
    onSuccess: () => {
      void client.invalidateQueries({ queryKey: ["volumes"] });
      onClose();
    },
  });
  const fault = (field: string) => fieldFault(make.error, field);
  return (
    <FormDialog
      title="Create volume"
      verb="Create volume"
      busy={make.isPending}
      error={make.error}
      onClose={onClose}
      onSubmit={() => {
        const wanted = parseSize(size);
        const found: typeof local = {};
        if (!name.trim()) found.name = "Give it a name.";
        if (wanted === undefined && !(source && size.trim() === "")) found.size = SIZE;
        setLocal(found);
        if (!found.name && !found.size) make.mutate(wanted);
      }}
    >
      <Text
        label="Name"
        autoFocus
        value={name}
        fault={local.name ?? fault("name")}
        onChange={(event) => setName(event.target.value)}
      />
      <Select
        label="Content"
        value={source}
        none="Empty"
        options={images.map(({ meta }) => [meta.id, meta.name])}
        fault={fault("spec.source")}
        onValue={setSource}
      />
      <Text
        label="Size"
        value={size}
        hint={source ? "Empty: the image’s own." : "Thin: it takes room as it is written."}
        fault={local.size ?? fault("spec.size_bytes")}
        onChange={(event) => setSize(event.target.value)}
      />
      {!source && (
        <Select
          label="Format"
          value={format}
          options={[
            ["qcow2", "qcow2: thin, can be cloned"],
            ["raw", "raw: byte for byte"],
          ]}
          fault={fault("spec.format")}
          onValue={(value) => setFormat(value as typeof format)}
        />
      )}
      {pools.length > 1 && (
        <Select
          label="Pool"
          value={pool}
          none="The default pool"
          options={pools.map(({ meta }) => [meta.id, meta.name])}
          fault={fault("spec.pool")}
          onValue={setPool}
        />
      )}
    </FormDialog>
  );
}
