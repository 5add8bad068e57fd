// Identity providers: whose word on who someone is counts, and what their groups stand for here.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { FlaskConical, IdCard, Pencil, Plus, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, fieldFault, type Provider } from "../../api/client";
import { useGroups, useNames, useProviders } from "../../api/queries";
import { useEverythingRefusal } from "../../api/rights";
import { Dialog, FormDialog } from "../../components/Dialog";
import { Remove } from "../../components/Remove";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Button, Check, Failure, Field, Menu, Select, State, Text } from "../../components/ui";
import { time } from "../../lib/format";
import { ACTIVE_DIRECTORY, fromForm, toForm, type ProviderForm } from "../../lib/providers";

const id = (provider: Provider) => provider.meta.id;
const name = (provider: Provider) => provider.meta.name;
const place = ({ spec: { source } }: Provider) =>
  source.kind === "oidc" ? source.issuer : source.servers.join(", ");
const kind = ({ spec: { source } }: Provider) => (source.kind === "oidc" ? "OpenID Connect" : "Directory");

type Doing = { what: "edit" | "delete" | "test"; provider: Provider } | { what: "create" };

export function Identity() {
  const providers = useProviders();
  const refusal = useEverythingRefusal();
  const [doing, setDoing] = useState<Doing>();
  const close = () => setDoing(undefined);
  const columns = useMemo(
    (): Column<Provider>[] => [
      { id: "name", label: "Realm", value: name },
      { id: "kind", label: "Kind", value: kind, width: "w-36" },
      { id: "at", label: "At", value: place, width: "w-[32%]" },
      { id: "users", label: "Users", value: ({ status }) => status.users, width: "w-20" },
      {
        id: "state",
        label: "Status",
        value: ({ spec, status }) =>
          spec.enabled === false ? "off" : status.failing_since ? `failing ${status.failure}` : "ready",
        cell: ({ spec, status }) =>
          spec.enabled === false ? (
            <State state="off" />
          ) : status.failing_since ? (
            <span title={`${status.failure ?? ""}\nsince ${time(status.failing_since)}`}>
              <State state="failed" word="cannot be asked" />
            </span>
          ) : (
            <State state="ready" />
          ),
        width: "w-40",
        narrow: true,
      },
    ],
    [],
  );
  return (
    <>
      <ListView
        nouns="identity providers"
        icon={IdCard}
        query={providers}
        columns={columns}
        id={id}
        name={name}
        order="name"
        brief={place}
        toolbar={
          <Button kind="primary" icon={Plus} refusal={refusal} onClick={() => setDoing({ what: "create" })}>
            Add provider
          </Button>
        }
        actions={(provider) => (
          <Menu
            label={`Actions for ${provider.meta.name}`}
            items={[
              {
                label: "Try to sign in",
                icon: FlaskConical,
                refusal,
                run: () => setDoing({ what: "test", provider }),
              },
              { label: "Change", icon: Pencil, refusal, run: () => setDoing({ what: "edit", provider }) },
              {
                label: "Delete",
                icon: Trash2,
                danger: true,
                apart: true,
                refusal,
                run: () => setDoing({ what: "delete", provider }),
              },
            ]}
          />
        )}
        empty={
          <p>
            Users of a directory (LDAP, Active Directory) or of an OpenID Connect provider can log in here
            without an account of their own in the cluster. Add their provider for that.
          </p>
        }
      />
      {doing?.what === "create" && <Edit onClose={close} />}
      {doing?.what === "edit" && <Edit provider={doing.provider} onClose={close} />}
      {doing?.what === "test" && <Test provider={doing.provider} onClose={close} />}
      {doing?.what === "delete" && (
        <Remove
          name={name(doing.provider)}
          list="providers"
          work={async () => {
            const params = { path: { id: id(doing.provider) } };
            await call(api.DELETE("/identity-providers/{id}", { params }));
            return undefined;
          }}
          onClose={close}
        >
          <p>
            Its {doing.provider.status.users} users are deleted with it: their sessions end, their tokens are
            revoked.
          </p>
        </Remove>
      )}
    </>
  );
}

