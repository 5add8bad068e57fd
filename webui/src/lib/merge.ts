// Changes of objects as the host tells them, laid into the lists that were read before.

/** What every object has. */
export interface Stored {
  meta: { id: string; name: string; revision: number };
}

/** The newest known state of changed objects; `undefined` where one is gone. */
export type Changes<T> = Map<string, T | undefined>;

/**
 * The list with the changes in it; the same list where nothing changed, and the same objects where they did not, so that
 * only what changed is drawn anew. `keep` carries over what a change does not tell. A change older than what is known is
 * ignored.
 */
export function merge<T extends Stored>(
  list: readonly T[],
  changes: Changes<T>,
  keep: (old: T, fresh: T) => T = (_, fresh) => fresh,
): T[] {
  const left = new Map(changes);
  let changed = false;
  const merged: T[] = [];
  for (const old of list) {
    const { id } = old.meta;
    if (!left.has(id)) {
      merged.push(old);
      continue;
    }
    const fresh = left.get(id);
    left.delete(id);
    if (fresh === undefined) changed = true;
    else if (fresh.meta.revision <= old.meta.revision) merged.push(old);
    else {
      merged.push(keep(old, fresh));
      changed = true;
    }
  }
  for (const fresh of left.values())
    if (fresh !== undefined) {
      merged.push(fresh);
      changed = true;
    }
  return changed ? merged : (list as T[]);
}

/** A list read anew: objects that did not change stay the very same. */
export function renew<T extends Stored>(
  old: readonly T[] | undefined,
  fresh: T[],
  same: (a: T, b: T) => boolean,
) {
  if (!old) return fresh;
  const known = new Map(old.map((each) => [each.meta.id, each]));
  let changed = old.length !== fresh.length;
  const renewed = fresh.map((each, n) => {
    const before = known.get(each.meta.id);
    const kept = before && same(before, each) ? before : each;
    changed ||= kept !== old[n];
    return kept;
  });
  return changed ? renewed : (old as T[]);
}
