// Whom alerts are told to, and how the rules that raise them are set.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { BellRing, Pencil, Plus, Send, SlidersHorizontal, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, fieldFault, type Channel, type ChannelTarget, type Severity } from "../../api/client";
import { useChannels } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { Dialog, FormDialog } from "../../components/Dialog";
import { Remove } from "../../components/Remove";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Button, Check, Failure, Loading, Menu, Select, State, Text } from "../../components/ui";
import { time } from "../../lib/format";
import { Rules } from "./AlertRules";

const id = (channel: Channel) => channel.meta.id;
const name = (channel: Channel) => channel.meta.name;

/** Where it goes, in words. */
function place({ spec: { target } }: Channel): string {
  switch (target.kind) {
    case "webhook":
      return target.url;
    case "mail":
      return target.to.join(", ");
    case "syslog":
      return `${target.server} over ${target.tls === false ? "TCP" : "TLS"}`;
  }
}

type Doing = { what: "edit" | "delete" | "test"; channel: Channel } | { what: "create" | "rules" };

export function Notifications() {
  const channels = useChannels();
  const refusal = useClusterRefusal()("cluster.write");
  const [doing, setDoing] = useState<Doing>();
  const close = () => setDoing(undefined);
  const columns = useMemo(
    (): Column<Channel>[] => [
      { id: "name", label: "Name", value: name },
      { id: "kind", label: "Kind", value: ({ spec }) => spec.target.kind, width: "w-28" },
      { id: "to", label: "To", value: place, width: "w-[30%]" },
      { id: "from", label: "From", value: ({ spec }) => spec.min_severity ?? "warning", width: "w-28" },
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
              <State state="failed" word={`failing, ${status.waiting} waiting`} />
            </span>
          ) : (
            <State
              state="ready"
              word={status.delivered_at ? `ready, last ${time(status.delivered_at)}` : "ready"}
            />
          ),
        width: "w-[24%]",
        narrow: true,
      },
    ],
    [],
  );
  return (
    <>
      <ListView
        nouns="channels"
        icon={BellRing}
        query={channels}
        columns={columns}
        id={id}
        name={name}
        order="name"
        brief={place}
        toolbar={
          <>
            <Button icon={SlidersHorizontal} onClick={() => setDoing({ what: "rules" })}>
              Alert rules
            </Button>
            <Button kind="primary" icon={Plus} refusal={refusal} onClick={() => setDoing({ what: "create" })}>
              Add channel
            </Button>
          </>
        }
        actions={(channel) => (
          <Menu
            label={`Actions for ${channel.meta.name}`}
            items={[
              { label: "Send a test", icon: Send, refusal, run: () => setDoing({ what: "test", channel }) },
              { label: "Change", icon: Pencil, refusal, run: () => setDoing({ what: "edit", channel }) },
              {
                label: "Delete",
                icon: Trash2,
                danger: true,
                apart: true,
                refusal,
                run: () => setDoing({ what: "delete", channel }),
              },
            ]}
          />
        )}
        empty={
          <p>Alerts are told by webhook, mail or syslog to whoever has to know. Add a channel for that.</p>
        }
      />
      {doing?.what === "rules" && <Rules refusal={refusal} onClose={close} />}
      {doing?.what === "create" && <Edit onClose={close} />}
      {doing?.what === "edit" && <Edit channel={doing.channel} onClose={close} />}
      {doing?.what === "test" && <Test channel={doing.channel} onClose={close} />}
      {doing?.what === "delete" && (
        <Remove
          name={name(doing.channel)}
          list="channels"
          work={async () => {
            const params = { path: { id: id(doing.channel) } };
            await call(api.DELETE("/notification-channels/{id}", { params }));
            return undefined;
          }}
          onClose={close}
        >
          <p>Nobody is told of alerts by it any more.</p>
        </Remove>
      )}
    </>
  );
}

function Test({ channel, onClose }: { channel: Channel; onClose: () => void }) {
  const test = useMutation({
    mutationFn: () =>
      call(api.POST("/notification-channels/{id}/test", { params: { path: { id: channel.meta.id } } })),
  });
  return (
    <Dialog title={`Test ${channel.meta.name}`} onClose={onClose}>
      <p>A message that says it is a test goes to {place(channel)}.</p>
      {test.isPending && <Loading />}
      <Failure error={test.error} />
      {test.data?.delivered && (
        <p role="status" className="text-good">
          It was taken.
        </p>
      )}
      {test.data?.delivered === false && (
        <p role="alert" className="wrap-anywhere text-bad">
          It was not taken: {test.data.failure}
        </p>
      )}
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Close</Button>
        <Button kind="primary" icon={Send} busy={test.isPending} onClick={() => test.mutate()}>
          Send a test
        </Button>
      </div>
    </Dialog>
  );
}

/** What the form holds: of every kind what was typed. */
interface Form {
  kind: ChannelTarget["kind"];
  url: string;
  server: string;
  port: string;
  security: "start-tls" | "tls" | "none";
  username: string;
  from: string;
  to: string;
  tls: boolean;
  ca: string;
}

function toForm(target?: ChannelTarget): Form {
  const form: Form = {
    kind: target?.kind ?? "webhook",
    url: "https://",
    server: "",
    port: "",
    security: "start-tls",
    username: "",
    from: "",
    to: "",
    tls: true,
    ca: target?.ca ?? "",
  };
  if (!target) return form;
  if (target.kind === "webhook") return { ...form, url: target.url };
  const common = { ...form, server: target.server, port: target.port ? String(target.port) : "" };
  if (target.kind === "syslog") return { ...common, tls: target.tls ?? true };
  return {
    ...common,
    security: target.security ?? "start-tls",
    username: target.username ?? "",
    from: target.from,
    to: target.to.join(", "),
  };
}

