// Who may log in, and what they may do.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { KeyRound, Pencil, Plus, ShieldOff, Trash2, UserCheck, UserX, Users as People } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, fieldFault, type User } from "../../api/client";
import { useAccess, useGroups, useUsers } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { Bulk } from "../../components/Bulk";
import { Confirm, FormDialog } from "../../components/Dialog";
import { Remove } from "../../components/Remove";
import { useFollow } from "../../components/shell/Orders";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Button, Check, Menu, State, Text } from "../../components/ui";
import { time } from "../../lib/format";
import { fault, fromForm, toForm, type GrantForm } from "../../lib/grants";
import { MIN_PASSWORD } from "../../lib/password";
import { GrantsEditor, useGrantWords } from "./Grants";

const id = (user: User) => user.meta.id;
const name = (user: User) => user.meta.name;
const OWN = "It is your own account: see Settings, Account.";

type Doing = { what: "edit" | "password" | "totp" | "delete"; user: User } | { what: "create" };

export function Users() {
  const users = useUsers();
  const groups = useGroups().data;
  const words = useGrantWords();
  const refusal = useClusterRefusal()("user.write");
  const access = useAccess().data;
  const me = access && "identity" in access ? access.identity.user : undefined;
  const [doing, setDoing] = useState<Doing>();
  const [many, setMany] = useState<{ what: ManyUsers; users: User[] }>();
  const close = () => setDoing(undefined);
  const columns = useMemo((): Column<User>[] => {
    const named = new Map(groups?.map(({ meta }) => [meta.id, meta.name]));
    const may = (user: User) => user.spec.grants?.map(words).join("; ") || undefined;
    return [
      { id: "name", label: "Name", value: name },
      { id: "full", label: "Full name", value: ({ spec }) => spec.full_name || undefined, width: "w-[13%]" },
      {
        id: "state",
        label: "State",
        value: ({ spec }) => (spec.disabled ? "disabled" : "enabled"),
        cell: ({ spec }) => (
          <State state={spec.disabled ? "stopped" : "ready"} word={spec.disabled ? "disabled" : "enabled"} />
        ),
        width: "w-26",
        narrow: true,
      },
      {
        id: "may",
        label: "May",
        value: may,
        cell: (user) => <span title={may(user)}>{may(user)}</span>,
        width: "w-[18%]",
      },
      {
        id: "groups",
        label: "Groups",
        value: ({ status }) => status.groups?.map((group) => named.get(group) ?? "?").join(", ") || undefined,
        width: "w-[11%]",
      },
      {
        id: "totp",
        label: "Second factor",
        value: ({ status }) => (status.totp ? "yes" : "no"),
        width: "w-30",
      },
      {
        id: "login",
        label: "Last log-in",
        value: ({ status }) => (status.last_login_at ? Date.parse(status.last_login_at) : undefined),
        cell: ({ status }) => status.last_login_at && time(status.last_login_at),
        width: "w-42",
      },
    ];
  }, [groups, words]);
  return (
    <>
      <ListView
        nouns="users"
        icon={People}
        query={users}
        columns={columns}
        id={id}
        name={name}
        order="name"
        brief={(user) => user.spec.full_name || user.spec.grants?.map(words).join("; ")}
        toolbar={
          <Button kind="primary" icon={Plus} refusal={refusal} onClick={() => setDoing({ what: "create" })}>
            Create user
          </Button>
        }
        bulk={(chosen) => (
          <>
            {(["disable", "enable", "delete"] as const).map((what) => (
              <Button
                key={what}
                small
                icon={MANY[what].icon}
                refusal={refusal}
                onClick={() => setMany({ what, users: chosen })}
              >
                {MANY[what].label}
              </Button>
            ))}
          </>
        )}
        actions={(user) => (
          <Menu
            label={`Actions for ${user.meta.name}`}
            items={[
              { label: "Change", icon: Pencil, refusal, run: () => setDoing({ what: "edit", user }) },
              {
                label: "Set the password",
                icon: KeyRound,
                refusal: refusal ?? (user.meta.id === me ? OWN : undefined),
                run: () => setDoing({ what: "password", user }),
              },
              {
                label: "Take the second factor away",
                icon: ShieldOff,
                refusal:
                  refusal ?? (user.meta.id === me ? OWN : user.status.totp ? undefined : "There is none."),
                run: () => setDoing({ what: "totp", user }),
              },
              {
                label: "Delete",
                icon: Trash2,
                danger: true,
                apart: true,
                refusal,
                run: () => setDoing({ what: "delete", user }),
              },
            ]}
          />
        )}
        empty={<p>Nobody can log in.</p>}
      />
      {many && <DoMany {...many} me={me} onClose={() => setMany(undefined)} />}
      {doing?.what === "create" && <Edit onClose={close} />}
      {doing?.what === "edit" && <Edit user={doing.user} onClose={close} />}
      {doing?.what === "password" && <SetPassword user={doing.user} onClose={close} />}
      {doing?.what === "totp" && <TakeTotp user={doing.user} onClose={close} />}
      {doing?.what === "delete" && (
        <Remove
          name={name(doing.user)}
          list="users"
          work={async () => {
            await call(api.DELETE("/users/{id}", { params: { path: { id: id(doing.user) } } }));
            return undefined;
          }}
          onClose={close}
        >
          <p>Their sessions and tokens end at once. What they made stays.</p>
        </Remove>
      )}
    </>
  );
}

