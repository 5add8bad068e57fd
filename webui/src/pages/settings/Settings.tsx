// The settings: their tabs are addresses.
import { Link, Outlet } from "@tanstack/react-router";
import { Settings as Cog } from "lucide-react";
import { Head, TabBar, tabClass } from "../../components/Page";
import { SETTINGS } from "../../components/shell/places";

export function Settings() {
  return (
    <>
      <Head title="Settings" icon={Cog} />
      <TabBar label="Pages of the settings">
        {SETTINGS.map(([to, label], n) => (
          <Link
            key={to}
            to={to}
            activeOptions={{ exact: n === 0, includeSearch: false }}
            className={tabClass}
          >
            {label}
          </Link>
        ))}
      </TabBar>
      <div className="flex min-h-0 flex-1 flex-col">
        <Outlet />
      </div>
    </>
  );
}
