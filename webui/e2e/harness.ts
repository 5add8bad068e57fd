// What the tests in a browser stand on: a daemon with a simulated host in a directory of its own, and Debian's Chromium.
import { spawn, type ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";

const here = new URL(".", import.meta.url).pathname;
const target = process.env["CARGO_TARGET_DIR"] ?? join(here, "../../target");
const BINARY = process.env["LQ_MGMTD"] ?? join(target, "x86_64-unknown-linux-gnu/debug/mgmtd");
/** Pages from this directory in place of the daemon's own: a change of them is tried without building the daemon. */
const PAGES = process.env["LQ_PAGES"];
const CHROMIUM = process.env["LQ_CHROMIUM"] ?? "/usr/bin/chromium";

export const PASSWORD = "correct horse battery";

/** All of 127.0.0.0/8 is this machine: by its id a process has an address there in whose way nobody else can be. */
const OWN = `127.${64 | (process.pid >>> 16)}.${(process.pid >>> 8) & 255}.${process.pid & 255}`;
/** Below the ports the kernel gives out, where someone may listen on every address at once. */
let nextPort = 20_000;

/** An address and port given to nobody else, also while nothing listens there. */
export function ownAddress(): Promise<string> {
  const port = nextPort++;
  return new Promise((resolve) => {
    const server = createServer();
    server.on("error", () => resolve(ownAddress()));
    server.listen(port, OWN, () => server.close(() => resolve(`${OWN}:${port}`)));
  });
}

/** Waits until `look` finds something. */
export async function until<T>(
  what: string,
  look: () => T | undefined | Promise<T | undefined>,
  seconds = 60,
): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`waited ${seconds} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export class Daemon {
  private process: ChildProcess | undefined;
  private log = "";
  private token: string | undefined;

  private constructor(
    readonly state: string,
    readonly address: string,
    private readonly flags: string[],
  ) {}

  /** A daemon that was never set up. */
  static async start(...flags: string[]): Promise<Daemon> {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is missing: cargo build -p lq-mgmtd`);
    const daemon = new Daemon(mkdtempSync(join(tmpdir(), "lq-webui-")), await ownAddress(), flags);
    await daemon.up();
    return daemon;
  }

  get url() {
    return `https://${this.address}`;
  }

  /** The code the console would show. */
  get setupCode() {
    return readFileSync(join(this.state, "run/setup-code"), "utf8").trim();
  }

  async up() {
    const flags = ["--simulated", "--listen", this.address, "--state", this.state, ...this.flags];
    const child = spawn(BINARY, flags, { stdio: ["ignore", "pipe", "pipe"] });
    this.process = child;
    const keep = (data: Buffer) => (this.log = (this.log + String(data)).slice(-20_000));
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    await until(
      "the daemon is ready",
      async () => {
        if (child.exitCode !== null) throw new Error(`the daemon ended:\n${this.log}`);
        return (await this.call("GET", "/ready").catch(() => undefined))?.status === 200 || undefined;
      },
      120,
    );
  }

  /** Ends it: by force, as a crash would. */
  async kill(signal: NodeJS.Signals = "SIGKILL") {
    const child = this.process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  async end() {
    await this.kill("SIGTERM");
    rmSync(this.state, { recursive: true, force: true });
  }

  /** A request as a program makes it. Paths without `/api` are taken as they are. */
  call(
    method: string,
    path: string,
    body?: unknown,
    type = "application/json",
  ): Promise<{ status: number; body: any }> {
    return new Promise((resolve, reject) => {
      const raw =
        body === undefined ? undefined : Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
      const ours = request(
        `${this.url}${path}`,
        {
          method,
          rejectUnauthorized: false,
          timeout: 20_000,
          headers: {
            ...(this.token ? { Authorization: `Bearer ${this.token}` } : {}),
            ...(raw ? { "Content-Type": type, "Content-Length": raw.length } : {}),
          },
        },
        (answer) => {
          const parts: Buffer[] = [];
          answer.on("data", (part: Buffer) => parts.push(part));
          answer.on("end", () => {
            const text = Buffer.concat(parts).toString();
            let parsed: unknown = text;
            try {
              parsed = JSON.parse(text);
            } catch {
              // Not JSON: given as text.
            }
            resolve({ status: answer.statusCode ?? 0, body: parsed });
          });
        },
      );
      ours.on("error", reject);
      ours.on("timeout", () => ours.destroy(new Error("the daemon does not answer")));
      ours.end(raw);
    });
  }

  async api(method: string, path: string, body?: unknown, type?: string): Promise<any> {
    const answer = await this.call(method, `/api/v1${path}`, body, type);
    if (answer.status >= 300)
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  /** Sets the password and keeps a token for `api` that outlives restarts. */
  async setUp() {
    await this.api("POST", "/setup", { code: this.setupCode, password: PASSWORD });
    await this.logIn();
  }

  /** A token for `api` that outlives restarts. */
  async logIn() {
    this.token = (await this.api("POST", "/session", { username: "admin", password: PASSWORD }))
      .token as string;
    // A token makes no further tokens.
    await this.api("POST", "/tokens", { name: "prometheus", read_only: true, days: 365 });
    this.token = (await this.api("POST", "/tokens", { name: "tests" })).secret as string;
  }

  /** Ends every session, as an administrator may. */
  async endSessions() {
    for (const session of (await this.api("GET", "/sessions")).items)
      await this.api("DELETE", `/sessions/${session.id}`);
  }

  /** Whether a token opens a path. */
  async allowed(token: string, path: string): Promise<boolean> {
    const own = this.token;
    this.token = token;
    try {
      return (await this.call("GET", `/api/v1${path}`)).status === 200;
    } finally {
      this.token = own;
    }
  }

  private fileOf(image: string): string {
    const found = readdirSync(join(this.state, "pool"), { recursive: true, encoding: "utf8" }).find((path) =>
      path.includes(image),
    );
    if (!found) throw new Error(`the pool has no file of the image ${image}`);
    return join(this.state, "pool", found.replace(/\.away$/, ""));
  }

  /** Takes an image's file away behind the daemon's back: starting a machine that boots from it fails. */
  breakKernel(image: string) {
    renameSync(this.fileOf(image), `${this.fileOf(image)}.away`);
  }

  mendKernel(image: string) {
    renameSync(`${this.fileOf(image)}.away`, this.fileOf(image));
  }

  /** Makes an export of a simulated file server unreachable, or reachable again. `/srv/vm` is written `srv_vm`. */
  exportAway(server: string, path: string, away: boolean) {
    const servers = join(this.state, "servers", server);
    mkdirSync(servers, { recursive: true });
    const mark = join(servers, `${path}.away`);
    if (away) writeFileSync(mark, "");
    else rmSync(mark, { force: true });
  }

  async image(name: string, kind: string, content: Buffer, boot?: object): Promise<string> {
    const image = await this.api("POST", "/images", {
      name,
      spec: { kind, format: "raw", ...(boot ? { boot } : {}) },
    });
    await this.api("PUT", `/images/${image.meta.id}/content`, content, "application/octet-stream");
    return image.meta.id as string;
  }

  /** A kernel, an initial RAM disk and a disk that boots with them. */
  async images() {
    const kernel = await this.image("vmlinuz-6.1", "kernel", bzImage());
    const initrd = await this.image("initrd-6.1", "initrd", Buffer.alloc(64 * 1024, 2));
    const boot = { kernel, initrd, cmdline: "root=/dev/vda console=ttyS0" };
    const disk = await this.image("debian-12", "disk", Buffer.alloc(4 * 1024 * 1024), boot);
    return { kernel, initrd, disk };
  }

  async vm(name: string, kernel: string, more: object = {}): Promise<string> {
    const networks = await this.api("GET", "/networks");
    const spec = {
      vcpus: 2,
      memory_bytes: 2 ** 30,
      boot: { kernel, cmdline: "console=ttyS0" },
      nics: [{ network: networks.items[0].meta.id }],
      ...more,
    };
    return (await this.api("POST", "/vms", { name, spec })).meta.id as string;
  }

  async state_of(vm: string): Promise<string> {
    return (await this.api("GET", `/vms/${vm}`)).status.state as string;
  }
}

/** What the daemon takes for a kernel: the marks of the Linux boot protocol. */
export function bzImage(): Buffer {
  const bytes = Buffer.alloc(64 * 1024);
  bytes.writeUInt16LE(0xaa55, 0x1fe);
  bytes.write("HdrS", 0x202);
  bytes.writeUInt16LE(0x020f, 0x206);
  return bytes;
}

/** What an authenticator shows now (RFC 6238: HMAC-SHA-1, 30 seconds, 6 digits). */
export function oneTimeCode(secret: string, at = Date.now()): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret.replace(/[\s=]/g, "")]
    .map((each) => alphabet.indexOf(each).toString(2).padStart(5, "0"))
    .join("");
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const hash = createHmac("sha1", key).update(counter).digest();
  const offset = hash[19]! & 15;
  return String((hash.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

let browser: Browser | undefined;

export async function openBrowser(): Promise<Browser> {
  browser ??= await chromium.launch({
    executablePath: CHROMIUM,
    // Chromium takes pages it is handed for those of another network, and keeps WebSockets to this one from them.
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...(PAGES ? ["--disable-features=LocalNetworkAccessChecks"] : []),
    ],
  });
  return browser;
}

export async function closeBrowser() {
  await browser?.close();
  browser = undefined;
}

export interface Visit {
  context: BrowserContext;
  page: Page;
  /** What went wrong in the page: errors of scripts, refusals of the security policy, requests to elsewhere. */
  faults: string[];
}

/** Whatever serves the page. */
export interface Served {
  readonly url: string;
}

async function servePages(context: BrowserContext, url: string, directory: string) {
  await context.route(
    (asked) => asked.href.startsWith(url) && !asked.pathname.startsWith("/api/"),
    async (route) => {
      const file = join(directory, new URL(route.request().url()).pathname);
      const asset = existsSync(file) && statSync(file).isFile();
      await route.fulfill({ path: asset ? file : join(directory, "index.html") });
    },
  );
}

export async function visit(
  daemon: Served,
  {
    theme = "light",
    width = 1360,
    height = 850,
  }: { theme?: "light" | "dark"; width?: number; height?: number } = {},
): Promise<Visit> {
  const context = await (
    await openBrowser()
  ).newContext({
    ignoreHTTPSErrors: true,
    viewport: { width, height },
    colorScheme: theme,
    locale: "en-GB",
    timezoneId: "UTC",
    reducedMotion: "reduce",
  });
  if (PAGES) await servePages(context, daemon.url, PAGES);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    const text = message.text();
    // Refused requests are logged by the browser itself; whether they are right is for each test to say.
    if (
      message.type() === "error" &&
      !text.startsWith("Failed to load resource") &&
      !/net::ERR_|WebSocket connection to/.test(text)
    )
      faults.push(`console: ${text}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(daemon.url) && !/^(blob|data|wss?):/.test(request.url()))
      faults.push(`elsewhere: ${request.url()}`);
  });
  return { context, page, faults };
}

export async function logIn(daemon: Served, { page }: Visit, path = "/", password = PASSWORD) {
  await page.goto(daemon.url + path);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await page
    .getByRole("navigation", { name: "Pages" })
    .or(page.getByRole("button", { name: "Navigation" }))
    .first()
    .waitFor();
}
