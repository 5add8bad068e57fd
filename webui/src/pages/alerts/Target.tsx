// What an alert is about: its name, and the way to it.
import { Link } from "@tanstack/react-router";
import type { Alert } from "../../api/client";

export function AlertTarget({ alert }: { alert: Alert }) {
  const [kind, id = ""] = alert.target.split("/");
  const label = alert.part ? `${alert.target_name} (${alert.part})` : alert.target_name;
  switch (kind) {
    case "vm":
      return (
        <Link className="link" to="/vms/$id" params={{ id }}>
          {label}
        </Link>
      );
    case "host":
      return (
        <Link className="link" to="/hosts/$id" params={{ id }}>
          {label}
        </Link>
      );
    case "pool":
      return (
        <Link className="link" to="/pools/$id" params={{ id }}>
          {label}
        </Link>
      );
    case "cluster":
      return (
        <Link className="link" to="/cluster">
          the cluster
        </Link>
      );
    case "channel":
      return (
        <Link className="link" to="/settings/notifications">
          {label}
        </Link>
      );
    default:
      return <span>{label}</span>;
  }
}
