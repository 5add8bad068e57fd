// What pages look like between: the first run, steps of the wizard, dialogs, faults and errors, by axe in both themes; and a
// machine switched from a phone.
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { audit } from "./axe";
import { Daemon, closeBrowser, logIn, until, visit, type Visit } from "./harness";

let daemon: Daemon;
let web: string;
let host: string;
let pool: string;
let kernel: string;

beforeAll(async () => {
  daemon = await Daemon.start();
});
afterAll(async () => {
  await closeBrowser();
  await daemon?.end();
});

const wrong: string[] = [];
afterEach(() => void (wrong.length = 0));
async function look(ours: Visit, name: string) {
  await ours.page.waitForTimeout(150);
  wrong.push(...(await audit(ours)).map((fault) => `${name}: ${fault}`));
  const over = await ours.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (over > 0) wrong.push(`${name}: ${over} pixels wider than the screen`);
}
const main = (page: Page) => page.getByRole("main");

const LOOKS = [
  ["light", 1360, 850],
  ["dark", 1360, 850],
  ["dark", 375, 740],
] as const;

it("the first run and a refused log-in", { timeout: 120_000 }, async () => {
  for (const [theme, width, height] of LOOKS) {
    const ours = await visit(daemon, { theme, width, height });
    const { page } = ours;
    await page.goto(daemon.url);
    await page.getByRole("heading", { name: "Set up this host" }).waitFor();
    await look(ours, "first run");
    await page.getByLabel("Set-up code").fill("WRONG-CODE");
    await page.getByLabel("New password", { exact: true }).fill("long enough");
    await page.getByLabel("New password again").fill("long enough");
    await page.getByRole("button", { name: "Set the password" }).click();
    await page.getByRole("alert").first().waitFor();
    await look(ours, "first run, refused");
    await ours.context.close();
  }
  await daemon.setUp();
  ({ kernel } = await daemon.images());
  web = await daemon.vm("web-1", kernel);
  await daemon.vm("web-2", kernel);
  host = (await daemon.api("GET", "/hosts")).items[0].meta.id;
  pool = (await daemon.api("GET", "/pools")).items[0].meta.id;
  await daemon.api("POST", "/cluster/backups");
  const ours = await visit(daemon);
  await ours.page.goto(daemon.url);
  await ours.page.getByLabel("Password", { exact: true }).fill("not it");
  await ours.page.getByRole("button", { name: "Log in" }).click();
  await ours.page.getByRole("alert").first().waitFor();
  await look(ours, "refused log-in");
  await ours.context.close();
  expect(wrong).toEqual([]);
});

