// A console that connects again gets the scroll-back from the host, most of which is on the screen already.
// `Splice` remembers the end of what was shown and finds where in the scroll-back the new part begins.

/** Bytes that identify the place. Long enough not to occur twice by chance, short enough to be still in the scroll-back. */
const TAIL = 512;

export class Splice {
  private tail = new Uint8Array(0);

  /** Notes what was shown. */
  shown(bytes: Uint8Array) {
    const joined = new Uint8Array(this.tail.length + bytes.length);
    joined.set(this.tail);
    joined.set(bytes, this.tail.length);
    this.tail = joined.slice(-TAIL);
  }

  /** The part of a scroll-back that was not shown yet; `gap` where the two have nothing in common. */
  fresh(scrollBack: Uint8Array): { bytes: Uint8Array; gap: boolean } {
    if (this.tail.length === 0) return { bytes: scrollBack, gap: false };
    const at = lastIndexOf(scrollBack, this.tail);
    if (at < 0) return { bytes: scrollBack, gap: true };
    return { bytes: scrollBack.subarray(at + this.tail.length), gap: false };
  }
}

/** Where `part` occurs last in `whole`; −1 where it does not. */
function lastIndexOf(whole: Uint8Array, part: Uint8Array): number {
  search: for (let at = whole.length - part.length; at >= 0; at -= 1) {
    for (let n = 0; n < part.length; n += 1) if (whole[at + n] !== part[n]) continue search;
    return at;
  }
  return -1;
}
