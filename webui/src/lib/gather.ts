// Changes of a moment, drawn together: a burst of thousands draws once.
import type { Changes } from "./merge";

export class Gather<T> {
  private waiting = new Map<string, Changes<T>>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `draw` gets the newest known state of every object that changed, by kind; `within` is in milliseconds. */
  constructor(
    private readonly draw: (changes: ReadonlyMap<string, Changes<T>>) => void,
    private readonly within: number,
  ) {}

  /** An object changed; without its state it is gone. */
  take(kind: string, id: string, object: T | undefined) {
    let changes = this.waiting.get(kind);
    if (!changes) this.waiting.set(kind, (changes = new Map()));
    changes.set(id, object);
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      const gathered = this.waiting;
      this.waiting = new Map();
      this.draw(gathered);
    }, this.within);
  }

  /** What was not drawn yet is not drawn any more. */
  stop() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.waiting = new Map();
  }
}
