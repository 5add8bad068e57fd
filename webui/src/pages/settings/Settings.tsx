// The settings: their tabs are addresses.
import { Link, Outlet } from "@tanstack/react-router";
import { Settings as Cog } from "lucide-react";
import { Head } from "../../components/Page";
import { SETTINGS } from "../../components/shell/places";

export function Settings() {
  return (
    <>
      <Head title="Settings" icon={Cog} />
      <nav
        aria-label="Pages of the settings"
        className="mb-4 flex flex-none gap-1 overflow-x-auto border-b border-line"
      >
        {SETTINGS.map(([to, label], n) => (
          <Link
            key={to}
            to={to}
            activeOptions={{ exact: n === 0, includeSearch: false }}
            className="-mb-px border-b-2 border-transparent px-3.5 py-2 whitespace-nowrap text-dim outline-offset-[-2px] hover:text-text aria-[current=page]:border-accent aria-[current=page]:font-medium aria-[current=page]:text-text"
          >
            {label}
          </Link>
        ))}
      </nav>
      <div className="flex min-h-0 flex-1 flex-col">
        <Outlet />
      </div>
    </>
  );
}
