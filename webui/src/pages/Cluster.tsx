// The cluster: its hosts and who votes, what is wrong with it, and how hosts come in and go.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Boxes, LogIn, Plus, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, call, type JoinPreview, type JoinToken, type Member } from "../api/client";
import { useCluster } from "../api/queries";
import { useClusterRefusal } from "../api/rights";
import { Confirm, Dialog, FormDialog } from "../components/Dialog";
import { Head } from "../components/Page";
import { useFollow } from "../components/shell/Orders";
import {
  Button,
  Card,
  Check,
  Empty,
  Fact,
  Facts,
  Failure,
  Loading,
  State,
  Text,
  Warning,
} from "../components/ui";
import { standing } from "../lib/cluster";
import { time } from "../lib/format";
import { AddHosts } from "./AddHosts";
import { Backups, LostQuorum } from "./Recovery";
import { TimeCard } from "./TimeCard";
import { Rules } from "./Rules";

const ROLES: Record<Member["role"], string> = {
  leader: "leads",
  voter: "votes",
  follower: "follows",
  joining: "is being brought up to date",
  lost: "is lost: it comes back by joining again",
};

export function ClusterPage() {
  const cluster = useCluster();
  const refusal = useClusterRefusal()("cluster.write");
  const [open, setOpen] = useState<"add" | "join">();
  const { data } = cluster;
  const state = data && standing(data);
  return (
    <>
      <Head
        title="Cluster"
        icon={Boxes}
        beside={state && <State state={state.ok ? "up" : "away"} word={state.word} />}
      >
        <Button icon={LogIn} refusal={refusal} onClick={() => setOpen("join")}>
          Join a cluster
        </Button>
        <Button kind="primary" icon={Plus} refusal={refusal} onClick={() => setOpen("add")}>
          Add hosts
        </Button>
      </Head>
      <Failure error={cluster.error} />
      {cluster.isPending && <Loading />}
      {data && (
        <div className="flex flex-col gap-4">
          {data.warnings?.map((warning) => (
            <Warning key={warning}>{warning}</Warning>
          ))}
          {data.lost && <LostQuorum loss={data.lost} />}
          <Members members={data.members ?? []} here={data.this_host} />
          <div className="grid gap-4 xl:grid-cols-2">
            <JoinTokens />
            <TimeCard />
            <Card title="Agreement">
              <Facts>
                <Fact name="Changes are">
                  {data.quorum ? "possible" : "not possible: too few voters are reached"}
                </Fact>
                <Fact name="Voters">{data.voters.length}</Fact>
                <Fact name="May fail at once">{Math.floor((data.voters.length - 1) / 2)}</Fact>
                <Fact name="Term">{data.term}</Fact>
                <Fact name="Epoch">
                  {data.epoch}
                  {data.formed && ` since ${time(data.formed.at)}, from ${data.formed.by}`}
                </Fact>
                <Fact name="Last change">{data.revision}</Fact>
                <Fact name="Id">
                  <code>{data.id}</code>
                </Fact>
              </Facts>
            </Card>
          </div>
          <Rules />
          <Backups />
        </div>
      )}
      {open === "add" && <AddHosts onClose={() => setOpen(undefined)} />}
      {open === "join" && <Join onClose={() => setOpen(undefined)} />}
    </>
  );
}

function Members({ members, here }: { members: Member[]; here: string }) {
  const refusal = useClusterRefusal()("cluster.write");
  const [doomed, setDoomed] = useState<Member>();
  const follow = useFollow();
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: (member: Member) =>
      call(api.DELETE("/hosts/{id}", { params: { path: { id: member.host } } })),
    onSuccess: (_, member) => {
      follow(`Remove ${member.name}`, "done");
      setDoomed(undefined);
    },
    onSettled: () => {
      void client.invalidateQueries({ queryKey: ["cluster"] });
      void client.invalidateQueries({ queryKey: ["hosts"] });
    },
  });
  return (
    <Card title="Hosts">
      <ul aria-label="Hosts of the cluster">
        {members.map((member) => (
          <li
            key={member.host}
            className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t"
          >
            <span className="min-w-40 font-medium">
              <Link className="link" to="/hosts/$id" params={{ id: member.host }}>
                {member.name}
              </Link>{" "}
              {member.host === here && <span className="font-normal text-dim">this one</span>}
            </span>
            <span className="w-36">
              {member.reachable == null ? (
                <State state="unknown" word="not known" />
              ) : (
                <State
                  state={member.reachable ? "up" : "away"}
                  word={member.reachable ? "answers" : "does not answer"}
                />
              )}
            </span>
            <span className="w-52">{ROLES[member.role]}</span>
            <code className="text-dim">{member.address}</code>
            {!!member.lag && (
              <span className="text-dim">
                {member.lag} {member.lag === 1 ? "change" : "changes"} behind
              </span>
            )}
            <span className="ml-auto">
              <Button
                small
                icon={Trash2}
                aria-label={`Remove ${member.name}`}
                refusal={members.length === 1 ? "It is the only host." : refusal}
                onClick={() => (remove.reset(), setDoomed(member))}
              >
                Remove
              </Button>
            </span>
          </li>
        ))}
      </ul>
      {doomed && (
        <Confirm
          title={`Remove ${doomed.name} from the cluster?`}
          verb="Remove"
          name={doomed.name}
          busy={remove.isPending}
          error={remove.error}
          onConfirm={() => remove.mutate(doomed)}
          onClose={() => setDoomed(undefined)}
        >
          <p>The other hosts refuse it from then on, and it can never come back as the host it was.</p>
          <p>What is on its own disks stays there, out of reach of the cluster.</p>
        </Confirm>
      )}
    </Card>
  );
}

