// The rules about the place of machines, in one place: who is kept apart or together, and who breaks it now.
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Vm } from "../api/client";
import { useHosts, useNames, useVms } from "../api/queries";
import { Card, State } from "../components/ui";
import { ruleGroups, ruleText } from "../lib/placement";

/** Machines named of each rule; the others are counted. */
const NAMED = 8;

export function Rules() {
  const vms = useVms().data;
  const host = useNames(useHosts());
  const groups = useMemo(() => ruleGroups(vms ?? []), [vms]);
  return (
    <Card title="Placement rules">
      {groups.length === 0 ? (
        <p className="text-dim">
          No machine asks to be near to others or apart from them. Rules are part of a machine: its summary
          has them.
        </p>
      ) : (
        <ul aria-label="Placement rules">
          {groups.map(({ rule, members, broken }) => (
            <li
              key={`${rule.kind} ${rule.strict} ${rule.label}`}
              className="flex flex-col gap-1 border-line py-2.5 not-first:border-t"
            >
              <span className="flex flex-wrap items-center gap-x-4">
                <span className="font-medium">
                  {rule.kind === "apart" ? "Apart from" : "Together with"} {rule.label}
                </span>
                <span className="text-dim">{rule.strict ? "strictly" : "if possible"}</span>
                <State
                  state={broken.length === 0 ? "ready" : rule.strict ? "failed" : "warning"}
                  word={
                    broken.length === 0
                      ? "holds"
                      : broken.length === 1
                        ? "broken by one"
                        : `broken by ${broken.length}`
                  }
                />
              </span>
              <span>
                <Names vms={members.map(({ vm }) => vm)} />
                <span className="text-dim"> {ruleText(rule)}</span>
              </span>
              {broken.slice(0, NAMED).map(({ vm, against }) => (
                <span key={vm.meta.id} className="text-sm">
                  <Names vms={[vm]} /> is on {host(vm.status.host) ?? "a host"}{" "}
                  {rule.kind === "apart" ? "with" : "and not with"} <Names vms={against} />
                </span>
              ))}
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}

function Names({ vms }: { vms: readonly Vm[] }) {
  return (
    <>
      {vms.slice(0, NAMED).map(({ meta }, n) => (
        <span key={meta.id}>
          {n > 0 && ", "}
          <Link className="link" to="/vms/$id" params={{ id: meta.id }}>
            {meta.name}
          </Link>
        </span>
      ))}
      {vms.length > NAMED && ` and ${vms.length - NAMED} more`}
    </>
  );
}
