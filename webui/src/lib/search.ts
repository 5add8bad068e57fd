// The language of the search fields: words narrow a list, all of them have to fit.
//
//   web              anywhere in the object's text
//   state:running    in this field; `state:running,paused` either
//   -host:h1 -test   not
//   cpus>4 memory<=2G   numbers, with the units of sizes
//   "two words"      as one
import { parseSize } from "./format";

export interface Term {
  /** Absent: any field. */
  field?: string;
  negated: boolean;
  /** How the field is compared. */
  how: ":" | ">" | ">=" | "<" | "<=" | "=";
  values: string[];
}

/** What a list can be searched by. */
export type Fields<T> = Record<string, (row: T) => string | number | undefined>;

const TERM = /(-?)(?:([a-z]+)(>=|<=|[:<>=]))?(?:"([^"]*)"?|(\S+))/gi;

/** The terms of a search; a field that `known` does not have is searched for as it is written. */
export function parse(text: string, known: readonly string[]): Term[] {
  const terms: Term[] = [];
  for (const [whole, minus, name, how, quoted, bare] of text.matchAll(TERM)) {
    const value = (quoted ?? bare ?? "").toLowerCase();
    const negated = minus === "-";
    const field = name?.toLowerCase();
    if (field && how && known.includes(field)) {
      const values = quoted === undefined ? value.split(",").filter(Boolean) : [value];
      if (values.length) terms.push({ field, negated, how: how as Term["how"], values });
    } else {
      const plain = (quoted ?? whole.slice(minus!.length)).toLowerCase();
      if (plain) terms.push({ negated, how: ":", values: [plain] });
    }
  }
  return terms;
}

function compare(value: string | number | undefined, how: Term["how"], wanted: string): boolean {
  if (value === undefined) return false;
  if (typeof value === "number") {
    const number = parseSize(wanted);
    if (number === undefined) return false;
    switch (how) {
      case ">":
        return value > number;
      case ">=":
        return value >= number;
      case "<":
        return value < number;
      case "<=":
        return value <= number;
      default:
        return value === number;
    }
  }
  const text = value.toLowerCase();
  return how === "=" ? text === wanted : text.includes(wanted);
}

/** Whether a row fits all terms. */
export function filter<T>(text: string, fields: Fields<T>): ((row: T) => boolean) | undefined {
  const terms = parse(text, Object.keys(fields));
  if (terms.length === 0) return undefined;
  const all = Object.values(fields);
  return (row) =>
    terms.every(({ field, negated, how, values }) => {
      const read = field ? [fields[field]!] : all;
      const fits = read.some((of) => {
        const value = of(row);
        // Without a field a number is text: `4` finds "web4" but not every machine of 4 CPUs.
        if (!field && typeof value === "number") return false;
        return values.some((wanted) => compare(value, how, wanted));
      });
      return fits !== negated;
    });
}
