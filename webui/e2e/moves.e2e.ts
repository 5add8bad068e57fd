// Two hosts: a machine moves between them by the page, is called off, and one host is emptied for maintenance.
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { Daemon, PASSWORD, closeBrowser, ownAddress, until, visit } from "./harness";

let first: Daemon;
let second: Daemon;
let page: Page;
let faults: string[];
let kernel: string;
const ids: Record<string, string> = {};

const main = () => page.getByRole("main");
const dialog = () => page.getByRole("dialog");
const go = (path: string) => page.goto(first.url + path);
const where = async (vm: string) => (await first.api("GET", `/vms/${vm}`)).status.host as string;

beforeAll(async () => {
  const start = async () => Daemon.start("--peer-listen", await ownAddress());
  [first, second] = [await start(), await start()];
  await first.setUp();
  await second.setUp();
  const { text } = await first.api("POST", "/cluster/join-tokens", {});
  await second.api("POST", "/cluster/join", { token: text });
  const hosts = await until("both are members", async () => {
    const { items } = await first.api("GET", "/hosts");
    return items.length === 2 && items.every((host: any) => host.status) ? items : undefined;
  });
  const us = (await first.api("GET", "/cluster")).this_host;
  for (const { meta } of hosts) {
    const name = meta.id === us ? "alpha" : "beta";
    ids[name] = meta.id;
    await first.api("PATCH", `/hosts/${meta.id}`, { name });
  }
  const images = await first.images();
  kernel = images.kernel;
  const visited = await visit(first);
  ({ page, faults } = visited);
  await go("/vms");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("There are no virtual machines yet.").waitFor();
}, 180_000);
afterAll(async () => {
  await closeBrowser();
  await second?.end();
  await first?.end();
});

/** A machine that runs on a host, free to go elsewhere. */
async function machine(name: string, host: string, more: object = {}): Promise<string> {
  const id = await first.vm(name, kernel, { power: "running", placement: { host: ids[host] }, ...more });
  await until(`${name} runs`, async () => (await first.state_of(id)) === "running" || undefined);
  const { spec } = await first.api("GET", `/vms/${id}`);
  delete spec.placement;
  await first.api("PATCH", `/vms/${id}`, { spec });
  return id;
}

it("a machine is moved by the page while it runs", async () => {
  const vm = await machine("web", "alpha");
  await go(`/vms/${vm}`);
  await main().getByRole("button", { name: "Actions for web" }).click();
  await page.getByRole("menuitem", { name: "Migrate" }).click();
  await dialog().getByLabel(/^beta/).check();
  await dialog().getByRole("button", { name: "Migrate" }).click();
  await page.getByText("Migrate web: done").waitFor();
  expect(await where(vm)).toBe(ids["beta"]);
  await main().getByRole("link", { name: "beta" }).first().waitFor();
  expect(await first.state_of(vm)).toBe("running");
});

it("hosts that cannot take it are shown with the reason", async () => {
  const { id: pool } = (await first.api("GET", "/pools")).items.find(
    (pool: any) => pool.spec.host === ids["alpha"],
  ).meta;
  const volume = (await first.api("POST", "/volumes", { name: "disk", spec: { size_bytes: 2 ** 22, pool } }))
    .meta.id;
  await until(
    "the volume is there",
    async () => (await first.api("GET", `/volumes/${volume}`)).status.state === "ready" || undefined,
  );
  const vm = await machine("bound", "alpha", { disks: [{ volume }] });
  await go(`/vms/${vm}`);
  await main().getByRole("button", { name: "Actions for bound" }).click();
  await page.getByRole("menuitem", { name: "Migrate" }).click();
  await dialog()
    .getByText(/the volume `disk` is in the pool .* of another host/)
    .waitFor();
  expect(await dialog().getByLabel(/^beta/).isDisabled()).toBe(true);
  const verb = dialog().getByRole("button", { name: "Migrate" });
  expect(await verb.getAttribute("aria-disabled")).toBe("true");
  await dialog().getByRole("button", { name: "Cancel" }).click();
});

it("a move shows how far it is and is called off", async () => {
  const vm = (await first.api("GET", "/vms?name=web")).items[0].meta.id;
  await go(`/vms/${vm}`);
  await first.api("POST", `/vms/${vm}/migrate`, { host: ids["alpha"], bandwidth_bytes: 2 ** 25 });
  await main().getByText("It is moving to alpha.").waitFor();
  await main()
    .getByText(/copying memory: .* sent/)
    .waitFor();
  await main()
    .getByRole("button", { name: /^Cancel: Migrate/ })
    .click();
  await main().getByText("It is moving to alpha.").waitFor({ state: "detached" });
  expect(await where(vm)).toBe(ids["beta"]);
  expect(await first.state_of(vm)).toBe("running");
});

it("a host is put in maintenance: what can go goes, what stays says why", async () => {
  await go(`/hosts/${ids["alpha"]}`);
  const other = await machine("free", "alpha");
  await main().getByRole("button", { name: "Power of alpha" }).click();
  await page.getByRole("menuitem", { name: "Enter maintenance" }).click();
  await dialog().getByText("The 2 machines that run on it are moved").waitFor();
  await dialog().getByRole("button", { name: "Enter maintenance" }).click();
  const results = main().getByRole("region", { name: "Machines of this host" });
  await results.getByRole("row", { name: /^free done/ }).waitFor();
  await results.getByRole("row", { name: /^bound stays .*of another host/ }).waitFor();
  await main().getByText("in maintenance", { exact: true }).first().waitFor();
  expect(await where(other)).toBe(ids["beta"]);
  // Nothing is placed on it, and its own machine can be shut down by a second attempt.
  await main().getByRole("button", { name: "Power of alpha" }).click();
  await page.getByRole("menuitem", { name: "Leave maintenance" }).click();
  await main().getByText("up", { exact: true }).first().waitFor();
  await main().getByRole("button", { name: "Power of alpha" }).click();
  await page.getByRole("menuitem", { name: "Enter maintenance" }).click();
  await dialog().getByText("Shut down those that cannot be moved").click();
  await dialog().getByRole("button", { name: "Enter maintenance" }).click();
  await results.getByRole("row", { name: /^bound done shut down/ }).waitFor({ timeout: 60_000 });
  expect(faults).toEqual([]);
}, 120_000);

it("a host that is lost can be said to be off, but not one that answers", async () => {
  await first.api("POST", `/hosts/${ids["alpha"]}/maintenance`, { on: false });
  await go("/ha");
  const hosts = main().getByRole("list", { name: "Hosts that are watched" });
  const beta = hosts.getByRole("listitem").filter({ hasText: "beta" });
  await beta.getByText("beats").waitFor();
  expect(await hosts.getByRole("button").count()).toBe(0);
  await second.kill();
  await beta.getByRole("button", { name: "beta is off" }).click({ timeout: 30_000 });
  const sure = dialog().getByRole("button", { name: "It is off" });
  expect(await sure.getAttribute("aria-disabled")).toBe("true");
  await dialog().getByRole("textbox").fill("beta");
  await sure.click();
  await dialog().waitFor({ state: "detached" });
  await beta.getByText("it was confirmed to be off").waitFor({ timeout: 30_000 });
  await beta.getByText("lost", { exact: true }).waitFor();
}, 120_000);
