// One pool: its place, its room, and how each host stands to it.
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { Database } from "lucide-react";
import { useHosts, useNames, usePool } from "../../api/queries";
import { EventList } from "../../components/EventList";
import { Await, Head } from "../../components/Page";
import { Card, Fact, Facts, State } from "../../components/ui";
import { age, time } from "../../lib/format";
import { place } from "../../lib/pools";
import { Foreign } from "./Foreign";
import { Inside, PoolMenu, Room, Standing } from "./parts";

export function PoolPage() {
  const { id } = useParams({ strict: false }) as { id: string };
  const pool = usePool(id);
  const host = useNames(useHosts());
  const navigate = useNavigate();
  return (
    <Await
      query={pool}
      icon={Database}
      gone={{ title: "There is no such pool.", to: "/pools", label: "Pools" }}
    >
      {(pool) => (
        <>
          <Head
            title={pool.meta.name}
            icon={Database}
            up={{ to: "/pools", label: "Storage pools" }}
            beside={<Standing pool={pool} />}
          >
            <PoolMenu pool={pool} onGone={() => void navigate({ to: "/pools" })} />
          </Head>
          <div className="grid gap-4 xl:grid-cols-2">
            <Card title="General">
              <div className="flex flex-col gap-4">
                <Room pool={pool} />
                <Facts>
                  <Fact name="Kind">
                    {pool.spec.driver === "dir" ? "files in a directory" : "NFS, shared"}
                  </Fact>
                  <Fact name="Place">
                    <code className="wrap-anywhere">{place(pool, host)}</code>
                  </Fact>
                  {pool.spec.driver === "nfs" && (
                    <Fact name="Protocol">
                      NFS {pool.spec.version}, port {pool.spec.port}
                    </Fact>
                  )}
                  <Inside pool={pool} />
                  <Fact name="Id">
                    <code>{pool.meta.id}</code>
                  </Fact>
                </Facts>
              </div>
            </Card>
            {pool.spec.driver === "nfs" && (
              <Card title="Hosts">
                <ul className="flex flex-col gap-3">
                  {(pool.hosts ?? []).map((on) => (
                    <li key={on.host} className="flex flex-wrap items-baseline gap-x-3">
                      <Link className="link" to="/hosts/$id" params={{ id: on.host }}>
                        {host(on.host) ?? on.host}
                      </Link>
                      <State state={on.state === "unreachable" ? "failed" : on.state} word={on.state} />
                      <span className="text-sm text-dim" title={time(on.since)}>
                        for {age(on.since)}
                      </span>
                      {on.reason && <p className="w-full text-sm wrap-anywhere text-dim">{on.reason}</p>}
                    </li>
                  ))}
                  {(pool.hosts ?? []).length === 0 && (
                    <li className="text-dim">No host has mounted it yet.</li>
                  )}
                </ul>
              </Card>
            )}
            {(pool.foreign ?? []).length > 0 && (
              <div className="xl:col-span-2">
                <Foreign pool={pool} />
              </div>
            )}
            <div className="xl:col-span-2">
              <Card title="Events">
                <EventList target={`pool/${id}`} limit={50} />
              </Card>
            </div>
          </div>
        </>
      )}
    </Await>
  );
}