function JoinTokens() {
  const client = useQueryClient();
  const refusal = useClusterRefusal()("cluster.write");
  const follow = useFollow();
  const tokens = useQuery({
    queryKey: ["join-tokens"],
    queryFn: () => call(api.GET("/cluster/join-tokens")),
    refetchInterval: 10_000,
  });
  const remove = useMutation({
    mutationFn: (token: JoinToken) =>
      call(api.DELETE("/cluster/join-tokens/{id}", { params: { path: { id: token.id } } })),
    onError: (error) => follow("Revoke the join token", error),
    onSettled: () => client.invalidateQueries({ queryKey: ["join-tokens"] }),
  });
  // One that is used up invites nobody.
  const open = tokens.data?.filter(({ uses_left }) => uses_left > 0);
  return (
    <Card title="Join tokens">
      <Failure error={tokens.error} />
      {tokens.isPending && <Loading />}
      {open?.length === 0 && (
        <Empty icon={Boxes} title="Nobody is invited.">
          A join token lets another host come into this cluster, once, within the hour.
        </Empty>
      )}
      <ul>
        {open?.map((token) => (
          <li
            key={token.id}
            className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t"
          >
            <span>
              for {token.uses_left} {token.uses_left === 1 ? "host" : "hosts"}
            </span>
            <span className="text-dim">until {time(token.expires_at)}</span>
            <span className="ml-auto">
              <Button
                small
                icon={Trash2}
                refusal={refusal}
                busy={remove.isPending && remove.variables.id === token.id}
                aria-label={`Revoke the token of ${time(token.created_at)}`}
                onClick={() => remove.mutate(token)}
              >
                Revoke
              </Button>
            </span>
          </li>
        ))}
      </ul>
    </Card>
  );
}

/** Takes this host into another cluster: the token, then what it will mean, then the deed. */
function Join({ onClose }: { onClose: () => void }) {
  const [token, setToken] = useState("");
  const [rename, setRename] = useState(false);
  const body = { token: token.trim(), rename };
  const look = useMutation({ mutationFn: () => call(api.POST("/cluster/join/preview", { body })) });
  const join = useMutation({ mutationFn: () => call(api.POST("/cluster/join", { body })) });
  if (join.data)
    return (
      <Dialog title="This host has joined" onClose={() => location.reload()}>
        <p>
          It is now part of the cluster of {join.data.hosts.join(", ")}. Its daemon starts again; machines
          that run go on running.
        </p>
        <p>Users and passwords are those of the cluster: log in anew.</p>
        <div className="flex justify-end">
          <Button kind="primary" onClick={() => location.reload()}>
            Log in
          </Button>
        </div>
      </Dialog>
    );
  if (look.data)
    return (
      <FormDialog
        title="Join this cluster?"
        verb="Join"
        kind="danger"
        wide
        busy={join.isPending}
        error={join.error}
        refusal={
          look.data.renamings.some(({ needs_consent }) => needs_consent) && !rename
            ? "Some names are taken there: allow the new ones first."
            : undefined
        }
        onSubmit={() => join.mutate()}
        onClose={onClose}
      >
        <Preview preview={look.data} rename={rename} onRename={setRename} />
      </FormDialog>
    );
  return (
    <FormDialog
      title="Join a cluster"
      verb="Look"
      busy={look.isPending}
      error={look.error}
      refusal={token.trim() ? undefined : "Paste a join token of the cluster first."}
      onSubmit={() => look.mutate()}
      onClose={onClose}
    >
      <p>
        On a host of the other cluster choose Cluster, Add hosts. Nothing is changed before you have seen what
        it will mean.
      </p>
      <Text label="Join token" autoFocus value={token} onChange={(event) => setToken(event.target.value)} />
    </FormDialog>
  );
}

function Preview({
  preview,
  rename,
  onRename,
}: {
  preview: JoinPreview;
  rename: boolean;
  onRename: (yes: boolean) => void;
}) {
  return (
    <>
      <Facts>
        <Fact name="Hosts there">{preview.hosts.join(", ")}</Fact>
        <Fact name="Cluster">
          <code>{preview.cluster}</code>
        </Fact>
        <Fact name="Machines that come along">{preview.machines.join(", ") || "none"}</Fact>
        {preview.left_out.length > 0 && (
          <Fact name="Networks replaced by those there">{preview.left_out.join(", ")}</Fact>
        )}
      </Facts>
      {preview.renamings.length > 0 && (
        <>
          <p>These names are taken there:</p>
          <ul className="list-disc pl-5">
            {preview.renamings.map(({ kind, id, from, to }) => (
              <li key={id}>
                {kind} {from} becomes <strong>{to}</strong>
              </li>
            ))}
          </ul>
          <Check checked={rename} onChange={(event) => onRename(event.target.checked)}>
            Give them the new names
          </Check>
        </>
      )}
      <Warning>Users, passwords and tokens of this host end: those of the cluster hold from then on.</Warning>
    </>
  );
}
