// What is wrong now, and what was: taken note of and silenced here.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { BellOff, BellRing, Check as Tick, Siren } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, fieldFault, type Alert } from "../../api/client";
import { useAlerts } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { Bulk } from "../../components/Bulk";
import { FormDialog } from "../../components/Dialog";
import { Head } from "../../components/Page";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Words } from "../../components/Words";
import { Button, Menu, Select, State, Text, buttonClass, cx } from "../../components/ui";
import { colour, standing, weight } from "../../lib/alerts";
import { age, time } from "../../lib/format";
import { AlertTarget } from "./Target";

const id = (alert: Alert) => alert.id;
const name = (alert: Alert) => alert.message;

type Doing = { what: "acknowledge" | "silence" | "speak"; alert: Alert };
type Many = { what: "acknowledge" | "silence"; alerts: Alert[] };

export function Alerts() {
  const past = useSearch({ strict: false }).open === "past";
  const alerts = useAlerts(past ? "resolved" : "active");
  const navigate = useNavigate();
  const refusal = useClusterRefusal()("alert.write");
  const [doing, setDoing] = useState<Doing>();
  const [many, setMany] = useState<Many>();
  const columns = useMemo(
    (): Column<Alert>[] => [
      {
        id: "message",
        label: "What is wrong",
        value: ({ message }) => message,
        cell: (alert) => (
          <Words
            text={alert.message}
            title={`${alert.severity}: ${alert.rule}`}
            facts={[
              ["About", <AlertTarget alert={alert} />],
              ["Since", `${time(alert.raised_at)} (${age(alert.raised_at)})`],
              ["Over at", alert.resolved_at ? time(alert.resolved_at) : undefined],
              ["Status", standing(alert)],
              ["Remarks", remark(alert)],
            ]}
          />
        ),
      },
      {
        id: "severity",
        label: "Severity",
        value: ({ severity }) => weight(severity),
        cell: ({ severity }) => <State state={colour(severity)} word={severity} />,
        width: "w-28",
        narrow: true,
      },
      {
        id: "about",
        label: "About",
        value: ({ target_name, part }) => (part ? `${target_name} (${part})` : target_name),
        cell: (alert) => <AlertTarget alert={alert} />,
        width: "w-[15%]",
      },
      { id: "rule", label: "Rule", value: ({ rule }) => rule, width: "w-40" },
      {
        id: "state",
        label: "Status",
        value: (alert) => standing(alert),
        cell: (alert) => <span title={remark(alert)}>{standing(alert)}</span>,
        width: "w-32",
      },
      {
        id: "since",
        label: past ? "Over at" : "Since",
        value: ({ raised_at, resolved_at }) => Date.parse(resolved_at ?? raised_at),
        cell: ({ raised_at, resolved_at }) => (
          <time dateTime={resolved_at ?? raised_at} title={age(resolved_at ?? raised_at)}>
            {time(resolved_at ?? raised_at)}
          </time>
        ),
        width: "w-46",
      },
    ],
    [past],
  );
  const local = "Only the host that answers knows it while the cluster takes no changes; it ends by itself.";
  return (
    <>
      <Head title="Alerts" icon={Siren}>
        <div role="group" aria-label="Which alerts" className="flex gap-1">
          {[false, true].map((each) => (
            <button
              key={String(each)}
              type="button"
              aria-pressed={past === each}
              className={cx(buttonClass(past === each ? "plain" : "quiet"))}
              onClick={() => void navigate({ to: "/alerts", search: each ? { open: "past" } : {} })}
            >
              {each ? "Past" : "Active"}
            </button>
          ))}
        </div>
        <Link to="/settings/notifications" className={buttonClass()}>
          Rules and notifications
        </Link>
      </Head>
      <ListView
        nouns="alerts"
        icon={Siren}
        query={alerts}
        columns={columns}
        id={id}
        name={name}
        order={past ? "-since" : "-severity"}
        brief={(alert) => `${alert.target_name} · ${standing(alert)} · ${time(alert.raised_at)}`}
        {...(past
          ? {}
          : {
              bulk: (chosen: Alert[]) => (
                <>
                  <Button
                    small
                    icon={Tick}
                    refusal={refusal}
                    onClick={() => setMany({ what: "acknowledge", alerts: chosen })}
                  >
                    Acknowledge
                  </Button>
                  <Button
                    small
                    icon={BellOff}
                    refusal={refusal}
                    onClick={() => setMany({ what: "silence", alerts: chosen })}
                  >
                    Silence
                  </Button>
                </>
              ),
            })}
        actions={(alert) =>
          alert.resolved_at ? null : (
            <Menu
              label={`Actions for the alert about ${alert.target_name}`}
              items={[
                {
                  label: "Acknowledge",
                  icon: Tick,
                  refusal: alert.local ? local : refusal,
                  run: () => setDoing({ what: "acknowledge", alert }),
                },
                {
                  label: "Silence",
                  icon: BellOff,
                  refusal: alert.local ? local : refusal,
                  run: () => setDoing({ what: "silence", alert }),
                },
                ...(standing(alert) === "silenced"
                  ? [
                      {
                        label: "End the silence",
                        icon: BellRing,
                        refusal,
                        run: () => setDoing({ what: "speak" as const, alert }),
                      },
                    ]
                  : []),
              ]}
            />
          )
        }
        empty={
          past ? <p>What is over is kept here for a while.</p> : <p>Nothing is wrong that the rules watch.</p>
        }
      />
      {doing && <Act doing={doing} onClose={() => setDoing(undefined)} />}
      {many && (
        <ActMany
          many={many}
          refusal={(alert) =>
            alert.local
              ? local
              : many.what === "acknowledge" && alert.acknowledged
                ? "It is already."
                : undefined
          }
          onClose={() => setMany(undefined)}
        />
      )}
    </>
  );
}

