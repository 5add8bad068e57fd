// Storage pools: where volumes and images are kept, and how much room is left.
import { Link } from "@tanstack/react-router";
import { Database } from "lucide-react";
import { useHosts, useImages, useNames, usePools, useVolumes } from "../api/queries";
import { Head } from "../components/Page";
import { Bar, Card, Empty, Fact, Facts, Failure, Loading } from "../components/ui";
import { bytes } from "../lib/format";

export function Pools() {
  const pools = usePools();
  const host = useNames(useHosts());
  const volumes = useVolumes().data ?? [];
  const images = useImages().data ?? [];
  return (
    <>
      <Head title="Storage pools" icon={Database} />
      <Failure error={pools.error} />
      {pools.isPending && <Loading />}
      {pools.data?.length === 0 && <Empty icon={Database} title="There is no storage pool." />}
      <div className="grid gap-4 lg:grid-cols-2 2xl:grid-cols-3">
        {pools.data?.map(({ meta, spec, status }) => {
          const inIt = volumes.filter((volume) => volume.spec.pool === meta.id);
          const promised = inIt.reduce((sum, volume) => sum + (volume.status.size_bytes ?? 0), 0);
          return (
            <Card key={meta.id} title={meta.name}>
              <div className="flex flex-col gap-4">
                {status ? (
                  <Bar
                    label="Used"
                    share={1 - status.free_bytes / Math.max(1, status.capacity_bytes)}
                    text={`${bytes(status.capacity_bytes - status.free_bytes)} of ${bytes(status.capacity_bytes)}, ${bytes(status.free_bytes)} free`}
                  />
                ) : (
                  <p className="text-dim">Its host cannot be asked.</p>
                )}
                <Facts>
                  <Fact name="Kind">files in a directory</Fact>
                  <Fact name="Host">
                    <Link className="link" to="/hosts/$id" params={{ id: spec.host }}>
                      {host(spec.host) ?? spec.host}
                    </Link>
                  </Fact>
                  <Fact name="Volumes">
                    <Link className="link" to="/volumes" search={{ q: `pool:${meta.name}` }}>
                      {inIt.length}
                    </Link>
                    <span className="text-dim">, {bytes(promised)} promised to guests</span>
                  </Fact>
                  <Fact name="Images">
                    <Link className="link" to="/images">
                      {images.filter((image) => image.spec.pool === meta.id).length}
                    </Link>
                  </Fact>
                </Facts>
              </div>
            </Card>
          );
        })}
      </div>
    </>
  );
}
