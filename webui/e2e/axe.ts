// What axe finds wrong in a page by WCAG A and AA.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Visit } from "./harness";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export async function audit({ page }: Visit): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    // @ts-expect-error axe is in the page.
    const found = await axe.run(document, { runOnly: { type: "tag", values: tags } });
    return found.violations.map(
      (violation: any) =>
        `${violation.id}: ${violation.help} — ${violation.nodes
          .map((node: any) => `${node.target} ${node.any[0]?.message ?? ""}`)
          .slice(0, 3)
          .join(" | ")}`,
    );
  });
}
