// Files in a pool that belong to no object of the cluster: kept until they are adopted or deleted.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Import, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, call, fieldFault, type ForeignFile, type Pool } from "../../api/client";
import { useClusterRefusal } from "../../api/rights";
import { Confirm, FormDialog } from "../../components/Dialog";
import { useFollow } from "../../components/shell/Orders";
import { Button, Card, Select, Text } from "../../components/ui";
import { bytes, time } from "../../lib/format";

export function Foreign({ pool }: { pool: Pool }) {
  const [doing, setDoing] = useState<{ what: "adopt" | "delete"; file: ForeignFile }>();
  const refusal = useClusterRefusal()("storage.write");
  const files = pool.foreign ?? [];
  if (files.length === 0) return null;
  const close = () => setDoing(undefined);
  return (
    <Card title="Foreign files">
      <p className="mb-2 text-dim">
        They belong to no object of this cluster and are kept: a host may have been installed anew over its
        data, or a state restored that is older than they are.
      </p>
      <ul aria-label="Foreign files">
        {files.map((file) => (
          <li
            key={file.file}
            className="flex flex-wrap items-center gap-x-4 gap-y-1 border-line py-2 not-first:border-t"
          >
            <code className="wrap-anywhere">{file.file}</code>
            <span className="text-dim">
              {bytes(file.size_bytes)}, {bytes(file.used_bytes)} used, changed {time(file.modified_at)}
              {file.clone_of && `, a clone of images/${file.clone_of}`}
            </span>
            <span className="ml-auto flex gap-2">
              {file.kind !== "firmware" && file.kind !== "tpm" && (
                <Button
                  small
                  icon={Import}
                  refusal={refusal}
                  aria-label={`Adopt ${file.file}`}
                  onClick={() => setDoing({ what: "adopt", file })}
                >
                  Adopt
                </Button>
              )}
              <Button
                small
                icon={Trash2}
                refusal={refusal}
                aria-label={`Delete ${file.file}`}
                onClick={() => setDoing({ what: "delete", file })}
              >
                Delete
              </Button>
            </span>
          </li>
        ))}
      </ul>
      {doing?.what === "adopt" && <Adopt pool={pool} file={doing.file} onClose={close} />}
      {doing?.what === "delete" && <Delete pool={pool} file={doing.file} onClose={close} />}
    </Card>
  );
}

function Adopt({ pool, file, onClose }: { pool: Pool; file: ForeignFile; onClose: () => void }) {
  const [name, setName] = useState("");
  const [kind, setKind] = useState<"disk" | "iso" | "kernel" | "initrd">("disk");
  const [format, setFormat] = useState<"raw" | "qcow2">("qcow2");
  const image = file.kind === "image";
  const follow = useFollow();
  const client = useQueryClient();
  const adopt = useMutation({
    mutationFn: () =>
      call(
        api.POST("/pools/{id}/foreign/adopt", {
          params: { path: { id: pool.meta.id } },
          body: { file: file.file, name: name.trim(), ...(image ? { kind, format } : {}) },
        }),
      ),
    onSuccess: (task) => {
      follow(`Adopt ${file.file}`, task);
      onClose();
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["pool", pool.meta.id] }),
  });
  const fault = (field: string) => fieldFault(adopt.error, field);
  return (
    <FormDialog
      title={`Adopt ${file.file}`}
      verb="Adopt"
      busy={adopt.isPending}
      error={adopt.error}
      onSubmit={() => adopt.mutate()}
      onClose={onClose}
    >
      <p>It becomes {image ? "an image" : "a volume"} under this name, where it is and with its content.</p>
      <Text
        label="Name"
        value={name}
        required
        fault={fault("name")}
        onChange={({ target }) => setName(target.value)}
      />
      {image && (
        <>
          <Select
            label="Kind"
            value={kind}
            options={[
              ["disk", "Disk"],
              ["iso", "CD"],
              ["kernel", "Kernel"],
              ["initrd", "Initial RAM disk"],
            ]}
            onValue={(value) => setKind(value as typeof kind)}
          />
          <Select
            label="Format"
            value={format}
            options={[
              ["qcow2", "qcow2"],
              ["raw", "raw"],
            ]}
            onValue={(value) => setFormat(value as typeof format)}
          />
        </>
      )}
    </FormDialog>
  );
}

function Delete({ pool, file, onClose }: { pool: Pool; file: ForeignFile; onClose: () => void }) {
  const follow = useFollow();
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: () =>
      call(
        api.POST("/pools/{id}/foreign/delete", {
          params: { path: { id: pool.meta.id } },
          body: { file: file.file },
        }),
      ),
    onSuccess: () => {
      follow(`Delete ${file.file}`, "done");
      onClose();
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["pool", pool.meta.id] }),
  });
  return (
    <Confirm
      title={`Delete ${file.file} for ever?`}
      verb="Delete"
      name={file.file}
      busy={remove.isPending}
      error={remove.error}
      onConfirm={() => remove.mutate()}
      onClose={onClose}
    >
      <p>Nobody knows it, and nobody can bring it back.</p>
    </Confirm>
  );
}
