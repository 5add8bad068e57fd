import { Text } from "./ui";

export function Labels({ labels }: { labels: Record<string, string> | undefined }) {
  const all = Object.entries(labels ?? {});
  if (all.length === 0) return null;
  return (
    <span className="flex flex-wrap gap-1">
      {all.map(([key, value]) => (
        <span key={key} className="rounded bg-sunken px-1.5 text-sm">
          {value ? `${key}=${value}` : key}
        </span>
      ))}
    </span>
  );
}

export function LabelsField({
  value,
  fault,
  onValue,
}: {
  value: string;
  fault: string | undefined;
  onValue: (value: string) => void;
}) {
  return (
    <Text
      label="Labels"
      hint="Free words for searching, like: env=test, team=web"
      value={value}
      fault={fault}
      onChange={(event) => onValue(event.target.value)}
    />
  );
}
