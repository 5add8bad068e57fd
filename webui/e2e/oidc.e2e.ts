// Logging in at the page of an OpenID provider: a certified one (`oidc-provider`) over loopback, in a browser.
import { generateKeyPairSync } from "node:crypto";
import type { Server } from "node:http";
import Provider from "oidc-provider";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Daemon, closeBrowser, ownAddress, until, visit, type Visit } from "./harness";

const SECRET = "the secret of the client";
let daemon: Daemon;
let issuer: string;
let server: Server | undefined;
let ours: Visit;
let page: Page;

const button = (name: string | RegExp) => page.getByRole("button", { name });

/** The provider, signing with keys of this kind. Whoever logs in is who they say they are. */
async function serve(alg: "RS256" | "ES256") {
  await stop();
  const { privateKey } =
    alg === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "limiquantix",
        client_secret: SECRET,
        redirect_uris: [`${daemon.url}/oidc`],
        id_token_signed_response_alg: alg,
      },
    ],
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), use: "sig", alg, kid: alg }] },
    cookies: { keys: ["a key of the test"] },
    scopes: ["openid", "profile", "email"],
    claims: { openid: ["sub"], profile: ["name", "preferred_username", "groups"], email: ["email"] },
    findAccount: (_: unknown, id: string) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        name: `${id} of the provider`,
        preferred_username: id,
        groups: id === "eve" ? ["vm admins"] : ["others"],
      }),
    }),
    features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  });
  const { hostname, port } = new URL(issuer);
  await new Promise<void>((up) => (server = provider.listen(Number(port), hostname, up)));
}

async function stop() {
  const old = server;
  server = undefined;
  if (!old) return;
  old.closeAllConnections();
  await new Promise((down) => old.close(down));
}

/** From the login page through the provider's own. */
async function signIn(user: string) {
  await button("Sign in with Example").click();
  await page.waitForURL((url) => url.origin === issuer);
  await page.locator('input[name="login"]').fill(user);
  await page.locator('input[name="password"]').fill("anything");
  await page.locator('button[type="submit"]').click();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.waitForURL((url) => url.origin === daemon.url);
}

beforeAll(async () => {
  daemon = await Daemon.start();
  await daemon.setUp();
  issuer = `http://${await ownAddress()}`;
  await serve("RS256");
  const roles = await daemon.api("GET", "/roles?name=operator");
  const grants = [{ role: roles.items[0].meta.id, scope: { kind: "cluster" } }];
  await daemon.api("POST", "/groups", { name: "vm-admins", spec: { grants } });
  ours = await visit(daemon);
  page = ours.page;
  await ours.context.route(/fonts\.googleapis/, (route) => route.abort());
});
afterAll(async () => {
  await closeBrowser();
  await stop();
  await daemon?.end();
});

it("the provider is added on the page, and tried", async () => {
  await page.goto(`${daemon.url}/settings/identity`);
  await page.getByLabel("User", { exact: true }).fill("admin");
  await page.getByLabel("Password", { exact: true }).fill("correct horse battery");
  await button("Log in").click();
  await page.getByText("can log in here without an account").waitFor();
  await button("Add provider").first().click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Realm").fill("example");
  await dialog.getByLabel("Kind").selectOption("oidc");
  await dialog.getByLabel("Title").fill("Example");
  await dialog.getByLabel("Issuer").fill("http://id.example.org");
  await dialog.getByLabel("Client id").fill("limiquantix");
  await dialog.getByLabel("Client secret").fill(SECRET);
  await dialog.getByRole("button", { name: "Map a group" }).click();
  await dialog.getByLabel("Group there, 1").fill("VM Admins");
  await dialog.getByLabel("Group here, 1").selectOption("vm-admins");
  await dialog.getByRole("button", { name: "Add provider" }).click();
  await dialog.getByText("is not an address like https").first().waitFor();
  await dialog.getByLabel("Issuer").fill(issuer);
  await dialog.getByRole("button", { name: "Add provider" }).click();
  await page.getByRole("row", { name: /example/ }).waitFor();
  await button("Actions for example").click();
  await page.getByRole("menuitem", { name: "Try to sign in" }).click();
  await dialog.getByRole("button", { name: "Try", exact: true }).click();
  await dialog.getByText("It works.").waitFor();
  expect(await page.content()).not.toContain(SECRET);
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await button("User admin").click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
});

