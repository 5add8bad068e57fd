// Every page in both themes and on a narrow screen: accessible, without faults, and as a picture for people to look at.
// LQ_SHOTS=DIR keeps the pictures: `./just screenshots` puts them into docs/screenshots/.
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { audit } from "./axe";
import { Pictures } from "./pictures";
import { Daemon, PASSWORD, closeBrowser, logIn, until, visit, type Visit } from "./harness";

const shots = process.env["LQ_SHOTS"];
const pictures = shots ? new Pictures(shots) : undefined;
/** Pages of which there is a picture on a phone. */
const ON_A_PHONE = ["dashboard", "vms", "vm-summary", "navigation"];

let daemon: Daemon;
let web: string;
let host: string;
let pool: string;

beforeAll(async () => {
  daemon = await Daemon.start();
  await daemon.setUp();
  const { kernel, disk } = await daemon.images();
  const volume = await daemon.api("POST", "/volumes", {
    name: "web-1-disk",
    spec: { size_bytes: 20 * 2 ** 30, source: disk },
  });
  await daemon.api("POST", "/volumes", {
    name: "archive",
    spec: { size_bytes: 200 * 2 ** 30, format: "qcow2" },
  });
  await until(
    "the volume is ready",
    async () => (await daemon.api("GET", `/volumes/${volume.meta.id}`)).status.state === "ready" || undefined,
  );
  web = await daemon.vm("web-1", kernel, { disks: [{ volume: volume.meta.id }], memory_bytes: 2 * 2 ** 30 });
  await daemon.api("PATCH", `/vms/${web}`, { labels: { env: "production", team: "web" } });
  const names = ["web-2", "web-3", "db-1", "db-2", "mail", "build-agent", "monitoring", "vpn-gateway"];
  const vms = [web];
  for (const [n, name] of names.entries())
    vms.push(
      await daemon.vm(name, kernel, {
        vcpus: [2, 2, 8, 8, 2, 16, 4, 1][n],
        memory_bytes: [1, 1, 4, 4, 2, 8, 4, 1][n]! * 2 ** 30,
      }),
    );
  for (const vm of vms.slice(0, 7)) await daemon.api("POST", `/vms/${vm}/start`);
  await until("the machines run", async () => (await daemon.state_of(vms[6]!)) === "running" || undefined);
  await daemon.api("POST", `/vms/${vms[4]}/pause`);
  const role = async (name: string) =>
    (await daemon.api("GET", `/roles?name=${name}`)).items[0].meta.id as string;
  const maria = await daemon.api("POST", "/users", {
    name: "maria",
    password: PASSWORD,
    spec: {
      full_name: "Maria Example",
      grants: [{ role: await role("operator"), scope: { kind: "labels", labels: { env: "production" } } }],
    },
  });
  await daemon.api("POST", "/users", { name: "jens", spec: { full_name: "Jens Example" } });
  await daemon.api("POST", "/groups", {
    name: "operators",
    spec: {
      description: "On call",
      members: [maria.meta.id],
      grants: [{ role: await role("auditor"), scope: { kind: "cluster" } }],
    },
  });
  host = (await daemon.api("GET", "/hosts")).items[0].meta.id;
  // An alert that is raised on any machine: a pool that is filled to nothing is too full.
  const settings = { enabled: true, hold_seconds: 0, clear_seconds: 0, warning: 0 };
  await daemon.api("PUT", "/alert-rules/pool-filling", settings);
  const target = { kind: "webhook", url: "http://127.0.0.1:1/hook" };
  await daemon.api("POST", "/notification-channels", { name: "team-chat", spec: { target } });
  const directory = { kind: "ldap", servers: ["ldaps://dc1.lan"], base_dn: "dc=lan" };
  const spec = { title: "Example", enabled: false, source: directory };
  await daemon.api("POST", "/identity-providers", { name: "example", spec });
  const nfs = { driver: "nfs", server: "nas.lan", export: "/srv/vm" };
  pool = (await daemon.api("POST", "/pools", { name: "shared", spec: nfs })).meta.id;
});
afterAll(async () => {
  pictures?.index();
  await closeBrowser();
  await daemon?.end();
});

