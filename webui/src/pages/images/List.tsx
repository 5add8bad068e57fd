// Every image, and what is done with it.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Disc3, MonitorCog, Pencil, Trash2, Upload as UploadIcon } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, type Image } from "../../api/client";
import { useImages } from "../../api/queries";
import { useRefusal } from "../../api/rights";
import { Bulk } from "../../components/Bulk";
import { Head } from "../../components/Page";
import { Remove } from "../../components/Remove";
import { Rename } from "../../components/Rename";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Button, Menu, State } from "../../components/ui";
import { age, bytes } from "../../lib/format";
import { Upload } from "./Upload";

const id = (image: Image) => image.meta.id;
const name = (image: Image) => image.meta.name;
const remove = (image: Image) =>
  call(api.DELETE("/images/{id}", { params: { path: { id: image.meta.id } } }));
const KINDS: Record<Image["spec"]["kind"], string> = {
  disk: "disk",
  kernel: "kernel",
  initrd: "initial RAM disk",
  iso: "CD",
};

const COLUMNS: Column<Image>[] = [
  { id: "name", label: "Name", value: name },
  {
    id: "kind",
    label: "Kind",
    value: ({ spec }) => spec.kind,
    cell: ({ spec }) => KINDS[spec.kind],
    width: "w-36",
  },
  { id: "format", label: "Format", value: ({ spec }) => spec.format, width: "w-22" },
  {
    id: "state",
    label: "State",
    value: ({ status }) => status.state,
    cell: ({ status }) => (
      <span title={status.reason ?? undefined}>
        <State state={status.state} />
        {status.reason && <span className="text-dim"> — {status.reason}</span>}
      </span>
    ),
    width: "w-32",
    narrow: true,
  },
  {
    id: "size",
    label: "Size",
    value: ({ status }) => status.size_bytes ?? undefined,
    cell: ({ status }) => bytes(status.size_bytes ?? 0),
    width: "w-26",
    right: true,
  },
  {
    id: "disk",
    label: "Disk size",
    value: ({ spec, status }) =>
      spec.kind === "disk" && status.state === "ready" ? (status.virtual_size_bytes ?? 0) : undefined,
    cell: ({ spec, status }) =>
      spec.kind === "disk" && status.state === "ready" ? bytes(status.virtual_size_bytes ?? 0) : undefined,
    width: "w-26",
    right: true,
  },
  {
    id: "sha",
    label: "SHA-256",
    value: ({ status }) => status.sha256 ?? undefined,
    cell: ({ status }) => status.sha256 && <code title={status.sha256}>{status.sha256.slice(0, 12)}…</code>,
    width: "w-36",
  },
  {
    id: "age",
    label: "Age",
    value: ({ meta }) => -Date.parse(meta.created_at),
    cell: ({ meta }) => age(meta.created_at),
    width: "w-20",
  },
];

type Doing = { what: "rename" | "delete"; image: Image } | { what: "bulk"; images: Image[] };

export function Images() {
  const images = useImages();
  const navigate = useNavigate();
  const { open } = useSearch({ strict: false }) as { open?: string };
  const [doing, setDoing] = useState<Doing>();
  const close = () => setDoing(undefined);
  const denied = useRefusal();
  const why = (image: Image) =>
    denied("storage.write", { kind: "image", id: image.meta.id, labels: image.meta.labels });
  const upload = (on: boolean) =>
    void navigate({ to: ".", search: (old: object) => ({ ...old, open: on ? "upload" : undefined }) });
  const brief = useMemo(
    () =>
      ({ spec, status }: Image) =>
        `${KINDS[spec.kind]} · ${bytes(status.size_bytes ?? 0)}`,
    [],
  );
  return (
    <>
      <Head title="Images" icon={Disc3}>
        <Button
          kind="primary"
          icon={UploadIcon}
          refusal={denied("storage.write")}
          onClick={() => upload(true)}
        >
          Upload image
        </Button>
      </Head>
      <ListView
        nouns="images"
        icon={Disc3}
        query={images}
        columns={COLUMNS}
        id={id}
        name={name}
        order="name"
        brief={brief}
        actions={(image) => (
          <Menu
            label={`Actions for ${image.meta.name}`}
            items={[
              {
                label: "Create virtual machine from it",
                icon: MonitorCog,
                refusal:
                  denied("vm.write") ??
                  (image.spec.kind !== "disk"
                    ? "It is not a disk."
                    : image.status.state !== "ready"
                      ? "It is not ready."
                      : undefined),
                run: () => void navigate({ to: "/vms/new", search: { image: image.meta.id } }),
              },
              {
                label: "Name and labels",
                icon: Pencil,
                refusal: why(image),
                run: () => setDoing({ what: "rename", image }),
              },
              {
                label: "Delete",
                icon: Trash2,
                danger: true,
                apart: true,
                refusal: why(image),
                run: () => setDoing({ what: "delete", image }),
              },
            ]}
          />
        )}
        bulk={(chosen) => (
          <Button small icon={Trash2} onClick={() => setDoing({ what: "bulk", images: chosen })}>
            Delete
          </Button>
        )}
        empty={
          <p>
            Upload a disk (qcow2 or raw) or the CD (ISO) of a system to install. Machines are made from them.
          </p>
        }
      />
      {open === "upload" && <Upload onClose={() => upload(false)} />}
      {doing?.what === "rename" && (
        <Rename
          object={doing.image}
          list="images"
          work={(body) =>
            call(api.PATCH("/images/{id}", { params: { path: { id: id(doing.image) } }, body }))
          }
          onClose={close}
        />
      )}
      {doing?.what === "delete" && (
        <Remove
          name={name(doing.image)}
          list="images"
          work={async () => {
            await remove(doing.image);
            return undefined;
          }}
          onClose={close}
        >
          <p>The image is deleted for good. The host refuses while a disk or a machine needs it.</p>
        </Remove>
      )}
      {doing?.what === "bulk" && (
        <Bulk
          title={`Delete: ${doing.images.length} images`}
          verb="Delete"
          items={doing.images}
          name={name}
          danger
          refusal={why}
          work={remove}
          onClose={close}
        >
          <p>The images are deleted for good. Those that a disk or a machine needs are refused.</p>
        </Bulk>
      )}
    </>
  );
}
