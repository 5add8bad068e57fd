// API tokens: for programs, as little as they need, for as long as they need it.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { KeyRound, Plus, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, call, fieldFault, type Token } from "../../api/client";
import { useNames, useTokens, useUsers } from "../../api/queries";
import { useClusterRefusal, useMe } from "../../api/rights";
import { CopyOnce } from "../../components/CopyOnce";
import { Confirm, Dialog, FormDialog } from "../../components/Dialog";
import { Button, Card, Check, Empty, Failure, Loading, Select, Text } from "../../components/ui";
import { time } from "../../lib/format";
import { EMPTY_GRANT, fault as grantFault, fromForm, type GrantForm } from "../../lib/grants";
import { GrantFields, useGrantWords } from "./Grants";

export function Tokens() {
  const tokens = useTokens();
  const [adding, setAdding] = useState(false);
  const [doomed, setDoomed] = useState<Token>();
  const client = useQueryClient();
  const words = useGrantWords();
  const user = useNames(useUsers());
  const me = useMe();
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
            {token.limit && <span>only {words(token.limit)}</span>}
            {token.owner && token.owner !== me && (
              <span>for {user(token.owner) ?? "a user who is gone"}</span>
            )}
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
  const [owner, setOwner] = useState("");
  const [limits, setLimits] = useState<GrantForm[]>([]);
  const [wrong, setWrong] = useState<string>();
  const users = useUsers().data ?? [];
  const me = useMe();
  const others = useClusterRefusal()("user.write");
  const make = useMutation({
    mutationFn: () =>
      call(
        api.POST("/tokens", {
          body: {
            name: name.trim(),
            read_only: readOnly,
            ...(days ? { days: Number(days) } : {}),
            ...(owner ? { owner } : {}),
            ...(limits[0] ? { limit: fromForm(limits)[0]! } : {}),
          },
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
      wide
      onSubmit={() => {
        const found = limits[0] && grantFault(limits[0]);
        setWrong(found);
        if (!found) make.mutate();
      }}
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
      <Check
        checked={limits.length > 0}
        hint="Else it may do whatever its owner may."
        onChange={(event) => setLimits(event.target.checked ? [EMPTY_GRANT] : [])}
      >
        It may do no more than one role, on what I choose
      </Check>
      {limits[0] && (
        <GrantFields
          value={limits[0]}
          fault={wrong ?? fieldFault(make.error, "limit", "limit.role", "limit.scope")}
          onValue={(limit) => (setWrong(undefined), setLimits([limit]))}
        />
      )}
      {others === undefined && users.length > 1 && (
        <Select
          label="For"
          value={owner}
          none="Myself"
          options={users.filter(({ meta }) => meta.id !== me).map(({ meta }) => [meta.id, meta.name])}
          hint="A token for someone else never does more than they may at this moment."
          fault={fieldFault(make.error, "owner")}
          onValue={setOwner}
        />
      )}
    </FormDialog>
  );
}
