// The account, the tokens of programs, and what this is.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Copy, KeyRound, Plus, Settings as Cog, Trash2 } from "lucide-react";
import { useState, type FormEvent } from "react";
import { ApiError, api, call, type Token } from "../../api/client";
import { useAccess, useCluster, useHosts, useNames, useTokens } from "../../api/queries";
import { Confirm, Dialog, FormDialog } from "../../components/Dialog";
import { Head } from "../../components/Page";
import { useFollow } from "../../components/shell/Orders";
import { Button, Card, Check, Empty, Fact, Facts, Failure, Loading, Select, Text } from "../../components/ui";
import { time } from "../../lib/format";
import { setTheme, useTheme, type Theme } from "../../lib/prefs";
import { MIN_PASSWORD } from "../Gate";

export function Settings() {
  return (
    <>
      <Head title="Settings" icon={Cog} />
      <div className="grid gap-4 xl:grid-cols-2">
        <Password />
        <Looks />
        <div className="xl:col-span-2">
          <Tokens />
        </div>
        <Certificate />
        <About />
      </div>
    </>
  );
}

function Password() {
  const follow = useFollow();
  const [differ, setDiffer] = useState(false);
  const change = useMutation({
    mutationFn: (body: { old: string; new: string }) => call(api.POST("/session/password", { body })),
    onSuccess: () => follow("Change the password", "done"),
  });
  const fault = (name: string) => (change.error instanceof ApiError ? change.error.field(name) : undefined);
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const data = new FormData(form);
    const get = (name: string) => String(data.get(name) ?? "");
    const same = get("new") === get("again");
    setDiffer(!same);
    if (same) change.mutate({ old: get("old"), new: get("new") }, { onSuccess: () => form.reset() });
  };
  return (
    <Card title="Password">
      <form className="flex flex-col gap-4" onSubmit={submit}>
        <Text
          label="Present password"
          name="old"
          type="password"
          autoComplete="current-password"
          required
          fault={fault("old")}
        />
        <Text
          label="New password"
          name="new"
          type="password"
          autoComplete="new-password"
          required
          minLength={MIN_PASSWORD}
          maxLength={256}
          hint={`At least ${MIN_PASSWORD} characters.`}
          fault={fault("new")}
        />
        <Text
          label="New password again"
          name="again"
          type="password"
          autoComplete="new-password"
          required
          fault={differ ? "The two passwords differ." : undefined}
        />
        <Failure error={change.error} />
        <div>
          <Button type="submit" kind="primary" icon={KeyRound} busy={change.isPending}>
            Change the password
          </Button>
        </div>
      </form>
    </Card>
  );
}

function Looks() {
  const theme = useTheme();
  const access = useAccess();
  return (
    <Card title="This browser">
      <div className="flex flex-col gap-4">
        <Select
          label="Theme"
          value={theme}
          options={[
            ["system", "As the system"],
            ["light", "Light"],
            ["dark", "Dark"],
          ]}
          hint="Kept in this browser."
          onValue={(value) => setTheme(value as Theme)}
        />
        <Facts>
          <Fact name="Logged in as">
            {access.data && "identity" in access.data && access.data.identity.username}
          </Fact>
          <Fact name="Keys">
            <kbd className="rounded bg-sunken px-1.5">Ctrl K</kbd> search or command,{" "}
            <kbd className="rounded bg-sunken px-1.5">/</kbd> search in a list,{" "}
            <kbd className="rounded bg-sunken px-1.5">Shift Esc</kbd> leaves a console
          </Fact>
        </Facts>
      </div>
    </Card>
  );
}

function Tokens() {
  const tokens = useTokens();
  const [adding, setAdding] = useState(false);
  const [doomed, setDoomed] = useState<Token>();
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: (token: Token) => call(api.DELETE("/tokens/{id}", { params: { path: { id: token.id } } })),
    onSuccess: () => setDoomed(undefined),
    onSettled: () => client.invalidateQueries({ queryKey: ["tokens"] }),
  });
  return (
    <Card
      title="API tokens"
      actions={
        <Button small icon={Plus} onClick={() => setAdding(true)}>
          Create token
        </Button>
      }
    >
      <Failure error={tokens.error} />
      {tokens.isPending && <Loading />}
      {tokens.data?.length === 0 && (
        <Empty icon={KeyRound} title="There is no token yet.">
          A token lets a program use the API without your password.
        </Empty>
      )}
      <ul>
        {tokens.data?.map((token) => (
          <li
            key={token.id}
            className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t"
          >
            <span className="min-w-40 font-medium">{token.name}</span>
            <span className="w-24">{token.read_only ? "read only" : "full"}</span>
            <span className="text-dim">made {time(token.created_at)}</span>
            <span className="text-dim">
              {token.expires_at ? `until ${time(token.expires_at)}` : "for ever"}
            </span>
            <span className="ml-auto">
              <Button
                small
                icon={Trash2}
                aria-label={`Delete ${token.name}`}
                onClick={() => (remove.reset(), setDoomed(token))}
              >
                Delete
              </Button>
            </span>
          </li>
        ))}
      </ul>
      {adding && <AddToken onClose={() => setAdding(false)} />}
      {doomed && (
        <Confirm
          title={`Delete the token ${doomed.name}?`}
          verb="Delete"
          busy={remove.isPending}
          error={remove.error}
          onConfirm={() => remove.mutate(doomed)}
          onClose={() => setDoomed(undefined)}
        >
          <p>Programs that use it are refused from now on.</p>
        </Confirm>
      )}
    </Card>
  );
}

