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

export const labelsText = (labels: Labels | undefined) =>
  Object.entries(labels ?? {})
    .map(([key, value]) => (value ? `${key}=${value}` : key))
    .join(", ");
