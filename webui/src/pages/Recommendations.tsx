// Balance: how every host is loaded, which machines would better run elsewhere, and who decides about it.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ArrowRight, Scale } from "lucide-react";
import { api, call, type Balance, type Recommendation } from "../api/client";
import { useClusterRefusal, useRefusal } from "../api/rights";
import { Head } from "../components/Page";
import { useFollow } from "../components/shell/Orders";
import { Bar, Button, Card, Empty, Failure, Loading, Select } from "../components/ui";
import { MODES, worth } from "../lib/balance";
import { bytes, time } from "../lib/format";

export function Recommendations() {
  const balance = useQuery({
    queryKey: ["recommendations"],
    queryFn: () => call(api.GET("/cluster/recommendations")),
    refetchInterval: 10_000,
  });
  const { data } = balance;
  return (
    <>
      <Head title="Recommendations" icon={Scale} />
      <Failure error={balance.error} />
      {balance.isPending && <Loading />}
      {data && (
        <div className="flex flex-col gap-4">
          <Card title="Moves">
            {data.items.length === 0 ? (
              <Empty icon={Scale} title="Nothing to move.">
                {data.note
                  ? `${data.note[0]!.toUpperCase()}${data.note.slice(1)}.`
                  : "Every host is loaded alike."}
              </Empty>
            ) : (
              <>
                {data.note && <p className="text-dim">{data.note}</p>}
                <ul aria-label="Recommended moves">
                  {data.items.map((item, n) => (
                    <Item key={item.vm} item={item} first={n === 0} />
                  ))}
                </ul>
              </>
            )}
          </Card>
          <Decision balance={data} />
          <Card title="Promised to machines">
            <ul aria-label="Load of hosts" className="flex flex-col gap-3">
              {data.hosts.map((host) => (
                <li
                  key={host.host}
                  className="grid items-center gap-x-5 gap-y-1 md:grid-cols-[12rem_1fr_1fr]"
                >
                  <span className="font-medium">
                    <Link className="link" to="/hosts/$id" params={{ id: host.host }}>
                      {host.name}
                    </Link>
                    {host.left_alone && <span className="block font-normal text-dim">{host.left_alone}</span>}
                  </span>
                  <Bar
                    share={host.memory_percent / 100}
                    label={`Memory of ${host.name}`}
                    text={`${host.memory_percent} % of memory, ${host.machines} ${host.machines === 1 ? "machine" : "machines"}`}
                  />
                  <Bar
                    share={host.vcpu_percent / 200}
                    label={`Processors of ${host.name}`}
                    text={`${host.vcpu_percent} virtual processors per 100 threads`}
                  />
                </li>
              ))}
            </ul>
          </Card>
        </div>
      )}
    </>
  );
}

function Item({ item, first }: { item: Recommendation; first: boolean }) {
  const follow = useFollow();
  const client = useQueryClient();
  const refusal = useRefusal()("vm.write", { kind: "vm", id: item.vm });
  const move = useMutation({
    mutationFn: () =>
      call(api.POST("/vms/{id}/migrate", { params: { path: { id: item.vm } }, body: { host: item.to } })),
    onSuccess: (task) => follow(`Move ${item.vm_name} to ${item.to_name}`, task),
    onError: (error) => follow(`Move ${item.vm_name} to ${item.to_name}`, error),
    onSettled: () => client.invalidateQueries({ queryKey: ["recommendations"] }),
  });
  return (
    <li className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t">
      <span className="min-w-40 font-medium">
        <Link className="link" to="/vms/$id" params={{ id: item.vm }}>
          {item.vm_name}
        </Link>
      </span>
      <span className="flex items-center gap-2">
        {item.from_name} <ArrowRight size={14} aria-label="to" /> {item.to_name}
      </span>
      <span className="text-dim">
        {worth(item)}, {bytes(item.memory_bytes)} over the network
      </span>
      <span className="ml-auto">
        <Button
          small
          kind={first ? "primary" : "plain"}
          refusal={refusal}
          busy={move.isPending}
          aria-label={`Move ${item.vm_name} to ${item.to_name}`}
          onClick={() => move.mutate()}
        >
          Move
        </Button>
      </span>
      <span className="w-full text-dim">{item.reason}</span>
    </li>
  );
}

function Decision({ balance }: { balance: Balance }) {
  const client = useQueryClient();
  const follow = useFollow();
  const refusal = useClusterRefusal()("cluster.write");
  const set = useMutation({
    mutationFn: (body: Balance["spec"]) => call(api.PUT("/cluster/balance", { body })),
    onError: (error) => follow("Set balancing", error),
    onSettled: () => client.invalidateQueries({ queryKey: ["recommendations"] }),
  });
  const { spec } = balance;
  return (
    <Card title="Who decides">
      <div className="grid gap-4 md:grid-cols-2">
        <Select
          label="Balancing"
          value={spec.mode ?? "advise"}
          options={MODES}
          disabled={refusal !== undefined || set.isPending}
          {...(refusal !== undefined && { hint: refusal })}
          onValue={(mode) => set.mutate({ ...spec, mode: mode as NonNullable<typeof spec.mode> })}
        />
        <Select
          label="Machines moved at a time"
          value={String(spec.at_once ?? 2)}
          options={[1, 2, 3, 4, 5, 6, 7, 8].map((n) => [String(n), String(n)] as const)}
          disabled={refusal !== undefined || set.isPending}
          {...(refusal !== undefined && { hint: refusal })}
          onValue={(n) => set.mutate({ ...spec, at_once: Number(n) })}
        />
      </div>
      {balance.rests_until && (
        <p className="mt-3 text-dim">Nothing is moved by itself before {time(balance.rests_until)}.</p>
      )}
    </Card>
  );
}
