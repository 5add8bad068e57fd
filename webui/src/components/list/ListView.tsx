// A whole list: search, what can be done to the selected, the rows, and the words where there are none.
import { CircleHelp, Search, X, type LucideIcon } from "lucide-react";
import { useRouterState } from "@tanstack/react-router";
import { useEffect, useRef, type ReactNode } from "react";
import type { Fields } from "../../lib/search";
import { Button, Empty, Failure, Hint, Loading } from "../ui";
import { Saved } from "./Saved";
import { Table } from "./Table";
import { useList, type Column } from "./useList";

export interface ListProps<T> {
  /** What the rows are, e.g. "virtual machines". */
  nouns: string;
  icon: LucideIcon;
  query: { data?: T[] | undefined; error: unknown; isPending: boolean };
  columns: readonly Column<T>[];
  fields?: Fields<T>;
  id: (row: T) => string;
  name: (row: T) => string;
  order: string;
  /** Beneath the name on a narrow screen. */
  brief?: (row: T) => ReactNode;
  actions?: (row: T) => ReactNode;
  actionsWidth?: string;
  /** What can be done to several at once; absent: nothing can be selected. */
  bulk?: (chosen: T[]) => ReactNode;
  /** Beside the search. */
  toolbar?: ReactNode;
  /** Words where there is nothing at all. */
  empty: ReactNode;
}

export function ListView<T>(props: ListProps<T>) {
  const { nouns, icon, query, columns, id, name, brief, actions, actionsWidth, bulk, toolbar, empty } = props;
  const list = useList({
    data: query.data,
    columns,
    ...(props.fields ? { fields: props.fields } : {}),
    id,
    order: props.order,
  });
  // Lists within the page of an object are of that object alone: nothing is kept for them.
  const path = useRouterState({ select: (state) => state.location.pathname });
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    // `/` leads to the search, as in other consoles.
    const keys = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (
        event.key !== "/" ||
        event.ctrlKey ||
        event.metaKey ||
        target.closest("input, textarea, select, dialog, .xterm")
      )
        return;
      event.preventDefault();
      box.current?.focus();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  const total = query.data?.length ?? 0;
  return (
    <div className="card flex min-h-70 min-w-0 flex-1 flex-col overflow-hidden">
      <div className="flex min-h-12 flex-wrap items-center gap-2 border-b border-line px-3 py-2">
        <search className="relative w-full min-w-0 sm:max-w-105 sm:flex-1">
          <Search size={16} className="absolute top-1/2 left-2.5 -translate-y-1/2 text-dim" aria-hidden />
          <input
            ref={box}
            type="search"
            className="input px-8! [&::-webkit-search-cancel-button]:hidden"
            aria-label={`Search ${nouns}`}
            placeholder={`Search ${nouns}`}
            autoComplete="off"
            spellCheck={false}
            value={list.text}
            onChange={(event) => list.setText(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Escape") list.setText("");
            }}
          />
          {list.text ? (
            <button
              type="button"
              aria-label="Clear the search"
              className="absolute top-1/2 right-1.5 min-h-0! -translate-y-1/2 rounded p-1.5 text-dim hover:text-text"
              onClick={() => list.setText("")}
            >
              <X size={16} aria-hidden />
            </button>
          ) : (
            <span className="absolute top-1/2 right-1.5 -translate-y-1/2">
              <Hint
                text={`Words narrow the list; -word excludes. By field: ${list.fields.join(", ")}. Like name:web, -state:stopped, cpus>4, "two words". Key: /`}
              >
                <button
                  type="button"
                  aria-label="How to search"
                  className="block min-h-0! rounded p-1.5 text-dim hover:text-text"
                >
                  <CircleHelp size={16} aria-hidden />
                </button>
              </Hint>
            </span>
          )}
        </search>
        {/^\/[a-z-]+$/.test(path) && <Saved list={path} text={list.text} onChoose={list.setText} />}
        <span className="text-dim tabular-nums" role="status">
          {query.data &&
            `${list.rows.length === total ? total : `${list.rows.length} of ${total}`} ${total === 1 ? nouns.replace(/s$/, "") : nouns}`}
        </span>
        {bulk && list.chosen.length > 0 && (
          <div className="flex flex-wrap items-center gap-2" role="group" aria-label="Selected">
            <span className="ml-2 font-medium">{list.chosen.length} selected</span>
            {bulk(list.chosen)}
            <Button kind="quiet" small icon={X} onClick={list.clear}>
              Clear
            </Button>
          </div>
        )}
        <span className="ml-auto flex gap-2">{toolbar}</span>
      </div>
      {Boolean(query.error) && (
        <div className="p-3">
          <Failure error={query.error} />
        </div>
      )}
      {query.isPending && (
        <div className="p-4">
          <Loading />
        </div>
      )}
      {query.data && total === 0 && (
        <Empty icon={icon} title={`There are no ${nouns} yet.`}>
          {empty}
        </Empty>
      )}
      {total > 0 && list.rows.length === 0 && (
        <Empty icon={Search} title="Nothing matches.">
          <p>
            None of {total} {nouns} matches “{list.text}”.
          </p>
          <p className="mt-3">
            <Button onClick={() => list.setText("")}>Show all</Button>
          </p>
        </Empty>
      )}
      {list.rows.length > 0 && (
        <Table
          label={nouns[0]!.toUpperCase() + nouns.slice(1)}
          rows={list.rows}
          columns={columns}
          id={id}
          name={name}
          sort={list.sort}
          setSort={list.setSort}
          selection={
            bulk && {
              selected: list.selected,
              allChosen: list.allChosen,
              someChosen: list.chosen.length > 0,
              toggle: list.toggle,
              toggleAll: list.toggleAll,
            }
          }
          brief={brief}
          actions={actions}
          {...(actionsWidth ? { actionsWidth } : {})}
        />
      )}
    </div>
  );
}
