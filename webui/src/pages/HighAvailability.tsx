// High availability: who is watched, which machines are started again elsewhere, in which order, and what is wrong with that.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ShieldCheck, ShieldOff } from "lucide-react";
import { useState } from "react";
import { api, call, type HaHost, type HaMachine } from "../api/client";
import { useClusterRefusal, useRefusal } from "../api/rights";
import { Confirm } from "../components/Dialog";
import { Head } from "../components/Page";
import { useFollow } from "../components/shell/Orders";
import { Button, Card, Empty, Fact, Facts, Failure, Loading, State, Warning } from "../components/ui";
import { HOST_STATES, MACHINE_STATES, PRIORITIES, inOrder, protection, seconds } from "../lib/ha";

export function HighAvailability() {
  const ha = useQuery({
    queryKey: ["ha"],
    queryFn: () => call(api.GET("/cluster/ha")),
    refetchInterval: 5_000,
  });
  const client = useQueryClient();
  const follow = useFollow();
  const refusal = useClusterRefusal()("cluster.write");
  const [asking, setAsking] = useState(false);
  const arm = useMutation({
    mutationFn: (armed: boolean) => call(api.PUT("/cluster/ha", { body: { armed } })),
    onSuccess: (_, armed) => {
      follow(armed ? "Arm high availability" : "Disarm high availability", "done");
      setAsking(false);
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["ha"] }),
  });
  const { data } = ha;
  const state = data && protection(data);
  const name = (id?: string | null) => data?.hosts.find(({ host }) => host === id)?.name;
  return (
    <>
      <Head
        title="High availability"
        icon={ShieldCheck}
        beside={state && <State state={state.ok ? "up" : "down"} word={state.word} />}
      >
        {data &&
          (data.spec.armed ? (
            <Button icon={ShieldOff} refusal={refusal} onClick={() => (arm.reset(), setAsking(true))}>
              Disarm
            </Button>
          ) : (
            <Button
              kind="primary"
              icon={ShieldCheck}
              refusal={refusal}
              busy={arm.isPending}
              onClick={() => arm.mutate(true)}
            >
              Arm
            </Button>
          ))}
      </Head>
      <Failure error={ha.error ?? (asking ? undefined : arm.error)} />
      {ha.isPending && <Loading />}
      {data && (
        <div className="flex flex-col gap-4">
          {data.warnings?.map((warning) => (
            <Warning key={warning}>{warning}</Warning>
          ))}
          <Card title="Watch">
            <Facts>
              <Fact name="Machines of a lost host">
                {data.spec.armed ? "are started elsewhere" : "wait for their host"}
              </Fact>
              <Fact name="Watched by">{name(data.watched_by) ?? "nobody"}</Fact>
              <Fact name="Protected machines">{data.machines.length}</Fact>
            </Facts>
          </Card>
          <Card title="Hosts">
            <ul aria-label="Hosts that are watched">
              {data.hosts.map((host) => (
                <WatchedHost key={host.host} host={host} />
              ))}
            </ul>
          </Card>
          <Card title="Protected machines">
            {data.machines.length === 0 ? (
              <Empty icon={ShieldCheck} title="No machine is protected.">
                A machine is protected when its hardware says so: it then has a priority.
              </Empty>
            ) : (
              <ul aria-label="Protected machines, in the order they are started in">
                {inOrder(data.machines).map((machine) => (
                  <Machine key={machine.vm} machine={machine} host={name(machine.host)} />
                ))}
              </ul>
            )}
          </Card>
        </div>
      )}
      {asking && (
        <Confirm
          title="Disarm high availability?"
          verb="Disarm"
          busy={arm.isPending}
          error={arm.error}
          onConfirm={() => arm.mutate(false)}
          onClose={() => setAsking(false)}
        >
          <p>Machines of a host that is lost meanwhile wait for it, or until this is armed again.</p>
          <p>Leases go on: what runs goes on running as it is.</p>
        </Confirm>
      )}
    </>
  );
}

