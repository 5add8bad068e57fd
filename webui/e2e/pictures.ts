// Pictures of pages for people: WebP, made small by the browser that made them.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { openBrowser } from "./harness";

/** What a picture may weigh, in bytes. */
const MOST = 45_000;

export class Pictures {
  private readonly taken = new Map<string, string[]>();
  private encoder: Page | undefined;

  /** Into this directory; pictures of earlier times go. */
  constructor(private readonly directory: string) {
    mkdirSync(directory, { recursive: true });
    for (const old of readdirSync(directory)) if (/\.(png|webp)$/.test(old)) rmSync(join(directory, old));
  }

  async take(page: Page, name: string, look: string) {
    const png = (await page.screenshot()).toString("base64");
    this.encoder ??= await (await openBrowser()).newPage();
    const webp = await this.encoder.evaluate(
      async ([data, most]) => {
        const image = new Image();
        image.src = `data:image/png;base64,${data}`;
        await image.decode();
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.width, image.height];
        canvas.getContext("2d")!.drawImage(image, 0, 0);
        let text = "";
        for (let quality = 0.8; quality > 0.3; quality -= 0.1) {
          text = canvas.toDataURL("image/webp", quality).split(",")[1]!;
          if (text.length * 0.75 <= most) break;
        }
        return text;
      },
      [png, MOST] as const,
    );
    const file = `${name}-${look}.webp`;
    writeFileSync(join(this.directory, file), Buffer.from(webp, "base64"));
    this.taken.set(name, [...(this.taken.get(name) ?? []), file]);
  }

  /** A page that shows them all. */
  index() {
    const rows = [...this.taken].map(([name, files]) => {
      const of = (look: string) => {
        const file = files.find((each) => each.endsWith(`-${look}.webp`));
        return file ? `![${name}, ${look}](${file})` : "";
      };
      return `| ${name} | ${of("light")} | ${of("dark")} | ${of("narrow")} |`;
    });
    const text = [
      "# Every page in pictures",
      "",
      "Made by `./just screenshots` from the simulated daemon; not edited by hand.",
      "",
      "| page | light | dark | on a phone |",
      "|---|---|---|---|",
      ...rows,
      "",
    ];
    writeFileSync(join(this.directory, "README.md"), text.join("\n"));
  }
}
