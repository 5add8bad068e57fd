// A plain table of what is only looked at.
import type { ReactNode } from "react";

export function Rows({ label, head, rows }: { label: string; head: string[]; rows: ReactNode[][] }) {
  if (rows.length === 0) return <p className="text-dim">None.</p>;
  return (
    <div className="overflow-x-auto" tabIndex={0} role="region" aria-label={label}>
      <table className="w-full min-w-120 text-left">
        <thead>
          <tr className="text-sm text-dim [&>th]:pb-1 [&>th]:font-medium">
            {head.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((cells, n) => (
            <tr key={n} className="border-t border-line [&>td]:py-1.5 [&>td]:pr-4">
              {cells.map((cell, at) => (
                <td key={at}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
