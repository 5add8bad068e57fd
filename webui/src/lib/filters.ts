// Saved filters: named searches of lists, kept by the cluster for each user. Changes are made to what is kept now, not to what
// was seen before, so that two windows do not undo each other's.
import type { SavedFilter } from "../api/client";

export type Filters = readonly SavedFilter[];

/** As many as the API takes. */
export const MOST = 50;
const LONGEST_NAME = 60;

const same = (a: SavedFilter, b: { list: string; name: string }) => a.list === b.list && a.name === b.name;

/** Those of one list. */
export const ofList = (filters: Filters, list: string) => filters.filter((filter) => filter.list === list);

/** Keeps a search; one of the same name in the same list is replaced where it is. */
export function keep(filters: Filters, filter: SavedFilter): SavedFilter[] {
  return filters.some((other) => same(other, filter))
    ? filters.map((other) => (same(other, filter) ? filter : other))
    : [...filters, filter];
}

/** Gives a filter another name; one that is gone meanwhile stays gone. */
export const rename = (filters: Filters, which: SavedFilter, name: string): SavedFilter[] =>
  filters.map((other) => (same(other, which) ? { ...other, name } : other));

export const remove = (filters: Filters, which: SavedFilter): SavedFilter[] =>
  filters.filter((other) => !same(other, which));

/** What is wrong with a name; `which` is the filter that has it, where it is being renamed. */
export function nameFault(filters: Filters, list: string, name: string, which?: SavedFilter) {
  if (!name) return "It needs a name.";
  if ([...name].length > LONGEST_NAME) return `At most ${LONGEST_NAME} characters.`;
  if (which && name !== which.name && filters.some((other) => same(other, { list, name })))
    return "Another filter of this list has this name.";
  return undefined;
}
