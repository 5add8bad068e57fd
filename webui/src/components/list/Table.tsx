// The rows of a list. Only those on the screen are in the page, so that thousands scroll as a dozen does.
import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDown, ArrowUp } from "lucide-react";
import { memo, useEffect, useRef, type KeyboardEvent, type ReactNode } from "react";
import { useNarrow } from "../../lib/media";
import { rowFor } from "../../lib/rows";
import { cx } from "../ui";
import type { Column } from "./useList";

/** The head stays in sight, above the rows. */
const HEAD = 36;
const HEIGHT = { wide: 38, narrow: 58 };

interface RowProps<T> {
  row: T;
  id: string;
  name: string;
  index: number;
  columns: readonly Column<T>[];
  narrow: boolean;
  selectable: boolean;
  selected: boolean;
  brief: ((row: T) => ReactNode) | undefined;
  actions: ((row: T) => ReactNode) | undefined;
  toggle: (id: string, upTo: boolean) => void;
}

function PlainRow<T>({
  row,
  id,
  name,
  index,
  columns,
  narrow,
  selectable,
  selected,
  brief,
  actions,
  toggle,
}: RowProps<T>) {
  return (
    <tr
      aria-rowindex={index + 2}
      // Reached by the arrow keys, not one by one by Tab.
      tabIndex={-1}
      data-index={index}
      className={cx(
        "border-t border-line outline-offset-[-2px]",
        selected ? "bg-accent-soft" : "hover:bg-sunken/60",
      )}
      style={{ height: narrow ? HEIGHT.narrow : HEIGHT.wide }}
    >
      {selectable && (
        <td className="pl-4">
          <input
            type="checkbox"
            className="check block"
            aria-label={`Select ${name}`}
            checked={selected}
            onChange={(event) => toggle(id, (event.nativeEvent as MouseEvent).shiftKey)}
          />
        </td>
      )}
      {columns.map((column, n) => {
        const content = column.cell ? column.cell(row) : column.value?.(row);
        const className = cx(
          "overflow-hidden px-3 text-ellipsis whitespace-nowrap",
          column.right && "text-right tabular-nums",
        );
        return n === 0 ? (
          <th key={column.id} scope="row" className={cx(className, "text-left font-medium")}>
            {content}
            {narrow && brief && (
              <span className="block overflow-hidden text-sm font-normal text-ellipsis text-dim">
                {brief(row)}
              </span>
            )}
          </th>
        ) : (
          <td key={column.id} className={className}>
            {content === undefined || content === "" ? <span className="text-dim">–</span> : content}
          </td>
        );
      })}
      {actions && <td className="pr-2 text-right whitespace-nowrap">{actions(row)}</td>}
    </tr>
  );
}
const Row = memo(PlainRow) as typeof PlainRow;

