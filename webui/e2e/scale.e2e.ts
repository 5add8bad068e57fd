// At the size of a data centre: 5,000 machines on 100 hosts. Every interaction has to be answered within 100 ms.
import { availableParallelism, loadavg } from "node:os";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Daemon, closeBrowser, logIn, until, visit, type Visit } from "./harness";

const VMS = 5000;
const HOSTS = 100;
/** Longest time from an input to its drawing, in milliseconds, on a machine that has a processor to spare. */
const BUDGET = 100;

/** Whether others want the processors too: then only the page's own work can be held against the budget. */
const busy = () => loadavg()[0]! >= availableParallelism();

/** What `pace` takes on an idle server of the year 2020 or later, in milliseconds. */
const REFERENCE = 20;

let daemon: Daemon;
let ours: Visit;
/** Processor time of the page's main thread so far, in milliseconds: what it works, whoever else wants the processor. */
let work: () => Promise<number>;

beforeAll(async () => {
  daemon = await Daemon.start("--simulated-hosts", String(HOSTS), "--simulated-vms", String(VMS));
  await daemon.setUp();
  await until(
    "the crowd is there",
    async () => {
      const seen = new Set<string>();
      let cursor = "";
      do {
        const page = await daemon.api("GET", `/vms?limit=1000${cursor && `&cursor=${cursor}`}`);
        for (const vm of page.items)
          if (vm.status.state !== "stopped" || vm.spec.power === "stopped") seen.add(vm.meta.id);
        cursor = page.next_cursor ?? "";
      } while (cursor);
      return seen.size >= VMS || undefined;
    },
    600,
  );
  ours = await visit(daemon);
  await logIn(daemon, ours, "/vms");
  await ours.page.getByText(`${VMS} virtual machines`).waitFor({ timeout: 60_000 });
  const tool = await ours.context.newCDPSession(ours.page);
  await tool.send("Performance.enable", { timeDomain: "threadTicks" });
  work = async () => {
    const { metrics } = await tool.send("Performance.getMetrics");
    return 1000 * metrics.find(({ name }) => name === "TaskDuration")!.value;
  };
}, 700_000);
afterAll(async () => {
  await ours?.context.close();
  await closeBrowser();
  await daemon?.end();
});

/**
 * How much slower than the reference this machine is right now, at least 1: a fixed piece of work, like that of a list, is
 * timed in the page itself. A processor that is shared with others, or is an older one, must not look like a slower page.
 */
async function pace(): Promise<number> {
  const before = await work();
  await ours.page.evaluate(`(() => {
    let x = 1;
    const all = Array.from({ length: 60_000 }, () => ({ name: String((x = (x * 48271) % 2147483647)) }));
    return all.filter(({ name }) => name.includes("7")).sort((a, b) => (a.name < b.name ? -1 : 1)).length;
  })()`);
  return Math.max(1, ((await work()) - before) / REFERENCE);
}

/**
 * Times from an input to what it shows having been drawn, in milliseconds, measured in the page itself. `act` and `shown` are
 * expressions there: the page's security policy lets no text be run, but the tool that drives the browser may.
 */
