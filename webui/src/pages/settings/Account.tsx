// One's own account: password, second factor, sessions, tokens, and how the page looks here.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { KeyRound, LogOut, Plus, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, call, fieldFault, type Token } from "../../api/client";
import { useAccess, useSessions, useTokens } from "../../api/queries";
import { CopyOnce } from "../../components/CopyOnce";
import { Confirm, Dialog, FormDialog } from "../../components/Dialog";
import { PasswordForm } from "../../components/PasswordForm";
import { useFollow } from "../../components/shell/Orders";
import { Button, Card, Check, Empty, Fact, Facts, Failure, Loading, Select, Text } from "../../components/ui";
import { time } from "../../lib/format";
import { setTheme, useTheme, type Theme } from "../../lib/prefs";
import { SecondFactor } from "./SecondFactor";

export function Account() {
  const follow = useFollow();
  return (
    <div className="grid gap-4 xl:grid-cols-2">
      <Card title="Password">
        <PasswordForm onDone={() => follow("Change the password", "done")} />
      </Card>
      <div className="flex flex-col gap-4">
        <SecondFactor />
        <Looks />
      </div>
      <div className="flex flex-col gap-4 xl:col-span-2">
        <Tokens />
        <Sessions />
      </div>
    </div>
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
  const make = useMutation({
    mutationFn: () =>
      call(
        api.POST("/tokens", {
          body: { name: name.trim(), read_only: readOnly, ...(days ? { days: Number(days) } : {}) },
        }),
      ),
    onSuccess: () => client.invalidateQueries({ queryKey: ["tokens"] }),
  });
  const fault = (field: string) => fieldFault(make.error, field);
  if (make.data)
    return (
      <Dialog title={`Token ${make.data.name}`} onClose={onClose}>
        <p>
          This is its secret. It is shown <strong>only now</strong>; send it as{" "}
          <code>Authorization: Bearer …</code>
        </p>
        <code className="rounded-md bg-sunken p-3 select-all">{make.data.secret}</code>
        <CopyOnce text={make.data.secret} onClose={onClose} />
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

/** Where one is logged in; for those who may see it, everybody's. */
function Sessions() {
  const sessions = useSessions();
  const client = useQueryClient();
  const follow = useFollow();
  const end = useMutation({
    mutationFn: (id: string) => call(api.DELETE("/sessions/{id}", { params: { path: { id } } })),
    onError: (error) => follow("End the session", error),
    onSettled: () => client.invalidateQueries({ queryKey: ["sessions"] }),
  });
  return (
    <Card title="Sessions">
      <Failure error={sessions.error} />
      {sessions.isPending && <Loading />}
      <ul>
        {sessions.data?.map((session) => (
          <li
            key={session.id}
            className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t"
          >
            <span className="min-w-32 font-medium">{session.username}</span>
            <span className="w-40">from {session.from}</span>
            <span className="text-dim">since {time(session.created_at)}</span>
            <span className="ml-auto">
              {session.current ? (
                <span className="text-dim">this one</span>
              ) : (
                <Button
                  small
                  icon={LogOut}
                  busy={end.isPending && end.variables === session.id}
                  aria-label={`End the session of ${session.username} from ${session.from}`}
                  onClick={() => end.mutate(session.id)}
                >
                  End
                </Button>
              )}
            </span>
          </li>
        ))}
      </ul>
    </Card>
  );
}
