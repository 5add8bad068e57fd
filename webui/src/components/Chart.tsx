// A chart of values over time. Drawn on a canvas by uPlot; the words beneath say the latest values to those who cannot see it.
import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Series } from "../lib/history";
import { useTheme } from "../lib/prefs";

export interface Line {
  name: string;
  label: string;
}

const HEIGHT = 190;
/** 1 B to 4 EiB. */
const POWERS = Array.from({ length: 63 }, (_, n) => 2 ** n);
/** Told apart by those who see colours otherwise, on light and on dark. */
const COLOURS = {
  light: ["#1859c4", "#b45309", "#0f766e", "#9d174d"],
  dark: ["#6cabff", "#f0be62", "#5ad1c2", "#f58bb8"],
};

export default function Chart({
  title,
  lines,
  series,
  format,
  span,
  top,
  bytes,
}: {
  title: string;
  lines: readonly Line[];
  series: Series;
  format: (value: number) => string;
  /** Seconds shown. */
  span: number;
  /** Largest value of the scale; what comes where absent. */
  top?: number;
  /** Its values are bytes: the scale goes by powers of two, and a few bytes do not fill it. */
  bytes?: boolean;
}) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const theme = useTheme();
  /** The sample that is pointed at. */
  const [pointed, setPointed] = useState<number | null>();
  const colours = COLOURS[document.documentElement.dataset["theme"] === "dark" ? "dark" : "light"];
  const names = lines.map(({ name }) => name).join();

  useEffect(() => {
    const element = place.current!;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour("--dim"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui",
    };
    const ours = new uPlot(
      {
        width: element.clientWidth || 300,
        height: HEIGHT,
        cursor: { y: false },
        legend: { show: false },
        hooks: { setCursor: [(plot) => setPointed(plot.cursor.idx)] },
        scales: {
          x: { range: () => [Date.now() / 1000 - span, Date.now() / 1000] },
          y: { range: (_, _least, most) => [0, top ?? Math.max(most ?? 0, bytes ? 1024 : 1) * 1.1] },
        },
        axes: [
          { ...axis, size: 30, values: span <= 86_400 ? "{HH}:{mm}" : "{YYYY}-{MM}-{DD}", space: 80 },
          {
            ...axis,
            size: 66,
            values: (_, ticks) => ticks.map(format),
            ...(bytes ? { incrs: POWERS } : {}),
          },
        ],
        series: [
          {},
          ...lines.map((_, n) => ({
            stroke: colours[n % colours.length]!,
            width: 1.6,
            points: { show: false },
          })),
        ],
      },
      [[], ...lines.map(() => [])],
      element,
    );
    plot.current = ours;
    const resized = new ResizeObserver(() => ours.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      ours.destroy();
    };
    // The lines are the same as long as their names are.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [names, span, theme, top, bytes]);
  useEffect(() => {
    plot.current?.setData([series.at, ...lines.map(({ name }) => series.values[name] ?? [])]);
  }, [series, lines, theme, span]);

  return (
    <figure className="card min-w-0 p-3">
      <figcaption className="mb-1 font-medium">{title}</figcaption>
      <div ref={place} aria-hidden />
      <ul className="flex flex-wrap gap-x-5 text-sm text-dim">
        {lines.map(({ name, label }, n) => {
          const values = series.values[name] ?? [];
          const value = pointed == null ? values.findLast((each) => each !== null) : values[pointed];
          return (
            <li key={name} className="flex items-center gap-1.5">
              <span aria-hidden className="h-0.5 w-4" style={{ background: colours[n % colours.length] }} />
              {label}: <span className="text-text tabular-nums">{value == null ? "–" : format(value)}</span>
            </li>
          );
        })}
        {pointed != null && series.at[pointed] !== undefined && (
          <li className="ml-auto tabular-nums">{new Date(series.at[pointed] * 1000).toLocaleString()}</li>
        )}
      </ul>
    </figure>
  );
}
