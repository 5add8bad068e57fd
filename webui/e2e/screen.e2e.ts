// The screen against a small RFB 3.8 server (RFC 6143) of the test's own: simulated machines have no screen. The machine's page
// is the daemon's, with the word added that it has one.
import { afterAll, beforeAll, expect, it } from "vitest";
import { Daemon, closeBrowser, logIn, until, visit, type Visit } from "./harness";

const [WIDTH, HEIGHT] = [64, 48];
let daemon: Daemon;
let ours: Visit;
/** Key presses the server got: keysyms. */
const pressed: number[] = [];
let connections = 0;
/** Ends the newest connection from the server's side. */
let drop = () => {};

/** Server's side of one connection: no authentication, one red picture, and an ear for keys. */
class Server {
  private stage: "version" | "security" | "init" | "messages" = "version";
  private waiting = Buffer.alloc(0);
  constructor(private readonly send: (bytes: Buffer) => void) {
    send(Buffer.from("RFB 003.008\n"));
  }
  take(bytes: Buffer) {
    this.waiting = Buffer.concat([this.waiting, bytes]);
    while (this.step());
  }
  private eat(length: number): Buffer | undefined {
    if (this.waiting.length < length) return undefined;
    const eaten = this.waiting.subarray(0, length);
    this.waiting = this.waiting.subarray(length);
    return eaten;
  }
  private step(): boolean {
    switch (this.stage) {
      case "version":
        if (!this.eat(12)) return false;
        this.send(Buffer.from([1, 1]));
        this.stage = "security";
        return true;
      case "security":
        if (!this.eat(1)) return false;
        this.send(Buffer.alloc(4));
        this.stage = "init";
        return true;
      case "init": {
        if (!this.eat(1)) return false;
        const format = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
        this.send(Buffer.from([0, WIDTH, 0, HEIGHT, ...format, 0, 0, 0, 4, ...Buffer.from("test")]));
        this.stage = "messages";
        return true;
      }
      case "messages":
        return this.message();
    }
  }
  private message(): boolean {
    const kind = this.waiting[0];
    if (kind === undefined) return false;
    const length =
      kind === 2
        ? this.waiting.length < 4
          ? Infinity
          : 4 + 4 * this.waiting.readUInt16BE(2)
        : { 0: 20, 3: 10, 4: 8, 5: 6 }[kind];
    if (length === undefined) throw new Error(`an unexpected message of the viewer: ${kind}`);
    const message = this.eat(length);
    if (!message) return false;
    if (kind === 4 && message[1] === 1) pressed.push(message.readUInt32BE(4));
    // The whole picture, once: raw, red.
    if (kind === 3 && message[1] === 0) {
      const pixels = Buffer.alloc(WIDTH * HEIGHT * 4);
      for (let at = 0; at < pixels.length; at += 4) pixels[at] = 0xff;
      this.send(
        Buffer.concat([Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 0, WIDTH, 0, HEIGHT, 0, 0, 0, 0]), pixels]),
      );
    }
    return true;
  }
}

beforeAll(async () => {
  daemon = await Daemon.start();
  await daemon.setUp();
  const { kernel } = await daemon.images();
  const id = await daemon.vm("desktop", kernel);
  await daemon.api("POST", `/vms/${id}/start`);
  await until("it runs", async () => (await daemon.state_of(id)) === "running" || undefined);
  ours = await visit(daemon);
  await ours.page.route(`**/api/v1/vms/${id}`, async (route) => {
    const answer = await route.fetch();
    const vm = await answer.json();
    if (vm.spec) vm.spec.display = true;
    await route.fulfill({ response: answer, json: vm });
  });
  await ours.page.routeWebSocket(/\/display$/, (socket) => {
    connections += 1;
    const server = new Server((bytes) => socket.send(bytes));
    drop = () => void socket.close({ code: 1011 });
    socket.onMessage((data) => server.take(Buffer.from(data as Buffer)));
  });
  // noVNC looks for the parts of a WebSocket on its prototype, the stand-in of the browser's driver has them one further up.
  await ours.page.addInitScript(() => {
    const own = WebSocket.prototype;
    const above = Object.getPrototypeOf(own) as object;
    if (above === EventTarget.prototype) return;
    for (const name of Object.getOwnPropertyNames(above))
      if (!Object.hasOwn(own, name))
        Object.defineProperty(own, name, Object.getOwnPropertyDescriptor(above, name)!);
  });
  await logIn(daemon, ours, `/vms/${id}`);
});
afterAll(async () => {
  await closeBrowser();
  await daemon?.end();
});

it("shows the screen, and sends keys, Ctrl-Alt-Del and what is pasted", async () => {
  const { page } = ours;
  await page.getByRole("link", { name: "Screen", exact: true }).click();
  await page.getByRole("main").getByText("connected", { exact: true }).waitFor();
  const red = () =>
    page.evaluate(() => {
      const canvas = document.querySelector<HTMLCanvasElement>("main canvas")!;
      return [canvas.width, ...canvas.getContext("2d")!.getImageData(9, 9, 1, 1).data].join();
    });
  await until("the picture", async () => (await red()) === `${WIDTH},255,0,0,255` || undefined);
  await page.keyboard.press("a");
  await until("the key", () => pressed.includes(0x61) || undefined);
  pressed.length = 0;
  await page.getByRole("button", { name: "Ctrl-Alt-Del" }).click();
  await until("three keys", () => pressed.length >= 3 || undefined);
  expect(pressed).toEqual([0xffe3, 0xffe9, 0xffff]);
  pressed.length = 0;
  await page.getByRole("button", { name: "Paste" }).click();
  await page.getByRole("dialog").getByLabel("Text").fill("lsÜ");
  await page.getByRole("button", { name: "Type it" }).click();
  await until("the typed text", () => pressed.length >= 4 || undefined);
  expect(pressed).toEqual([0x6c, 0x73, 0xdc, 0xff0d]);
});

it("connects again", async () => {
  const { page } = ours;
  const before = connections;
  await page.getByRole("button", { name: "Reconnect" }).click();
  await until("a new connection", () => connections > before || undefined);
  await page.getByRole("main").getByText("connected", { exact: true }).waitFor();
});

it("fills the screen and leaves it again", async () => {
  const { page } = ours;
  await page.getByRole("button", { name: "Full screen" }).click();
  const full = () => page.evaluate(() => document.fullscreenElement?.getAttribute("aria-label"));
  await until("full screen", async () => (await full()) === "Screen of desktop" || undefined);
  await page.getByRole("button", { name: "Leave full screen" }).click();
  await until(
    "no full screen",
    async () => (await full()) === undefined || (await full()) === null || undefined,
  );
  await page.getByRole("button", { name: "Full screen" }).waitFor();
});

it("connects again by itself when the line breaks", async () => {
  const { page } = ours;
  const before = connections;
  drop();
  await until("a new connection", () => connections > before || undefined);
  await page.getByRole("main").getByText("connected", { exact: true }).waitFor();
  expect(ours.faults).toEqual([]);
});
