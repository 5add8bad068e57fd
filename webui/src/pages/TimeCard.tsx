// Time: the servers the clocks of all hosts follow, and how every clock does.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Clock } from "lucide-react";
import { useState } from "react";
import { api, call, fieldFault, type HostTime } from "../api/client";
import { timeQuery } from "../api/queries";
import { useClusterRefusal } from "../api/rights";
import { FormDialog } from "../components/Dialog";
import { useFollow } from "../components/shell/Orders";
import { Button, Card, Empty, Failure, Loading, State, Text } from "../components/ui";
import { clockWords, serversOf } from "../lib/clock";

export function TimeCard() {
  const time = useQuery({ ...timeQuery, refetchInterval: 15_000 });
  const refusal = useClusterRefusal()("cluster.write");
  const [open, setOpen] = useState(false);
  const servers = time.data?.spec.servers ?? [];
  return (
    <Card title="Time">
      <Failure error={time.error} />
      {time.isPending && <Loading />}
      {time.data && servers.length === 0 && (
        <Empty icon={Clock} title="Nothing sets the clocks.">
          Name three or more NTP servers: two that differ leave nobody to believe.
        </Empty>
      )}
      {servers.length > 0 && (
        <ul aria-label="Clocks of the hosts">
          {time.data?.hosts.map((host) => (
            <HostClock key={host.host} host={host} />
          ))}
        </ul>
      )}
      {servers.length > 0 && <p className="mt-2 text-dim">They follow {servers.join(", ")}.</p>}
      <div className="mt-3">
        <Button small icon={Clock} refusal={refusal} onClick={() => setOpen(true)}>
          Time servers
        </Button>
      </div>
      {open && <Servers servers={servers} onClose={() => setOpen(false)} />}
    </Card>
  );
}

function HostClock({ host }: { host: HostTime }) {
  const { dot, word, detail } = clockWords(host.status);
  return (
    <li className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t">
      <span className="min-w-40 font-medium">{host.name}</span>
      <State state={dot} word={word} />
      <span className="text-dim">{detail}</span>
    </li>
  );
}

function Servers({ servers, onClose }: { servers: string[]; onClose: () => void }) {
  const client = useQueryClient();
  const follow = useFollow();
  const [text, setText] = useState(servers.join(" "));
  const set = useMutation({
    mutationFn: () => call(api.PUT("/cluster/time", { body: { servers: serversOf(text) } })),
    onSuccess: () => {
      follow("Set the time servers", "done");
      onClose();
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["time"] }),
  });
  return (
    <FormDialog
      title="Time servers"
      verb="Set"
      busy={set.isPending}
      error={set.error}
      onSubmit={() => set.mutate()}
      onClose={onClose}
    >
      <p>The clocks of all hosts follow these NTP servers, as far as most of them agree.</p>
      <Text
        label="Servers"
        hint="Names or addresses, with spaces between. Empty: nothing sets the clocks."
        autoFocus
        value={text}
        fault={fieldFault(set.error, "servers", ...serversOf(text).map((_, n) => `servers[${n}]`))}
        onChange={(event) => setText(event.target.value)}
      />
    </FormDialog>
  );
}
