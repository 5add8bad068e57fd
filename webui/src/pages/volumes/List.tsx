// Every volume: the disks of machines.
import { Link } from "@tanstack/react-router";
import { Expand, HardDrive, Pencil, Plus, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, type Volume } from "../../api/client";
import { useImages, usePools, useVms, useVolumes } from "../../api/queries";
import { useRefusal } from "../../api/rights";
import { Bulk } from "../../components/Bulk";
import { Head } from "../../components/Page";
import { Remove } from "../../components/Remove";
import { Rename } from "../../components/Rename";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Button, Menu, State } from "../../components/ui";
import { age, bytes } from "../../lib/format";
import { settle } from "../../lib/settle";
import { CreateVolumeDialog, Grow } from "./dialogs";

const id = (volume: Volume) => volume.meta.id;
const name = (volume: Volume) => volume.meta.name;
const remove = (volume: Volume) =>
  call(api.DELETE("/volumes/{id}", { params: { path: { id: volume.meta.id } } }));
const inUse = (volume: Volume) =>
  volume.status.attached_to ? "It belongs to a machine: detach it there first." : undefined;

type Doing =
  | { what: "grow" | "rename" | "delete"; volume: Volume }
  | { what: "create" }
  | { what: "bulk"; volumes: Volume[] };

export function Volumes() {
  const volumes = useVolumes();
  const vms = useVms().data;
  const images = useImages().data;
  const pools = usePools().data;
  const [doing, setDoing] = useState<Doing>();
  const close = () => setDoing(undefined);
  const denied = useRefusal();
  const why = (volume: Volume) =>
    denied("storage.write", { kind: "volume", id: volume.meta.id, labels: volume.meta.labels });
  const columns = useMemo((): Column<Volume>[] => {
    const names = new Map(
      [...(vms ?? []), ...(images ?? []), ...(pools ?? [])].map(({ meta }) => [meta.id as string, meta.name]),
    );
    const named = (of: string | null | undefined) => (of ? (names.get(of) ?? of) : undefined);
    return [
      { id: "name", label: "Name", value: name },
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
        id: "vm",
        label: "Virtual machine",
        value: ({ status }) => named(status.attached_to),
        cell: ({ status }) =>
          status.attached_to && (
            <Link className="link" to="/vms/$id" params={{ id: status.attached_to }}>
              {named(status.attached_to)}
            </Link>
          ),
        width: "w-[18%]",
      },
      {
        id: "size",
        label: "Size",
        value: ({ status }) => status.size_bytes ?? 0,
        cell: ({ status }) => bytes(status.size_bytes ?? 0),
        width: "w-26",
        right: true,
      },
      { id: "format", label: "Format", value: ({ spec }) => spec.format, width: "w-22" },
      { id: "source", label: "Copy of", value: ({ spec }) => named(spec.source), width: "w-[16%]" },
      { id: "pool", label: "Pool", value: ({ spec }) => named(spec.pool), width: "w-24" },
      {
        id: "age",
        label: "Age",
        value: ({ meta }) => -Date.parse(meta.created_at),
        cell: ({ meta }) => age(meta.created_at),
        width: "w-20",
      },
    ];
  }, [vms, images, pools]);
  return (
    <>
      <Head title="Volumes" icon={HardDrive}>
        <Button
          kind="primary"
          icon={Plus}
          refusal={denied("storage.write")}
          onClick={() => setDoing({ what: "create" })}
        >
          Create volume
        </Button>
      </Head>
      <ListView
        nouns="volumes"
        icon={HardDrive}
        query={volumes}
        columns={columns}
        id={id}
        name={name}
        order="name"
        brief={({ status, spec }) => `${bytes(status.size_bytes ?? 0)} · ${spec.format}`}
        actions={(volume) => (
          <Menu
            label={`Actions for ${volume.meta.name}`}
            items={[
              {
                label: "Grow",
                icon: Expand,
                refusal: why(volume),
                run: () => setDoing({ what: "grow", volume }),
              },
              {
                label: "Name and labels",
                icon: Pencil,
                refusal: why(volume),
                run: () => setDoing({ what: "rename", volume }),
              },
              {
                label: "Delete",
                icon: Trash2,
                danger: true,
                apart: true,
                refusal: why(volume) ?? inUse(volume),
                run: () => setDoing({ what: "delete", volume }),
              },
            ]}
          />
        )}
        bulk={(chosen) => (
          <Button small icon={Trash2} onClick={() => setDoing({ what: "bulk", volumes: chosen })}>
            Delete
          </Button>
        )}
        empty={<p>A machine’s disks appear here; you can also make one by hand and attach it later.</p>}
      />
      {doing?.what === "create" && <CreateVolumeDialog onClose={close} />}
      {doing?.what === "grow" && <Grow volume={doing.volume} onClose={close} />}
      {doing?.what === "rename" && (
        <Rename
          object={doing.volume}
          list="volumes"
          work={(body) =>
            call(api.PATCH("/volumes/{id}", { params: { path: { id: id(doing.volume) } }, body }))
          }
          onClose={close}
        />
      )}
      {doing?.what === "delete" && (
        <Remove name={name(doing.volume)} list="volumes" work={() => remove(doing.volume)} onClose={close}>
          <p>The volume and all that is on it are deleted for good.</p>
        </Remove>
      )}
      {doing?.what === "bulk" && (
        <Bulk
          title={`Delete: ${doing.volumes.length} volumes`}
          verb="Delete"
          items={doing.volumes}
          name={name}
          danger
          refusal={(volume) => why(volume) ?? inUse(volume)}
          work={async (volume) => settle(await remove(volume))}
          onClose={close}
        >
          <p>The volumes and all that is on them are deleted for good.</p>
        </Bulk>
      )}
    </>
  );
}
