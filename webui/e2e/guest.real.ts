// The page of a real host, with a real guest in it: `page-console` of the end-to-end tests says where they are. Emulated processors
// take their time, so nothing here is quick.
import { afterAll, beforeAll, expect, it } from "vitest";
import { closeBrowser, logIn, until, visit, type Visit } from "./harness";

const word = (name: string) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: this is run by the end-to-end tests`);
  return value;
};
const host = { url: word("LQ_URL") };
const [vm, guestPassword] = [word("LQ_VM"), word("LQ_GUEST_PASSWORD")];

let ours: Visit;
const main = () => ours.page.getByRole("main");

beforeAll(async () => {
  ours = await visit(host);
  ours.page.setDefaultTimeout(120_000);
  await logIn(host, ours, `/vms/${vm}`, word("LQ_PASSWORD"));
});
afterAll(closeBrowser);

it("the serial console: logs in to the guest and runs a command", async () => {
  const { page } = ours;
  await page.getByRole("link", { name: "Serial console", exact: true }).click();
  const shown = () => page.locator(".xterm-rows").innerText();
  const said = (what: RegExp) =>
    until(`the guest says ${what}`, async () => what.test(await shown()) || undefined, 600);
  await said(/login:/);
  await page.locator(".xterm-screen").click();
  await page.keyboard.type("root\n");
  await said(/Password:/);
  await page.keyboard.type(`${guestPassword}\n`);
  await said(/# /);
  await page.keyboard.type("echo got $((6 * 7))\n");
  await said(/got 42/);
});

it("the screen: shows the firmware and GRUB, takes what is typed", async () => {
  const { page } = ours;
  await page.getByRole("link", { name: "Screen", exact: true }).click();
  await main().getByText("connected", { exact: true }).waitFor();
  const reset = async () => {
    await main().getByRole("button", { name: "Actions for page" }).click();
    await page.getByRole("menuitem", { name: "Reset" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Reset" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
  };

  /** How many colours the picture has, and a sum over it. */
  const picture = () =>
    page.evaluate(() => {
      const canvas = document.querySelector<HTMLCanvasElement>("main canvas");
      if (!canvas?.width || !canvas.height) return { colours: 0, sum: 0 };
      const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
      const colours = new Set<number>();
      let sum = 0;
      for (let at = 0; at < data.length; at += 4) {
        const pixel = (data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!;
        colours.add(pixel);
        sum = (sum * 31 + pixel) | 0;
      }
      return { colours: colours.size, sum };
    });
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const press = async (...keys: string[]) => {
    await page.locator("main canvas").focus();
    for (const key of keys) {
      await page.keyboard.press(key);
      await pause(150);
    }
  };
  // An arrow stops the count-down of GRUB's menu, and moves its bar: only there does the picture change by it and stand still after.
  // Down and up in turn, so that there is always an entry to move to.
  let [seen, pressed] = [0, 0];
  const stopped = () => main().getByText("stopped", { exact: true }).first().isVisible();
  const halt = async () => {
    if (await stopped()) return true;
    const before = await picture();
    seen = Math.max(seen, before.colours);
    await press(pressed++ % 2 ? "ArrowUp" : "ArrowDown");
    await pause(2000);
    const after = await picture();
    await pause(2000);
    const still = await picture();
    if (before.colours < 2 || before.sum === after.sum || after.sum !== still.sum) return undefined;
    // The first return ends whatever stands on a prompt that was there already.
    await press("c", "Enter", "h", "a", "l", "t", "Enter");
    await until("it is off", async () => (await stopped()) || undefined, 60).catch(() => undefined);
    return (await stopped()) || undefined;
  };
  await until(
    "the guest is switched off by what was typed at GRUB's prompt",
    async () => {
      if (await stopped()) return true;
      // The count-down takes a second, and whoever misses it begins anew.
      await reset();
      return until("it halts", halt, 150).catch(() => undefined);
    },
    750,
  );
  expect(seen).toBeGreaterThan(1);
  // Its screen ends with it, and the page may have tried to have it again before it knew: noVNC says so.
  const ends = /Failed when connecting|disconnected RFB/;
  expect(ours.faults.filter((fault) => !ends.test(fault))).toEqual([]);
});
