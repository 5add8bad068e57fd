// Uploading an image: declared first, then its bytes, with progress; the host checks size, format and checksum.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { api, call, upload, fieldFault, type CreateImage } from "../../api/client";
import { useImages } from "../../api/queries";
import { Dialog } from "../../components/Dialog";
import { useFollow } from "../../components/shell/Orders";
import { Button, Failure, Field, Select, Text } from "../../components/ui";
import { bytes, duration } from "../../lib/format";
import { guess } from "../../lib/guess";

type Kind = CreateImage["spec"]["kind"];
type Format = CreateImage["spec"]["format"];

export function Upload({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const follow = useFollow();
  const images = useImages().data ?? [];
  const of = (wanted: Kind) =>
    images
      .filter(({ spec, status }) => spec.kind === wanted && status.state === "ready")
      .map(({ meta }) => [meta.id, meta.name] as const);
  const [file, setFile] = useState<File>();
  const [name, setName] = useState("");
  const [kind, setKind] = useState<Kind>("disk");
  const [format, setFormat] = useState<Format>("qcow2");
  const [sha256, setSha256] = useState("");
  const [kernel, setKernel] = useState("");
  const [initrd, setInitrd] = useState("");
  const [cmdline, setCmdline] = useState("root=/dev/vda console=ttyS0");
  const [sent, setSent] = useState(0);
  const begun = useRef(0);
  const abort = useRef<AbortController>(null);

  const send = useMutation({
    mutationFn: async (content: File) => {
      const stop = (abort.current = new AbortController());
      const body: CreateImage = {
        name: name.trim(),
        spec: {
          kind,
          format: kind === "disk" ? format : "raw",
          ...(sha256.trim() ? { sha256: sha256.trim().toLowerCase() } : {}),
          ...(kind === "disk" && kernel ? { boot: { kernel, cmdline, ...(initrd ? { initrd } : {}) } } : {}),
        },
      };
      const image = await call(api.POST("/images", { body }));
      void client.invalidateQueries({ queryKey: ["images"] });
      try {
        return await upload(image.meta.id, content, setSent, stop.signal);
      } catch (error) {
        // Without its content it is of no use to anyone.
        await call(api.DELETE("/images/{id}", { params: { path: { id: image.meta.id } } })).catch(
          () => undefined,
        );
        throw error;
      }
    },
    onSuccess: (image) => {
      follow(`Upload ${image.meta.name}`, "done");
      onClose();
    },
    onSettled: () => {
      abort.current = null;
      void client.invalidateQueries({ queryKey: ["images"] });
    },
  });
  const busy = send.isPending;
  useEffect(() => {
    if (!busy) return;
    // Leaving the page would break the upload off.
    const warn = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, [busy]);

  const choose = (chosen: File | undefined) => {
    setFile(chosen);
    send.reset();
    if (!chosen) return;
    const likely = guess(chosen.name);
    setName(likely.name);
    setKind(likely.kind);
    setFormat(likely.format);
  };
  const fault = (field: string) => fieldFault(send.error, field);
  const aborted = send.error instanceof DOMException;
  const seconds = (Date.now() - begun.current) / 1000;
  const left = file && sent > 0 ? (seconds * (file.size - sent)) / sent : undefined;

  return (
    <Dialog title="Upload image" wide {...(busy ? {} : { onClose })}>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          setSent(0);
          begun.current = Date.now();
          if (file) send.mutate(file);
        }}
      >
        <Field label="File" hint="A disk (qcow2 or raw), a CD (ISO), a kernel or an initial RAM disk.">
          {(props) => (
            <input
              type="file"
              className="input"
              disabled={busy}
              {...props}
              onChange={(event) => choose(event.target.files?.[0])}
            />
          )}
        </Field>
        {file && (
          <>
            <div className="grid gap-4 sm:grid-cols-3">
              <Text
                label="Name"
                value={name}
                required
                disabled={busy}
                fault={fault("name")}
                onChange={(event) => setName(event.target.value)}
              />
              <Select
                label="Kind"
                value={kind}
                disabled={busy}
                fault={fault("spec.kind")}
                options={[
                  ["disk", "Disk"],
                  ["kernel", "Kernel"],
                  ["initrd", "Initial RAM disk"],
                  ["iso", "CD (ISO 9660 or UDF)"],
                ]}
                onValue={(value) => setKind(value as Kind)}
              />
              {kind === "disk" && (
                <Select
                  label="Format"
                  value={format}
                  disabled={busy}
                  fault={fault("spec.format")}
                  options={[
                    ["qcow2", "qcow2"],
                    ["raw", "raw"],
                  ]}
                  onValue={(value) => setFormat(value as Format)}
                />
              )}
            </div>
            {kind === "disk" && of("kernel").length > 0 && (
              <details>
                <summary className="font-medium">How machines made from it boot</summary>
                <div className="mt-3 grid gap-4 sm:grid-cols-2">
                  <Select
                    label="Kernel"
                    value={kernel}
                    none="Said at each machine"
                    disabled={busy}
                    options={of("kernel")}
                    fault={fault("spec.boot.kernel")}
                    onValue={setKernel}
                  />
                  <Select
                    label="Initial RAM disk"
                    value={initrd}
                    none="None"
                    disabled={busy || !kernel}
                    options={of("initrd")}
                    fault={fault("spec.boot.initrd")}
                    onValue={setInitrd}
                  />
                  <div className="sm:col-span-2">
                    <Text
                      label="Kernel command line"
                      value={cmdline}
                      disabled={busy || !kernel}
                      fault={fault("spec.boot.cmdline")}
                      onChange={(event) => setCmdline(event.target.value)}
                    />
                  </div>
                </div>
              </details>
            )}
            <Text
              label="SHA-256 checksum"
              className="font-mono"
              value={sha256}
              disabled={busy}
              hint="If you give it, the host refuses anything else."
              fault={fault("spec.sha256")}
              onChange={(event) => setSha256(event.target.value)}
            />
            {busy && (
              <div role="status">
                <progress value={sent} max={file.size || 1} aria-label={`Upload of ${file.name}`} />
                <p className="mt-1.5 text-dim">
                  {sent < file.size
                    ? `${bytes(sent)} of ${bytes(file.size)}${left !== undefined && seconds > 2 ? `, ${duration(new Date(0).toISOString(), null, left * 1000)} left` : ""}`
                    : "Sent; the host checks it …"}
                </p>
              </div>
            )}
            {aborted ? (
              <p role="status">The upload was broken off; nothing of it was kept.</p>
            ) : (
              <Failure error={send.error} />
            )}
          </>
        )}
        <div className="flex justify-end gap-2">
          {busy ? (
            <Button onClick={() => abort.current?.abort()}>Cancel the upload</Button>
          ) : (
            <Button onClick={onClose}>Cancel</Button>
          )}
          <Button
            type="submit"
            kind="primary"
            busy={busy}
            refusal={file ? undefined : "Choose a file first."}
          >
            {file ? `Upload ${bytes(file.size)}` : "Upload"}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
