// What people do, from the first visit on, in one browser against one daemon. The tests build on each other, in this order.
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { Daemon, PASSWORD, closeBrowser, oneTimeCode, until, visit, type Visit } from "./harness";

let daemon: Daemon;
let ours: Visit;
let page: Page;
let kernel: string;

const main = () => page.getByRole("main");
const row = (name: string) => main().getByRole("row", { name: new RegExp(`Select ${name} `) });
const go = (path: string) => page.goto(daemon.url + path);

beforeAll(async () => {
  daemon = await Daemon.start();
  ours = await visit(daemon);
  page = ours.page;
});
afterAll(async () => {
  await closeBrowser();
  await daemon?.end();
});

it("first run: a wrong code is refused, the right one sets the password", async () => {
  await go("/vms");
  await page.getByRole("heading", { name: "Set up this host" }).waitFor();
  await page.getByText("Did your browser warn of the certificate?").click();
  await page.getByText("compare its SHA-256 fingerprint").waitFor();
  const fill = async (code: string, password: string, again = password) => {
    await page.getByLabel("Set-up code").fill(code);
    await page.getByLabel("New password", { exact: true }).fill(password);
    await page.getByLabel("New password again").fill(again);
    await page.getByRole("button", { name: "Set the password" }).click();
  };
  await fill("WRONG-CODE", PASSWORD);
  await page.getByRole("alert").first().waitFor();
  await fill(daemon.setupCode, PASSWORD, "something else");
  await page.getByText("The two passwords differ.").waitFor();
  await fill(daemon.setupCode, PASSWORD);
  // It leads to where one wanted to go.
  await page.getByText("There are no virtual machines yet.").waitFor();
  expect(new URL(page.url()).pathname).toBe("/vms");
});

