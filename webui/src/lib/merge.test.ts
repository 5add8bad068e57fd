import { expect, it } from "vitest";
import { merge, renew } from "./merge";

const object = (id: string, revision: number, more = {}) => ({
  meta: { id, name: id, revision },
  more,
});

it("changes, adds and removes; what did not change stays the same object", () => {
  const list = [object("a", 1), object("b", 1), object("c", 1)];
  const merged = merge(
    list,
    new Map([
      ["b", object("b", 2)],
      ["c", undefined],
      ["d", object("d", 3)],
    ]),
  );
  expect(merged.map(({ meta }) => [meta.id, meta.revision])).toEqual([
    ["a", 1],
    ["b", 2],
    ["d", 3],
  ]);
  expect(merged[0]).toBe(list[0]);
});

it("ignores what is older than what is known, and what never was", () => {
  const list = [object("a", 5)];
  expect(merge(list, new Map([["a", object("a", 4)]]))).toBe(list);
  expect(merge(list, new Map([["gone", undefined]]))).toBe(list);
});

it("carries over what a change does not tell", () => {
  const merged = merge([object("a", 1, { lease: 7 })], new Map([["a", object("a", 2)]]), (old, fresh) => ({
    ...fresh,
    more: old.more,
  }));
  expect(merged[0]!.more).toEqual({ lease: 7 });
});

it("renews a list without touching what is the same", () => {
  const same = (a: ReturnType<typeof object>, b: ReturnType<typeof object>) =>
    a.meta.revision === b.meta.revision;
  const old = [object("a", 1), object("b", 1)];
  expect(renew(old, [object("a", 1), object("b", 1)], same)).toBe(old);
  const fresh = renew(old, [object("a", 1), object("b", 2)], same);
  expect(fresh[0]).toBe(old[0]);
  expect(fresh[1]!.meta.revision).toBe(2);
  expect(renew(undefined, old, same)).toBe(old);
});
