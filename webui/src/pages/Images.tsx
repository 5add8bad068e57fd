// Every image, and uploading a new one.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { ApiError, api, call, upload, type CreateImage, type Image } from "../api/client";
import { useImages } from "../api/queries";
import { Button, Confirm, Failure, Field, Loading, State, Text } from "../components/ui";
import { guess } from "../lib/guess";
import { age, bytes } from "../lib/format";

export function Images() {
  const images = useImages();
  const [doomed, setDoomed] = useState<Image>();
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: (image: Image) =>
      call(api.DELETE("/images/{id}", { params: { path: { id: image.meta.id } } })),
    onSuccess: () => setDoomed(undefined),
    onSettled: () => client.invalidateQueries({ queryKey: ["images"] }),
  });
  return (
    <>
      <div className="heading">
        <h1>Images</h1>
      </div>
      <Upload />
      <Failure error={images.error} />
      {images.isPending && <Loading />}
      {images.data?.length === 0 && <p className="empty">There is no image yet.</p>}
      {images.data && images.data.length > 0 && (
        <table role="table">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Kind</th>
              <th scope="col">State</th>
              <th scope="col" className="number">
                Size
              </th>
              <th scope="col" className="number">
                Disk size
              </th>
              <th scope="col">Age</th>
              <th scope="col">
                <span className="hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {images.data.map((image) => (
              <tr key={image.meta.id}>
                <th scope="row" data-label="Name">
                  {image.meta.name}
                </th>
                <td data-label="Kind">
                  {image.spec.kind} <span className="dim">{image.spec.format}</span>
                </td>
                <td data-label="State">
                  <span>
                    <State state={image.status.state} />
                    {image.status.reason && <span className="reason">{image.status.reason}</span>}
                  </span>
                </td>
                <td data-label="Size" className="number">
                  {bytes(image.status.size_bytes ?? 0)}
                </td>
                <td data-label="Disk size" className="number">
                  {image.spec.kind === "disk" && image.status.state === "ready"
                    ? bytes(image.status.virtual_size_bytes ?? 0)
                    : "–"}
                </td>
                <td data-label="Age">{age(image.meta.created_at)}</td>
                <td className="actions">
                  <Button
                    aria-label={`Delete ${image.meta.name}`}
                    onClick={() => (remove.reset(), setDoomed(image))}
                  >
                    Delete
                  </Button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {doomed && (
        <Confirm
          title={`Delete ${doomed.meta.name}?`}
          verb="Delete"
          busy={remove.isPending}
          error={remove.error}
          onConfirm={() => remove.mutate(doomed)}
          onClose={() => setDoomed(undefined)}
        >
          <p>
            The image is deleted for good. Disks made from it keep it: the host refuses while there are any.
          </p>
        </Confirm>
      )}
    </>
  );
}

type Kind = CreateImage["spec"]["kind"];
type Format = CreateImage["spec"]["format"];

function Upload() {
  const client = useQueryClient();
  const input = useRef<HTMLInputElement>(null);
  const [file, setFile] = useState<File>();
  const [name, setName] = useState("");
  const [kind, setKind] = useState<Kind>("disk");
  const [format, setFormat] = useState<Format>("qcow2");
  const [sent, setSent] = useState(0);
  const abort = useRef<AbortController>(null);

  const send = useMutation({
    mutationFn: async (file: File) => {
      const stop = (abort.current = new AbortController());
      const body: CreateImage = { name, spec: { kind, format: kind === "disk" ? format : "raw" } };
      const image = await call(api.POST("/images", { body }));
      void client.invalidateQueries({ queryKey: ["images"] });
      try {
        return await upload(image.meta.id, file, setSent, stop.signal);
      } catch (error) {
        // Without its content it is of no use to anyone.
        await call(api.DELETE("/images/{id}", { params: { path: { id: image.meta.id } } })).catch(
          () => undefined,
        );
        throw error;
      }
    },
    onSuccess: () => {
      setFile(undefined);
      setName("");
      if (input.current) input.current.value = "";
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
  const fault = (field: string) => (send.error instanceof ApiError ? send.error.field(field) : undefined);
  const aborted = send.error instanceof DOMException;

  return (
    <form
      className="sheet"
      onSubmit={(event) => {
        event.preventDefault();
        setSent(0);
        if (file) send.mutate(file);
      }}
    >
      <Field label="Upload an image" hint="A disk (qcow2 or raw), a kernel or an initial RAM disk.">
        {(props) => (
          <input
            ref={input}
            type="file"
            disabled={busy}
            {...props}
            onChange={(event) => choose(event.target.files?.[0])}
          />
        )}
      </Field>
      {file && (
        <>
          <div className="row">
            <Text
              label="Name"
              value={name}
              required
              disabled={busy}
              fault={fault("name")}
              onChange={(event) => setName(event.target.value)}
            />
            <Field label="Kind" fault={fault("spec.kind")}>
              {(props) => (
                <select
                  {...props}
                  value={kind}
                  disabled={busy}
                  onChange={(e) => setKind(e.target.value as Kind)}
                >
                  <option value="disk">Disk</option>
                  <option value="kernel">Kernel</option>
                  <option value="initrd">Initial RAM disk</option>
                </select>
              )}
            </Field>
            {kind === "disk" && (
              <Field label="Format" fault={fault("spec.format")}>
                {(props) => (
                  <select
                    {...props}
                    value={format}
                    disabled={busy}
                    onChange={(e) => setFormat(e.target.value as Format)}
                  >
                    <option value="qcow2">qcow2</option>
                    <option value="raw">raw</option>
                  </select>
                )}
              </Field>
            )}
          </div>
          {busy && (
            <p className="upload" role="status">
              <progress value={sent} max={file.size || 1} aria-label={`Upload of ${file.name}`} />
              {sent < file.size ? `${bytes(sent)} of ${bytes(file.size)}` : "Sent; the host checks it …"}
            </p>
          )}
          {!aborted && <Failure error={send.error} />}
          <div className="buttons">
            <Button type="submit" kind="primary" disabled={busy}>
              {busy ? "Uploading …" : `Upload ${bytes(file.size)}`}
            </Button>
            {busy && <Button onClick={() => abort.current?.abort()}>Break off</Button>}
          </div>
        </>
      )}
    </form>
  );
}