/** Pages by the name of their picture: where, and what shows that they are there. */
const main = (page: Page) => page.getByRole("main");

/** The first values are there once two looks at the counters were taken. */
const drawn = ({ page }: Visit) =>
  page.waitForFunction(
    () =>
      [...document.querySelectorAll("figure li span.tabular-nums")].some((each) => each.textContent !== "–"),
    undefined,
    { timeout: 30_000 },
  );

const PAGES: [name: string, path: () => string, there: (visit: Visit) => Promise<unknown>][] = [
  ["dashboard", () => "/", ({ page }) => main(page).getByText("Needs attention").waitFor()],
  ["vms", () => "/vms", ({ page }) => main(page).getByRole("row", { name: /web-1/ }).waitFor()],
  ["vm-summary", () => `/vms/${web}`, ({ page }) => main(page).getByText("Latest events").waitFor()],
  [
    "vm-console",
    () => `/vms/${web}/console`,
    ({ page }) => main(page).getByText("connected", { exact: true }).waitFor(),
  ],
  ["vm-performance", () => `/vms/${web}/performance`, drawn],
  ["vm-hardware", () => `/vms/${web}/hardware`, ({ page }) => main(page).getByText("web-1-disk").waitFor()],
  ["vm-networks", () => `/vms/${web}/networks`, ({ page }) => main(page).getByText("eth0").waitFor()],
  [
    "vm-events",
    () => `/vms/${web}/events`,
    ({ page }) => main(page).getByRole("heading", { name: "Events" }).waitFor(),
  ],
  ["vm-create", () => "/vms/new", ({ page }) => main(page).getByLabel("Disk image").waitFor()],
  ["hosts", () => "/hosts", ({ page }) => main(page).getByRole("row").nth(1).waitFor()],
  ["host-summary", () => `/hosts/${host}`, ({ page }) => main(page).getByText("Capacity").waitFor()],
  [
    "host-vms",
    () => `/hosts/${host}/vms`,
    ({ page }) => main(page).getByRole("row", { name: /web-1/ }).waitFor(),
  ],
  ["host-performance", () => `/hosts/${host}/performance`, drawn],
  ["host-hardware", () => `/hosts/${host}/hardware`, ({ page }) => main(page).getByText("simdisk").waitFor()],
  [
    "host-networks",
    () => `/hosts/${host}/networks`,
    ({ page }) => main(page).getByText("address by DHCP").waitFor(),
  ],
  [
    "host-storage",
    () => `/hosts/${host}/storage`,
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /archive/ })
        .waitFor(),
  ],
  ["host-bmc", () => `/hosts/${host}/bmc`, ({ page }) => main(page).getByText("none set").waitFor()],
  ["host-system", () => `/hosts/${host}/system`, ({ page }) => main(page).getByText("SHA-256").waitFor()],
  [
    "host-events",
    () => `/hosts/${host}/events`,
    ({ page }) => main(page).getByText("the cluster was made").first().waitFor(),
  ],
  ["cluster", () => "/cluster", ({ page }) => main(page).getByText("Nobody is invited.").waitFor()],
  ["ha", () => "/ha", ({ page }) => main(page).getByText("Watched by").waitFor()],
  ["recommendations", () => "/recommendations", ({ page }) => main(page).getByText("Who decides").waitFor()],
  ["pools", () => "/pools", ({ page }) => main(page).getByText("files in a directory").waitFor()],
  ["pool", () => `/pools/${pool}`, ({ page }) => main(page).getByText("nas.lan:/srv/vm").waitFor()],
  [
    "volumes",
    () => "/volumes",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /archive/ })
        .waitFor(),
  ],
  [
    "images",
    () => "/images",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /debian-12/ })
        .waitFor(),
  ],
  ["image-upload", () => "/images?open=upload", ({ page }) => page.getByRole("dialog").waitFor()],
  [
    "networks",
    () => "/networks",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /default/ })
        .waitFor(),
  ],
  [
    "tasks",
    () => "/tasks",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /Start virtual machine/ })
        .first()
        .waitFor(),
  ],
  [
    "alerts",
    () => "/alerts",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /is used/ })
        .first()
        .waitFor(),
  ],
  [
    "notifications",
    () => "/settings/notifications",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /team-chat/ })
        .waitFor(),
  ],
  [
    "monitoring",
    () => "/monitoring",
    async (visit) => {
      await drawn(visit);
      await main(visit.page).getByRole("row", { name: /web-1/ }).waitFor();
    },
  ],
  [
    "identity",
    () => "/settings/identity",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /dc1\.lan/ })
        .waitFor(),
  ],
  ["events", () => "/events", ({ page }) => main(page).getByRole("row").nth(3).waitFor()],
  ["account", () => "/settings", ({ page }) => main(page).getByText("prometheus").waitFor()],
  ["users", () => "/settings/users", ({ page }) => main(page).getByRole("row", { name: /maria/ }).waitFor()],
  [
    "groups",
    () => "/settings/groups",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /operators/ })
        .waitFor(),
  ],
  [
    "roles",
    () => "/settings/roles",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /auditor/ })
        .waitFor(),
  ],
  ["certificates", () => "/settings/certificates", ({ page }) => main(page).getByText("good").waitFor()],
  [
    "audit",
    () => "/settings/audit",
    ({ page }) =>
      main(page)
        .getByRole("row", { name: /vm\.start/ })
        .first()
        .waitFor(),
  ],
  ["about", () => "/settings/about", ({ page }) => main(page).getByText("Voting hosts").waitFor()],
];