const MANY = {
  disable: {
    label: "Disable",
    icon: UserX,
    text: "Their sessions and tokens count for nothing until they are enabled.",
  },
  enable: { label: "Enable", icon: UserCheck, text: "They may log in again." },
  delete: {
    label: "Delete",
    icon: Trash2,
    text: "Their sessions and tokens end at once. What they made stays.",
  },
} as const;
type ManyUsers = keyof typeof MANY;

function DoMany({
  what,
  users,
  me,
  onClose,
}: {
  what: ManyUsers;
  users: User[];
  me: string | null | undefined;
  onClose: () => void;
}) {
  const client = useQueryClient();
  const { label, text } = MANY[what];
  return (
    <Bulk
      title={`${label}: ${users.length} ${users.length === 1 ? "user" : "users"}`}
      verb={label}
      items={users}
      name={name}
      danger={what === "delete"}
      refusal={({ meta, spec }) => {
        if (meta.id === me) return "It is your own account.";
        if (what === "disable" && spec.disabled) return "It is disabled.";
        if (what === "enable" && !spec.disabled) return "It is enabled.";
        return undefined;
      }}
      work={({ meta, spec }) =>
        what === "delete"
          ? call(api.DELETE("/users/{id}", { params: { path: { id: meta.id } } }))
          : call(
              api.PATCH("/users/{id}", {
                params: { path: { id: meta.id } },
                headers: { "If-Match": `"${meta.revision}"` },
                body: { spec: { ...spec, disabled: what === "disable" } },
              }),
            )
      }
      onClose={() => {
        void client.invalidateQueries({ queryKey: ["users"] });
        onClose();
      }}
    >
      <p>{text}</p>
    </Bulk>
  );
}

