// What every list does: search, sort and selection. Search and order are in the address (`?q=…&sort=-memory`), so a list can
// be linked, reloaded and gone back to; the selection is of the moment.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useDeferredValue, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { filter, type Fields } from "../../lib/search";

export interface Column<T> {
  /** Name of the field in searches and in the order. */
  id: string;
  label: string;
  /** What is searched and ordered by; absent where neither makes sense. */
  value?: (row: T) => string | number | undefined;
  /** What is shown; the value where absent. */
  cell?: (row: T) => ReactNode;
  /** Width as a class; the column takes what is left where absent. */
  width?: string;
  /** Numbers stand at the right. */
  right?: boolean;
  /** Shown on a narrow screen too. */
  narrow?: boolean;
}

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** In the order a column gives; what has no value comes last either way. */
export function sorted<T>(
  rows: readonly T[],
  value: (row: T) => string | number | undefined,
  down: boolean,
): T[] {
  const keyed = rows.map((row) => ({ row, key: value(row) }));
  keyed.sort((a, b) => {
    if (a.key === undefined || b.key === undefined)
      return (a.key === undefined ? 1 : 0) - (b.key === undefined ? 1 : 0);
    const order =
      typeof a.key === "number" && typeof b.key === "number"
        ? a.key - b.key
        : collator.compare(String(a.key), String(b.key));
    return down ? -order : order;
  });
  return keyed.map(({ row }) => row);
}

/** How long the typing rests before the address follows, in milliseconds. */
const REST = 300;

export function useList<T>({
  data,
  columns,
  fields,
  id,
  order,
}: {
  data: readonly T[] | undefined;
  columns: readonly Column<T>[];
  /** Searched besides the columns. */
  fields?: Fields<T>;
  id: (row: T) => string;
  /** Order where the address names none: a column's id, `-` before it for downwards. */
  order: string;
}) {
  const search = useSearch({ strict: false }) as { q?: string; sort?: string };
  const navigate = useNavigate();
  const [text, setText] = useState(search.q ?? "");
  const written = useRef(search.q ?? "");

  // The address changed by itself: a link, or back.
  useEffect(() => {
    const q = search.q ?? "";
    if (q !== written.current) {
      written.current = q;
      setText(q);
    }
  }, [search.q]);
  useEffect(() => {
    if (text === written.current) return;
    const timer = setTimeout(() => {
      written.current = text;
      void navigate({ to: ".", search: (old: object) => ({ ...old, q: text || undefined }), replace: true });
    }, REST);
    return () => clearTimeout(timer);
  }, [text, navigate]);

  const sort = search.sort ?? order;
  const setSort = useCallback(
    (column: string) =>
      void navigate({
        to: ".",
        search: (old: { sort?: string }) => ({
          ...old,
          sort: (old.sort ?? order) === column ? `-${column}` : column,
        }),
        replace: true,
      }),
    [navigate, order],
  );

  const wanted = useDeferredValue(text);
  const all = useMemo<Fields<T>>(
    () => ({
      ...Object.fromEntries(columns.flatMap((column) => (column.value ? [[column.id, column.value]] : []))),
      ...fields,
    }),
    [columns, fields],
  );
  const rows = useMemo(() => {
    const fits = filter(wanted, all);
    const found = fits ? (data ?? []).filter(fits) : (data ?? []);
    const down = sort.startsWith("-");
    const by = columns.find((column) => column.id === sort.replace(/^-/, ""))?.value;
    return by ? sorted(found, by, down) : found;
  }, [data, wanted, all, columns, sort]);

  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const anchor = useRef<string>(undefined);
  // What is not there any more, or not shown, is not selected: nothing is done to what one does not see.
  const shown = useMemo(() => new Set(rows.map(id)), [rows, id]);
  const chosen = useMemo(() => rows.filter((row) => selected.has(id(row))), [rows, selected, id]);
  const latest = useRef(rows);
  latest.current = rows;
  const toggle = useCallback(
    (row: string, upTo: boolean) =>
      setSelected((old) => {
        const known = new Set(latest.current.map(id));
        const next = new Set([...old].filter((each) => known.has(each)));
        const on = !old.has(row);
        const from = latest.current.findIndex((each) => id(each) === anchor.current);
        const to = latest.current.findIndex((each) => id(each) === row);
        const range =
          upTo && from >= 0
            ? latest.current.slice(Math.min(from, to), Math.max(from, to) + 1).map(id)
            : [row];
        for (const each of range) {
          if (on) next.add(each);
          else next.delete(each);
        }
        anchor.current = row;
        return next;
      }),
    [id],
  );
  const toggleAll = useCallback(
    () =>
      setSelected((old) =>
        latest.current.every((row) => old.has(id(row))) ? new Set() : new Set(latest.current.map(id)),
      ),
    [id],
  );
  const clear = useCallback(() => setSelected(new Set()), []);
  return {
    text,
    setText,
    sort,
    setSort,
    rows,
    fields: Object.keys(all),
    selected,
    chosen,
    allChosen: shown.size > 0 && chosen.length === shown.size,
    toggle,
    toggleAll,
    clear,
  };
}
