// What pages have in common: a head with the way up, and tabs that are addresses.
import { Link, useLocation } from "@tanstack/react-router";
import { ChevronRight, type LucideIcon } from "lucide-react";
import { useEffect, useRef, type ReactNode } from "react";
import { ApiError } from "../api/client";
import { Empty, Failure, Loading, buttonClass } from "./ui";

export function Head({
  title,
  icon: Icon,
  up,
  beside,
  children,
}: {
  title: string;
  icon: LucideIcon;
  up?: { to: "/vms" | "/hosts" | "/pools"; label: string };
  /** Beside the title: the object's state. */
  beside?: ReactNode;
  /** What can be done, at the right. */
  children?: ReactNode;
}) {
  return (
    <header className="mb-3 flex flex-none flex-wrap items-center gap-x-3 gap-y-2">
      <Icon size={22} strokeWidth={1.7} className="hidden flex-none text-dim sm:block" aria-hidden />
      <div className="flex min-w-0 flex-wrap items-center gap-x-2">
        {up && (
          <>
            <Link to={up.to} className="link">
              {up.label}
            </Link>
            <ChevronRight size={15} aria-hidden className="text-dim" />
          </>
        )}
        <h1 className="text-xl font-semibold wrap-anywhere">{title}</h1>
      </div>
      {beside}
      <div className="ml-auto flex flex-wrap items-center gap-2">{children}</div>
    </header>
  );
}

export interface Tab {
  to: string;
  label: string;
}

/** A tab, where it is the page that is shown and where it is not. */
export const tabClass =
  "border-b-2 border-transparent px-3.5 py-2 whitespace-nowrap text-dim outline-offset-[-2px] hover:text-text aria-[current=page]:border-accent aria-[current=page]:font-medium aria-[current=page]:text-text";

/** The row of tabs. Where they have no room it scrolls, and the one whose page is shown is in sight. */
export function TabBar({ label, children }: { label: string; children: ReactNode }) {
  const bar = useRef<HTMLElement>(null);
  const path = useLocation({ select: ({ pathname }) => pathname });
  useEffect(() => {
    const shown = bar.current?.querySelector("[aria-current=page]");
    shown?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [path]);
  return (
    <nav
      ref={bar}
      aria-label={label}
      className="mb-4 flex flex-none gap-1 overflow-x-auto border-b border-line [scrollbar-width:thin]"
    >
      {children}
    </nav>
  );
}

export function Tabs({ label, id, tabs }: { label: string; id: string; tabs: readonly Tab[] }) {
  return (
    <TabBar label={label}>
      {tabs.map((tab, n) => (
        <Link
          key={tab.to}
          // The addresses are those of the router's table; only their last part differs.
          to={tab.to as "/vms/$id"}
          params={{ id }}
          activeOptions={{ exact: n === 0, includeSearch: false }}
          className={tabClass}
        >
          {tab.label}
        </Link>
      ))}
    </TabBar>
  );
}

/** An object read for a page: until it is there, and where it is not. */
export function Await<T>({
  query,
  icon,
  gone,
  children,
}: {
  query: { data?: T | undefined; error: unknown; isPending: boolean };
  icon: LucideIcon;
  /** Words and the way on where the object does not exist. */
  gone: { title: string; to: "/vms" | "/hosts" | "/pools"; label: string };
  children: (data: T) => ReactNode;
}) {
  if (query.error instanceof ApiError && query.error.problem.status === 404)
    return (
      <Empty icon={icon} title={gone.title}>
        <Link className={buttonClass()} to={gone.to}>
          {gone.label}
        </Link>
      </Empty>
    );
  if (query.data === undefined) return query.isPending ? <Loading /> : <Failure error={query.error} />;
  return children(query.data);
}
