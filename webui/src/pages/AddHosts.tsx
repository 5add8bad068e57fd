// Bringing hosts in: those that wait on the network, by the code on their consoles, or any by a join token.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { KeyRound, Server } from "lucide-react";
import { useState } from "react";
import { api, call, fieldFault, type WaitingHost } from "../api/client";
import { CopyOnce } from "../components/CopyOnce";
import { Dialog, FormDialog } from "../components/Dialog";
import { useFollow } from "../components/shell/Orders";
import { Button, Check, Empty, Failure, Loading, Select, Text } from "../components/ui";
import { codeRefusal } from "../lib/pairing";

/** Where to ask, and which host is meant where one was found. */
type Chosen = Partial<Pick<WaitingHost, "host" | "name">> & { address?: string };

export function AddHosts({ onClose }: { onClose: () => void }) {
  const [chosen, setChosen] = useState<Chosen>();
  const [token, setToken] = useState(false);
  const waiting = useQuery({
    queryKey: ["waiting-hosts"],
    queryFn: () => call(api.GET("/cluster/waiting")),
    refetchInterval: 5_000,
    gcTime: 0,
    enabled: !chosen && !token,
  });
  if (token) return <JoinTokenDialog onClose={onClose} />;
  if (chosen) return <Pair chosen={chosen} onClose={onClose} />;
  return (
    <Dialog title="Add hosts" onClose={onClose} wide>
      <p>
        A host that was installed and is alone waits to be brought in and shows a code on its console. These
        wait on this network:
      </p>
      <Failure error={waiting.error} />
      {waiting.isPending && <Loading />}
      {waiting.data?.items.length === 0 && (
        <Empty icon={Server} title="No host waits here.">
          {waiting.data.looked_from
            ? "A host that runs from its medium or is a member of a cluster does not wait. One that has machines, volumes or images of its own waits once it was opened for that: there, lqctl cluster pairing --open true. They come along."
            : "This host cannot look for others: give the address of the waiting host."}
        </Empty>
      )}
      <ul aria-label="Waiting hosts">
        {waiting.data?.items.map((host) => (
          <li
            key={host.host}
            className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t"
          >
            <span className="min-w-40 font-medium">{host.name}</span>
            <code className="text-dim">{host.address}</code>
            <span className="text-dim">{host.version}</span>
            <span className="ml-auto">
              <Button small aria-label={`Add ${host.name}`} onClick={() => setChosen(host)}>
                Add
              </Button>
            </span>
          </li>
        ))}
      </ul>
      <div className="flex flex-wrap justify-end gap-2">
        <Button icon={KeyRound} onClick={() => setToken(true)}>
          By a join token
        </Button>
        <Button icon={Server} onClick={() => setChosen({})}>
          By its address
        </Button>
      </div>
    </Dialog>
  );
}

function Pair({ chosen, onClose }: { chosen: Chosen; onClose: () => void }) {
  const follow = useFollow();
  const client = useQueryClient();
  const [address, setAddress] = useState(chosen.address ?? "");
  const [code, setCode] = useState("");
  const [rename, setRename] = useState(false);
  const name = chosen.name ?? address;
  const pair = useMutation({
    mutationFn: () =>
      call(
        api.POST("/cluster/pair", {
          body: { address: address.trim(), code, rename, ...(chosen.host && { host: chosen.host }) },
        }),
      ),
    onSuccess: (task) => {
      follow(`Add ${name}`, task);
      void client.invalidateQueries({ queryKey: ["cluster"] });
      onClose();
    },
  });
  const fault = (field: string) => fieldFault(pair.error, field);
  return (
    <FormDialog
      title={chosen.name ? `Add ${chosen.name}` : "Add a host by its address"}
      verb="Add"
      busy={pair.isPending}
      error={pair.error}
      refusal={address.trim() ? codeRefusal(code) : "Give its address first."}
      onSubmit={() => pair.mutate()}
      onClose={onClose}
    >
      <p>
        The code proves that it is the host whose console you read, and nobody between. Its users and
        passwords end; machines it has come along and run on.
      </p>
      {!chosen.address && (
        <Text
          label="Address"
          autoFocus
          value={address}
          fault={fault("address")}
          onChange={(event) => setAddress(event.target.value)}
        />
      )}
      <Text
        label="Code on its console"
        autoFocus={!!chosen.address}
        autoComplete="off"
        spellCheck={false}
        value={code}
        fault={fault("code")}
        onChange={(event) => setCode(event.target.value)}
      />
      <Check checked={rename} onChange={(event) => setRename(event.target.checked)}>
        Objects of it whose names are taken here get other names
      </Check>
    </FormDialog>
  );
}

function JoinTokenDialog({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const [minutes, setMinutes] = useState("60");
  const [uses, setUses] = useState("1");
  const make = useMutation({
    mutationFn: () =>
      call(api.POST("/cluster/join-tokens", { body: { minutes: Number(minutes), uses: Number(uses) } })),
    onSuccess: () => client.invalidateQueries({ queryKey: ["join-tokens"] }),
  });
  const fault = (field: string) => fieldFault(make.error, field);
  if (make.data) {
    const { text } = make.data;
    return (
      <Dialog title="Join token" onClose={onClose} wide>
        <p>
          It is shown <strong>only now</strong>. Who has it can bring a host into this cluster.
        </p>
        <code className="rounded-md bg-sunken p-3 wrap-anywhere select-all">{text}</code>
        <p>Use it in one of these ways:</p>
        <ul className="list-disc pl-5">
          <li>
            a new host: write <code>join = &quot;…&quot;</code> under <code>[cluster]</code> into its answer
            file;
          </li>
          <li>a running host: open its web page, and there Cluster, Join a cluster.</li>
        </ul>
        <CopyOnce text={text} onClose={onClose} />
      </Dialog>
    );
  }
  return (
    <FormDialog
      title="Create a join token"
      verb="Create join token"
      busy={make.isPending}
      error={make.error}
      onSubmit={() => make.mutate()}
      onClose={onClose}
    >
      <p>Makes a token by which other hosts join this cluster, with the machines they have.</p>
      <Text
        label="Number of hosts"
        type="number"
        min={1}
        max={100}
        value={uses}
        fault={fault("uses")}
        onChange={(event) => setUses(event.target.value)}
      />
      <Select
        label="Good for"
        value={minutes}
        options={[
          ["15", "15 minutes"],
          ["60", "An hour"],
          ["1440", "A day"],
          ["10080", "A week"],
        ]}
        fault={fault("minutes")}
        onValue={setMinutes}
      />
    </FormDialog>
  );
}
