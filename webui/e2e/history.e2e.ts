// The past: every span can be picked and is drawn, for a machine, a host and the whole cluster, with links to who did most.
import { afterAll, beforeAll, expect, it } from "vitest";
import { Daemon, closeBrowser, logIn, until, visit, type Visit } from "./harness";

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
  await until("the machine was measured", async () =>
    (await daemon.api("GET", "/cluster/usage")).machines.length ? true : undefined,
  );
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

it(
  "the cluster's charts go from an hour to a year, and lead to who did most",
  { timeout: 90_000 },
  async () => {
    const { page } = ours;
    await spans("/monitoring", /\/cluster\/usage\?/);
    await page.goto(`${daemon.url}/`);
    await page.getByRole("heading", { name: "Dashboard" }).waitFor();
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").fill("monitoring");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/monitoring$/);
    const machines = page.getByRole("region", { name: "Virtual machines that do most" });
    await machines.getByRole("row", { name: /busy on/ }).waitFor();
    const hosts = page.getByRole("region", { name: "Hosts" });
    await hosts.getByRole("button", { name: "Memory" }).click();
    await page.waitForURL(/sort=memory/);
    expect(await hosts.getByRole("columnheader", { name: "Memory" }).getAttribute("aria-sort")).toBe(
      "descending",
    );
    await machines.getByRole("link", { name: "busy" }).click();
    await page.waitForURL(new RegExp(`/vms/${vm}/performance`));
    expect(ours.faults).toEqual([]);
  },
);