export function Table<T>({
  label,
  rows,
  columns,
  id,
  name,
  sort,
  setSort,
  selection,
  brief,
  actions,
  actionsWidth = "w-14",
}: {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  id: (row: T) => string;
  name: (row: T) => string;
  sort: string;
  setSort: (column: string) => void;
  selection?:
    | {
        selected: ReadonlySet<string>;
        allChosen: boolean;
        someChosen: boolean;
        toggle: (id: string, upTo: boolean) => void;
        toggleAll: () => void;
      }
    | undefined;
  brief?: ((row: T) => ReactNode) | undefined;
  actions?: ((row: T) => ReactNode) | undefined;
  actionsWidth?: string;
}) {
  const narrow = useNarrow();
  const scroller = useRef<HTMLDivElement>(null);
  const height = narrow ? HEIGHT.narrow : HEIGHT.wide;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 10,
    scrollMargin: 0,
    scrollPaddingEnd: HEAD,
  });
  const items = virtual.getVirtualItems();
  /** A row that is to have the focus as soon as it is drawn. */
  const pending = useRef<number>(undefined);
  const focusPending = () => {
    if (pending.current === undefined) return;
    const row = scroller.current?.querySelector<HTMLElement>(`tr[data-index="${pending.current}"]`);
    if (!row) return;
    pending.current = undefined;
    row.focus({ preventScroll: true });
  };
  useEffect(focusPending);
  const keys = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    // A menu and a button have their own keys.
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("button, [role=menu]")) return;
    const row = target.closest<HTMLElement>("tr[data-index]");
    const at = row ? Number(row.dataset["index"]) : -1;
    const page = Math.max(1, Math.floor(((scroller.current?.clientHeight ?? 0) - HEAD) / height) - 1);
    const to = rowFor(event.key, at, rows.length, page);
    if (to !== undefined) {
      pending.current = to;
      virtual.scrollToIndex(to);
      focusPending();
    } else if (target === row && event.key === "Enter") {
      row.querySelector<HTMLElement>("th :is(a[href], button)")?.click();
    } else if (target === row && event.key === " " && rows[at] !== undefined) {
      selection?.toggle(id(rows[at]), event.shiftKey);
    } else return;
    event.preventDefault();
  };
  const before = items[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (items.at(-1)?.end ?? 0);
  const shown = narrow ? columns.filter((column, n) => n === 0 || column.narrow) : columns;
  const spanned = shown.length + (selection ? 1 : 0) + (actions ? 1 : 0);
  return (
    <div
      ref={scroller}
      className="min-h-0 flex-1 overflow-auto"
      tabIndex={0}
      role="region"
      aria-label={`${label}, scrollable`}
      onKeyDown={keys}
    >
      <table
        className="w-full table-fixed border-collapse"
        aria-label={label}
        aria-rowcount={rows.length + 1}
      >
        <colgroup>
          {selection && <col className="w-10" />}
          {shown.map((column) => (
            <col key={column.id} className={narrow && column.narrow ? "w-30" : (column.width ?? "")} />
          ))}
          {actions && <col className={actionsWidth} />}
        </colgroup>
        <thead className="sticky top-0 z-1 bg-surface shadow-[0_1px_0_var(--line)]">
          <tr className="h-9" aria-rowindex={1}>
            {selection && (
              <td className="pl-4">
                <input
                  type="checkbox"
                  className="check block"
                  aria-label="Select all shown"
                  checked={selection.allChosen}
                  ref={(box) => {
                    if (box) box.indeterminate = selection.someChosen && !selection.allChosen;
                  }}
                  onChange={selection.toggleAll}
                />
              </td>
            )}
            {shown.map((column) => {
              const up = sort === column.id;
              const down = sort === `-${column.id}`;
              return (
                <th
                  key={column.id}
                  scope="col"
                  aria-sort={up ? "ascending" : down ? "descending" : undefined}
                  className={cx(
                    "px-3 text-sm font-medium text-dim",
                    column.right ? "text-right" : "text-left",
                  )}
                >
                  {column.value ? (
                    <button
                      type="button"
                      className="inline-flex max-w-full min-h-0! items-center gap-1 rounded hover:text-text"
                      onClick={() => setSort(column.id)}
                    >
                      <span className="truncate">{column.label}</span>
                      {up && <ArrowUp size={13} aria-hidden className="flex-none" />}
                      {down && <ArrowDown size={13} aria-hidden className="flex-none" />}
                    </button>
                  ) : (
                    column.label
                  )}
                </th>
              );
            })}
            {actions && (
              <th scope="col">
                <span className="sr-only">Actions</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {before > 0 && (
            <tr aria-hidden style={{ height: before }}>
              <td colSpan={spanned} />
            </tr>
          )}
          {items.map(({ index }) => {
            const row = rows[index];
            if (row === undefined) return null;
            const key = id(row);
            return (
              <Row
                key={key}
                row={row}
                id={key}
                name={name(row)}
                index={index}
                columns={shown}
                narrow={narrow}
                selectable={selection !== undefined}
                selected={selection?.selected.has(key) ?? false}
                brief={brief}
                actions={actions}
                toggle={selection?.toggle ?? nothing}
              />
            );
          })}
          {after > 0 && (
            <tr aria-hidden style={{ height: after }}>
              <td colSpan={spanned} />
            </tr>
          )}
        </tbody>
      </table>
    </div>
  );
}

const nothing = () => undefined;