function Edit({ user, onClose }: { user?: User; onClose: () => void }) {
  const client = useQueryClient();
  const [form, setForm] = useState({
    name: user?.meta.name ?? "",
    full: user?.spec.full_name ?? "",
    password: "",
    change: true,
    disabled: user?.spec.disabled ?? false,
  });
  const set = (change: Partial<typeof form>) => setForm({ ...form, ...change });
  const [grants, setGrants] = useState<GrantForm[]>(toForm(user?.spec.grants));
  const [faults, setFaults] = useState<(string | undefined)[]>([]);
  const save = useMutation({
    mutationFn: () => {
      const spec = { full_name: form.full.trim(), disabled: form.disabled, grants: fromForm(grants) };
      return user
        ? call(
            api.PATCH("/users/{id}", {
              params: { path: { id: user.meta.id } },
              headers: { "If-Match": `"${user.meta.revision}"` },
              body: { name: form.name.trim(), spec },
            }),
          )
        : call(
            api.POST("/users", {
              body: {
                name: form.name.trim(),
                spec,
                must_change_password: form.change,
                ...(form.password ? { password: form.password } : {}),
              },
            }),
          );
    },
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: ["users"] }),
  });
  const at = (field: string) => fieldFault(save.error, field);
  return (
    <FormDialog
      title={user ? `User ${user.meta.name}` : "Create user"}
      verb={user ? "Save" : "Create user"}
      wide
      busy={save.isPending}
      error={save.error}
      onSubmit={() => {
        const found = grants.map(fault);
        setFaults(found);
        if (found.every((each) => each === undefined)) save.mutate();
      }}
      onClose={onClose}
    >
      <div className="grid gap-4 sm:grid-cols-2">
        <Text
          label="Name to log in with"
          value={form.name}
          fault={at("name")}
          onChange={(event) => set({ name: event.target.value })}
        />
        <Text
          label="Full name"
          value={form.full}
          fault={at("spec.full_name")}
          onChange={(event) => set({ full: event.target.value })}
        />
      </div>
      {!user && (
        <>
          <Text
            label="First password"
            type="password"
            autoComplete="new-password"
            value={form.password}
            hint="Empty: they cannot log in until one is set."
            fault={at("password")}
            onChange={(event) => set({ password: event.target.value })}
          />
          <Check checked={form.change} onChange={(event) => set({ change: event.target.checked })}>
            They have to choose their own at the first log-in
          </Check>
        </>
      )}
      <GrantsEditor value={grants} faults={faults} onValue={setGrants} />
      <Check
        checked={form.disabled}
        hint="Their sessions and tokens count for nothing."
        onChange={(event) => set({ disabled: event.target.checked })}
      >
        Disabled
      </Check>
    </FormDialog>
  );
}

function SetPassword({ user, onClose }: { user: User; onClose: () => void }) {
  const follow = useFollow();
  const [password, setPassword] = useState("");
  const [change, setChange] = useState(true);
  const save = useMutation({
    mutationFn: () =>
      call(
        api.POST("/users/{id}/password", {
          params: { path: { id: user.meta.id } },
          body: { password, must_change_password: change },
        }),
      ),
    onSuccess: () => {
      follow(`Set the password of ${user.meta.name}`, "done");
      onClose();
    },
  });
  return (
    <FormDialog
      title={`Set the password of ${user.meta.name}`}
      verb="Set the password"
      busy={save.isPending}
      error={save.error}
      refusal={password.length < MIN_PASSWORD ? `At least ${MIN_PASSWORD} characters.` : undefined}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <p>All their sessions end.</p>
      <Text
        label="New password"
        type="password"
        autoComplete="new-password"
        value={password}
        fault={fieldFault(save.error, "password")}
        onChange={(event) => setPassword(event.target.value)}
      />
      <Check checked={change} onChange={(event) => setChange(event.target.checked)}>
        They have to choose their own at the next log-in
      </Check>
    </FormDialog>
  );
}

function TakeTotp({ user, onClose }: { user: User; onClose: () => void }) {
  const client = useQueryClient();
  const take = useMutation({
    mutationFn: () => call(api.DELETE("/users/{id}/totp", { params: { path: { id: user.meta.id } } })),
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: ["users"] }),
  });
  return (
    <Confirm
      title={`Take the second factor of ${user.meta.name} away?`}
      verb="Take it away"
      busy={take.isPending}
      error={take.error}
      onConfirm={() => take.mutate()}
      onClose={onClose}
    >
      <p>
        For one who has lost the authenticator. Their password alone opens the account until they set up a new
        one.
      </p>
    </Confirm>
  );
}
