// The command palette (Ctrl-K): go anywhere, find any object, and do what can be done to a machine, by typing.
import { useNavigate } from "@tanstack/react-router";
import { Bookmark, Database, MoonStar, Search, Settings as Cog, type LucideIcon } from "lucide-react";
import { MonitorCog, Server, HardDrive, Disc3, Network, Play, Plus } from "lucide-react";
import { useEffect, useId, useMemo, useRef, useState } from "react";
import {
  order,
  useFilters,
  useHosts,
  useImages,
  useNetworks,
  usePools,
  useVms,
  useVolumes,
} from "../../api/queries";
import type { Vm } from "../../api/client";
import { useRefusal } from "../../api/rights";
import { ACTIONS, permission, refusal, type Action } from "../../lib/actions";
import { best, hostOrders, type Command } from "../../lib/commands";
import { setTheme } from "../../lib/prefs";
import { cx } from "../ui";
import { useFollow } from "./Orders";
import { PLACES, SETTINGS } from "./places";

interface Entry extends Command {
  icon: LucideIcon;
  run: () => void;
}

const LIMIT = 12;

export function Palette({ onClose }: { onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const list = useId();
  const navigate = useNavigate();
  const follow = useFollow();
  const denied = useRefusal();
  // Not deferred: who types fast and presses Enter means what was typed, not what was shown before.
  const [wanted, setText] = useState("");
  const [at, setAt] = useState(0);
  const vms = useVms().data;
  const hosts = useHosts().data;
  const pools = usePools().data;
  const images = useImages().data;
  const volumes = useVolumes().data;
  const networks = useNetworks().data;
  const filters = useFilters().data?.filters;

  useEffect(() => {
    const element = dialog.current!;
    if (!element.open) element.showModal();
    return () => element.close();
  }, []);

  const entries = useMemo(() => {
    const all: Entry[] = PLACES.flatMap(({ places }) =>
      places.map(({ to, label, icon }) => ({
        id: to,
        label,
        hint: "Page",
        icon,
        run: () => void navigate({ to }),
      })),
    );
    for (const [to, label] of SETTINGS)
      all.push({
        id: `settings ${to}`,
        label: `Settings: ${label}`,
        hint: "Page",
        icon: Cog,
        run: () => void navigate({ to }),
      });
    all.push(
      {
        id: "create-vm",
        label: "Create virtual machine",
        hint: "Command",
        words: "new",
        icon: Plus,
        run: () => void navigate({ to: "/vms/new" }),
      },
      {
        id: "upload",
        label: "Upload image",
        hint: "Command",
        words: "new iso qcow2",
        icon: Plus,
        run: () => void navigate({ to: "/images", search: { open: "upload" } }),
      },
      { id: "dark", label: "Dark theme", hint: "Command", icon: MoonStar, run: () => setTheme("dark") },
      { id: "light", label: "Light theme", hint: "Command", icon: MoonStar, run: () => setTheme("light") },
    );
    if (!wanted.trim()) return all.filter(({ id }) => !id.startsWith("settings ")).slice(0, LIMIT);
    for (const { meta, status } of vms ?? [])
      all.push({
        id: meta.id,
        label: meta.name,
        hint: `Virtual machine, ${status.state}`,
        ...(status.addresses?.length ? { words: status.addresses.join(" ") } : {}),
        icon: MonitorCog,
        run: () => void navigate({ to: "/vms/$id", params: { id: meta.id } }),
      });
    for (const { meta } of hosts ?? [])
      all.push({
        id: meta.id,
        label: meta.name,
        hint: "Host",
        icon: Server,
        run: () => void navigate({ to: "/hosts/$id", params: { id: meta.id } }),
      });
    for (const { meta } of pools ?? [])
      all.push({
        id: meta.id,
        label: meta.name,
        hint: "Storage pool",
        icon: Database,
        run: () => void navigate({ to: "/pools/$id", params: { id: meta.id } }),
      });
    for (const { meta, maintenance, status } of hosts ?? []) {
      if (denied("host.power", { kind: "host", id: meta.id, labels: meta.labels }) || !status) continue;
      // They ask on the host's own page.
      for (const { open, label } of hostOrders(maintenance ?? false))
        all.push({
          id: `${open} ${meta.id}`,
          label: `${label} ${meta.name}`,
          hint: "Command",
          icon: Server,
          weight: 0.5,
          run: () => void navigate({ to: "/hosts/$id", params: { id: meta.id }, search: { open } }),
        });
    }
    const lists = [
      [images, "/images", "Image", Disc3],
      [volumes, "/volumes", "Volume", HardDrive],
      [networks, "/networks", "Network", Network],
    ] as const;
    for (const [objects, to, hint, icon] of lists)
      for (const { meta } of objects ?? [])
        all.push({
          id: meta.id,
          label: meta.name,
          hint,
          icon,
          weight: 0.5,
          run: () => void navigate({ to, search: { q: meta.name } }),
        });
    for (const { list, name, query } of filters ?? []) {
      const place = PLACES.flatMap(({ places }) => places).find(({ to }) => to === list);
      if (place)
        all.push({
          id: `filter ${list} ${name}`,
          label: name,
          hint: `Saved filter, ${place.label}`,
          words: `filter ${query}`,
          icon: Bookmark,
          run: () => void navigate({ to: place.to, search: { q: query } }),
        });
    }
    all.push(...actions(wanted, vms ?? [], follow, denied));
    return best(all, wanted, LIMIT);
  }, [wanted, vms, hosts, pools, images, volumes, networks, filters, navigate, follow, denied]);

  const active = Math.min(at, entries.length - 1);
  const run = (entry: Entry | undefined) => {
    if (!entry) return;
    onClose();
    entry.run();
  };
  return (
    <dialog
      ref={dialog}
      aria-label="Command palette"
      onCancel={(event) => (event.preventDefault(), onClose())}
      onClick={(event) => event.target === dialog.current && onClose()}
      className="mx-auto mt-[12vh] w-[min(40rem,100vw-1.5rem)] overflow-hidden rounded-xl border border-line bg-raised p-0 shadow-2xl"
    >
      <div className="flex items-center gap-3 border-b border-line px-4">
        <Search size={18} className="text-dim" aria-hidden />
        <input
          autoFocus
          role="combobox"
          aria-expanded="true"
          aria-controls={list}
          aria-activedescendant={entries[active] && `${list}-${active}`}
          aria-label="Go to, find, or do"
          placeholder="Go to a page, find an object, or: start NAME, stop NAME …"
          className="h-13 w-full bg-transparent outline-none placeholder:text-dim"
          autoComplete="off"
          spellCheck={false}
          value={wanted}
          onChange={(event) => (setText(event.target.value), setAt(0))}
          onKeyDown={(event) => {
            if (event.key === "Enter") run(entries[active]);
            else if (event.key === "ArrowDown") setAt((active + 1) % Math.max(1, entries.length));
            else if (event.key === "ArrowUp")
              setAt((active - 1 + entries.length) % Math.max(1, entries.length));
            else return;
            event.preventDefault();
          }}
        />
      </div>
      <ul id={list} role="listbox" aria-label="Found" className="max-h-[50vh] overflow-auto p-2">
        {entries.map((entry, n) => (
          <li
            key={entry.id}
            id={`${list}-${n}`}
            role="option"
            aria-selected={n === active}
            ref={(element) => void (n === active && element?.scrollIntoView({ block: "nearest" }))}
            onPointerMove={() => setAt(n)}
            onClick={() => run(entry)}
            className={cx(
              "flex cursor-pointer items-center gap-3 rounded-md px-3 py-2",
              n === active && "bg-accent-soft",
            )}
          >
            <entry.icon size={17} className="flex-none text-dim" aria-hidden />
            <span className="truncate">{entry.label}</span>
            <span className="ml-auto flex-none text-sm text-dim">{entry.hint}</span>
          </li>
        ))}
      </ul>
      {entries.length === 0 && (
        <p role="status" className="px-4 pb-4 text-dim">
          Nothing is called so.
        </p>
      )}
    </dialog>
  );
}

/** Machines to which what was typed can be done. What needs a question first is not among it. */
function actions(
  text: string,
  vms: Vm[],
  follow: ReturnType<typeof useFollow>,
  denied: ReturnType<typeof useRefusal>,
): Entry[] {
  const [verb = "", ...rest] = text.trim().toLowerCase().split(/\s+/);
  const name = rest.join(" ");
  if (!name) return [];
  const wanted = (Object.keys(ACTIONS) as Action[]).filter(
    (action) => !ACTIONS[action].confirm && ACTIONS[action].label.toLowerCase().startsWith(verb),
  );
  const found: Entry[] = [];
  for (const vm of vms) {
    if (!vm.meta.name.toLowerCase().includes(name)) continue;
    for (const action of wanted) {
      if (refusal(action, vm.status.state) !== undefined) continue;
      const place = { kind: "vm" as const, id: vm.meta.id, labels: vm.meta.labels };
      if (denied(permission(action), place) !== undefined) continue;
      const label = `${ACTIONS[action].label} ${vm.meta.name}`;
      found.push({
        id: `${action}-${vm.meta.id}`,
        label,
        hint: "Command",
        icon: Play,
        run: () =>
          order(vm, action).then(
            (task) => follow(label, task),
            (error: Error) => follow(label, error),
          ),
      });
    }
    if (found.length >= LIMIT) break;
  }
  return found;
}
