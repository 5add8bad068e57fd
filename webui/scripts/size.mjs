// Keeps the promise on the size of the page, gzipped: what a browser loads first, the largest part it loads later, everything.
// With --json it prints these sums alone.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const LIMITS = { first: 250_000, all: 700_000, "largest later": 100_000 };
const dist = new URL("../dist/", import.meta.url).pathname;

/** Every file below a directory. */
const walk = (directory) =>
  readdirSync(directory, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? walk(join(directory, entry.name)) : [join(directory, entry.name)],
  );

const files = Object.fromEntries(
  walk(dist).map((path) => [path.slice(dist.length), gzipSync(readFileSync(path), { level: 9 }).length]),
);

// First: the page itself, what it names, and what those scripts import at once (not `import()`).
const first = new Set(["index.html"]);
const visit = (name) => {
  const text = readFileSync(join(dist, name), "utf8");
  const found =
    name === "index.html"
      ? [...text.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((match) => match[1])
      : [...text.matchAll(/(?:from|import)\s*"\.\/([^"]+)"/g)].map((match) => `assets/${match[1]}`);
  for (const next of found) {
    if (next in files && !first.has(next)) {
      first.add(next);
      if (next.endsWith(".js")) visit(next);
    }
  }
};
visit("index.html");

const sum = (names) => names.reduce((total, name) => total + files[name], 0);
const later = Object.keys(files).filter((name) => !first.has(name));
const totals = {
  first: sum([...first]),
  all: sum(Object.keys(files)),
  "largest later": Math.max(0, ...later.map((name) => files[name])),
};
if (process.argv.includes("--json")) {
  console.log(JSON.stringify(totals));
  process.exit(0);
}
for (const [name, size] of Object.entries(files)) {
  console.log(`${String(size).padStart(8)}  ${first.has(name) ? "first" : "later"}  ${name}`);
}
let failed = false;
for (const [what, limit] of Object.entries(LIMITS)) {
  const over = totals[what] > limit;
  failed ||= over;
  console.log(`${what}: ${totals[what]} of ${limit} bytes gzipped${over ? "  TOO LARGE" : ""}`);
}
process.exit(failed ? 1 : 0);
