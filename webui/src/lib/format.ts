// Numbers and times as people read them, and sizes as people write them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `1536` → `1.5 KiB`. */
export function bytes(count: number): string {
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const text = String(Math.round(value * 10) / 10);
  return `${text} ${UNITS[unit]}`;
}

const SHIFT: Record<string, number> = { "": 0, b: 0, k: 10, m: 20, g: 30, t: 40 };

/** `512M`, `1.5 GiB` → bytes; binary units. `undefined` where it is not a size. */
export function parseSize(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*$/i.exec(text);
  if (!match) return undefined;
  const shift = SHIFT[match[2]!.toLowerCase()] ?? 0;
  const size = Number(match[1]) * 2 ** shift;
  return Number.isSafeInteger(size) ? size : undefined;
}

/** How long ago: `5 s`, `12 min`, `3 h`, `9 d`. */
export function age(at: string, now = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(at)) / 1000));
  if (Number.isNaN(seconds)) return "";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** Local date and time. */
export function time(at: string): string {
  return new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** From then till then, or till now: `340 ms`, `12 s`, `3 min 20 s`. */
export function duration(from: string, to?: string | null, now = Date.now()): string {
  const millis = Math.max(0, (to ? Date.parse(to) : now) - Date.parse(from));
  if (Number.isNaN(millis)) return "";
  if (to && millis < 1000) return `${Math.round(millis)} ms`;
  const seconds = Math.floor(millis / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `0.372` → `37 %`. */
export const percent = (share: number) => `${Math.round(share * 100)} %`;

/** Tasks whose words in the API are not those people know them by. */
const TASKS: Record<string, string> = {
  "host.evacuate": "Enter maintenance",
  "host.reopen": "End maintenance",
  "cluster.pair": "Add a host",
  "pool.adopt": "Adopt a file",
};

/** `vm.force-stop` → `Force-stop virtual machine`. */
export function taskName(kind: string): string {
  if (TASKS[kind]) return TASKS[kind];
  const [noun = "", verb = ""] = kind.split(".");
  const nouns: Record<string, string> = { vm: "virtual machine" };
  return verb ? `${verb[0]!.toUpperCase()}${verb.slice(1)} ${nouns[noun] ?? noun}` : kind;
}

/** Bytes as a size to be edited: `2G`, `512M`, `1536M`; what is not a whole number of MiB in bytes. */
export function sizeText(count: number): string {
  for (const [unit, shift] of [
    ["T", 40],
    ["G", 30],
    ["M", 20],
  ] as const)
    if (count >= 2 ** shift && count % 2 ** shift === 0) return `${count / 2 ** shift}${unit}`;
  return String(count);
}
