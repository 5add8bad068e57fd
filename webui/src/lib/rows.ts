// Rows of a list by keyboard.

/** The row a key leads to, from a row or from none (−1); nothing where the key means nothing. */
export function rowFor(key: string, at: number, count: number, page: number): number | undefined {
  if (count === 0) return undefined;
  const to = {
    ArrowDown: at + 1,
    ArrowUp: at < 0 ? count - 1 : at - 1,
    PageDown: at < 0 ? 0 : at + page,
    PageUp: at < 0 ? 0 : at - page,
    Home: 0,
    End: count - 1,
  }[key];
  return to === undefined ? undefined : Math.min(count - 1, Math.max(0, to));
}
