// What the command palette finds for what was typed.

export interface Command {
  id: string;
  label: string;
  /** What kind of thing it is, in a word. */
  hint: string;
  /** More words it is found by. */
  words?: string;
  /** How likely it is meant: lower is likelier. */
  weight?: number;
}

/** What can be ordered of a host: the dialog of its page that asks, and its words. */
export type HostOrder = "maintenance" | "reopen" | "reboot" | "power-off";
export const hostOrders = (maintenance: boolean): { open: HostOrder; label: string }[] => [
  maintenance
    ? { open: "reopen", label: "Leave maintenance of" }
    : { open: "maintenance", label: "Enter maintenance of" },
  { open: "reboot", label: "Restart host" },
  { open: "power-off", label: "Switch off host" },
];

/** How well a text fits: lower is better, `undefined` not at all. Every word has to occur; best at the beginning. */
export function rank(text: string, wanted: string): number | undefined {
  const inside = text.toLowerCase();
  let sum = 0;
  for (const word of wanted.toLowerCase().split(/\s+/).filter(Boolean)) {
    const at = inside.indexOf(word);
    if (at < 0) return undefined;
    const starts = at === 0 || /[\s._-]/.test(inside[at - 1]!);
    sum += (at === 0 ? 0 : starts ? 1 : 3) + at / 100;
  }
  return sum + inside.length / 1000;
}

/** The best fits, at most `limit`. */
export function best<T extends Command>(commands: Iterable<T>, wanted: string, limit: number): T[] {
  const found: { command: T; rank: number }[] = [];
  for (const command of commands) {
    const fits = rank(command.words ? `${command.label} ${command.words}` : command.label, wanted);
    if (fits !== undefined) found.push({ command, rank: fits + (command.weight ?? 0) });
  }
  return found
    .sort((a, b) => a.rank - b.rank)
    .slice(0, limit)
    .map(({ command }) => command);
}