function fromForm(form: Form): ChannelTarget {
  const ca = form.ca.trim() ? { ca: form.ca.trim() } : {};
  const port = form.port.trim() ? { port: Number(form.port) } : {};
  const server = form.server.trim();
  switch (form.kind) {
    case "webhook":
      return { kind: "webhook", url: form.url.trim(), ...ca };
    case "syslog":
      return { kind: "syslog", server, ...port, tls: form.tls, ...ca };
    case "mail":
      return {
        kind: "mail",
        server,
        ...port,
        security: form.security,
        ...(form.username.trim() ? { username: form.username.trim() } : {}),
        from: form.from.trim(),
        to: form.to.split(/[\s,;]+/).filter(Boolean),
        ...ca,
      };
  }
}

function Edit({ channel, onClose }: { channel?: Channel; onClose: () => void }) {
  const client = useQueryClient();
  const [label, setLabel] = useState(channel?.meta.name ?? "");
  const [enabled, setEnabled] = useState(channel?.spec.enabled ?? true);
  const [least, setLeast] = useState<Severity>(channel?.spec.min_severity ?? "warning");
  const [form, setForm] = useState(toForm(channel?.spec.target));
  const [secret, setSecret] = useState<string>();
  const set = (change: Partial<Form>) => setForm({ ...form, ...change });
  const save = useMutation({
    mutationFn: () => {
      const body = {
        name: label.trim(),
        spec: { enabled, min_severity: least, target: fromForm(form) },
        ...(secret === undefined ? {} : { secret }),
      };
      return channel
        ? call(
            api.PATCH("/notification-channels/{id}", {
              params: { path: { id: channel.meta.id } },
              headers: { "If-Match": `"${channel.meta.revision}"` },
              body,
            }),
          )
        : call(api.POST("/notification-channels", { body }));
    },
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: ["channels"] }),
  });
  const at = (field: string) => fieldFault(save.error, field);
  const of = (field: string) => at(`spec.target.${field}`);
  const { kind } = form;
  return (
    <FormDialog
      title={channel ? `Channel ${channel.meta.name}` : "Add channel"}
      verb={channel ? "Save" : "Add channel"}
      wide
      busy={save.isPending}
      error={save.error}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <Text
        label="Name"
        value={label}
        fault={at("name")}
        onChange={(event) => setLabel(event.target.value)}
      />
      <div className="grid gap-4 sm:grid-cols-2">
        <Select
          label="Kind"
          value={kind}
          options={[
            ["webhook", "Webhook"],
            ["mail", "Mail"],
            ["syslog", "Syslog"],
          ]}
          onValue={(value) => set({ kind: value as Form["kind"] })}
        />
        <Select
          label="Tell of alerts from"
          value={least}
          options={[
            ["info", "info"],
            ["warning", "warning"],
            ["critical", "critical"],
          ]}
          onValue={(value) => setLeast(value as Severity)}
        />
      </div>
      {kind === "webhook" ? (
        <Text
          label="URL"
          hint="A JSON document is sent there by POST."
          value={form.url}
          fault={of("url")}
          onChange={(event) => set({ url: event.target.value })}
        />
      ) : (
        <div className="grid gap-4 sm:grid-cols-[1fr_8rem]">
          <Text
            label="Server"
            value={form.server}
            fault={of("server")}
            onChange={(event) => set({ server: event.target.value })}
          />
          <Text
            label="Port"
            inputMode="numeric"
            placeholder="usual"
            value={form.port}
            fault={of("port")}
            onChange={(event) => set({ port: event.target.value })}
          />
        </div>
      )}
      {kind === "mail" && (
        <>
          <div className="grid gap-4 sm:grid-cols-2">
            <Select
              label="Security"
              value={form.security}
              fault={of("security")}
              options={[
                ["start-tls", "STARTTLS"],
                ["tls", "TLS"],
                ["none", "none"],
              ]}
              onValue={(value) => set({ security: value as Form["security"] })}
            />
            <Text
              label="User name"
              hint="Nobody logs in where it is empty."
              value={form.username}
              fault={of("username")}
              onChange={(event) => set({ username: event.target.value })}
            />
          </div>
          <Text
            label="From"
            value={form.from}
            fault={of("from")}
            onChange={(event) => set({ from: event.target.value })}
          />
          <Text
            label="To"
            hint="Several with commas between."
            value={form.to}
            fault={of("to") ?? of("to[0]")}
            onChange={(event) => set({ to: event.target.value })}
          />
        </>
      )}
      {kind === "syslog" && (
        <Check checked={form.tls} onChange={(event) => set({ tls: event.target.checked })}>
          Over TLS
        </Check>
      )}
      {kind !== "syslog" && (
        <Text
          label={kind === "mail" ? "Password" : "Key of the signature"}
          type="password"
          autoComplete="new-password"
          placeholder={channel?.has_secret ? "as it is" : ""}
          hint={
            kind === "mail"
              ? "Never shown again."
              : "Where there is one, the header X-LQ-Signature proves that the message is from here. Never shown again."
          }
          value={secret ?? ""}
          fault={at("secret")}
          onChange={(event) => setSecret(event.target.value)}
        />
      )}
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
      </details>
      <Check checked={enabled} onChange={(event) => setEnabled(event.target.checked)}>
        Tell it of alerts
      </Check>
    </FormDialog>
  );
}
