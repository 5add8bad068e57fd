// The table of addresses. What a page shows of a list (search, order) is in the address as well.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link } from "@tanstack/react-router";
import { Compass } from "lucide-react";
import { Fault } from "./components/Guard";
import { Empty, Loading, buttonClass } from "./components/ui";
import { Root } from "./Root";

export interface Search {
  /** Search in the list of the page. */
  q?: string | undefined;
  /** Its order: a column, `-` before it for downwards. */
  sort?: string | undefined;
  /** A dialog that is open. */
  open?: string | undefined;
  /** Step of a wizard. */
  step?: number | undefined;
  /** Image a new machine is made from. */
  image?: string | undefined;
  /** How far back charts show, by its name. */
  span?: string | undefined;
}

function words(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : undefined;
}
const number = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);

const root = createRootRoute({
  component: Root,
  validateSearch: (search: Record<string, unknown>): Search => ({
    q: words(search["q"]) || undefined,
    sort: words(search["sort"]),
    open: words(search["open"]),
    step: number(search["step"]),
    image: words(search["image"]),
    span: words(search["span"]),
  }),
  notFoundComponent: () => (
    <Empty icon={Compass} title="There is no such page.">
      <Link to="/" className={buttonClass()}>
        Dashboard
      </Link>
    </Empty>
  ),
});

const page = (path: string, load: Parameters<typeof lazyRouteComponent>[0], name: string) =>
  ({ getParentRoute: () => root, path, component: lazyRouteComponent(load, name) }) as const;

const vms = () => import("./pages/vm");
const hosts = () => import("./pages/host");
const pools = () => import("./pages/pools");
const monitoring = () => import("./pages/Monitoring");
const settingsPages = () => import("./pages/settings");

const dashboard = createRoute({ ...page("/", () => import("./pages/Dashboard"), "Dashboard"), path: "/" });
const vmList = createRoute({ ...page("/vms", vms, "Vms"), path: "/vms" });
const vmNew = createRoute({ ...page("/vms/new", vms, "CreateVm"), path: "/vms/new" });
const vm = createRoute({ ...page("/vms/$id", vms, "VmLayout"), path: "/vms/$id" });
const vmTab = <Path extends string>(path: Path, name: string) =>
  createRoute({ getParentRoute: () => vm, path, component: lazyRouteComponent(vms, name as "Summary") });
const host = createRoute({ ...page("/hosts/$id", hosts, "HostLayout"), path: "/hosts/$id" });
const hostTab = <Path extends string>(path: Path, name: string) =>
  createRoute({
    getParentRoute: () => host,
    path,
    component: lazyRouteComponent(hosts, name as "HostSummary"),
  });

const settings = createRoute({ ...page("/settings", settingsPages, "Settings"), path: "/settings" });
const settingsTab = <Path extends string>(path: Path, name: string) =>
  createRoute({
    getParentRoute: () => settings,
    path,
    component: lazyRouteComponent(settingsPages, name as "Account"),
  });

const tree = root.addChildren([
  dashboard,
  vmList,
  vmNew,
  vm.addChildren([
    vmTab("/", "Summary"),
    vmTab("/console", "ConsolePage"),
    vmTab("/screen", "ScreenPage"),
    vmTab("/performance", "Performance"),
    vmTab("/hardware", "Hardware"),
    vmTab("/networks", "VmNetworks"),
    vmTab("/events", "VmEvents"),
  ]),
  createRoute({ ...page("/hosts", hosts, "Hosts"), path: "/hosts" }),
  host.addChildren([
    hostTab("/", "HostSummary"),
    hostTab("/vms", "HostVms"),
    hostTab("/performance", "HostPerformance"),
    hostTab("/hardware", "HostHardware"),
    hostTab("/networks", "HostNetworks"),
    hostTab("/storage", "HostStorage"),
    hostTab("/events", "HostEvents"),
    hostTab("/bmc", "HostBmc"),
    hostTab("/system", "HostSystem"),
  ]),
  createRoute({ ...page("/cluster", () => import("./pages/Cluster"), "ClusterPage"), path: "/cluster" }),
  createRoute({ ...page("/ha", () => import("./pages/HighAvailability"), "HighAvailability"), path: "/ha" }),
  createRoute({
    ...page("/recommendations", () => import("./pages/Recommendations"), "Recommendations"),
    path: "/recommendations",
  }),
  createRoute({ ...page("/pools", pools, "Pools"), path: "/pools" }),
  createRoute({ ...page("/pools/$id", pools, "PoolPage"), path: "/pools/$id" }),
  createRoute({ ...page("/volumes", () => import("./pages/volumes/List"), "Volumes"), path: "/volumes" }),
  createRoute({ ...page("/images", () => import("./pages/images/List"), "Images"), path: "/images" }),
  createRoute({ ...page("/networks", () => import("./pages/Networks"), "Networks"), path: "/networks" }),
  createRoute({ ...page("/monitoring", monitoring, "Monitoring"), path: "/monitoring" }),
  createRoute({ ...page("/tasks", () => import("./pages/Activity"), "Tasks"), path: "/tasks" }),
  createRoute({ ...page("/alerts", () => import("./pages/alerts/List"), "Alerts"), path: "/alerts" }),
  createRoute({ ...page("/events", () => import("./pages/Activity"), "Events"), path: "/events" }),
  settings.addChildren([
    settingsTab("/", "Account"),
    settingsTab("/users", "Users"),
    settingsTab("/groups", "Groups"),
    settingsTab("/roles", "Roles"),
    settingsTab("/identity", "Identity"),
    settingsTab("/notifications", "Notifications"),
    settingsTab("/certificates", "Certificates"),
    settingsTab("/audit", "Audit"),
    settingsTab("/about", "AboutPage"),
  ]),
]);

export const router = createRouter({
  routeTree: tree,
  defaultPendingComponent: Loading,
  defaultErrorComponent: ({ error }) => <Fault error={error} />,
  defaultPreload: "intent",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
