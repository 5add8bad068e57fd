// The saved filters of a list: chosen from a menu beside the search, kept under a name, renamed and deleted in a dialog.
import { Bookmark, BookmarkPlus, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import type { SavedFilter } from "../../api/client";
import { useFilters, useKeepFilters } from "../../api/queries";
import { MOST, keep, nameFault, ofList, remove, rename } from "../../lib/filters";
import { Dialog, FormDialog } from "../Dialog";
import { Button, Empty, Failure, Menu, Text, type MenuItem } from "../ui";

export function Saved({
  list,
  text,
  onChoose,
}: {
  /** The list's path. */
  list: string;
  /** What is searched for now. */
  text: string;
  onChoose: (query: string) => void;
}) {
  const filters = useFilters();
  const [open, setOpen] = useState<"save" | "edit">();
  const all = filters.data?.filters ?? [];
  const ours = ofList(all, list);
  const query = text.trim();
  const unknown = filters.data ? undefined : "The saved filters are not known yet.";
  const items: MenuItem[] = ours.map((filter) => ({
    label: filter.name,
    icon: Bookmark,
    run: () => onChoose(filter.query),
  }));
  items.push(
    {
      label: "Save this search …",
      icon: BookmarkPlus,
      apart: ours.length > 0,
      refusal:
        unknown ??
        (!query
          ? "Search for something first."
          : all.length >= MOST
            ? `There are ${MOST} saved filters: delete one first.`
            : undefined),
      run: () => setOpen("save"),
    },
    {
      label: "Edit saved filters …",
      icon: Pencil,
      refusal: unknown ?? (ours.length ? undefined : "There are none for this list."),
      run: () => setOpen("edit"),
    },
  );
  return (
    <>
      <Menu label="Saved filters" items={items}>
        <Bookmark size={16} aria-hidden />
        <span className="max-sm:sr-only">Filters</span>
      </Menu>
      {open === "save" && <Save all={all} list={list} query={query} onClose={() => setOpen(undefined)} />}
      {open === "edit" && <Edit all={all} list={list} onClose={() => setOpen(undefined)} />}
    </>
  );
}

function Save({
  all,
  list,
  query,
  onClose,
}: {
  all: SavedFilter[];
  list: string;
  query: string;
  onClose: () => void;
}) {
  const [name, setName] = useState("");
  const [tried, setTried] = useState(false);
  const change = useKeepFilters();
  const wanted = name.trim();
  const fault = nameFault(all, list, wanted);
  const replaces = ofList(all, list).some((filter) => filter.name === wanted);
  return (
    <FormDialog
      title="Save this search"
      verb={replaces ? "Replace" : "Save"}
      busy={change.isPending}
      error={change.error}
      onSubmit={() => {
        setTried(true);
        if (!fault) change.mutate((now) => keep(now, { list, name: wanted, query }), { onSuccess: onClose });
      }}
      onClose={onClose}
    >
      <p>
        <code className="rounded bg-sunken px-1.5 py-0.5 wrap-anywhere">{query}</code>
      </p>
      <Text
        label="Name"
        value={name}
        fault={tried ? fault : undefined}
        hint={
          replaces
            ? "Replaces the filter that has this name."
            : "Kept for you, in every browser. Found by Ctrl-K too."
        }
        onChange={(event) => setName(event.target.value)}
      />
    </FormDialog>
  );
}

function Edit({ all, list, onClose }: { all: SavedFilter[]; list: string; onClose: () => void }) {
  const change = useKeepFilters();
  const ours = ofList(all, list);
  return (
    <Dialog title="Saved filters of this list" onClose={onClose} wide>
      {ours.length === 0 && (
        <Empty icon={Bookmark} title="There are none any more.">
          <p>Search for something, and save it.</p>
        </Empty>
      )}
      <ul className="flex flex-col gap-4">
        {ours.map((filter) => (
          <One key={filter.name} all={all} filter={filter} change={change} />
        ))}
      </ul>
      <Failure error={change.error} />
      <div className="flex justify-end">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  );
}

function One({
  all,
  filter,
  change,
}: {
  all: SavedFilter[];
  filter: SavedFilter;
  change: ReturnType<typeof useKeepFilters>;
}) {
  const [name, setName] = useState(filter.name);
  const wanted = name.trim();
  const fault = nameFault(all, filter.list, wanted, filter);
  return (
    <li>
      <form
        noValidate
        className="flex flex-wrap items-start gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          if (!fault && wanted !== filter.name) change.mutate((now) => rename(now, filter, wanted));
        }}
      >
        <div className="min-w-40 flex-1">
          <Text
            label={`Name of ${filter.name}`}
            value={name}
            fault={fault}
            hint={filter.query}
            onChange={(event) => setName(event.target.value)}
          />
        </div>
        <div className="flex gap-2 pt-6.5">
          <Button
            type="submit"
            refusal={wanted === filter.name ? "It has this name." : fault}
            aria-label={`Rename ${filter.name}`}
          >
            Rename
          </Button>
          <Button
            kind="danger"
            icon={Trash2}
            aria-label={`Delete ${filter.name}`}
            onClick={() => change.mutate((now) => remove(now, filter))}
          >
            Delete
          </Button>
        </div>
      </form>
    </li>
  );
}
