// What an alert is about: its name, and the way to it.
import type { Alert } from "../../api/client";
import { TargetLink } from "../../components/Target";

export function AlertTarget({ alert }: { alert: Alert }) {
  const { target, target_name: name, part } = alert;
  // A cluster has no name.
  const label = target.split("/")[0] === "cluster" ? "the cluster" : part ? `${name} (${part})` : name;
  return <TargetLink target={target} label={label} />;
}