it("who is in a mapped group logs in, and no token is ever in an address", async () => {
  const addresses: string[] = [];
  page.on("framenavigated", (frame) => addresses.push(frame.url()));
  await signIn("eve");
  await button("User eve@example").waitFor();
  expect(new URL(page.url()).pathname).toBe("/");
  expect(addresses.filter((address) => /token=|eyJ/.test(address))).toEqual([]);
  await page.goBack().catch(() => undefined);
  expect(page.url()).not.toContain("code=");
  await page.goto(`${daemon.url}/settings`);
  await button("User eve@example").waitFor();
  const users = await daemon.api("GET", "/users?name=eve@example");
  expect(users.items[0]).toMatchObject({
    spec: { full_name: "eve of the provider" },
    status: { source: "oidc" },
  });
  const audit = await daemon.api("GET", "/audit?action=session.oidc&actor=eve@example&outcome=done");
  expect(audit.items).toHaveLength(1);
});

it("a code that was used, or that another browser began, opens nothing", async () => {
  // What the browser sent is what counts, so it is sent again as it was.
  await page.goto(`${daemon.url}/oidc?code=stolen&state=guessed`);
  await page.getByText("was not begun in this browser").waitFor();
  expect(page.url()).toBe(`${daemon.url}/oidc`);
  await page.goto(`${daemon.url}/oidc?error=access_denied&error_description=Call+0900-555+now`);
  await page.getByText("The provider refused: access denied.").waitFor();
  expect(await page.content()).not.toContain("0900");
  await page.goto(daemon.url);
  await button("User eve@example").waitFor();
});

it("logging out here and there ends both", async () => {
  await button("User eve@example").click();
  await page.getByRole("menuitem", { name: "Log out here and there" }).click();
  await page.waitForURL((url) => url.origin === issuer);
  await page.getByRole("button", { name: /yes|sign me out/i }).click();
  await page.goto(daemon.url);
  await button("Sign in with Example").waitFor();
});

it("who is in no mapped group is not let in, and keys that were changed are taken", async () => {
  await signIn("bob");
  await page.getByText("nothing is granted to you here").waitFor();
  expect((await daemon.api("GET", "/users?name=bob@example")).items).toEqual([]);
  await serve("ES256");
  await page.context().clearCookies();
  // New keys are asked for at most every ten seconds, and however often one tries until then, one is not locked out.
  await until("the new keys are taken", async () => {
    await page.goto(daemon.url);
    await signIn("eve");
    const inside = button("User eve@example");
    const refused = page.getByText("have changed: try again");
    await inside.or(refused).first().waitFor();
    if (await inside.isVisible()) return true;
    await page.context().clearCookies();
    return undefined;
  });
  // The provider's own page is elsewhere, and asks for fonts.
  expect(ours.faults.filter((fault) => !fault.startsWith("elsewhere: "))).toEqual([]);
});

it("a provider that is away is told, and the cluster's own users log in", async () => {
  await page.context().clearCookies();
  await stop();
  // What was discovered before still leads there; a provider that was never asked does not.
  const [{ meta, spec }] = (await daemon.api("GET", "/identity-providers")).items;
  await daemon.api("PATCH", `/identity-providers/${meta.id}`, { spec: { ...spec, session_hours: 1 } });
  await page.goto(daemon.url);
  await button("Sign in with Example").click();
  await page.getByText("cannot be asked right now").waitFor();
  await page.getByLabel("User", { exact: true }).fill("admin");
  await page.getByLabel("Password", { exact: true }).fill("correct horse battery");
  await button("Log in").click();
  await button("User admin").waitFor();
});
