// In the bar of every page: how many alerts nobody has seen to yet, and the way to them.
import { Link } from "@tanstack/react-router";
import { Siren } from "lucide-react";
import { useAlerts } from "../../api/queries";
import { counts, urgent } from "../../lib/alerts";
import { cx } from "../ui";

export function AlertBadge() {
  const open = urgent(useAlerts("active").data);
  const words = counts(open)
    .map(([severity, count]) => `${count} ${severity}`)
    .join(", ");
  const shown = open.length > 99 ? "99+" : String(open.length);
  const grave = open.some(({ severity }) => severity === "critical");
  return (
    <Link
      to="/alerts"
      // With the number that is shown, where it is none of those by severity.
      aria-label={words ? `Alerts: ${counts(open).length > 1 ? `${shown}, ` : ""}${words}` : "Alerts: none"}
      title={words || "No alerts"}
      className="relative rounded-md p-2 hover:bg-bar-hover"
    >
      <Siren size={18} aria-hidden />
      {open.length > 0 && (
        <span
          aria-hidden
          className={cx(
            "absolute top-0 right-0 min-w-4.5 rounded-full px-1 text-center text-xs leading-4.5 font-semibold text-white",
            grave ? "bg-[#b3261e]" : "bg-[#8a5a00]",
          )}
        >
          {shown}
        </span>
      )}
    </Link>
  );
}
