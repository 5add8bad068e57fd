// Every change somebody asked for: who, what, from where, and what became of it.
import { ScrollText } from "lucide-react";
import { useMemo } from "react";
import type { AuditRecord } from "../../api/client";
import { useAudit } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { Target, useTargets } from "../../components/Target";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Empty, State } from "../../components/ui";
import { time } from "../../lib/format";

const id = (record: AuditRecord) => record.id;
const STATES: Record<AuditRecord["outcome"], string> = { done: "ready", refused: "paused", failed: "failed" };

export function Audit() {
  const refusal = useClusterRefusal()("audit.read");
  return refusal ? (
    <Empty icon={ScrollText} title="The audit log is not for you.">
      {refusal}
    </Empty>
  ) : (
    <Log />
  );
}

function Log() {
  const audit = useAudit();
  const names = useTargets();
  const columns = useMemo((): Column<AuditRecord>[] => {
    // As it was called then, where it is not to be found any more.
    const named = ({ target, target_name }: AuditRecord) =>
      names.get(target) ?? (target_name ? `${target.split("/")[0]} ${target_name}` : target.split("/")[0]);
    return [
      { id: "action", label: "Action", value: ({ action }) => action },
      {
        id: "outcome",
        label: "Outcome",
        value: ({ outcome }) => outcome,
        cell: ({ outcome, status }) => (
          <span title={`Status ${status}`}>
            <State state={STATES[outcome]} word={outcome} />
          </span>
        ),
        width: "w-28",
        narrow: true,
      },
      { id: "by", label: "By", value: ({ actor }) => actor, width: "w-[16%]" },
      { id: "from", label: "From", value: ({ from }) => from, width: "w-36" },
      {
        id: "target",
        label: "Target",
        value: (record) => named(record),
        cell: (record) =>
          names.has(record.target) ? <Target names={names} about={record} /> : named(record),
        width: "w-[14%]",
      },
      {
        id: "detail",
        label: "Why not",
        value: ({ detail }) => detail ?? undefined,
        cell: ({ detail }) => detail && <span title={detail}>{detail}</span>,
        width: "w-[22%]",
      },
      {
        id: "at",
        label: "When",
        value: ({ at }) => Date.parse(at),
        cell: ({ at }) => time(at),
        width: "w-46",
      },
    ];
  }, [names]);
  return (
    <ListView
      nouns="records"
      icon={ScrollText}
      query={audit}
      columns={columns}
      id={id}
      name={({ action }) => action}
      order="-at"
      brief={({ actor, at }) => `${actor} · ${time(at)}`}
      empty={<p>Nobody has changed anything yet.</p>}
    />
  );
}