function AddToken({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState("");
  const [days, setDays] = useState("90");
  const [readOnly, setReadOnly] = useState(true);
  const [copied, setCopied] = useState(false);
  const make = useMutation({
    mutationFn: () =>
      call(
        api.POST("/tokens", {
          body: { name: name.trim(), read_only: readOnly, ...(days ? { days: Number(days) } : {}) },
        }),
      ),
    onSuccess: () => client.invalidateQueries({ queryKey: ["tokens"] }),
  });
  const fault = (field: string) => (make.error instanceof ApiError ? make.error.field(field) : undefined);
  if (make.data)
    return (
      <Dialog title={`Token ${make.data.name}`} onClose={onClose}>
        <p>
          This is its secret. It is shown <strong>only now</strong>; send it as{" "}
          <code>Authorization: Bearer …</code>
        </p>
        <code className="rounded-md bg-sunken p-3 select-all">{make.data.secret}</code>
        <div className="flex justify-end gap-2">
          <Button
            icon={Copy}
            onClick={() => void navigator.clipboard.writeText(make.data.secret).then(() => setCopied(true))}
          >
            {copied ? "Copied" : "Copy"}
          </Button>
          <Button kind="primary" onClick={onClose}>
            Close
          </Button>
        </div>
      </Dialog>
    );
  return (
    <FormDialog
      title="Create token"
      verb="Create token"
      busy={make.isPending}
      error={make.error}
      onSubmit={() => make.mutate()}
      onClose={onClose}
    >
      <Text
        label="What it is for"
        autoFocus
        value={name}
        fault={fault("name")}
        onChange={(event) => setName(event.target.value)}
      />
      <Select
        label="Lasts"
        value={days}
        none="For ever"
        options={[
          ["1", "One day"],
          ["30", "30 days"],
          ["90", "90 days"],
          ["365", "A year"],
        ]}
        fault={fault("days")}
        onValue={setDays}
      />
      <Check
        checked={readOnly}
        hint="Enough for monitoring."
        onChange={(event) => setReadOnly(event.target.checked)}
      >
        It may only read
      </Check>
    </FormDialog>
  );
}

function Certificate() {
  return (
    <Card title="Certificate">
      <p>
        The host signs its own certificate. Its SHA-256 fingerprint is shown on the host’s console; compare it
        with what your browser shows (the sign before the address) when it warns.
      </p>
      <p className="mt-2 text-dim">
        This page reaches the host at <code>{location.host}</code> and nothing else.
      </p>
    </Card>
  );
}

function About() {
  const cluster = useCluster();
  const hosts = useHosts();
  const name = useNames(hosts);
  const here = hosts.data?.find(({ meta }) => meta.id === cluster.data?.this_host);
  return (
    <Card title="About">
      <Failure error={cluster.error} />
      <Facts>
        <Fact name="Version">{here?.status?.version}</Fact>
        <Fact name="Kernel">{here?.status?.kernel}</Fact>
        <Fact name="This host">{here?.meta.name}</Fact>
        <Fact name="Cluster">{cluster.data && <code>{cluster.data.id}</code>}</Fact>
        <Fact name="Leader">
          {cluster.data?.leader ? (name(cluster.data.leader) ?? cluster.data.leader) : cluster.data && "none"}
        </Fact>
        <Fact name="Voting hosts">{cluster.data?.voters.length}</Fact>
        <Fact name="Revision">{cluster.data?.revision}</Fact>
        <Fact name="API">
          <a className="link" href="/api/v1/openapi.json">
            /api/v1/openapi.json
          </a>
        </Fact>
        <Fact name="Licence">Apache-2.0</Fact>
      </Facts>
    </Card>
  );
}
