// Lists by keyboard and for many at once, the palette for what has no list of its own, tokens that do little, and who may cancel.
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { Daemon, PASSWORD, closeBrowser, ownAddress, logIn, until, visit, type Visit } from "./harness";

let first: Daemon;
let second: Daemon;
let ours: Visit;
let page: Page;
let kernel: string;
const hosts: Record<string, string> = {};

const main = () => page.getByRole("main");
const dialog = () => page.getByRole("dialog");
const go = (path: string) => page.goto(first.url + path);
const chosen = () => page.getByRole("group", { name: "Selected" });
const close = () => dialog().getByRole("button", { name: "Close" }).last().click();

beforeAll(async () => {
  const start = async () => Daemon.start("--peer-listen", await ownAddress());
  [first, second] = [await start(), await start()];
  await first.setUp();
  await second.setUp();
  const { text } = await first.api("POST", "/cluster/join-tokens", {});
  await second.api("POST", "/cluster/join", { token: text });
  const us = (await first.api("GET", "/cluster")).this_host;
  const all = await until("both are members", async () => {
    const { items } = await first.api("GET", "/hosts");
    return items.length === 2 && items.every((host: any) => host.status) ? items : undefined;
  });
  for (const { meta } of all) {
    const name = meta.id === us ? "alpha" : "beta";
    hosts[name] = meta.id;
    await first.api("PATCH", `/hosts/${meta.id}`, { name });
  }
  ({ kernel } = await first.images());
  for (const name of ["one", "two", "three"])
    await first.vm(name, kernel, { power: "running", placement: { host: hosts["alpha"] } });
  for (const vm of (await first.api("GET", "/vms")).items) {
    await until("it runs", async () => (await first.state_of(vm.meta.id)) === "running" || undefined);
    const { spec } = await first.api("GET", `/vms/${vm.meta.id}`);
    delete spec.placement;
    await first.api("PATCH", `/vms/${vm.meta.id}`, { spec, labels: { team: "old" } });
  }
  ours = await visit(first);
  page = ours.page;
  await logIn(first, ours);
}, 180_000);
afterAll(async () => {
  await closeBrowser();
  await second?.end();
  await first?.end();
});

it("rows by keyboard: along them, selected, opened", { timeout: 60_000 }, async () => {
  await go("/vms");
  const rows = main().getByRole("region", { name: "Virtual machines, scrollable" });
  await rows.getByRole("row", { name: /two/ }).waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.textContent ?? "");
  await rows.focus();
  await page.keyboard.press("ArrowDown");
  expect(await focused()).toContain("one");
  await page.keyboard.press("Space");
  await chosen().getByText("1 selected").waitFor();
  await page.keyboard.press("End");
  await until("the last", async () => (await focused()).includes("two") || undefined);
  await page.keyboard.press("Shift+Space");
  await chosen().getByText("3 selected").waitFor();
  await page.keyboard.press("ArrowUp");
  expect(await focused()).toContain("three");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "three", level: 1 }).waitFor();
});

it("many machines get labels, and move to another host", { timeout: 90_000 }, async () => {
  await go("/vms");
  await main().getByLabel("Select all shown").check();
  const more = async (item: string) => {
    await chosen().getByRole("button", { name: "More for the selected" }).click();
    await page.getByRole("menuitem", { name: item }).click();
  };
  await more("Labels");
  const change = dialog().getByRole("button", { name: "Change 3" });
  expect(await change.isEnabled()).toBe(false);
  await dialog().getByLabel("Set").fill("env=test");
  await dialog().getByLabel("Take away").fill("team");
  await change.click();
  await dialog().getByText("Finished: 3 done, 0 failed.").waitFor();
  await close();
  for (const vm of (await first.api("GET", "/vms")).items) expect(vm.meta.labels).toEqual({ env: "test" });
  await more("Migrate");
  await dialog().getByLabel("To").selectOption({ label: "beta" });
  await dialog().getByRole("button", { name: "Migrate 3" }).click();
  await dialog().getByText("Finished: 3 done, 0 failed.").waitFor({ timeout: 60_000 });
  await close();
  for (const vm of (await first.api("GET", "/vms")).items) expect(vm.status.host).toBe(hosts["beta"]);
});

it("the palette leads to pools, settings, and what is ordered of hosts", { timeout: 60_000 }, async () => {
  const palette = async (text: string) => {
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").fill(text);
    await page.getByRole("option").first().waitFor();
    await page.keyboard.press("Enter");
  };
  await palette("settings audit");
  await page.waitForURL(/\/settings\/audit$/);
  await palette("enter maintenance of beta");
  await dialog().getByText("The 3 machines that run on it are moved").waitFor();
  await page.waitForURL(/open=maintenance/);
  await dialog().getByRole("button", { name: "Cancel" }).click();
  await dialog().waitFor({ state: "detached" });
  expect(new URL(page.url()).searchParams.get("open")).toBeNull();
  const pool = (await first.api("GET", "/pools")).items[0].meta;
  await palette(pool.name);
  await page.waitForURL(new RegExp(`/pools/${pool.id}|/pools/`));
});

