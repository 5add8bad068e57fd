// Pairing codes: what is typed, before it is sent.

/** Symbols of a code: no 0, O, 1 and I. */
const CODE = /^[2-9A-HJ-NP-Z]{8}$/;

/** Why this cannot be a code, in words; nothing where it can be one. */
export function codeRefusal(typed: string): string | undefined {
  const code = typed.replace(/[\s-]/g, "").toUpperCase();
  if (code === "") return "Type the code that its console shows.";
  if (CODE.test(code)) return undefined;
  if (/[01OI]/.test(code)) return "A code has no 0, O, 1 or I.";
  return code.length === 8
    ? "A code has letters and digits only."
    : `A code has 8 symbols, not ${code.length}.`;
}