for (const [theme, width, height] of [
  ["light", 1360, 850],
  ["dark", 1360, 850],
  ["light", 375, 740],
  ["dark", 375, 740],
] as const) {
  it(`every page, ${theme}, ${width} pixels wide`, { timeout: 300_000 }, async () => {
    const narrow = width < 400;
    const ours = await visit(daemon, { theme, width, height });
    const wrong: string[] = [];
    const look = async (name: string) => {
      wrong.push(...(await audit(ours)).map((fault) => `${name}: ${fault}`));
      const over = await ours.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (over > 0) wrong.push(`${name}: ${over} pixels wider than the screen`);
      if (!narrow) await pictures?.take(ours.page, name, theme);
      else if (theme === "light" && ON_A_PHONE.includes(name))
        await pictures?.take(ours.page, name, "narrow");
    };
    await ours.page.goto(daemon.url);
    await ours.page.getByLabel("Password", { exact: true }).waitFor();
    await look("login");
    await logIn(daemon, ours);
    for (const [name, path, there] of PAGES) {
      await ours.page.goto(daemon.url + path());
      await there(ours);
      await ours.page.waitForTimeout(200);
      await look(name);
    }
    if (!narrow) {
      await ours.page.goto(`${daemon.url}/vms`);
      await main(ours.page).getByRole("row", { name: /web-1/ }).waitFor();
      await ours.page.keyboard.press("Control+k");
      await ours.page.getByRole("combobox").fill("web");
      await ours.page.getByRole("option").first().waitFor();
      await look("palette");
      await ours.page.keyboard.press("Escape");
      await ours.page.getByRole("button", { name: "Actions for web-1" }).click();
      await ours.page.getByRole("menuitem").first().waitFor();
      await look("menu");
    } else {
      await ours.page.getByRole("button", { name: "Navigation", exact: true }).click();
      await ours.page.getByRole("link", { name: "Hosts" }).waitFor();
      await look("navigation");
    }
    expect(wrong).toEqual([]);
    expect(ours.faults).toEqual([]);
    await ours.context.close();
  });
}
