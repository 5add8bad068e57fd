// When a certificate ends, as something to act on.

const DAY = 86_400_000;
/** The alert of the daemon warns at the same time by default. */
const SOON = 30;

/** Whole days left; negative when it is over. */
export const daysLeft = (notAfter: string, now = Date.now()) =>
  Math.floor((Date.parse(notAfter) - now) / DAY);

/** Its colour and a word, where it needs a look. */
export function standing(
  notAfter: string | null | undefined,
  now = Date.now(),
): { state: string; word: string } {
  if (!notAfter) return { state: "unknown", word: "its end is not known" };
  const days = daysLeft(notAfter, now);
  if (days < 0) return { state: "failed", word: "has ended" };
  if (days <= SOON) return { state: "warning", word: days === 1 ? "ends in a day" : `ends in ${days} days` };
  return { state: "ready", word: "good" };
}