/** Whether it can be asked, finds a user, takes their password. Nobody is logged in by it. */
function Test({ provider, onClose }: { provider: Provider; onClose: () => void }) {
  const directory = provider.spec.source.kind === "ldap";
  const groups = useNames(useGroups());
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const test = useMutation({
    mutationFn: () =>
      call(
        api.POST("/identity-providers/{id}/test", {
          params: { path: { id: provider.meta.id } },
          body: { ...(username ? { username } : {}), ...(password ? { password } : {}) },
        }),
      ),
  });
  const result = test.data;
  return (
    <Dialog title={`Try ${provider.meta.name}`} onClose={onClose}>
      <form
        className="flex flex-col gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          event.stopPropagation();
          test.mutate();
        }}
      >
        {directory ? (
          <>
            <p>Who is to be found? Without a name it is only looked whether the directory can be asked.</p>
            <Text label="User" value={username} onChange={(event) => setUsername(event.target.value)} />
            <Text
              label="Password"
              type="password"
              autoComplete="off"
              hint="Where it is to be tried too. Nobody is logged in by it."
              value={password}
              onChange={(event) => setPassword(event.target.value)}
            />
          </>
        ) : (
          <p>
            It is asked for its description and its keys. Whether one can log in shows on the login page, once
            it is enabled.
          </p>
        )}
        <Failure error={test.error} />
        {result && (
          <div role="status" className="flex flex-col gap-2">
            <ul className="list-disc pl-5">
              {result.steps.map((step) => (
                <li key={step} className="wrap-anywhere">
                  {step}
                </li>
              ))}
            </ul>
            {result.failure && <p className="wrap-anywhere text-bad">{result.failure}</p>}
            {result.username && (
              <p className="wrap-anywhere">
                <strong>{result.username}</strong>
                {result.full_name ? `, ${result.full_name}` : ""}. Groups there:{" "}
                {(result.external_groups ?? []).join("; ") || "none"}. Groups here:{" "}
                {(result.groups ?? []).map((group) => groups(group) ?? group).join(", ") || "none"}.
              </p>
            )}
            {result.passed && <p className="text-good">It works.</p>}
          </div>
        )}
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Close</Button>
          <Button type="submit" kind="primary" icon={FlaskConical} busy={test.isPending}>
            Try
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Edit({ provider, onClose }: { provider?: Provider; onClose: () => void }) {
  const client = useQueryClient();
  const [realm, setRealm] = useState(provider?.meta.name ?? "");
  const [form, setForm] = useState(() => toForm(provider?.spec));
  const [secret, setSecret] = useState<string>();
  const set = (change: Partial<ProviderForm>) => setForm({ ...form, ...change });
  const save = useMutation({
    mutationFn: () => {
      const body = { spec: fromForm(form), ...(secret === undefined ? {} : { secret }) };
      return provider
        ? call(
            api.PATCH("/identity-providers/{id}", {
              params: { path: { id: provider.meta.id } },
              headers: { "If-Match": `"${provider.meta.revision}"` },
              body,
            }),
          )
        : call(api.POST("/identity-providers", { body: { ...body, name: realm.trim() } }));
    },
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: ["providers"] }),
  });
  const at = (field: string) => fieldFault(save.error, field);
  const of = (field: string) => at(`spec.source.${field}`);
  const ldap = form.kind === "ldap";
  const text = (label: string, key: keyof ProviderForm, field: string, hint?: string) => (
    <Text
      label={label}
      hint={hint}
      value={form[key] as string}
      fault={of(field)}
      onChange={(event) => set({ [key]: event.target.value })}
    />
  );
  return (
    <FormDialog
      title={provider ? `Identity provider ${provider.meta.name}` : "Add identity provider"}
      verb={provider ? "Save" : "Add provider"}
      wide
      busy={save.isPending}
      error={save.error}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <div className="grid gap-4 sm:grid-cols-2">
        <Text
          label="Realm"
          hint={`Its users are called user@${realm.trim() || "realm"}. It stays as it is.`}
          value={realm}
          disabled={!!provider}
          fault={at("name")}
          onChange={(event) => setRealm(event.target.value)}
        />
        <Select
          label="Kind"
          value={form.kind}
          disabled={!!provider}
          options={[
            ["ldap", "Directory (LDAP)"],
            ["oidc", "OpenID Connect"],
          ]}
          onValue={(value) => set({ kind: value as ProviderForm["kind"] })}
        />
        <Text
          label="Title"
          hint="What the login page calls it."
          value={form.title}
          fault={at("spec.title")}
          onChange={(event) => set({ title: event.target.value })}
        />
        <Text
          label="Sessions last at most, hours"
          inputMode="numeric"
          value={form.hours}
          fault={at("spec.session_hours")}
          onChange={(event) => set({ hours: event.target.value })}
        />
      </div>
      {ldap ? (
        <>
          <Field
            label="Servers"
            hint="ldaps://host or ldap://host (StartTLS), one a line; the first that answers is asked."
            fault={of("servers") ?? of("servers[0]") ?? of("servers[1]")}
          >
            {(props) => (
              <textarea
                {...props}
                className="input h-16 font-mono text-sm"
                spellCheck={false}
                value={form.servers}
                onChange={(event) => set({ servers: event.target.value })}
              />
            )}
          </Field>
          <div className="grid gap-4 sm:grid-cols-2">
            {text("Service account", "bindDn", "bind_dn", "Its distinguished name; it searches.")}
            <Secret
              provider={provider}
              label="Its password"
              {...{ secret, setSecret }}
              fault={at("secret")}
            />
            {text("Users are below", "baseDn", "base_dn", "E.g. ou=people,dc=example,dc=org.")}
            {text("Filter of a user", "userFilter", "user_filter", "{user} stands for the name typed.")}
            {text("Attribute with the name", "userAttribute", "user_attribute")}
            {text("Attribute with the full name", "nameAttribute", "name_attribute")}
            {text("Groups are below", "groupBaseDn", "group_base_dn", "Where empty, where users are.")}
            {text(
              "Filter of the groups of a user",
              "groupFilter",
              "group_filter",
              "{dn} stands for the user. Where empty, memberOf tells them.",
            )}
          </div>
          <p>
            <Button small onClick={() => set(ACTIVE_DIRECTORY)}>
              Fill in for Active Directory
            </Button>
          </p>
          <details>
            <summary className="cursor-pointer text-dim">Without a search</summary>
            <div className="mt-2">
              {text(
                "Distinguished name of a user",
                "userDn",
                "user_dn",
                "E.g. uid={user},ou=people,dc=example,dc=org. Users are not searched for then.",
              )}
            </div>
          </details>
        </>
      ) : (
        <>
          <p className="text-dim">
            Register <code className="wrap-anywhere">{`${location.origin}/oidc`}</code> there as redirection
            address, and one for every other name or address by which this page is opened.
          </p>
          {text("Issuer", "issuer", "issuer")}
          <div className="grid gap-4 sm:grid-cols-2">
            {text("Client id", "clientId", "client_id")}
            <Secret
              provider={provider}
              label="Client secret"
              {...{ secret, setSecret }}
              fault={at("secret")}
            />
            {text("Claim with the user name", "usernameClaim", "username_claim")}
            {text("Claim with the full name", "nameClaim", "name_claim")}
            {text("Claim with the groups", "groupsClaim", "groups_claim")}
            {text("Scopes", "scopes", "scopes", "Beside openid.")}
          </div>
        </>
      )}
      <Mappings form={form} set={set} at={at} />
      <details>
        <summary className="cursor-pointer text-dim">Certificates that are trusted</summary>
        <textarea
          className="input mt-2 h-28 font-mono text-sm"
          aria-label="Certificates that are trusted, in PEM form"
          placeholder="-----BEGIN CERTIFICATE-----"
          spellCheck={false}
          value={form.ca}
          onChange={(event) => set({ ca: event.target.value })}
        />
        <p className={of("ca") ? "text-sm text-bad" : "text-sm text-dim"}>
          {of("ca") ?? "Only these, where there are some; else those of public authorities."}
        </p>
        {ldap && (
          <div className="mt-2">
            {text(
              "Or the one certificate, by its SHA-256",
              "certificate",
              "certificate_sha256",
              "For a directory that signs its own.",
            )}
          </div>
        )}
      </details>
      <Check checked={form.enabled} onChange={(event) => set({ enabled: event.target.checked })}>
        Its users can log in
      </Check>
    </FormDialog>
  );
}