function WatchedHost({ host }: { host: HaHost }) {
  const { dot, word } = HOST_STATES[host.state];
  const [asking, setAsking] = useState(false);
  return (
    <li className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t">
      <span className="min-w-40 font-medium">
        <Link className="link" to="/hosts/$id" params={{ id: host.host }}>
          {host.name}
        </Link>
      </span>
      <span className="w-44">
        <State state={dot} word={word} />
      </span>
      <span className="w-44 text-dim">
        {host.heard_ms_ago == null ? "not heard" : `heard ${seconds(host.heard_ms_ago)} ago`}
      </span>
      {host.over_in_ms != null && host.state !== "lost" && (
        <span className="text-dim">given up in {seconds(host.over_in_ms)} without a beat</span>
      )}
      {host.watchdog && (
        <span className="text-dim">
          {host.watchdog.hardware ? "hardware" : "software"} watchdog, {host.watchdog.seconds} s
        </span>
      )}
      {(host.state === "silent" || host.state === "lost") && (
        <Button small onClick={() => setAsking(true)} aria-label={`${host.name} is off`}>
          It is off…
        </Button>
      )}
      {(host.reason ?? host.fence ?? host.degraded) && (
        <span className="w-full text-dim">
          {[host.reason, host.fence, host.degraded].filter(Boolean).join("; ")}
        </span>
      )}
      {asking && <ConfirmOff host={host} onClose={() => setAsking(false)} />}
    </li>
  );
}

/** Somebody stands before it, or has cut its power: nothing has to be waited for. */
function ConfirmOff({ host: { host: id, name }, onClose }: { host: HaHost; onClose: () => void }) {
  const client = useQueryClient();
  const follow = useFollow();
  const confirm = useMutation({
    mutationFn: () => call(api.POST("/hosts/{id}/confirm-off", { params: { path: { id } } })),
    onSuccess: () => {
      follow(`Confirm that ${name} is off`, "done");
      onClose();
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["ha"] }),
  });
  return (
    <Confirm
      title={`Is ${name} off for certain?`}
      verb="It is off"
      name={name}
      busy={confirm.isPending}
      error={confirm.error}
      refusal={useClusterRefusal()("cluster.write")}
      onConfirm={() => confirm.mutate()}
      onClose={onClose}
    >
      <p>
        Its protected machines are started elsewhere at once; its lease and the margins are not waited for.
      </p>
      <p className="font-medium">
        If it still runs, they run twice and destroy their disks. Look at its power light first.
      </p>
    </Confirm>
  );
}

function Machine({ machine, host }: { machine: HaMachine; host: string | undefined }) {
  const { dot, word } = MACHINE_STATES[machine.state];
  return (
    <li className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t">
      <span className="min-w-40 font-medium">
        <Link className="link" to="/vms/$id" params={{ id: machine.vm }}>
          {machine.name}
        </Link>
      </span>
      <span className="w-52">
        <State state={dot} word={word} />
      </span>
      <Priority machine={machine} />
      <span className="text-dim">{host ?? "on no host"}</span>
      {machine.reason && <span className="w-full text-dim">{machine.reason}</span>}
    </li>
  );
}

/** Its place in the order, which is a part of what is wanted of the machine. */
function Priority({ machine }: { machine: HaMachine }) {
  const client = useQueryClient();
  const follow = useFollow();
  const refusal = useRefusal()("vm.write", { kind: "vm", id: machine.vm });
  const change = useMutation({
    mutationFn: async (priority: HaMachine["priority"]) => {
      const path = { id: machine.vm };
      // Only this is changed, of the machine as it is now.
      const vm = await call(api.GET("/vms/{id}", { params: { path } }));
      return call(
        api.PATCH("/vms/{id}", {
          params: { path },
          headers: { "If-Match": `"${vm.meta.revision}"` },
          body: { spec: { ...vm.spec, ha: { priority } } },
        }),
      );
    },
    onSuccess: (fresh) => {
      client.setQueryData(["vm", machine.vm], fresh);
      follow(`Change the priority of ${machine.name}`, "done");
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["ha"] }),
  });
  return (
    <span className="w-44">
      <select
        className="input"
        aria-label={`Priority of ${machine.name}`}
        title={refusal}
        disabled={refusal !== undefined || change.isPending}
        value={change.isPending ? change.variables : machine.priority}
        onChange={(event) => change.mutate(event.target.value as HaMachine["priority"])}
      >
        {PRIORITIES.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
      <Failure error={change.error} />
    </span>
  );
}
