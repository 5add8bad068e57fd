// A host from afar: its management network on trial, its name, its storage, logs, certificate, and the way back to the factory.
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { Daemon, closeBrowser, logIn, until, visit } from "./harness";

let daemon: Daemon;
let page: Page;
let host: string;
let name: string;

const main = () => page.getByRole("main");
const dialog = () => page.getByRole("dialog");
const go = (path: string) => page.goto(daemon.url + path);
const button = (label: string) => main().getByRole("button", { name: label, exact: true });

beforeAll(async () => {
  daemon = await Daemon.start();
  await daemon.setUp();
  const found = (await daemon.api("GET", "/hosts")).items[0];
  host = found.meta.id;
  name = found.meta.name;
  const ours = await visit(daemon);
  page = ours.page;
  await logIn(daemon, ours);
});
afterAll(async () => {
  await closeBrowser();
  await daemon?.end();
});

it("the management network: tested, tried, taken back, kept", { timeout: 60_000 }, async () => {
  await go(`/hosts/${host}/networks`);
  await button("Test").click();
  await main().getByRole("status", { name: "Result of the test" }).getByText("API").waitFor();
  const wish = async (address: string, gateway: string) => {
    await button("Change").click();
    await dialog().getByLabel("Address", { exact: true }).selectOption("static");
    await dialog().getByLabel("Address with prefix").fill(address);
    await dialog().getByLabel("Gateway").fill(gateway);
    await dialog().getByRole("button", { name: "Try it" }).click();
  };
  await wish("192.0.2.7", "192.0.2.1");
  await dialog().getByText("Give the address with its prefix").waitFor();
  await dialog().getByLabel("Address with prefix").fill("192.0.2.7/24");
  await dialog().getByLabel("Gateway").fill("10.0.0.1");
  await dialog().getByRole("button", { name: "Try it" }).click();
  await dialog().getByText("is not in the network of").first().waitFor();
  await dialog().getByLabel("Gateway").fill("192.0.2.1");
  await dialog().getByRole("button", { name: "Try it" }).click();
  const trial = main().getByRole("group", { name: "Change on trial" });
  await trial.getByText("192.0.2.7/24, gateway 192.0.2.1").waitFor();
  await trial.getByRole("link", { name: "https://192.0.2.7/" }).waitFor();
  const left = async () => Number(/(\d+) s/.exec(await trial.innerText())![1]);
  const first = await left();
  expect(first).toBeGreaterThan(40);
  await until("the time runs", async () => (await left()) < first - 1 || undefined);
  expect(await button("Change").isEnabled()).toBe(false);
  await trial.getByRole("button", { name: "Take back" }).click();
  await trial.waitFor({ state: "detached" });
  await main()
    .getByText(/taken back/)
    .waitFor();
  expect((await daemon.api("GET", `/hosts/${host}/network`)).kept.address).toBeUndefined();
  await wish("192.0.2.7/24", "192.0.2.1");
  await trial.getByRole("button", { name: "Keep" }).click();
  await trial.waitFor({ state: "detached" });
  await main().getByText("192.0.2.7/24, gateway 192.0.2.1").waitFor();
  expect((await daemon.api("GET", `/hosts/${host}/network`)).kept.address).toBe("192.0.2.7/24");
});

it("name and labels", async () => {
  await go(`/hosts/${host}`);
  await button("Name and labels").click();
  await dialog().getByLabel("Labels").fill("rack=a1");
  await dialog().getByRole("button", { name: "Save" }).click();
  await main().getByText("rack=a1").waitFor();
  await button("Name and labels").click();
  await dialog().getByLabel("Name", { exact: true }).fill("not a name");
  await dialog().getByRole("button", { name: "Save" }).click();
  await dialog().getByRole("alert").first().waitFor();
  name = "node-7";
  await dialog().getByLabel("Name", { exact: true }).fill(name);
  await dialog().getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name, level: 1 }).waitFor();
});

it("storage: its pool, its volumes", async () => {
  const volume = await daemon.api("POST", "/volumes", { name: "spare", spec: { size_bytes: 2 ** 20 } });
  await go(`/hosts/${host}/storage`);
  const volumes = main().getByRole("region", { name: "Volumes in local" });
  await volumes.getByRole("row", { name: /spare .*none/ }).waitFor();
  expect(volume.meta.id).toBeTruthy();
  await main().getByRole("link", { name: "Pool local" }).click();
  await page.getByRole("heading", { name: "local", level: 1 }).waitFor();
});

it("the support bundle is downloaded", async () => {
  await go(`/hosts/${host}/system`);
  const download = page.waitForEvent("download");
  await button("Download").click();
  const file = await download;
  expect(file.suggestedFilename()).toBe(`limiquantix-${name}-support.tar.gz`);
  const path = await file.path();
  expect(statSync(path).size).toBeGreaterThan(500);
  expect([...readFileSync(path).subarray(0, 2)]).toEqual([0x1f, 0x8b]);
});

it("the support bundle is written to a stick", async () => {
  await button("Write to a stick").click();
  await dialog().getByText("Simulated Stick, STICK, FAT, 4 GiB").waitFor();
  const unfit = dialog().getByRole("button", { name: "Write to sdy1" });
  expect(await unfit.getAttribute("aria-disabled")).toBe("true");
  await dialog().getByRole("button", { name: "Write to sdz1" }).click();
  await dialog().getByText("is on sdz1. It can be pulled out.").waitFor();
  await dialog().getByRole("button", { name: "Close" }).last().click();
});

it("a factory reset asks for the name, and the host's refusal is said where it was asked", async () => {
  await go(`/hosts/${host}/system`);
  await button("Factory reset").click();
  const reset = dialog().getByRole("button", { name: "Reset", exact: true });
  expect(await reset.isEnabled()).toBe(false);
  await dialog().getByLabel(/^Type/).fill(name);
  await reset.click();
  await dialog().getByText("a simulated host keeps nothing of its own").waitFor();
});

it("certificates: the fingerprint is that of the console, and a new one is asked for by name", async () => {
  const told = () => readFileSync(join(daemon.state, "run/fingerprint"), "utf8").trim();
  await go("/settings/certificates");
  const before = told();
  await main().getByText(before).waitFor();
  await main().getByText("good").waitFor();
  await button(`New certificate for ${name}`).click();
  await dialog().getByLabel(/^Type/).fill(name);
  await dialog().getByRole("button", { name: "Make a new one" }).click();
  await page.getByRole("dialog", { name: `${name} makes a new certificate` }).waitFor();
});
