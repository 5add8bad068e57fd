// The storage of a host: pools it has or reaches, what is in them, and files in them that belong to no object.
import { Link } from "@tanstack/react-router";
import { Database } from "lucide-react";
import { usePools, useVms, useVolumes } from "../../api/queries";
import { Rows } from "../../components/Rows";
import { Card, Empty, Facts, Fact, Failure, Loading, State } from "../../components/ui";
import { bytes } from "../../lib/format";
import { onHost } from "../../lib/pools";
import { Foreign } from "../pools/Foreign";
import { Inside, Room, Standing } from "../pools/parts";
import { useHostId } from "./Layout";

/** Volumes listed; the rest is behind a link. */
const SHOWN = 50;

export function HostStorage() {
  const id = useHostId();
  const pools = usePools();
  const ours = (pools.data ?? []).filter((pool) => onHost(pool, id));
  return (
    <>
      <Failure error={pools.error} />
      {pools.isPending && <Loading />}
      {pools.data && ours.length === 0 && (
        <Empty icon={Database} title="This host has no pool.">
          A shared pool that is made is mounted by every host.
        </Empty>
      )}
      {ours.map((pool) => {
        const here = pool.hosts?.find(({ host }) => host === id);
        return (
          <Card
            key={pool.meta.id}
            title={pool.meta.name}
            actions={
              <Link className="link text-sm" to="/pools/$id" params={{ id: pool.meta.id }}>
                Pool {pool.meta.name}
              </Link>
            }
          >
            <div className="flex flex-col gap-4">
              <Room pool={pool} />
              <Facts>
                <Fact name="Kind">{pool.spec.driver === "dir" ? "own directory" : "NFS, shared"}</Fact>
                <Fact name="From here">
                  {here ? (
                    <>
                      <State state={here.state === "unreachable" ? "failed" : here.state} word={here.state} />
                      {here.reason && <span className="block text-dim">{here.reason}</span>}
                    </>
                  ) : (
                    <Standing pool={pool} />
                  )}
                </Fact>
                <Inside pool={pool} />
              </Facts>
              {pool.spec.driver === "dir" && <Volumes pool={pool.meta.id} name={pool.meta.name} />}
              <Foreign pool={pool} />
            </div>
          </Card>
        );
      })}
    </>
  );
}

function Volumes({ pool, name }: { pool: string; name: string }) {
  const all = (useVolumes().data ?? []).filter(({ spec }) => spec.pool === pool);
  const vms = useVms().data ?? [];
  if (all.length === 0) return null;
  return (
    <>
      <Rows
        label={`Volumes in ${name}`}
        head={["Volume", "Size", "State", "Machine"]}
        rows={all.slice(0, SHOWN).map((volume) => {
          const vm = vms.find(({ spec }) => spec.disks?.some((disk) => disk.volume === volume.meta.id));
          return [
            <Link key="name" className="link" to="/volumes" search={{ q: volume.meta.name }}>
              {volume.meta.name}
            </Link>,
            bytes(volume.status.size_bytes ?? volume.spec.size_bytes ?? 0),
            <State key="state" state={volume.status.state} />,
            vm ? (
              <Link key="vm" className="link" to="/vms/$id" params={{ id: vm.meta.id }}>
                {vm.meta.name}
              </Link>
            ) : (
              <span key="vm" className="text-dim">
                none
              </span>
            ),
          ];
        })}
      />
      {all.length > SHOWN && (
        <p>
          <Link className="link" to="/volumes" search={{ q: `pool:${name}` }}>
            and {all.length - SHOWN} more
          </Link>
        </p>
      )}
    </>
  );
}