it("images: uploaded by the page, with a checksum that is held against it", async () => {
  await daemon.logIn();
  ({ kernel } = await daemon.images());
  await page.getByRole("link", { name: "Images", exact: true }).first().click();
  await row("debian-12").waitFor();
  await page.getByRole("button", { name: "Upload image" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("File").setInputFiles({
    name: "empty.raw",
    mimeType: "application/octet-stream",
    buffer: Buffer.alloc(1024 * 1024),
  });
  await dialog.getByLabel("SHA-256 checksum").fill("0".repeat(64));
  await dialog.getByRole("button", { name: /^Upload 1 MiB/ }).click();
  await dialog.getByRole("alert").waitFor();
  // The right one: of a mebibyte of zeros.
  await dialog
    .getByLabel("SHA-256 checksum")
    .fill("30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58");
  await dialog.getByRole("button", { name: /^Upload 1 MiB/ }).click();
  await row("empty").getByText("ready").waitFor();
});

it("create a machine: faults are named at their fields, defaults fit, it starts", async () => {
  await go("/vms");
  await main().getByRole("button", { name: "Create virtual machine" }).click();
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText("1 to 63 letters, digits").waitFor();
  await page.getByLabel("Name", { exact: true }).fill("web-1");
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByLabel("Memory", { exact: true }).fill("12");
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText("At least 64M.").waitFor();
  await page.getByLabel("Memory", { exact: true }).fill("1G");
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByLabel("Set up by cloud-init").selectOption({ label: "A user with SSH keys" });
  await page.getByLabel("SSH public keys").fill("no key");
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText("Not an SSH public key: no key").waitFor();
  await page.getByLabel("SSH public keys").fill("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@desk");
  await page.getByRole("button", { name: "Next" }).click();
  await page.getByText("20 GiB, a copy of debian-12").waitFor();
  expect(new URL(page.url()).searchParams.get("step")).toBe("5");
  await page.goBack();
  await page.getByRole("heading", { name: "Guest set-up" }).waitFor();
  await page.goForward();
  await main().getByRole("button", { name: "Create virtual machine" }).click();
  await page.getByRole("heading", { name: "web-1" }).waitFor();
  await main().getByText("running", { exact: true }).first().waitFor();
  const [vm] = (await daemon.api("GET", "/vms")).items;
  expect(vm.spec).toMatchObject({ vcpus: 2, memory_bytes: 2 ** 30 });
  expect(vm.spec.nics.length).toBe(1);
  expect(vm.spec.cloud_init.user_data).toMatch(/^#cloud-config\n[^]*name: "admin"[^]*- "ssh-ed25519 AAAA/);
});

it("console: what is typed and pasted reaches the guest; it connects again", async () => {
  await page.getByRole("link", { name: "Serial console", exact: true }).click();
  await main().getByText("connected", { exact: true }).waitFor();
  const screen = () => page.locator(".xterm-rows").innerText();
  await page.keyboard.type("hello\n");
  await until("the echo", async () => /echo: hello/.test(await screen()) || undefined);
  await page.getByRole("button", { name: "Paste" }).click();
  await page.getByRole("dialog").getByLabel("Text").fill("pasted words");
  await page.getByRole("button", { name: "Type it" }).click();
  await until(
    "the echo of what was pasted",
    async () => /echo: pasted words/.test(await screen()) || undefined,
  );
  await page.getByRole("button", { name: "Reconnect" }).click();
  await main().getByText("connected", { exact: true }).waitFor();
  await page.keyboard.type("again\n");
  await until("the echo after connecting again", async () => /echo: again/.test(await screen()) || undefined);
  expect((await screen()).match(/echo: pasted words/g)).toHaveLength(1);
});

it("console: fills the screen, and connects again by itself after the host was away", async () => {
  const screen = () => page.locator(".xterm-rows").innerText();
  const full = () => page.evaluate(() => document.fullscreenElement?.getAttribute("aria-label") ?? "");
  await page.getByRole("button", { name: "Full screen" }).click();
  await until("full screen", async () => (await full()).startsWith("Serial console") || undefined);
  await page.keyboard.type("large\n");
  await until("the echo", async () => /echo: large/.test(await screen()) || undefined);
  await page.getByRole("button", { name: "Leave full screen" }).click();
  await until("no full screen", async () => (await full()) === "" || undefined);
  await daemon.kill();
  await main().getByText("connecting again").waitFor({ timeout: 30_000 });
  await daemon.up();
  await until("its machine is there", async () => {
    const [vm] = (await daemon.api("GET", "/vms?name=web-1")).items;
    // A simulated machine ends with its daemon: it is started again where it has.
    if (vm.status.state === "stopped" || vm.status.state === "failed")
      await daemon.api("POST", `/vms/${vm.meta.id}/start`).catch(() => undefined);
    return vm.status.state === "running" || undefined;
  });
  await main().getByText("connected", { exact: true }).waitFor();
  await main().locator(".xterm").click();
  await page.keyboard.type("back\n");
  await until("the echo after the host was away", async () => /echo: back/.test(await screen()) || undefined);
});

it("a failed task says why, in the notice, in the task pane and at the machine", async () => {
  const id = await daemon.vm("broken", kernel);
  daemon.breakKernel(kernel);
  await go(`/vms/${id}`);
  await main().getByRole("button", { name: "Start" }).click();
  await page.getByText("Start broken: failed").waitFor({ timeout: 60_000 });
  const pane = page.getByRole("region", { name: "Recent tasks", exact: true });
  await pane.getByText("failed", { exact: true }).first().waitFor();
  await main().getByText("is not there").first().waitFor();
  await page.getByRole("button", { name: "Dismiss: Start broken" }).click();
  daemon.mendKernel(kernel);
});

it("what destroys is asked by name", async () => {
  await go("/vms");
  await page.getByRole("button", { name: "Actions for broken" }).click();
  const stop = page.getByRole("menuitem", { name: /^Stop/ });
  await stop.waitFor();
  if ((await stop.getAttribute("aria-disabled")) === null) {
    await stop.click();
    await page.getByText("Stop broken: done").waitFor();
    await page.getByRole("button", { name: "Actions for broken" }).click();
  }
  await page.getByRole("menuitem", { name: "Delete" }).click();
  const dialog = page.getByRole("dialog");
  const verb = dialog.getByRole("button", { name: "Delete" });
  expect(await verb.getAttribute("aria-disabled")).toBe("true");
  await dialog.getByLabel("Type broken to confirm").fill("broke");
  await page.keyboard.press("Enter");
  expect(await dialog.isVisible()).toBe(true);
  await dialog.getByLabel("Type broken to confirm").fill("broken");
  await verb.click();
  await row("broken").waitFor({ state: "detached" });
});

it("bulk actions: a result for each, and reasons for those left out", async () => {
  for (let n = 1; n <= 12; n += 1) await daemon.vm(`crowd-${n}`, kernel);
  await go("/vms?q=name:crowd");
  await main().getByText("12 of 13 virtual machines").waitFor();
  await main().getByLabel("Select all shown").check();
  await page.getByText("12 selected").waitFor();
  await page.getByRole("group", { name: "Selected" }).getByRole("button", { name: "Start" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Start 12" }).click();
  await dialog.getByText("Finished: 12 done, 0 failed.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await until(
    "all run",
    async () => (await main().getByText("running", { exact: true }).count()) === 12 || undefined,
  );

  await page
    .getByRole("group", { name: "Selected" })
    .getByRole("button", { name: "More for the selected" })
    .click();
  await page.getByRole("menuitem", { name: "Delete" }).click();
  await dialog
    .getByText("None of the selected can be done.")
    .or(dialog.getByText("left out. Stop it first.").first())
    .first()
    .waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();

  await page
    .getByRole("group", { name: "Selected" })
    .getByRole("button", { name: "More for the selected" })
    .click();
  await page.getByRole("menuitem", { name: "Force stop" }).click();
  await dialog.getByLabel(/Type 12 to confirm/).fill("12");
  await dialog.getByRole("button", { name: "Force stop 12" }).click();
  await dialog.getByText("Finished: 12 done, 0 failed.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).last().click();
});

it("the list follows what others do, without being read again", async () => {
  await go("/vms?q=name:crowd-3");
  await row("crowd-3").getByText("stopped").waitFor();
  let lists = 0;
  page.on("request", (request) => (lists += /\/api\/v1\/vms\?/.test(request.url()) ? 1 : 0));
  const id = (await daemon.api("GET", "/vms?name=crowd-3")).items[0].meta.id;
  await daemon.api("POST", `/vms/${id}/start`);
  await row("crowd-3").getByText("running").waitFor();
  await daemon.api("PATCH", `/vms/${id}`, { name: "crowd-3-renamed" });
  await row("crowd-3-renamed").waitFor();
  expect(lists).toBe(0);
});

it("searches, sorts and remembers both in the address", async () => {
  await go("/vms");
  await row("web-1").waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("-name:crowd state:running");
  await main().getByText("1 of 13 virtual machines").waitFor();
  await until(
    "the address follows",
    () => new URL(page.url()).searchParams.get("q") === "-name:crowd state:running" || undefined,
  );
  await page.reload();
  await main().getByText("1 of 13 virtual machines").waitFor();
  await page.getByRole("button", { name: "Clear the search" }).click();
  await main().getByRole("button", { name: "Name", exact: true }).click();
  await until(
    "ordered downwards",
    () => new URL(page.url()).searchParams.get("sort") === "-name" || undefined,
  );
  await main().getByRole("row").nth(1).getByText("web-1").waitFor();
});

it("saved filters: kept under a name, chosen, found by the palette, renamed and deleted", async () => {
  await go("/vms");
  await row("web-1").waitFor();
  const menu = async (entry: RegExp) => {
    await page.getByRole("button", { name: "Saved filters" }).click();
    const item = page.getByRole("menuitem", { name: entry });
    await item.waitFor();
    return item;
  };
  const save = await menu(/^Save this search/);
  expect(await save.getAttribute("aria-disabled")).toBe("true");
  await save.getByText("Search for something first.").waitFor();
  await page.keyboard.press("Escape");
  await page.getByLabel("Search virtual machines").fill("-name:crowd state:running");
  await (await menu(/^Save this search/)).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("-name:crowd state:running").waitFor();
  await dialog.getByRole("button", { name: "Save", exact: true }).click();
  await dialog.getByText("It needs a name.").waitFor();
  await dialog.getByLabel("Name").fill("Ours, running");
  await dialog.getByRole("button", { name: "Save", exact: true }).click();
  await dialog.waitFor({ state: "detached" });
  // It is the cluster's, not the browser's: it is there after the page was loaded anew.
  await go("/vms");
  await main().getByText("13 virtual machines", { exact: true }).waitFor();
  await (await menu(/^Ours, running$/)).click();
  await main().getByText("1 of 13 virtual machines").waitFor();
  // Other lists have their own.
  await go("/images");
  await page.getByRole("button", { name: "Saved filters" }).click();
  await page.getByText("There are none for this list.").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+k");
  await page.keyboard.type("ours running");
  await page.getByRole("option", { name: /Ours, running/ }).waitFor();
  await page.keyboard.press("Enter");
  await main().getByText("1 of 13 virtual machines").waitFor();
  await (await menu(/^Edit saved filters/)).click();
  await dialog.getByLabel("Name of Ours, running").fill("Running");
  await dialog.getByRole("button", { name: "Rename Ours, running" }).click();
  await dialog.getByLabel("Name of Running").waitFor();
  await dialog.getByRole("button", { name: "Delete Running" }).click();
  await dialog.getByText("There are none any more.").waitFor();
  await dialog.getByRole("button", { name: "Close" }).last().click();
  const left = await daemon.call("GET", "/api/v1/session/settings");
  expect(left.body.filters).toEqual([]);
});

it("the palette goes, finds and does", async () => {
  await page.keyboard.press("Control+k");
  await page.keyboard.type("stop web-1");
  await page.getByRole("option", { name: /Stop web-1/ }).waitFor();
  await page.keyboard.press("Enter");
  await page.getByText("Stop web-1: done").waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("networks");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Networks" }).waitFor();
});

it("hardware: changed by the page, refused with its reason", async () => {
  const id = (await daemon.api("GET", "/vms?name=web-1")).items[0].meta.id;
  await go(`/vms/${id}/hardware`);
  await main().getByRole("button", { name: "Change" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("CPUs", { exact: true }).fill("99");
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("A whole number from 1 to 64.").waitFor();
  await dialog.getByLabel("CPUs", { exact: true }).fill("4");
  await dialog.getByLabel("Memory", { exact: true }).fill("2T");
  await dialog.getByRole("button", { name: "Save" }).click();
  // The host's own refusal, at its field.
  await dialog.getByText("is not between 64 MiB and 1 TiB").first().waitFor();
  await dialog.getByLabel("Memory", { exact: true }).fill("3G");
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.waitFor({ state: "detached" });
  await main().getByText("3 GiB").waitFor();
  await main().getByRole("button", { name: "Add disk" }).click();
  await dialog.getByLabel("Disk", { exact: true }).selectOption("new");
  await dialog.getByLabel("Size").fill("5G");
  await dialog.getByRole("button", { name: "Add disk" }).click();
  await main().getByText("web-1-disk-2").waitFor();
});

it("networks: a refused field is told at the field", async () => {
  await go("/networks");
  await page.getByRole("button", { name: "Create network" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill("lab");
  await dialog.getByText("Give guests their addresses").click();
  await dialog.getByLabel("First address").fill("10.0.0.1");
  await dialog.getByRole("button", { name: "Create network" }).click();
  await until(
    "the fault is at its field",
    async () =>
      (await dialog.getByLabel("First address").getAttribute("aria-invalid")) === "true" || undefined,
  );
  await dialog.getByLabel("First address").fill("192.168.50.100");
  await dialog.getByRole("button", { name: "Create network" }).click();
  await row("lab")
    .or(main().getByRole("row", { name: /lab/ }))
    .first()
    .waitFor();
});

it("pools: a shared one is added, told when its server is away, and deleted by name", async () => {
  await go("/pools");
  await page.getByRole("button", { name: "Add shared pool" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill("shared");
  await dialog.getByLabel("NFS server").fill("nas.lan");
  await dialog.getByLabel("Export").fill("srv/vm");
  await dialog.getByRole("button", { name: "Add pool" }).click();
  await until(
    "the fault is at its field",
    async () => (await dialog.getByLabel("Export").getAttribute("aria-invalid")) === "true" || undefined,
  );
  await dialog.getByLabel("Export").fill("/srv/vm");
  await dialog.getByRole("button", { name: "Add pool" }).click();
  const card = main().getByRole("region", { name: "shared" });
  await card.getByText("ready on 1 host").waitFor();
  await card.getByRole("meter", { name: "Used" }).waitFor();
  const pool = (await daemon.api("GET", "/pools?name=shared")).items[0].meta.id as string;
  const volume = await daemon.api("POST", "/volumes", { name: "far", spec: { size_bytes: 2 ** 30, pool } });
  // Its server goes and comes back.
  await card.getByRole("link", { name: "Details of shared" }).click();
  await page.getByRole("heading", { name: "shared", exact: true }).waitFor();
  const hosts = main().getByRole("region", { name: "Hosts" });
  daemon.exportAway("nas.lan", "srv_vm", true);
  await hosts.getByText("unreachable").waitFor({ timeout: 60_000 });
  await hosts.getByText("does not answer").waitFor();
  daemon.exportAway("nas.lan", "srv_vm", false);
  await hosts.getByText("ready").waitFor({ timeout: 60_000 });
  // What is in it keeps it.
  const remove = async () => {
    await page.getByRole("button", { name: "Actions for shared" }).click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await dialog.getByLabel("Type shared to confirm").fill("shared");
    await dialog.getByRole("button", { name: "Delete" }).click();
  };
  await remove();
  await dialog.getByRole("alert").getByText("the volume `far`").waitFor();
  await page.keyboard.press("Escape");
  await daemon.api("DELETE", `/volumes/${volume.meta.id}`);
  await until("the volume is gone", async () =>
    (await daemon.api("GET", "/volumes?name=far")).items.length === 0 ? true : undefined,
  );
  await remove();
  await page.getByRole("heading", { name: "Storage pools" }).waitFor();
  await card.waitFor({ state: "detached" });
});

it("lost connection: told at once, mended by itself, and what was typed stays", async () => {
  await go("/volumes");
  await page.getByRole("button", { name: "Create volume" }).click();
  const form = page.getByRole("dialog", { name: "Create volume" });
  await form.getByLabel("Name").fill("half-typed");
  await daemon.kill();
  await page.getByText("Connection lost.").waitFor({ timeout: 30_000 });
  await daemon.up();
  await page.getByText("Connection lost.").waitFor({ state: "detached" });
  expect(await form.getByLabel("Name").inputValue()).toBe("half-typed");
  await form.getByRole("button", { name: "Create volume" }).click();
  await row("half-typed").waitFor();
  // And the changes are heard again.
  await daemon.api("POST", "/volumes", { name: "made-elsewhere", spec: { size_bytes: 2 ** 30 } });
  await row("made-elsewhere").waitFor();
});

it("a stream that is refused is asked for at growing pauses, and heard again", async () => {
  const asked: number[] = [];
  await page.route("**/api/v1/watch", (route) => {
    asked.push(Date.now());
    return route.fulfill({ status: 503 });
  });
  await go("/volumes");
  await until("it asked three times", () => asked.length >= 3 || undefined);
  expect(asked[2]! - asked[0]!).toBeGreaterThan(2500);
  const heard = page.waitForResponse((answer) => answer.url().endsWith("/api/v1/watch") && answer.ok());
  await page.unroute("**/api/v1/watch");
  await heard;
  await daemon.api("POST", "/volumes", { name: "told-again", spec: { size_bytes: 2 ** 30 } });
  await row("told-again").waitFor();
});

it("a session that was ended is asked for over the page one is on", async () => {
  await page.getByRole("button", { name: "Create volume" }).click();
  const form = page.getByRole("dialog", { name: "Create volume" });
  await form.getByLabel("Name").fill("typed-before");
  await daemon.endSessions();
  const ended = page.getByRole("dialog", { name: "Your session has ended" });
  await ended.waitFor({ timeout: 60_000 });
  await ended.getByLabel("Password").fill("not the password");
  await ended.getByRole("button", { name: "Log in" }).click();
  await ended.getByRole("alert").waitFor();
  await ended.getByLabel("Password").fill(PASSWORD);
  await ended.getByRole("button", { name: "Log in" }).click();
  await ended.waitFor({ state: "detached" });
  expect(await form.getByLabel("Name").inputValue()).toBe("typed-before");
  await form.getByRole("button", { name: "Create volume" }).click();
  await row("typed-before").waitFor();
});

it("no permission: what one may not do stays visible, with the reason", async () => {
  await go("/settings/users");
  await page.getByRole("button", { name: "Create user" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name to log in with").fill("maria");
  await dialog.getByLabel("First password").fill("first of maria");
  await dialog.getByRole("button", { name: "Add a role" }).click();
  await dialog.getByRole("button", { name: "Create user" }).click();
  await dialog.getByText("Choose a role.").waitFor();
  await dialog.getByLabel("Role", { exact: true }).selectOption({ label: "auditor" });
  await dialog.getByRole("button", { name: "Create user" }).click();
  await main().getByRole("row", { name: /maria/ }).waitFor();

  const theirs = await visit(daemon);
  const other = theirs.page;
  await other.goto(`${daemon.url}/vms`);
  await other.getByLabel("User").fill("maria");
  await other.getByLabel("Password").fill("first of maria");
  await other.getByRole("button", { name: "Log in" }).click();
  // The first password is somebody else's.
  await other.getByRole("heading", { name: "Set a new password" }).waitFor();
  await other.getByLabel("Present password").fill("first of maria");
  await other.getByLabel("New password", { exact: true }).fill("known to maria only");
  await other.getByLabel("New password again").fill("known to maria only");
  await other.getByRole("button", { name: "Change the password" }).click();
  const create = other.getByRole("main").getByRole("button", { name: "Create virtual machine" });
  await create.waitFor();
  expect(await create.getAttribute("aria-disabled")).toBe("true");
  await create.hover();
  await other.getByText("Your role lacks the permission vm.write.").first().waitFor();
  await other.getByRole("button", { name: "Actions for web-1" }).click();
  const start = other.getByRole("menuitem", { name: /^Start/ });
  expect(await start.getAttribute("aria-disabled")).toBe("true");
  await start.getByText("Your role lacks the permission vm.power.").waitFor();
  expect(theirs.faults).toEqual([]);
  await theirs.context.close();
});

it("second factor: set up by the page, asked for at the next log-in", async () => {
  await go("/settings");
  await page.getByRole("button", { name: "Set up one-time codes" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Your password").fill(PASSWORD);
  await dialog.getByRole("button", { name: "Show the code" }).click();
  await dialog.getByRole("img", { name: "Code for your authenticator" }).waitFor();
  const secret = (await dialog.locator("code.select-all").innerText()).trim();
  await dialog.getByLabel("The code it shows now").fill("000000");
  await dialog.getByRole("button", { name: "Confirm" }).click();
  await dialog.getByRole("alert").first().waitFor();
  await dialog.getByLabel("The code it shows now").fill(oneTimeCode(secret));
  await dialog.getByRole("button", { name: "Confirm" }).click();
  const recovery = dialog.getByRole("list", { name: "Recovery codes" }).getByRole("listitem");
  await recovery.first().waitFor();
  const code = (await recovery.first().innerText()).trim();
  await dialog.getByRole("button", { name: "I have kept them" }).click();
  await main().getByText("Logging in asks for a one-time code.").waitFor();

  const again = await visit(daemon);
  await again.page.goto(daemon.url);
  await again.page.getByLabel("Password").fill(PASSWORD);
  await again.page.getByRole("button", { name: "Log in" }).click();
  await again.page.getByLabel("One-time code").fill(code);
  await again.page.getByRole("button", { name: "Log in" }).click();
  await again.page.getByRole("heading", { name: "Dashboard" }).waitFor();
  await again.context.close();

  await page.getByRole("button", { name: "Switch off" }).click();
  await dialog.getByLabel("Your password").fill(PASSWORD);
  await dialog.getByRole("button", { name: "Switch off" }).click();
  await main().getByText("Your password alone opens your account.").waitFor();
});

it("alerts: a rule is changed, its alert is in the bar, is taken note of and silenced; a channel says why it fails", async () => {
  await go("/settings/notifications");
  await page.getByRole("button", { name: "Alert rules" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Change Pool filling" }).click();
  // Filled to nothing is too full from now on, at once.
  await dialog.getByLabel("Warning").fill("x");
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("These have to be numbers.").waitFor();
  await dialog.getByLabel("Warning").fill("0");
  await dialog.getByLabel("Critical").fill("");
  await dialog.getByLabel("Seconds it has to hold").fill("0");
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByText("(changed)").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByRole("link", { name: /^Alerts: .*warning/ }).click();
  const alert = main().getByRole("row", { name: /is used/ });
  await alert.waitFor();
  await page.getByRole("button", { name: "Actions for the alert about local" }).click();
  await page.getByRole("menuitem", { name: "Acknowledge" }).click();
  await dialog.getByLabel("Comment").fill("a disk is on its way");
  await dialog.getByRole("button", { name: "Acknowledge" }).click();
  await alert.getByText("acknowledged").waitFor();
  await page.getByRole("link", { name: "Alerts: none" }).waitFor();
  await page.getByRole("button", { name: "Actions for the alert about local" }).click();
  await page.getByRole("menuitem", { name: "Silence" }).click();
  await dialog.getByRole("button", { name: "Silence" }).click();
  await alert.getByText("silenced").waitFor();

  await go("/settings/notifications");
  await page.getByRole("button", { name: "Add channel" }).click();
  await dialog.getByLabel("Name").fill("chat");
  await dialog.getByLabel("URL").fill("nowhere");
  await dialog.getByRole("button", { name: "Add channel" }).click();
  await dialog.getByText("is not an address like").first().waitFor();
  await dialog.getByLabel("URL").fill("http://127.0.0.1:1/hook");
  await dialog.getByRole("button", { name: "Add channel" }).click();
  await page.getByRole("button", { name: "Actions for chat" }).click();
  await page.getByRole("menuitem", { name: "Send a test" }).click();
  await dialog.getByRole("button", { name: "Send a test" }).click();
  await dialog.getByText("127.0.0.1 port 1 cannot be reached").waitFor();
  await dialog.getByRole("button", { name: "Close" }).last().click();
});

it("audit: who did what, and what was refused", async () => {
  await go("/settings/audit?q=action:vm.delete");
  await main()
    .getByRole("row", { name: /vm\.delete/ })
    .first()
    .waitFor();
  await go("/settings/audit?q=outcome:refused");
  await main()
    .getByRole("row", { name: /refused/ })
    .first()
    .waitFor();
});

it("tokens: the secret is shown once and works; the password can be changed", async () => {
  await go("/settings");
  await page.getByRole("button", { name: "Create token" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("What it is for").fill("script");
  await dialog.getByRole("button", { name: "Create token" }).click();
  const secret = (await dialog.locator("code.select-all").innerText()).trim();
  expect(await daemon.allowed(secret, "/vms")).toBe(true);
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await page.getByRole("button", { name: "Delete script" }).click();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await until("the token is refused", async () => !(await daemon.allowed(secret, "/vms")) || undefined);
});

it("logging out leaves nothing behind", async () => {
  await page.getByRole("button", { name: "User admin" }).click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
  await page.getByRole("button", { name: "Log in" }).waitFor();
  await page.goBack();
  await page.getByRole("button", { name: "Log in" }).waitFor();
  expect(await page.getByText("web-1").count()).toBe(0);
});

it("nothing in the page failed, was refused by its policy, or went elsewhere", () => {
  expect(ours.faults).toEqual([]);
});
