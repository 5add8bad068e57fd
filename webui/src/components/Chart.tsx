// A chart of values over time. Drawn on a canvas by uPlot; the words beneath say the latest values to those who cannot see it.
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Series } from "../lib/rates";
import { useTheme } from "../lib/prefs";

export interface Line {
  name: string;
  label: string;
}

const HEIGHT = 190;
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
}: {
  title: string;
  lines: readonly Line[];
  series: Series;
  format: (value: number) => string;
  /** Seconds shown. */
  span: number;
  /** Largest value of the scale; what comes where absent. */
  top?: number;
}) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const theme = useTheme();
  const names = lines.map(({ name }) => name).join();

  useEffect(() => {
    const element = place.current!;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const colours = COLOURS[document.documentElement.dataset["theme"] === "dark" ? "dark" : "light"];
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
        legend: { live: true },
        scales: {
          x: { range: () => [Date.now() / 1000 - span, Date.now() / 1000] },
          y: { range: (_, _least, most) => [0, top ?? Math.max(most ?? 0, 1) * 1.1] },
        },
        axes: [
          { ...axis, size: 30, values: "{HH}:{mm}:{ss}", space: 80 },
          { ...axis, size: 66, values: (_, ticks) => ticks.map(format) },
        ],
        series: [
          { value: "{HH}:{mm}:{ss}" },
          ...lines.map(({ label }, n) => ({
            label,
            stroke: colours[n % colours.length]!,
            width: 1.6,
            points: { show: false },
            value: (_: uPlot, value: number | null) => (value == null ? "–" : format(value)),
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
  }, [names, span, theme, top]);
  useEffect(() => {
    plot.current?.setData([series.at, ...lines.map(({ name }) => series.values[name] ?? [])]);
  }, [series, lines, theme, span]);

  return (
    <figure className="card min-w-0 p-3">
      <figcaption className="mb-1 font-medium">{title}</figcaption>
      <div ref={place} aria-hidden />
      <p className="sr-only">
        {lines.map(({ name, label }) => {
          const last = series.values[name]?.findLast((value) => value !== null);
          return `${label}: ${last == null ? "unknown" : format(last)}. `;
        })}
      </p>
    </figure>
  );
}
