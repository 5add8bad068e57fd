// The past: every span can be picked and is drawn, for a machine and a host.
import { afterAll, beforeAll, expect, it } from "vitest";
import { Daemon, closeBrowser, logIn, visit, type Visit } from "./harness";

let daemon: Daemon;
let ours: Visit;
let vm: string;

const SPANS = ["minutes", "hour", "day", "week", "month", "year"];

beforeAll(async () => {
  daemon = await Daemon.start();
  await daemon.setUp();
  const { kernel } = await daemon.images();
  vm = await daemon.vm("busy", kernel);
  await daemon.api("POST", `/vms/${vm}/start`);
  ours = await visit(daemon);
  await logIn(daemon, ours);
});
afterAll(async () => {
  await closeBrowser();
  await daemon?.end();
});

/** Picks every span; each is asked for, in the address, and drawn. */
async function spans(path: string, asked: RegExp) {
  const { page } = ours;
  await page.goto(daemon.url + path);
  await page.locator("canvas").first().waitFor();
  for (const span of SPANS.slice(1)) {
    const answer = page.waitForResponse((each) => asked.test(each.url()), { timeout: 15_000 });
    await page.getByLabel("Time").selectOption(span);
    await page.waitForURL(new RegExp(`[?&]span=${span}`));
    const kept = new URL((await answer).url()).searchParams.get("span");
    if (span !== "hour") expect(kept).toBe(span);
    await page.waitForFunction(() => document.querySelectorAll("figure canvas").length >= 4);
    expect(await page.getByLabel("Time").inputValue()).toBe(span);
  }
  // It is in the address: read anew it is the same.
  await page.reload();
  await page.locator("canvas").first().waitFor();
  expect(await page.getByLabel("Time").inputValue()).toBe("year");
}

it("a machine's charts go from an hour to a year", { timeout: 90_000 }, () =>
  spans(`/vms/${vm}/performance`, /\/history\?/),
);

it("a host's charts go from an hour to a year", { timeout: 90_000 }, async () => {
  const host = (await daemon.api("GET", "/hosts")).items[0].meta.id;
  await spans(`/hosts/${host}/performance`, /\/history\?/);
});
