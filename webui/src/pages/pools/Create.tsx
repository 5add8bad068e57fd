// Making a shared pool.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, call, fieldFault, type CreatePool } from "../../api/client";
import { FormDialog } from "../../components/Dialog";
import { Select, Text, Warning } from "../../components/ui";
import { NFS_FORM, nfsPool, type NfsForm } from "../../lib/pools";

/** Where the host names a field of the form. */
const FIELDS: Record<keyof NfsForm, string> = {
  name: "name",
  server: "spec.server",
  export: "spec.export",
  version: "spec.version",
  port: "spec.port",
  nconnect: "spec.options.nconnect",
  rsize: "spec.options.rsize",
  wsize: "spec.options.wsize",
};

export function CreatePoolDialog({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const [form, setForm] = useState(NFS_FORM);
  const [faults, setFaults] = useState<Partial<Record<keyof NfsForm, string>>>({});
  const make = useMutation({
    mutationFn: (body: CreatePool) => call(api.POST("/pools", { body })),
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: ["pools"] }),
  });
  const text = (field: keyof NfsForm) => ({
    value: form[field],
    fault: faults[field] ?? fieldFault(make.error, FIELDS[field]),
    onChange: (event: { target: { value: string } }) => setForm({ ...form, [field]: event.target.value }),
  });
  return (
    <FormDialog
      title="Add shared pool"
      verb="Add pool"
      wide
      busy={make.isPending}
      error={make.error}
      onClose={onClose}
      onSubmit={() => {
        const wanted = nfsPool(form);
        setFaults("faults" in wanted ? wanted.faults : {});
        if ("body" in wanted) make.mutate(wanted.body);
      }}
    >
      <Text label="Name" autoFocus {...text("name")} />
      <div className="grid gap-4 sm:grid-cols-2">
        <Text label="NFS server" hint="Name or address, as every host reaches it." {...text("server")} />
        <Text label="Export" hint="As NFS version 4 shows it, e.g. /srv/limiquantix." {...text("export")} />
        <Select
          label="Version"
          value={form.version}
          options={[
            ["4.2", "4.2"],
            ["4.1", "4.1: discarded space is not given back"],
          ]}
          onValue={(version) => setForm({ ...form, version: version as NfsForm["version"] })}
        />
        <Text label="Port" inputMode="numeric" {...text("port")} />
      </div>
      <details>
        <summary className="link cursor-pointer">Mount options</summary>
        <div className="mt-3 grid gap-4 sm:grid-cols-3">
          <Text label="Connections" hint="nconnect, 1 to 16" inputMode="numeric" {...text("nconnect")} />
          <Text label="Read size" hint="rsize, bytes" inputMode="numeric" {...text("rsize")} />
          <Text label="Write size" hint="wsize, bytes" inputMode="numeric" {...text("wsize")} />
        </div>
      </details>
      <Warning>
        The directory must be empty and this cluster’s alone. The server must allow every host to mount it, to
        write as root (no_root_squash, or an anonuid that owns it), and to lock files.
      </Warning>
    </FormDialog>
  );
}
