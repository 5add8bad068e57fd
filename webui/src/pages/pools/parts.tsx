// What the list and the page of a pool share.
import { Link } from "@tanstack/react-router";
import { Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, call, type Pool } from "../../api/client";
import { useImages, useVolumes } from "../../api/queries";
import { useRefusal } from "../../api/rights";
import { Remove } from "../../components/Remove";
import { Rename } from "../../components/Rename";
import { Bar, Fact, Menu, State } from "../../components/ui";
import { bytes } from "../../lib/format";
import { standing } from "../../lib/pools";

/** Used and free room. */
export function Room({ pool: { status } }: { pool: Pool }) {
  if (!status) return <p className="text-dim">No host that reaches it can be asked.</p>;
  const used = status.capacity_bytes - status.free_bytes;
  return (
    <Bar
      label="Used"
      share={1 - status.free_bytes / Math.max(1, status.capacity_bytes)}
      text={`${bytes(used)} of ${bytes(status.capacity_bytes)}, ${bytes(status.free_bytes)} free`}
    />
  );
}

export function Standing({ pool }: { pool: Pool }) {
  const how = standing(pool);
  return how ? <State {...how} /> : <State state="ready" />;
}

/** What is in it. */
export function Inside({ pool: { meta } }: { pool: Pool }) {
  const volumes = (useVolumes().data ?? []).filter(({ spec }) => spec.pool === meta.id);
  const images = (useImages().data ?? []).filter(({ spec }) => spec.pool === meta.id);
  const promised = volumes.reduce((sum, { status }) => sum + (status.size_bytes ?? 0), 0);
  return (
    <>
      <Fact name="Volumes">
        <Link className="link" to="/volumes" search={{ q: `pool:${meta.name}` }}>
          {volumes.length}
        </Link>
        <span className="text-dim">, {bytes(promised)} promised to guests</span>
      </Fact>
      <Fact name="Images">
        <Link className="link" to="/images">
          {images.length}
        </Link>
      </Fact>
    </>
  );
}

/** What can be done to a pool. */
export function PoolMenu({ pool, onGone }: { pool: Pool; onGone?: () => void }) {
  const [doing, setDoing] = useState<"rename" | "delete">();
  const close = () => setDoing(undefined);
  const denied = useRefusal();
  const { id, name, labels, revision } = pool.meta;
  const path = { params: { path: { id } } };
  const own = "It is a host’s own directory, which is there as long as the host.";
  return (
    <>
      <Menu
        label={`Actions for ${name}`}
        items={[
          {
            label: "Name and labels",
            icon: Pencil,
            refusal: denied("storage.write", { kind: "pool", id, labels }),
            run: () => setDoing("rename"),
          },
          {
            label: "Delete",
            icon: Trash2,
            danger: true,
            apart: true,
            refusal: pool.spec.driver === "dir" ? own : denied("storage.write"),
            run: () => setDoing("delete"),
          },
        ]}
      />
      {doing === "rename" && (
        <Rename
          object={pool}
          list="pools"
          work={(body) =>
            call(api.PATCH("/pools/{id}", { ...path, headers: { "If-Match": `"${revision}"` }, body }))
          }
          onClose={close}
        />
      )}
      {doing === "delete" && (
        <Remove
          name={name}
          list="pools"
          work={async () => {
            const task = await call(api.DELETE("/pools/{id}", path));
            onGone?.();
            return task;
          }}
          onClose={close}
        >
          <p>
            Every host unmounts it. It is refused while something is in it; what else is in the export stays
            there.
          </p>
        </Remove>
      )}
    </>
  );
}
