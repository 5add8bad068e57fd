// The inventory as a tree: hosts, and on each its machines. Only what is on the screen is in the page.
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { ChevronDown, ChevronRight, MonitorCog, Server } from "lucide-react";
import { useMemo, useRef, useState, type KeyboardEvent } from "react";
import { useHosts, useVms } from "../../api/queries";
import { Dot, cx } from "../ui";
import { branches, type Node } from "../../lib/tree";

const HEIGHT = 28;

export function Tree() {
  const hosts = useHosts().data;
  const vms = useVms().data;
  const { id: here } = useParams({ strict: false }) as { id?: string };
  const navigate = useNavigate();
  // Of one host one wants to see the machines; of many, first the hosts.
  const [folded, setFolded] = useState<ReadonlyMap<string, boolean>>(new Map());
  const openByNature = (hosts?.length ?? 0) <= 3;
  const nodes = useMemo(
    () => branches(hosts ?? [], vms ?? [], (host) => folded.get(host) ?? openByNature),
    [hosts, vms, folded, openByNature],
  );
  const fold = (host: string, open: boolean) => setFolded((old) => new Map(old).set(host, open));
  const [at, setAt] = useState(0);
  const active = Math.min(at, nodes.length - 1);
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: nodes.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => HEIGHT,
    overscan: 8,
  });

  const move = (to: number) => {
    const next = Math.max(0, Math.min(nodes.length - 1, to));
    setAt(next);
    virtual.scrollToIndex(next);
  };
  const keys = (event: KeyboardEvent) => {
    const node = nodes[active];
    if (!node) return;
    const parent = nodes.slice(0, active).findLastIndex(({ level }) => level < node.level);
    const moves: Record<string, () => void> = {
      ArrowDown: () => move(active + 1),
      ArrowUp: () => move(active - 1),
      Home: () => move(0),
      End: () => move(nodes.length - 1),
      ArrowRight: () => (node.open === false ? fold(node.id, true) : node.open && move(active + 1)),
      ArrowLeft: () => (node.open ? fold(node.id, false) : parent >= 0 && move(parent)),
      Enter: () =>
        void navigate({ to: node.kind === "host" ? "/hosts/$id" : "/vms/$id", params: { id: node.id } }),
    };
    const run = moves[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  };

  if (!hosts || !vms || nodes.length === 0) return null;
  return (
    <div
      ref={scroller}
      role="tree"
      aria-label="Inventory"
      tabIndex={0}
      aria-activedescendant={`tree-${nodes[active]!.id}`}
      onKeyDown={keys}
      className="group/tree min-h-24 flex-1 overflow-y-auto outline-offset-[-2px]"
    >
      <div role="none" className="relative" style={{ height: virtual.getTotalSize() }}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const node = nodes[index];
          return (
            node && (
              <Item
                key={node.id}
                node={node}
                top={start}
                size={nodes.length}
                index={index}
                here={node.id === here}
                active={index === active}
                onClick={() => setAt(index)}
                fold={fold}
              />
            )
          );
        })}
      </div>
    </div>
  );
}

function Item({
  node,
  top,
  index,
  size,
  here,
  active,
  onClick,
  fold,
}: {
  node: Node;
  top: number;
  index: number;
  size: number;
  here: boolean;
  active: boolean;
  onClick: () => void;
  fold: (host: string, open: boolean) => void;
}) {
  const Icon = node.kind === "host" ? Server : MonitorCog;
  return (
    <Link
      role="treeitem"
      id={`tree-${node.id}`}
      tabIndex={-1}
      aria-level={node.level}
      aria-setsize={size}
      aria-posinset={index + 1}
      aria-expanded={node.open}
      aria-selected={here}
      to={node.kind === "host" ? "/hosts/$id" : "/vms/$id"}
      params={{ id: node.id }}
      onClick={onClick}
      className={cx(
        "absolute inset-x-0 flex items-center gap-2 pr-2 text-text",
        here ? "bg-accent-soft font-medium" : "hover:bg-sunken",
        active &&
          "group-focus-visible/tree:outline-2 group-focus-visible/tree:-outline-offset-2 group-focus-visible/tree:outline-accent",
        node.level === 1 ? "pl-2" : "pl-8",
      )}
      style={{ top, height: HEIGHT }}
    >
      {node.open !== undefined && (
        <span
          aria-hidden
          className="flex-none rounded hover:bg-line"
          onClick={(event) => {
            event.preventDefault();
            event.stopPropagation();
            fold(node.id, !node.open);
          }}
        >
          {node.open ? <ChevronDown size={15} /> : <ChevronRight size={15} />}
        </span>
      )}
      <span className="relative flex-none">
        <Icon size={16} aria-hidden className="text-dim" />
        <span className="absolute -right-1 -bottom-1 flex rounded-full border border-surface [&>span]:size-2">
          <Dot state={node.state} />
        </span>
      </span>
      <span className="truncate">{node.name}</span>
      <span className="sr-only">, {node.state}</span>
      {node.count !== undefined && (
        <span className="ml-auto text-sm text-dim tabular-nums">{node.count}</span>
      )}
    </Link>
  );
}
