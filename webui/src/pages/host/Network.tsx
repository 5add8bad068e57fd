// The networks of a host: its interfaces, and the management network, whose changes are on trial until they are kept.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Activity, Check as Tick, Pencil, Undo2 } from "lucide-react";
import { useEffect, useState } from "react";
import { api, call, fieldFault, type ManagementNetwork, type NetworkTest } from "../../api/client";
import { useClusterRefusal } from "../../api/rights";
import { FormDialog } from "../../components/Dialog";
import { Rows } from "../../components/Rows";
import {
  Button,
  Card,
  Dot,
  Fact,
  Facts,
  Failure,
  Loading,
  Select,
  State,
  Text,
  Warning,
} from "../../components/ui";
import {
  addressOf,
  hostNetwork,
  networkFault,
  networkForm,
  networkText,
  type NetworkForm,
} from "../../lib/management";
import { WithHost, useHostId } from "./Layout";

export function HostNetworks() {
  const id = useHostId();
  return (
    <>
      <Management key={id} id={id} />
      <WithHost>
        {(_, status) => (
          <Card title="Network interfaces">
            <Rows
              label="Network interfaces"
              head={["Name", "Link", "Hardware address", "Addresses"]}
              rows={status.interfaces.map((nic) => [
                nic.name,
                <span key="link" className="flex items-center gap-2">
                  <Dot state={nic.up ? "up" : "down"} /> {nic.up ? "up" : "down"}
                </span>,
                <code key="mac">{nic.mac}</code>,
                nic.addresses.join(", ") || "–",
              ])}
            />
          </Card>
        )}
      </WithHost>
    </>
  );
}

function Management({ id }: { id: string }) {
  const refusal = useClusterRefusal()("cluster.write");
  const [changing, setChanging] = useState(false);
  const network = useQuery({
    queryKey: ["host-network", id],
    queryFn: () => call(api.GET("/hosts/{id}/network", { params: { path: { id } } })),
    refetchInterval: (query) => (query.state.data?.trial ? 2000 : 15_000),
  });
  const test = useMutation({
    mutationFn: () => call(api.POST("/hosts/{id}/network/test", { params: { path: { id } } })),
  });
  const { data } = network;
  return (
    <Card
      title="Management network"
      actions={
        <>
          <Button small icon={Activity} busy={test.isPending} onClick={() => test.mutate()}>
            Test
          </Button>
          <Button
            small
            icon={Pencil}
            refusal={refusal ?? (data?.trial ? "Keep or take back the change on trial first." : undefined)}
            onClick={() => setChanging(true)}
          >
            Change
          </Button>
        </>
      }
    >
      <div className="flex flex-col gap-4">
        <Failure error={network.error} />
        {network.isPending && <Loading />}
        {data && (
          <>
            {data.trial && <Trial id={id} trial={data.trial} at={network.dataUpdatedAt} refusal={refusal} />}
            {data.note && !data.trial && <Warning>{data.note}</Warning>}
            <Facts>
              <Fact name={data.trial ? "At the next start" : "Settings"}>{networkText(data.kept)}</Fact>
              <Fact name="Name servers">{data.kept.dns?.join(", ") || "those of DHCP"}</Fact>
              <Fact name="Interface">
                {data.kept.interface ? <code>{data.kept.interface}</code> : "the first with a link"}
                {data.uplink && <span className="text-dim">, in use: {data.uplink}</span>}
              </Fact>
            </Facts>
          </>
        )}
        <Failure error={test.error} />
        {test.data && <Tested test={test.data} />}
      </div>
      {changing && data && <Change id={id} network={data} onClose={() => setChanging(false)} />}
    </Card>
  );
}

function Tested({ test }: { test: NetworkTest }) {
  const how = (good: boolean, yes: string, no: string) => (
    <State state={good ? "up" : "failed"} word={good ? yes : no} />
  );
  return (
    <div role="status" aria-label="Result of the test">
      <Facts>
        <Fact name="Address">{test.address ?? how(false, "", "it has none")}</Fact>
        <Fact name="Gateway">
          {test.gateway ? (
            <>
              {test.gateway} {how(test.gateway_answers !== false, "answers", "does not answer")}
            </>
          ) : (
            "none: the host reaches its own network only"
          )}
        </Fact>
        <Fact name="API">{how(test.api_answers, "answers", "does not answer")}</Fact>
      </Facts>
    </div>
  );
}

/** Seconds left, counted here between two answers of the host. */
function useLeft(seconds: number, at: number): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  return Math.max(0, Math.round(seconds - Math.max(0, now - at) / 1000));
}