async function measure(what: string, act: string, shown: string, undo?: string, times = 7): Promise<void> {
  const taken: number[] = [];
  const worked: number[] = [];
  const paces: number[] = [];
  const run = (doIt: string, until: string) =>
    ours.page.evaluate(`(async () => {
      const begin = performance.now();
      ${doIt};
      while (!(${until})) {
        if (performance.now() - begin > 5000) return 5000;
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
      // The next frame begins when this one has been drawn.
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
      return performance.now() - begin;
    })()`) as Promise<number>;
  for (let n = 0; n < times; n += 1) {
    paces.push(await pace());
    const before = await work();
    taken.push(await run(act, shown));
    worked.push((await work()) - before);
    if (undo) await run(undo, "true");
    await ours.page.waitForTimeout(350);
  }
  const median = (times: number[]) => [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
  console.log(
    `${what}: median ${Math.round(median(taken))} ms (${taken.map(Math.round).join(", ")}), ${Math.round(median(worked))} ms of them work; pace ${median(paces).toFixed(2)}`,
  );
  const budget = BUDGET * median(paces);
  expect(median(worked), `${what}: work`).toBeLessThan(budget);
  expect(median(taken), what).toBeLessThan(busy() ? 10 * budget : budget);
}

/** Types into the search as a person does: React hears the browser's own event. */
const type = (text: string) => `{
  const box = document.querySelector('main input[type="search"]');
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(box, ${JSON.stringify(text)});
  box.dispatchEvent(new Event("input", { bubbles: true }));
}`;
const status = `document.querySelector('main search ~ [role="status"]').textContent`;
const cell = (row: number, column: number) =>
  `document.querySelectorAll("main tbody tr[aria-rowindex]")[${row}]?.children[${column}]?.textContent`;

it("filters", () =>
  measure("filter", type("name:db- -state:stopped"), `/^7\\d\\d of/.test(${status})`, type("")));

it("sorts", async () => {
  const click = (label: string) =>
    `[...document.querySelectorAll("main thead button")].find((each) => each.textContent === ${JSON.stringify(label)}).click()`;
  await measure(
    "sort",
    `window.lqBefore = ${cell(0, 1)}; ${click("Name")}`,
    `${cell(0, 1)} !== window.lqBefore`,
  );
  await ours.page.goto(`${daemon.url}/vms`);
  await ours.page.getByText(`${VMS} virtual machines`).waitFor();
});

it("scrolls", async () => {
  const box = `document.querySelector('main [role="region"]')`;
  await measure(
    "scroll",
    `window.lqTo = Math.random() * 180000; ${box}.scrollTop = window.lqTo`,
    `Math.abs(Number([...document.querySelectorAll("main tbody tr[aria-rowindex]")][5]?.ariaRowIndex ?? -999) - window.lqTo / 38) < 25`,
  );
  expect(await ours.page.locator("main tbody tr").count()).toBeLessThan(80);
});

it("selects all", () =>
  measure(
    "select all",
    `document.querySelector('main thead input').click()`,
    `/5000 selected/.test(document.querySelector("main").textContent)`,
    `document.querySelector('main thead input').click()`,
  ));

it("opens the palette and finds", async () => {
  await ours.page.keyboard.press("Control+k");
  await ours.page.getByRole("combobox").waitFor();
  await measure(
    "palette",
    `{
      const box = document.querySelector('dialog input');
      Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(box, "cache-0" + Math.floor(100 + Math.random() * 800));
      window.lqWanted = box.value;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    }`,
    `document.querySelector('dialog [role="option"]')?.textContent.startsWith(window.lqWanted.slice(0, 7)) || document.querySelector('dialog [role="status"]')`,
  );
  await ours.page.keyboard.press("Escape");
});

it("follows changes without being held up", async () => {
  // Sixteen machines change each second. In ten seconds: how long is the page busy at a time, and how much in all?
  const before = await work();
  const long = (await ours.page.evaluate(`(async () => {
    const times = [];
    const watch = new PerformanceObserver((list) => times.push(...list.getEntries().map((entry) => entry.duration)));
    watch.observe({ type: "longtask" });
    await new Promise((resolve) => setTimeout(resolve, 10000));
    watch.disconnect();
    return times;
  })()`)) as number[];
  const share = (await work()) - before;
  console.log(
    `live updates: ${Math.round(share)} ms of work in 10 s; longer than 50 ms at a time: ${long.map(Math.round).join(", ") || "never"}`,
  );
  expect(share).toBeLessThan(3000);
  if (!busy()) expect(long.filter((time) => time >= BUDGET)).toEqual([]);
});

it("shows a change at once", async () => {
  const page = ours.page;
  await page.goto(`${daemon.url}/vms?q=name:web-0001`);
  const row = page.getByRole("main").getByRole("row", { name: /web-0001/ });
  await row.waitFor();
  const id = (await daemon.api("GET", "/vms?name=web-0001")).items[0].meta.id;
  await daemon.api("PATCH", `/vms/${id}`, { name: "web-0001-renamed" });
  await page.getByRole("main").getByText("web-0001-renamed").waitFor({ timeout: 3000 });
});

it("shows a hundred hosts, in the list and in the tree", async () => {
  const page = ours.page;
  await page.goto(`${daemon.url}/hosts`);
  await page.getByText(`${HOSTS + 1} hosts`).waitFor();
  const tree = page.getByRole("tree", { name: "Inventory" });
  await tree.getByText("host-001").waitFor();
  expect(await tree.getByRole("treeitem").count()).toBeLessThan(60);
  await tree.focus();
  await page.keyboard.press("ArrowRight");
  await tree
    .getByText(/^(web|db|cache|worker|mail|build)-/)
    .first()
    .waitFor();
  expect(ours.faults).toEqual([]);
});