function Secret({
  provider,
  label,
  secret,
  setSecret,
  fault,
}: {
  provider: Provider | undefined;
  label: string;
  secret: string | undefined;
  setSecret: (secret: string) => void;
  fault: string | undefined;
}) {
  return (
    <Text
      label={label}
      type="password"
      autoComplete="new-password"
      placeholder={provider?.has_secret ? "as it is" : ""}
      hint="Never shown again."
      value={secret ?? ""}
      fault={fault}
      onChange={(event) => setSecret(event.target.value)}
    />
  );
}

/** Which groups there stand for which here. */
function Mappings({
  form,
  set,
  at,
}: {
  form: ProviderForm;
  set: (change: Partial<ProviderForm>) => void;
  at: (field: string) => string | undefined;
}) {
  const groups = useGroups();
  const change = (n: number, part: Partial<ProviderForm["groups"][number]>) =>
    set({ groups: form.groups.map((mapping, m) => (m === n ? { ...mapping, ...part } : mapping)) });
  return (
    <fieldset className="flex flex-col gap-3">
      <legend className="mb-2 font-medium">Groups</legend>
      <p className="text-sm text-dim">
        What someone may do comes from groups of the cluster which groups there stand for. Whoever is in none
        of them is not let in, unless something was granted to them by name.
      </p>
      {form.groups.map(({ external, group }, n) => (
        <div key={n} className="grid items-start gap-2 sm:grid-cols-[1fr_1fr_auto]">
          <Text
            label={`Group there, ${n + 1}`}
            placeholder="name, distinguished name, or * for everyone"
            value={external}
            fault={at(`spec.groups[${n}].external`)}
            onChange={(event) => change(n, { external: event.target.value })}
          />
          <Select
            label={`Group here, ${n + 1}`}
            value={group}
            none="Choose …"
            options={(groups.data ?? []).map(({ meta }) => [meta.id, meta.name] as const)}
            fault={at(`spec.groups[${n}].group`)}
            onValue={(value) => change(n, { group: value })}
          />
          <div className="self-end">
            <Button
              kind="quiet"
              icon={Trash2}
              aria-label={`Take mapping ${n + 1} away`}
              onClick={() => set({ groups: form.groups.filter((_, m) => m !== n) })}
            />
          </div>
        </div>
      ))}
      <p>
        <Button
          small
          icon={Plus}
          onClick={() => set({ groups: [...form.groups, { external: "", group: "" }] })}
        >
          Map a group
        </Button>
      </p>
    </fieldset>
  );
}
