// What is left when things are gone: a cluster without its majority, a pool with files that nobody knows.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { Daemon, PASSWORD, closeBrowser, ownAddress, until, visit } from "./harness";

let survivor: Daemon;
let other: Daemon;
let page: Page;

const main = () => page.getByRole("main");

async function member(): Promise<Daemon> {
  const daemon = await Daemon.start("--peer-listen", await ownAddress());
  await daemon.setUp();
  return daemon;
}

async function logIn() {
  await page.goto(`${survivor.url}/cluster`);
  await page.getByLabel("User").fill("admin");
  await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
}

beforeAll(async () => {
  survivor = await member();
  other = await member();
  ({ page } = await visit(survivor));
});
afterAll(async () => {
  await closeBrowser();
  await survivor?.end();
  await other?.end();
});

it("foreign files: told, adopted under a name, deleted by name", async () => {
  const pool = (await survivor.api("GET", "/pools?name=local")).items[0].meta.id as string;
  const raw = (n: number) => `volumes/01997a00-0000-7000-8000-00000000000${n}.raw`;
  const path = (file: string) => join(survivor.state, "pool", file);
  for (const n of [1, 2]) writeFileSync(path(raw(n)), Buffer.alloc(1024 * 1024, n));
  await logIn();
  await page.getByRole("heading", { name: "Cluster", exact: true }).waitFor();
  await page.goto(`${survivor.url}/pools/${pool}`);
  const files = main().getByRole("list", { name: "Foreign files" });
  await files.getByText(raw(1)).waitFor();
  await page.getByRole("button", { name: `Adopt ${raw(1)}` }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("found");
  await dialog.getByRole("button", { name: "Adopt" }).click();
  await files.getByText(raw(1)).waitFor({ state: "detached" });
  expect((await survivor.api("GET", "/volumes?name=found")).items[0].status.state).toBe("ready");
  await page.getByRole("button", { name: `Delete ${raw(2)}` }).click();
  expect(await dialog.getByRole("button", { name: "Delete" }).isEnabled()).toBe(false);
  await dialog.getByLabel(/^Type .* to confirm/).fill(raw(2));
  await dialog.getByRole("button", { name: "Delete" }).click();
  await files.waitFor({ state: "detached" });
  expect(existsSync(path(raw(2)))).toBe(false);
  expect(existsSync(path(raw(1)))).toBe(true);
});

it("a lost majority: what it means, who is lost, and a new epoch by the host's name", async () => {
  // Of two hosts one votes: this one follows.
  const token = (await other.api("POST", "/cluster/join-tokens")).text as string;
  await survivor.api("POST", "/cluster/join", { token });
  await until("it follows", async () => {
    const { members } = await other.api("GET", "/cluster");
    return (
      members.some(({ role, lag }: { role: string; lag?: number }) => role === "follower" && lag === 0) ||
      undefined
    );
  });
  await until("it serves", async () => {
    const answer = await survivor.call("GET", "/ready").catch(() => undefined);
    return answer?.status === 200 || undefined;
  });
  await other.kill();
  await logIn();
  const card = main().getByRole("region", { name: "The majority is lost" });
  await card.getByText("Missing voter").waitFor({ timeout: 60_000 });
  await card.getByRole("button", { name: "Form the cluster anew" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("list", { name: "Other hosts" }).getByText("does not answer").waitFor();
  await dialog.getByLabel("It is lost").waitFor();
  expect(await dialog.getByLabel("It is lost").isChecked()).toBe(true);
  const go = dialog.getByRole("button", { name: "Form it anew" });
  expect(await go.isEnabled()).toBe(false);
  const label = dialog.getByLabel(/^Type .* to confirm/);
  const name = (await page.getByText(/^Type .* to confirm/).innerText()).replace(
    /^Type (.*) to confirm.*/,
    "$1",
  );
  await label.fill("another");
  expect(await go.isEnabled()).toBe(false);
  await label.fill(name);
  await go.click();
  await page.getByText("Epoch 2 begins").waitFor();
  await until("it serves in the new epoch", async () => {
    const answer = await survivor.call("GET", "/ready").catch(() => undefined);
    return answer?.status === 200 || undefined;
  });
  await logIn();
  await main()
    .getByText(/^2 since/)
    .waitFor();
  await main().getByText("is lost: it comes back by joining again").waitFor();
});

it("a backup of the list is brought back, by the host's name", { timeout: 90_000 }, async () => {
  const card = main().getByRole("region", { name: "Backups of the state on this host" });
  await card
    .getByRole("button", { name: /^Restore the backup/ })
    .first()
    .click();
  const dialog = page.getByRole("dialog");
  const restore = dialog.getByRole("button", { name: "Restore" });
  expect(await restore.isEnabled()).toBe(false);
  const label = await page.getByText(/^Type .* to confirm/).innerText();
  await dialog.getByLabel(/^Type .* to confirm/).fill(label.replace(/^Type (.*) to confirm.*/, "$1"));
  await restore.click();
  await page.getByText("Epoch 3 begins").waitFor();
  // Its sessions are not those of the backup.
  await until("the daemon started again and asks who is there", async () => {
    const answer = await survivor.call("GET", "/ready").catch(() => undefined);
    if (answer?.status !== 200) return undefined;
    await page.goto(`${survivor.url}/cluster`).catch(() => undefined);
    return (await page.getByLabel("Password", { exact: true }).count()) > 0 || undefined;
  });
  await logIn();
  await main().getByText(/^3/).first().waitFor();
  expect(
    (await main().getByRole("region", { name: "Agreement" }).innerText()).replace(/\s+/g, " "),
  ).toContain("Epoch 3");
});
