// From counters that only grow to rates over time, kept in a ring of bounded length.

/** One look at the counters: time in seconds since the epoch, and the counters by name. */
export interface Sample {
  at: number;
  counters: Record<string, number>;
}

/** Values at times, for a chart; `null` where there is none. */
export interface Series {
  at: number[];
  values: Record<string, (number | null)[]>;
}

export class History {
  private samples: Sample[] = [];
  constructor(private readonly length: number) {}

  add(sample: Sample) {
    const last = this.samples.at(-1);
    if (last && sample.at <= last.at) return;
    this.samples.push(sample);
    if (this.samples.length > this.length) this.samples.shift();
  }

  get size() {
    return this.samples.length;
  }

  /** The values themselves, from `since` on. */
  levels(names: string[], since = 0): Series {
    const from = this.samples.filter(({ at }) => at >= since);
    return {
      at: from.map(({ at }) => at),
      values: Object.fromEntries(
        names.map((name) => [name, from.map(({ counters }) => counters[name] ?? null)]),
      ),
    };
  }

  /**
   * Growth per second between neighbours, from `since` on. A counter that fell began anew (the machine was started again):
   * no value there. Neighbours more than `gap` seconds apart are not joined.
   */
  rates(names: string[], since = 0, gap = 15): Series {
    const series: Series = { at: [], values: Object.fromEntries(names.map((name) => [name, []])) };
    for (let n = 1; n < this.samples.length; n += 1) {
      const [before, now] = [this.samples[n - 1]!, this.samples[n]!];
      if (now.at < since) continue;
      const seconds = now.at - before.at;
      series.at.push(now.at);
      for (const name of names) {
        const [from, to] = [before.counters[name], now.counters[name]];
        const known = from !== undefined && to !== undefined && to >= from && seconds <= gap;
        series.values[name]!.push(known ? (to - from) / seconds : null);
      }
    }
    return series;
  }
}
