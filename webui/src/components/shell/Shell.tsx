// The frame around the pages: bar, navigation with the inventory, the page, and the task pane. It fills the window; lists
// scroll inside it.
import { useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouterState } from "@tanstack/react-router";
import {
  KeyRound,
  LogOut,
  Menu as Lines,
  Moon,
  Search,
  Sun,
  SunMoon,
  Unplug,
  User,
  WifiOff,
  X,
} from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { api, call } from "../../api/client";
import { useLink } from "../../api/link";
import { useLive } from "../../api/live";
import { useCluster, useHosts, type Access } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { setTheme, useTheme, type Theme } from "../../lib/prefs";
import { useRoomy } from "../../lib/media";
import { Relogin } from "../../pages/Gate";
import { Guard } from "../Guard";
import { Menu, cx } from "../ui";
import { AlertBadge } from "./AlertBadge";
import { Orders } from "./Orders";
import { Palette } from "./Palette";
import { TaskPane } from "./TaskPane";
import { Tree } from "./Tree";
import { PLACES } from "./places";

export function Shell({ access }: { access: Extract<Access, { identity: unknown }> }) {
  useLive(access.state === "in");
  const denied = useClusterRefusal();
  const hosts = useHosts();
  const path = useRouterState({ select: (state) => state.location.pathname });
  const roomy = useRoomy();
  const [nav, setNav] = useState(false);
  const [palette, setPalette] = useState(false);
  const main = useRef<HTMLElement>(null);
  const name = hosts.data?.length === 1 ? hosts.data[0]!.meta.name : undefined;

  useEffect(() => {
    document.title = name ? `${name} · LimiQuantix` : "LimiQuantix";
  }, [name]);
  useEffect(() => {
    setNav(false);
    main.current?.scrollTo(0, 0);
  }, [path]);
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      if (
        event.key.toLowerCase() !== "k" ||
        !(event.ctrlKey || event.metaKey) ||
        event.shiftKey ||
        event.altKey
      )
        return;
      // In a console the keys are the guest's.
      if ((event.target as HTMLElement).closest(".xterm, canvas")) return;
      event.preventDefault();
      setPalette((open) => !open);
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);

  return (
    <Orders>
      <div className="flex h-dvh flex-col">
        <a
          className="absolute left-2 z-50 -translate-y-20 rounded bg-surface px-3 py-2 focus:translate-y-2"
          href="#main"
          onClick={(event) => (event.preventDefault(), main.current?.focus())}
        >
          Skip to content
        </a>
        <header className="flex h-12 flex-none items-center gap-2 bg-bar px-3 text-on-bar [&_:focus-visible]:outline-white">
          {!roomy && (
            <button
              type="button"
              aria-expanded={nav}
              aria-controls="navigation"
              aria-label="Navigation"
              className="rounded-md p-2 hover:bg-bar-hover"
              onClick={() => setNav(!nav)}
            >
              {nav ? <X size={19} aria-hidden /> : <Lines size={19} aria-hidden />}
            </button>
          )}
          <Link to="/" className="flex min-w-0 items-center gap-2.5 rounded-md px-1 font-semibold">
            <img src="/favicon.svg" alt="" width="24" height="24" className="flex-none" />
            <span className="hidden sm:inline">LimiQuantix</span>
            {name && <span className="truncate font-normal text-on-bar-dim">{name}</span>}
          </Link>
          <button
            type="button"
            aria-keyshortcuts="Control+K"
            className="mx-auto flex h-8 min-h-0! items-center gap-2 rounded-md border border-white/15 bg-bar-hover px-2 text-on-bar-dim hover:text-on-bar sm:w-80 sm:px-3"
            onClick={() => setPalette(true)}
          >
            <Search size={16} aria-hidden />
            <span className="sr-only sm:not-sr-only">Search or command</span>
            <kbd className="ml-auto hidden font-sans text-sm sm:inline">Ctrl K</kbd>
          </button>
          <AlertBadge />
          <ThemeMenu />
          <UserMenu name={access.identity.username} provider={access.identity.logout_url ?? undefined} />
        </header>
        <LostLink />
        {!denied("cluster.read") && <NoMajority />}
        <div className="flex min-h-0 flex-1">
          {!roomy && nav && (
            <button
              type="button"
              aria-label="Close the navigation"
              className="fixed inset-0 top-12 z-10 bg-[rgb(8_12_18/55%)]"
              onClick={() => setNav(false)}
            />
          )}
          <aside
            id="navigation"
            className={cx(
              "w-60 flex-none flex-col border-r border-line bg-surface",
              roomy ? "flex" : nav ? "fixed inset-y-0 top-12 z-20 flex shadow-2xl" : "hidden",
            )}
          >
            <Navigation />
            <p className="border-t border-line px-4 pt-2.5 pb-1 text-sm font-medium text-dim">Inventory</p>
            <Tree />
          </aside>
          <div className="flex min-w-0 flex-1 flex-col">
            <main
              id="main"
              ref={main}
              tabIndex={-1}
              className="flex min-h-0 flex-1 flex-col overflow-y-auto p-3 sm:p-5"
            >
              <Guard key={path}>
                <Outlet />
              </Guard>
            </main>
            <TaskPane />
          </div>
        </div>
      </div>
      {palette && <Palette onClose={() => setPalette(false)} />}
      {access.state === "expired" && <Relogin username={access.identity.username} />}
    </Orders>
  );
}