function ActMany({
  many: { what, alerts },
  refusal,
  onClose,
}: {
  many: Many;
  refusal: (alert: Alert) => string | undefined;
  onClose: () => void;
}) {
  const client = useQueryClient();
  const [comment, setComment] = useState("");
  const [minutes, setMinutes] = useState<string>("480");
  const verb = what === "acknowledge" ? "Acknowledge" : "Silence";
  return (
    <Bulk
      title={`${verb}: ${alerts.length} ${alerts.length === 1 ? "alert" : "alerts"}`}
      verb={verb}
      items={alerts}
      name={(alert) => `${alert.target_name}${alert.part ? ` (${alert.part})` : ""}: ${alert.message}`}
      refusal={refusal}
      work={(alert) => {
        const params = { path: { id: alert.id } };
        return what === "acknowledge"
          ? call(api.POST("/alerts/{id}/acknowledge", { params, body: { comment } }))
          : call(api.POST("/alerts/{id}/silence", { params, body: { minutes: Number(minutes), comment } }));
      }}
      onClose={() => {
        void client.invalidateQueries({ queryKey: ["alerts"] });
        onClose();
      }}
    >
      {what === "silence" && (
        <Select
          label="For"
          value={minutes}
          options={SILENCES}
          hint="Nobody is notified until then. What is still there at the end is told."
          onValue={setMinutes}
        />
      )}
      <Text label="Comment" value={comment} onChange={(event) => setComment(event.target.value)} />
    </Bulk>
  );
}

/** Who took note of it, who silenced it, and what they said. */
function remark({ acknowledged, silenced }: Alert): string | undefined {
  const words = [
    acknowledged && `acknowledged by ${acknowledged.by}, ${time(acknowledged.at)}`,
    acknowledged?.comment,
    silenced && `silenced by ${silenced.by} until ${time(silenced.until)}`,
    silenced?.comment,
  ];
  return words.filter(Boolean).join("\n") || undefined;
}

const SILENCES = [
  ["60", "1 hour"],
  ["480", "8 hours"],
  ["1440", "1 day"],
  ["10080", "1 week"],
  ["43200", "30 days"],
] as const;

function Act({ doing: { what, alert }, onClose }: { doing: Doing; onClose: () => void }) {
  const client = useQueryClient();
  const [comment, setComment] = useState("");
  const [minutes, setMinutes] = useState<string>("480");
  const act = useMutation({
    mutationFn: () => {
      const params = { path: { id: alert.id } };
      if (what === "acknowledge")
        return call(api.POST("/alerts/{id}/acknowledge", { params, body: { comment } }));
      const body = { minutes: what === "speak" ? 0 : Number(minutes), comment };
      return call(api.POST("/alerts/{id}/silence", { params, body }));
    },
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: ["alerts"] }),
  });
  const title = { acknowledge: "Acknowledge", silence: "Silence", speak: "End the silence" }[what];
  return (
    <FormDialog
      title={`${title}: ${alert.target_name}`}
      verb={title}
      busy={act.isPending}
      error={act.error}
      onSubmit={() => act.mutate()}
      onClose={onClose}
    >
      <p className="wrap-anywhere">{alert.message}</p>
      {what === "silence" && (
        <Select
          label="For"
          value={minutes}
          options={SILENCES}
          hint="Nobody is notified until then. If it is still there at the end, it is told."
          onValue={setMinutes}
        />
      )}
      {what !== "speak" && (
        <Text
          label="Comment"
          value={comment}
          fault={fieldFault(act.error, "comment")}
          onChange={(event) => setComment(event.target.value)}
        />
      )}
    </FormDialog>
  );
}