it("many users are disabled and deleted, never oneself", { timeout: 60_000 }, async () => {
  for (const name of ["anna", "ben"]) await first.api("POST", "/users", { name, spec: {} });
  await go("/settings/users");
  await main().getByRole("row", { name: /anna/ }).waitFor();
  await main().getByLabel("Select all shown").check();
  await chosen().getByRole("button", { name: "Disable" }).click();
  await dialog().getByText("admin: left out. It is your own account.").waitFor();
  await dialog().getByRole("button", { name: "Disable 2" }).click();
  await dialog().getByText("Finished: 2 done, 0 failed.").waitFor();
  await close();
  await until("they are disabled", async () =>
    (await main()
      .getByRole("row", { name: /disabled/ })
      .count()) === 2
      ? true
      : undefined,
  );
  await chosen().getByRole("button", { name: "Delete" }).click();
  await dialog()
    .getByLabel(/^Type 2 to confirm/)
    .fill("2");
  await dialog().getByRole("button", { name: "Delete 2" }).click();
  await dialog().getByText("Finished: 2 done, 0 failed.").waitFor();
  await close();
  expect((await first.api("GET", "/users")).items.length).toBe(1);
});

it("many alerts are taken note of", { timeout: 60_000 }, async () => {
  const settings = { enabled: true, hold_seconds: 0, clear_seconds: 0, warning: 0 };
  await first.api("PUT", "/alert-rules/pool-filling", settings);
  await until("there are alerts", async () =>
    (await first.api("GET", "/alerts")).items.length >= 2 ? true : undefined,
  );
  await go("/alerts");
  // A message may be longer than its column: pressed, it is there as a whole.
  const [{ message }] = (await first.api("GET", "/alerts?state=active")).items;
  await main().getByRole("button", { name: message, exact: true }).first().click();
  await dialog().getByText(message, { exact: true }).waitFor();
  await dialog().getByText("Since").waitFor();
  await close();
  await main().getByLabel("Select all shown").check();
  await chosen().getByRole("button", { name: "Acknowledge" }).click();
  await dialog().getByLabel("Comment").fill("we know");
  await dialog()
    .getByRole("button", { name: /^Acknowledge \d/ })
    .click();
  await dialog()
    .getByText(/Finished: \d+ done, 0 failed/)
    .waitFor();
  await close();
  for (const alert of (await first.api("GET", "/alerts")).items)
    expect(alert.acknowledged.comment).toBe("we know");
});

it("a token is limited to a role on an object, and made for someone else", { timeout: 60_000 }, async () => {
  const role = (await first.api("GET", "/roles?name=operator")).items[0].meta.id;
  const cluster = { role, scope: { kind: "cluster" } };
  await first.api("POST", "/users", { name: "carl", password: PASSWORD, spec: { grants: [cluster] } });
  await go("/settings");
  await page.getByRole("button", { name: "Create token" }).click();
  await dialog().getByLabel("What it is for").fill("backup");
  await dialog()
    .getByLabel(/^It may only read/)
    .uncheck();
  await dialog()
    .getByLabel(/^It may do no more/)
    .check();
  await dialog().getByRole("button", { name: "Create token" }).click();
  await dialog().getByText("Choose a role.").waitFor();
  await dialog().getByLabel("Role", { exact: true }).selectOption({ label: "vm-user" });
  await dialog().getByLabel("Where").selectOption("labels");
  await dialog().getByLabel("Labels").fill("env=test");
  await dialog().getByLabel("For", { exact: true }).selectOption({ label: "carl" });
  await dialog().getByRole("button", { name: "Create token" }).click();
  const secret = (await dialog().locator("code.select-all").innerText()).trim();
  await close();
  await main().getByText("only vm-user on env=test").waitFor();
  await main().getByText("for carl").waitFor();
  expect(await first.allowed(secret, "/cluster")).toBe(false);
  const token = (await first.api("GET", "/tokens")).items.find((each: any) => each.name === "backup");
  expect(token.limit.scope).toEqual({ kind: "labels", labels: { env: "test" } });
});

it("a task is cancelled from the task pane; who may not do it sees why", { timeout: 90_000 }, async () => {
  const vm = (await first.api("GET", "/vms?name=one")).items[0].meta.id;
  const auditor = (await first.api("GET", "/roles?name=auditor")).items[0].meta.id;
  const grants = [{ role: auditor, scope: { kind: "cluster" } }];
  await first.api("POST", "/users", {
    name: "eve",
    password: PASSWORD,
    must_change_password: false,
    spec: { grants },
  });
  const theirs = await visit(first);
  await theirs.page.goto(`${first.url}/vms`);
  await theirs.page.getByLabel("User").fill("eve");
  await theirs.page.getByLabel("Password").fill(PASSWORD);
  await theirs.page.getByRole("button", { name: "Log in" }).click();
  await theirs.page.getByRole("heading", { name: "Virtual machines" }).waitFor();
  await go("/vms");
  await first.api("POST", `/vms/${vm}/migrate`, { host: hosts["alpha"], bandwidth_bytes: 2 ** 25 });
  const cancel = (on: Page) =>
    on
      .getByRole("region", { name: "Recent tasks", exact: true })
      .getByRole("button", { name: "Cancel: Migrate virtual machine" });
  await cancel(theirs.page).waitFor();
  expect(await cancel(theirs.page).getAttribute("aria-disabled")).toBe("true");
  await cancel(theirs.page).focus();
  await theirs.page.getByRole("tooltip").getByText("vm.power").waitFor();
  await theirs.context.close();
  await cancel(page).click();
  const pane = page.getByRole("region", { name: "Recent tasks", exact: true });
  await pane.getByText("cancelled").first().waitFor();
  expect((await first.api("GET", `/vms/${vm}`)).status.host).toBe(hosts["beta"]);
  expect(ours.faults).toEqual([]);
});