function Trial({
  id,
  trial,
  at,
  refusal,
}: {
  id: string;
  trial: NonNullable<ManagementNetwork["trial"]>;
  /** When the host said how much time is left. */
  at: number;
  refusal: string | undefined;
}) {
  const client = useQueryClient();
  const left = useLeft(trial.seconds_left, at);
  const settle = (verb: "keep" | "revert") =>
    call(api.POST(`/hosts/{id}/network/${verb}`, { params: { path: { id } } }));
  const end = useMutation({
    mutationFn: settle,
    onSuccess: (now) => client.setQueryData(["host-network", id], now),
    onSettled: () => client.invalidateQueries({ queryKey: ["hosts"] }),
  });
  const address = addressOf(trial.network);
  return (
    <div
      className="flex flex-col gap-3 rounded-md bg-warn-soft p-4"
      role="group"
      aria-label="Change on trial"
    >
      <p className="text-warn">
        <strong>On trial: {networkText(trial.network)}.</strong> It is taken back in{" "}
        <span className="tabular-nums">{left} s</span> unless you keep it.
      </p>
      <p>
        If this page loses the host,{" "}
        {address ? (
          <>
            open{" "}
            <a className="link" href={`https://${address}/hosts/${id}/networks`}>
              https://{address}/
            </a>{" "}
            and keep it there.
          </>
        ) : (
          <>look at its console for the address it has now, and keep it there.</>
        )}{" "}
        If that fails as well, wait: the old settings come back.
      </p>
      <Failure error={end.error} />
      <div className="flex flex-wrap gap-2">
        <Button
          kind="primary"
          icon={Tick}
          refusal={refusal}
          busy={end.isPending && end.variables === "keep"}
          onClick={() => end.mutate("keep")}
        >
          Keep
        </Button>
        <Button
          icon={Undo2}
          refusal={refusal}
          busy={end.isPending && end.variables === "revert"}
          onClick={() => end.mutate("revert")}
        >
          Take back
        </Button>
      </div>
    </div>
  );
}

function Change({ id, network, onClose }: { id: string; network: ManagementNetwork; onClose: () => void }) {
  const client = useQueryClient();
  const [form, setForm] = useState(() => networkForm(network.kept));
  const [seconds, setSeconds] = useState("60");
  const [early, setEarly] = useState<ReturnType<typeof networkFault>>();
  const set = (change: Partial<NetworkForm>) => (setEarly(undefined), setForm({ ...form, ...change }));
  const change = useMutation({
    mutationFn: () =>
      call(
        api.PUT("/hosts/{id}/network", {
          params: { path: { id } },
          body: { network: hostNetwork(form), seconds: Number(seconds) },
        }),
      ),
    onSuccess: (now) => {
      client.setQueryData(["host-network", id], now);
      onClose();
    },
  });
  const fault = (field: keyof NetworkForm) =>
    early?.field === field ? early.reason : fieldFault(change.error, `network.${field}`);
  const submit = () => {
    const wrong = networkFault(form);
    setEarly(wrong);
    if (!wrong) change.mutate();
  };
  return (
    <FormDialog
      title="Change the management network"
      verb="Try it"
      busy={change.isPending}
      error={change.error}
      onSubmit={submit}
      onClose={onClose}
    >
      <p>
        The change is tried first. Unless it is kept in time, the host takes it back by itself: a mistake does
        not cut it off. Machines go on running.
      </p>
      <Select
        label="Interface"
        value={form.interface}
        none="The first with a link"
        options={(network.nics ?? []).map((nic) => [
          nic.mac,
          `${nic.name}, ${nic.mac}${nic.link ? "" : ", no link"}`,
        ])}
        fault={fault("interface")}
        onValue={(value) => set({ interface: value })}
      />
      <Select
        label="Address"
        value={form.by}
        options={[
          ["dhcp", "By DHCP"],
          ["static", "This one"],
        ]}
        onValue={(value) => set({ by: value as NetworkForm["by"] })}
      />
      {form.by === "static" && (
        <div className="grid gap-4 sm:grid-cols-2">
          <Text
            label="Address with prefix"
            placeholder="192.168.1.10/24"
            value={form.address}
            fault={fault("address")}
            onChange={({ target }) => set({ address: target.value })}
          />
          <Text
            label="Gateway"
            placeholder="192.168.1.1"
            value={form.gateway}
            fault={fault("gateway")}
            onChange={({ target }) => set({ gateway: target.value })}
          />
        </div>
      )}
      <Text
        label="Name servers"
        hint="At most three, with commas between."
        value={form.dns}
        fault={fault("dns")}
        onChange={({ target }) => set({ dns: target.value })}
      />
      <Select
        label="Taken back after"
        value={seconds}
        options={[
          ["60", "A minute"],
          ["120", "2 minutes"],
          ["300", "5 minutes"],
          ["600", "10 minutes"],
        ]}
        fault={fieldFault(change.error, "seconds")}
        onValue={setSeconds}
      />
    </FormDialog>
  );
}
