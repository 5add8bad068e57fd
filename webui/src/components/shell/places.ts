// Where one can go: the navigation and the command palette show the same places.
import {
  Activity,
  Bell,
  Boxes,
  ChartLine,
  Database,
  Disc3,
  HardDrive,
  LayoutDashboard,
  MonitorCog,
  Network,
  Scale,
  Server,
  Settings,
  ShieldCheck,
  Siren,
  type LucideIcon,
} from "lucide-react";

export interface Place {
  to:
    | "/"
    | "/vms"
    | "/vms/new"
    | "/hosts"
    | "/cluster"
    | "/ha"
    | "/recommendations"
    | "/pools"
    | "/volumes"
    | "/images"
    | "/networks"
    | "/monitoring"
    | "/tasks"
    | "/alerts"
    | "/events"
    | "/settings";
  label: string;
  icon: LucideIcon;
}

/** The pages of the settings. */
export const SETTINGS = [
  ["/settings", "My account"],
  ["/settings/users", "Users"],
  ["/settings/groups", "Groups"],
  ["/settings/roles", "Roles"],
  ["/settings/identity", "Identity"],
  ["/settings/notifications", "Notifications"],
  ["/settings/certificates", "Certificates"],
  ["/settings/audit", "Audit log"],
  ["/settings/about", "About"],
] as const;

export const PLACES: { title?: string; places: Place[] }[] = [
  { places: [{ to: "/", label: "Dashboard", icon: LayoutDashboard }] },
  {
    title: "Compute",
    places: [
      { to: "/vms", label: "Virtual machines", icon: MonitorCog },
      { to: "/hosts", label: "Hosts", icon: Server },
      { to: "/cluster", label: "Cluster", icon: Boxes },
      { to: "/ha", label: "High availability", icon: ShieldCheck },
      { to: "/recommendations", label: "Recommendations", icon: Scale },
    ],
  },
  {
    title: "Storage",
    places: [
      { to: "/pools", label: "Storage pools", icon: Database },
      { to: "/volumes", label: "Volumes", icon: HardDrive },
      { to: "/images", label: "Images", icon: Disc3 },
    ],
  },
  { title: "Network", places: [{ to: "/networks", label: "Networks", icon: Network }] },
  {
    title: "Monitor",
    places: [
      { to: "/monitoring", label: "Monitoring", icon: ChartLine },
      { to: "/alerts", label: "Alerts", icon: Siren },
      { to: "/tasks", label: "Tasks", icon: Activity },
      { to: "/events", label: "Events", icon: Bell },
    ],
  },
  { title: "System", places: [{ to: "/settings", label: "Settings", icon: Settings }] },
];
