// Where machines may be: asked for when one is made, changed later, and seen where it is broken.
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { Daemon, closeBrowser, logIn, until, visit } from "./harness";

let daemon: Daemon;
let page: Page;
let first: string;

const main = () => page.getByRole("main");
const dialog = () => page.getByRole("dialog");

beforeAll(async () => {
  daemon = await Daemon.start();
  await daemon.setUp();
  const { kernel } = await daemon.images();
  first = await daemon.vm("db-1", kernel);
  await daemon.api("PATCH", `/vms/${first}`, { labels: { tier: "db" } });
  const ours = await visit(daemon);
  page = ours.page;
  await logIn(daemon, ours);
});
afterAll(async () => {
  await closeBrowser();
  await daemon?.end();
});

it(
  "a machine is made with a rule; one without a label is refused at its place",
  { timeout: 60_000 },
  async () => {
    await page.goto(`${daemon.url}/vms/new`);
    await page.getByLabel("Name", { exact: true }).fill("db-2");
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByRole("button", { name: "Add a rule" }).click();
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("Give the label of the other machines").waitFor();
    const rule = page.getByRole("group", { name: "Rule 1" });
    await rule.getByLabel("machines with the label").fill("tier=db");
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByRole("button", { name: "Next" }).click();
    await main().getByText("not on the hosts of machines with tier=db, if possible").waitFor();
    await page.getByRole("button", { name: "Create virtual machine" }).click();
    const card = main().getByRole("region", { name: "Placement" });
    await card.getByText("it is with").waitFor();
    await card.getByRole("link", { name: "db-1" }).waitFor();
  },
);

it(
  "the cluster shows the rule and who breaks it; without the rule it is gone",
  { timeout: 60_000 },
  async () => {
    await page.goto(`${daemon.url}/cluster`);
    const rules = main().getByRole("list", { name: "Placement rules" });
    await rules.getByText("Apart from tier=db").waitFor();
    await rules.getByText("broken by one").waitFor();
    await rules.getByRole("link", { name: "db-2" }).first().click();
    const card = main().getByRole("region", { name: "Placement" });
    await card.getByRole("button", { name: "Change" }).click();
    const rule = dialog().getByRole("group", { name: "Rule 1" });
    await rule.getByLabel("It is kept").selectOption("near");
    await rule.getByLabel(/^Strictly/).check();
    await dialog().getByRole("button", { name: "Save" }).click();
    await card.getByText("on the hosts of machines with tier=db", { exact: true }).waitFor();
    expect(await card.getByText("it is not with").count()).toBe(0);
    const db2 = (await daemon.api("GET", "/vms?name=db-2")).items[0];
    expect(db2.spec.placement).toEqual({ near: [{ label: "tier=db", strict: true }] });
    await card.getByRole("button", { name: "Change" }).click();
    await dialog().getByRole("button", { name: "Remove rule 1" }).click();
    await dialog().getByRole("button", { name: "Save" }).click();
    await card.getByText("Any host that fits.").waitFor();
    await page.goto(`${daemon.url}/cluster`);
    await main().getByText("No machine asks to be near").waitFor();
  },
);

it(
  "the order in which machines are started elsewhere is changed where it is shown",
  { timeout: 60_000 },
  async () => {
    const of = async (name: string) => (await daemon.api("GET", `/vms?name=${name}`)).items[0];
    const { spec } = await of("db-1");
    await daemon.api("PATCH", `/vms/${first}`, { spec: { ...spec, ha: { priority: "medium" } } });
    await page.goto(`${daemon.url}/ha`);
    const priority = main().getByRole("combobox", { name: "Priority of db-1" });
    expect(await priority.inputValue()).toBe("medium");
    await priority.selectOption("high");
    await until("the priority is kept", async () => (await of("db-1")).spec.ha?.priority === "high");
    expect(await priority.inputValue()).toBe("high");
    // Only this was changed, and what is not protected is no more in the list.
    expect((await of("db-1")).spec).toEqual({ ...spec, ha: { priority: "high" } });
    await priority.selectOption("disabled");
    await main().getByText("No machine is protected.").waitFor();
    expect((await of("db-1")).spec.ha).toEqual({ priority: "disabled" });
  },
);