/** A dialog: where, and the buttons that open it. */
const DIALOGS: [name: string, path: () => string, open: (page: Page) => Promise<unknown>][] = [
  [
    "rename a machine",
    () => `/vms/${web}`,
    (page) => page.getByRole("button", { name: "Name and labels" }).click(),
  ],
  [
    "placement",
    () => `/vms/${web}`,
    async (page) => {
      await page.getByRole("region", { name: "Placement" }).getByRole("button", { name: "Change" }).click();
      await page.getByRole("button", { name: "Add a rule" }).click();
      await page.getByRole("button", { name: "Save" }).click();
    },
  ],
  [
    "hardware",
    () => `/vms/${web}/hardware`,
    (page) => main(page).getByRole("button", { name: "Change" }).first().click(),
  ],
  [
    "delete a machine",
    () => "/vms",
    async (page) => {
      await page.getByRole("button", { name: "Actions for web-1" }).click();
      await page.getByRole("menuitem", { name: "Delete" }).click();
    },
  ],
  [
    "many machines",
    () => "/vms",
    async (page) => {
      await main(page).getByLabel("Select all shown").check();
      await page.getByRole("button", { name: "More for the selected" }).click();
      await page.getByRole("menuitem", { name: "Force stop" }).click();
    },
  ],
  [
    "many labels",
    () => "/vms",
    async (page) => {
      await main(page).getByLabel("Select all shown").check();
      await page.getByRole("button", { name: "More for the selected" }).click();
      await page.getByRole("menuitem", { name: "Labels" }).click();
    },
  ],
  ["maintenance", () => `/hosts/${host}?open=maintenance`, (page) => page.getByRole("dialog").waitFor()],
  ["restart a host", () => `/hosts/${host}?open=reboot`, (page) => page.getByRole("dialog").waitFor()],
  [
    "management network",
    () => `/hosts/${host}/networks`,
    async (page) => {
      await main(page).getByRole("button", { name: "Change" }).click();
      await page.getByRole("dialog").getByLabel("Address", { exact: true }).selectOption("static");
      await page.getByRole("button", { name: "Try it" }).click();
    },
  ],
  [
    "factory reset",
    () => `/hosts/${host}/system`,
    (page) => main(page).getByRole("button", { name: "Factory reset" }).click(),
  ],
  [
    "new certificate",
    () => "/settings/certificates",
    (page) =>
      main(page)
        .getByRole("button", { name: /^New certificate/ })
        .click(),
  ],
  ["add hosts", () => "/cluster", (page) => main(page).getByRole("button", { name: "Add hosts" }).click()],
  ["join", () => "/cluster", (page) => main(page).getByRole("button", { name: "Join a cluster" }).click()],
  [
    "restore",
    () => "/cluster",
    (page) => main(page).getByRole("button", { name: "Restore from a file" }).click(),
  ],
  ["create volume", () => "/volumes", (page) => page.getByRole("button", { name: "Create volume" }).click()],
  [
    "create network",
    () => "/networks",
    (page) => page.getByRole("button", { name: "Create network" }).click(),
  ],
  ["shared pool", () => "/pools", (page) => page.getByRole("button", { name: "Add shared pool" }).click()],
  [
    "rename a pool",
    () => `/pools/${pool}`,
    async (page) => {
      await page.getByRole("button", { name: /^Actions for/ }).click();
      await page.getByRole("menuitem", { name: "Name and labels" }).click();
    },
  ],
  [
    "create user",
    () => "/settings/users",
    async (page) => {
      await page.getByRole("button", { name: "Create user" }).click();
      await page.getByRole("button", { name: "Add a role" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Create user" }).click();
      await page.getByText("Choose a role.").waitFor();
    },
  ],
  [
    "create token",
    () => "/settings",
    async (page) => {
      await page.getByRole("button", { name: "Create token" }).click();
      await page.getByLabel(/^It may do no more/).check();
    },
  ],
  [
    "add channel",
    () => "/settings/notifications",
    (page) => page.getByRole("button", { name: "Add channel" }).click(),
  ],
];

it("every dialog", { timeout: 400_000 }, async () => {
  for (const [theme, width, height] of LOOKS) {
    const ours = await visit(daemon, { theme, width, height });
    await logIn(daemon, ours);
    for (const [name, path, open] of DIALOGS) {
      await ours.page.goto(daemon.url + path());
      await open(ours.page);
      await ours.page.getByRole("dialog").first().waitFor();
      await look(ours, `${name}, ${theme}, ${width}`);
    }
    expect(ours.faults).toEqual([]);
    await ours.context.close();
  }
  expect(wrong).toEqual([]);
});

it("the steps of the wizard, with and without faults", { timeout: 200_000 }, async () => {
  for (const [theme, width, height] of LOOKS) {
    const ours = await visit(daemon, { theme, width, height });
    const { page } = ours;
    const next = () => page.getByRole("button", { name: "Next" }).click();
    await logIn(daemon, ours, "/vms/new");
    await page.getByLabel("Disk image").waitFor();
    await next();
    await page.getByText("1 to 63 letters, digits").waitFor();
    await look(ours, `name missing, ${theme}, ${width}`);
    await page.getByLabel("Name", { exact: true }).fill("new");
    await next();
    await page.getByLabel("Memory", { exact: true }).fill("12");
    await next();
    await page.getByText("At least 64M.").waitFor();
    await look(ours, `hardware, ${theme}, ${width}`);
    await page.getByLabel("Memory", { exact: true }).fill("1G");
    await next();
    await page.getByRole("button", { name: "Add a rule" }).click();
    await next();
    await page.getByText("Give the label of the other machines").waitFor();
    await look(ours, `boot, ${theme}, ${width}`);
    await page.getByRole("button", { name: "Remove rule 1" }).click();
    await next();
    await page.getByRole("heading", { name: "Guest set-up" }).waitFor();
    await look(ours, `guest, ${theme}, ${width}`);
    await next();
    await page.getByText("20 GiB, a copy of debian-12").waitFor();
    await look(ours, `review, ${theme}, ${width}`);
    await ours.context.close();
  }
  expect(wrong).toEqual([]);
});

it("what is not there, what failed, and the change on trial", { timeout: 200_000 }, async () => {
  const broken = await daemon.vm("broken", kernel);
  daemon.breakKernel(kernel);
  await daemon.api("POST", `/vms/${broken}/start`);
  await until("it failed", async () => (await daemon.state_of(broken)) === "failed" || undefined);
  daemon.mendKernel(kernel);
  const network = { address: "192.0.2.7/24", gateway: "192.0.2.1", dns: [] };
  await daemon.api("PUT", `/hosts/${host}/network`, { network, seconds: 600 });
  for (const [theme, width, height] of LOOKS) {
    const ours = await visit(daemon, { theme, width, height });
    const { page } = ours;
    await logIn(daemon, ours);
    const states: [string, string, RegExp][] = [
      ["no such page", "/nowhere", /There is no such page/],
      ["no such machine", "/vms/01997a00-0000-7000-8000-000000000001", /./],
      ["no such host", "/hosts/01997a00-0000-7000-8000-000000000001", /does not exist any more/],
      ["nothing matches", "/vms?q=nothing-is-called-so", /Nothing matches/],
      ["a failed machine", `/vms/${broken}`, /failed/],
      ["trial", `/hosts/${host}/networks`, /It is taken back in/],
      ["attention", "/", /Needs attention/],
    ];
    for (const [name, path, words] of states) {
      await page.goto(daemon.url + path);
      await main(page).getByText(words).first().waitFor();
      await look(ours, `${name}, ${theme}, ${width}`);
    }
    await ours.context.close();
  }
  await daemon.api("POST", `/hosts/${host}/network/revert`);
  expect(wrong).toEqual([]);
});

it("a connection that is lost, and a session that has ended", { timeout: 120_000 }, async () => {
  const ours = await visit(daemon);
  const { page } = ours;
  await logIn(daemon, ours, "/vms");
  await main(page).getByRole("row", { name: /web-1/ }).waitFor();
  await daemon.kill();
  await page.getByText("Connection lost.").waitFor({ timeout: 30_000 });
  await look(ours, "connection lost");
  await daemon.up();
  await page.getByText("Connection lost.").waitFor({ state: "detached" });
  await daemon.endSessions();
  await page.getByRole("dialog", { name: "Your session has ended" }).waitFor({ timeout: 90_000 });
  await look(ours, "session ended");
  await ours.context.close();
  expect(wrong).toEqual([]);
});

it("a machine is switched on, paused and off from a phone", { timeout: 120_000 }, async () => {
  const ours = await visit(daemon, { width: 375, height: 740 });
  const { page } = ours;
  await logIn(daemon, ours, `/vms/${web}`);
  const state = (wanted: string) =>
    until(`it is ${wanted}`, async () => (await daemon.state_of(web)) === wanted || undefined);
  await main(page).getByRole("button", { name: "Start", exact: true }).click();
  await state("running");
  await main(page).getByText("running", { exact: true }).first().waitFor();
  await main(page).getByRole("button", { name: "Actions for web-1" }).click();
  await page.getByRole("menuitem", { name: "Pause", exact: true }).click();
  await state("paused");
  await main(page).getByRole("button", { name: "Resume" }).click();
  await state("running");
  await main(page).getByRole("button", { name: "Actions for web-1" }).click();
  await page.getByRole("menuitem", { name: "Force stop", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Force stop" }).click();
  await state("stopped");
  // And from the list.
  await page.goto(`${daemon.url}/vms`);
  await page.getByRole("button", { name: "Actions for web-2" }).click();
  await page.getByRole("menuitem", { name: "Start", exact: true }).click();
  await page.getByText("Start web-2: done").waitFor();
  expect(ours.faults).toEqual([]);
  await ours.context.close();
});