function Navigation() {
  return (
    <nav aria-label="Pages" className="flex-none py-2">
      {PLACES.map(({ title, places }, n) => (
        <div key={n} className="px-2 py-0.5" role="group" aria-label={title}>
          {places.map(({ to, label, icon: Icon }) => (
            <Link
              key={to}
              to={to}
              activeOptions={{ exact: to === "/", includeSearch: false }}
              className="flex min-h-8 items-center gap-2.5 rounded-md px-2.5 text-text hover:bg-sunken aria-[current=page]:bg-accent-soft aria-[current=page]:font-medium aria-[current=page]:text-accent"
            >
              <Icon size={17} aria-hidden className="flex-none" />
              {label}
            </Link>
          ))}
        </div>
      ))}
    </nav>
  );
}

/** Over all pages while the host is not reached. What is shown below is what was known last. */
function LostLink() {
  const link = useLink();
  if (link.up) return null;
  return (
    <div
      role="alert"
      className="flex flex-none items-center justify-center gap-2.5 bg-bad px-4 py-2 text-surface"
    >
      <WifiOff size={18} aria-hidden className="flex-none" />
      <span>
        <strong>Connection lost.</strong> The host does not answer; trying again. Virtual machines run on
        meanwhile.
      </span>
    </div>
  );
}

const THEMES: [Theme, string, typeof Sun][] = [
  ["system", "As the system", SunMoon],
  ["light", "Light", Sun],
  ["dark", "Dark", Moon],
];

/** Without a majority whatever one orders is refused: better read before than after. */
function NoMajority() {
  const cluster = useCluster();
  if (cluster.data?.quorum !== false) return null;
  return (
    <div
      role="alert"
      className="flex flex-none items-center justify-center gap-2.5 bg-bad px-4 py-2 text-surface"
    >
      <Unplug size={18} aria-hidden className="flex-none" />
      <span>
        <strong>No majority of the voting hosts is reached.</strong> Virtual machines run on; nothing can be
        changed.{" "}
        <Link to="/cluster" className="underline">
          What to do
        </Link>
      </span>
    </div>
  );
}

function ThemeMenu() {
  const theme = useTheme();
  const Icon = THEMES.find(([each]) => each === theme)![2];
  return (
    <Menu
      label="Theme"
      trigger={
        <button type="button" aria-label="Theme" className="rounded-md p-2 hover:bg-bar-hover">
          <Icon size={18} aria-hidden />
        </button>
      }
      items={THEMES.map(([each, label, icon]) => ({ label, icon, run: () => setTheme(each) }))}
    />
  );
}

function UserMenu({ name, provider }: { name: string; provider: string | undefined }) {
  const client = useQueryClient();
  const logout = async () => {
    await call(api.DELETE("/session")).catch(() => undefined);
    // Whatever the host said: this page forgets what it knew. First the pages go, so that none of them asks again.
    client.setQueryData<Access>(["session"], { state: "out" });
    client.removeQueries({ predicate: (query) => query.queryKey[0] !== "session" });
  };
  const navigate = useNavigate();
  return (
    <Menu
      label={`User ${name}`}
      trigger={
        <button
          type="button"
          aria-label={`User ${name}`}
          className="flex items-center gap-2 rounded-md p-2 hover:bg-bar-hover"
        >
          <User size={18} aria-hidden />
          <span className="hidden sm:inline">{name}</span>
        </button>
      }
      items={[
        { label: "Password and tokens", icon: KeyRound, run: () => void navigate({ to: "/settings" }) },
        { label: "Log out", icon: LogOut, run: () => void logout(), apart: true },
        ...(provider
          ? [
              {
                label: "Log out here and there",
                icon: LogOut,
                run: () => void logout().then(() => location.assign(provider)),
              },
            ]
          : []),
      ]}
    />
  );
}
