// Text as key presses: what a person at the machine's keyboard would have typed (X11 keysyms, as RFB 7.5.4 wants them).

const RETURN = 0xff0d;
const TAB = 0xff09;

/** The keysyms of a text, one after another. Control characters other than line ends and tabs are left out. */
export function keysyms(text: string): number[] {
  const keys: number[] = [];
  for (const character of text.replace(/\r\n?/g, "\n")) {
    const point = character.codePointAt(0)!;
    if (character === "\n") keys.push(RETURN);
    else if (character === "\t") keys.push(TAB);
    else if (point < 0x20 || point === 0x7f) continue;
    // Latin-1 is its own keysym; the rest of Unicode is marked as such.
    else keys.push(point <= 0xff ? point : 0x0100_0000 + point);
  }
  return keys;
}
