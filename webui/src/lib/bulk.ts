// The same thing done to many objects: a few at a time, each with a result of its own.

export type Result =
  { state: "waiting" } | { state: "running" } | { state: "done" } | { state: "failed"; why: string };

/** Runs `work` for every item, at most `atOnce` at a time; `report` hears of every step. Never rejects. */
export async function each<T>(
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
  report: (index: number, result: Result) => void,
  atOnce = 6,
  signal?: AbortSignal,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length && !signal?.aborted) {
      const index = next;
      next += 1;
      report(index, { state: "running" });
      try {
        await work(items[index]!);
        report(index, { state: "done" });
      } catch (error) {
        report(index, { state: "failed", why: error instanceof Error ? error.message : String(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}
