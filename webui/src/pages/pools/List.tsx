// Storage pools: where volumes and images are kept, how much room is left, and which hosts reach them.
import { Link } from "@tanstack/react-router";
import { Database, Plus } from "lucide-react";
import { useState } from "react";
import { useHosts, useNames, usePools } from "../../api/queries";
import { useRefusal } from "../../api/rights";
import { Head } from "../../components/Page";
import { Button, Card, Empty, Fact, Facts, Failure, Loading } from "../../components/ui";
import { place } from "../../lib/pools";
import { CreatePoolDialog } from "./Create";
import { Inside, PoolMenu, Room, Standing } from "./parts";

export function Pools() {
  const pools = usePools();
  const host = useNames(useHosts());
  const denied = useRefusal();
  const [making, setMaking] = useState(false);
  return (
    <>
      <Head title="Storage pools" icon={Database}>
        <Button kind="primary" icon={Plus} refusal={denied("storage.write")} onClick={() => setMaking(true)}>
          Add shared pool
        </Button>
      </Head>
      <Failure error={pools.error} />
      {pools.isPending && <Loading />}
      {pools.data?.length === 0 && <Empty icon={Database} title="There is no storage pool." />}
      <div className="grid gap-4 lg:grid-cols-2 2xl:grid-cols-3">
        {pools.data?.map((pool) => (
          <Card key={pool.meta.id} title={pool.meta.name} actions={<PoolMenu pool={pool} />}>
            <div className="flex flex-col gap-4">
              <Room pool={pool} />
              <Facts>
                <Fact name="Kind">{pool.spec.driver === "dir" ? "files in a directory" : "NFS, shared"}</Fact>
                <Fact name="Place">
                  {pool.spec.driver === "dir" ? (
                    <Link className="link" to="/hosts/$id" params={{ id: pool.spec.host }}>
                      {host(pool.spec.host) ?? pool.spec.host}
                    </Link>
                  ) : (
                    <code className="wrap-anywhere">{place(pool, host)}</code>
                  )}
                </Fact>
                <Fact name="State">
                  <span className="inline-flex flex-wrap items-center gap-x-3">
                    <Standing pool={pool} />
                    <Link className="link" to="/pools/$id" params={{ id: pool.meta.id }}>
                      Details<span className="sr-only"> of {pool.meta.name}</span>
                    </Link>
                  </span>
                </Fact>
                <Inside pool={pool} />
              </Facts>
            </div>
          </Card>
        ))}
      </div>
      {making && <CreatePoolDialog onClose={() => setMaking(false)} />}
    </>
  );
}
