// Labels as people write them: `env=test, team=web`.

export type Labels = Record<string, string>;

/** Every part between commas or line ends; without `=` the value is empty. */
export function parseLabels(text: string): Labels {
  const labels: Labels = {};
  for (const part of text.split(/[,\n]/)) {
    const [key = "", ...value] = part.split("=");
    if (key.trim()) labels[key.trim()] = value.join("=").trim();
  }
  return labels;
}

/** With these set and those keys taken away. */
export function changedLabels(labels: Labels | undefined, set: Labels, away: readonly string[]): Labels {
  const kept = Object.entries(labels ?? {}).filter(([key]) => !away.includes(key));
  return { ...Object.fromEntries(kept), ...set };
}

export const labelsText = (labels: Labels | undefined) =>
  Object.entries(labels ?? {})
    .map(([key, value]) => (value ? `${key}=${value}` : key))
    .join(", ");
