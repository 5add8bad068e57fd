// The serial console of a machine: a terminal over a WebSocket that connects again by itself and keeps what it showed.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal as Xterm, type ITheme } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { ClipboardPaste, Maximize, Minimize, RefreshCw } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { queryClient } from "../api/queries";
import { withSheets } from "../lib/sheets";
import { Splice } from "../lib/splice";
import { Paste } from "./Paste";
import { Button, Dot } from "./ui";

const DARK: ITheme = {
  background: "#0b0f14",
  foreground: "#d7dee7",
  cursor: "#d7dee7",
  selectionBackground: "#2f5d9c88",
};

/** Longest pause between two tries, in milliseconds. */
const MAX_PAUSE = 5000;
/** Within this time after its first part, what comes is scroll-back, in milliseconds. */
const SETTLE = 100;
/** Most bytes sent in one frame: the host takes 64 KiB. */
const FRAME = 16 * 1024;

function join(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

type Status = { state: "up" | "starting" | "error" | "stopped"; words: string };

/** What the page around may do with the line. */
interface Line {
  send: (text: string) => void;
  reconnect: () => void;
  focus: () => void;
}

export default function Terminal({ vm, name, state }: { vm: string; name: string; state: string }) {
  const place = useRef<HTMLDivElement>(null);
  const frame = useRef<HTMLElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const line = useRef<Line>(undefined);
  const [status, setStatus] = useState<Status>({ state: "starting", words: "connecting …" });
  const [full, setFull] = useState(false);
  const [pasting, setPasting] = useState(false);

  useEffect(() => {
    const terminal = new Xterm({
      theme: DARK,
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
      fontSize: 14,
      scrollback: 10_000,
      cursorBlink: true,
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    const bare = withSheets(() => terminal.open(place.current!));
    fit.fit();
    terminal.focus();
    const resized = new ResizeObserver(() => fit.fit());
    resized.observe(place.current!);

    // Tab belongs to the guest, so the keyboard needs another way out.
    terminal.attachCustomKeyEventHandler((event) => {
      if (event.type !== "keydown" || event.key !== "Escape" || !event.shiftKey) return true;
      heading.current?.focus();
      return false;
    });

    const splice = new Splice();
    const encoder = new TextEncoder();
    let socket: WebSocket | undefined;
    let pause = 500;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;

    const show = (bytes: Uint8Array) => {
      splice.shown(bytes);
      terminal.write(bytes);
    };
    const send = (bytes: Uint8Array<ArrayBuffer>) => {
      if (socket?.readyState !== WebSocket.OPEN) return;
      for (let at = 0; at < bytes.length; at += FRAME) socket.send(bytes.subarray(at, at + FRAME));
    };
    const connect = () => {
      clearTimeout(timer);
      const ours = new WebSocket(
        `${location.origin.replace(/^http/, "ws")}/api/v1/vms/${encodeURIComponent(vm)}/console`,
      );
      socket = ours;
      ours.binaryType = "arraybuffer";
      // The scroll-back comes in several messages close together: taken as one.
      let scrollBack: Uint8Array[] | undefined = [];
      const settle = () => {
        if (ours !== socket || !scrollBack) return;
        const { bytes: fresh, gap } = splice.fresh(join(scrollBack));
        scrollBack = undefined;
        if (gap) terminal.write("\r\n\x1b[2m— connected again; something may be missing here —\x1b[0m\r\n");
        show(fresh);
      };
      ours.onopen = () => {
        pause = 500;
        setStatus({ state: "up", words: "connected" });
      };
      ours.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
        const bytes =
          typeof event.data === "string" ? encoder.encode(event.data) : new Uint8Array(event.data);
        if (!scrollBack) return show(bytes);
        if (scrollBack.push(bytes) === 1) setTimeout(settle, SETTLE);
      };
      ours.onclose = (event) => {
        if (over || ours !== socket) return;
        settle();
        if (event.code === 1000) return setStatus({ state: "stopped", words: event.reason || "closed" });
        setStatus({
          state: "error",
          words: event.reason
            ? `closed: ${event.reason}; connecting again …`
            : "connection lost; connecting again …",
        });
        // Logged out, or the machine is gone: the pages around find out.
        void queryClient.invalidateQueries({ queryKey: ["vm", vm] });
        timer = setTimeout(connect, pause);
        pause = Math.min(pause * 2, MAX_PAUSE);
      };
    };
    connect();
    line.current = {
      send: (text) => send(encoder.encode(text)),
      reconnect: () => {
        const old = socket;
        socket = undefined;
        old?.close();
        setStatus({ state: "starting", words: "connecting …" });
        connect();
        terminal.focus();
      },
      focus: () => terminal.focus(),
    };
    const typed = terminal.onData((text) => send(encoder.encode(text)));
    const bytes = terminal.onBinary((text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    return () => {
      over = true;
      clearTimeout(timer);
      socket?.close();
      typed.dispose();
      bytes.dispose();
      resized.disconnect();
      terminal.dispose();
      bare();
    };
  }, [vm]);

  useEffect(() => {
    const changed = () => setFull(document.fullscreenElement === frame.current);
    document.addEventListener("fullscreenchange", changed);
    return () => document.removeEventListener("fullscreenchange", changed);
  }, []);

  return (
    <section
      ref={frame}
      className="flex min-h-80 flex-1 flex-col overflow-hidden rounded-lg border border-line bg-[#0b0f14]"
      aria-label={`Serial console of ${name}`}
    >
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1 border-b border-line bg-surface px-3 py-1.5">
        <h2 ref={heading} tabIndex={-1} className="font-semibold">
          Serial console
        </h2>
        <span role="status" className="flex items-center gap-2">
          <Dot state={status.state} />
          {status.words}
          {status.state === "up" && (state === "stopped" || state === "failed") && (
            <span className="text-dim"> (the machine is {state})</span>
          )}
        </span>
        <span className="hidden text-sm text-dim md:inline">Shift+Esc leaves it</span>
        <span className="ml-auto flex gap-1.5">
          <Button small kind="quiet" icon={ClipboardPaste} onClick={() => setPasting(true)}>
            Paste
          </Button>
          <Button small kind="quiet" icon={RefreshCw} onClick={() => line.current?.reconnect()}>
            Reconnect
          </Button>
          <Button
            small
            kind="quiet"
            icon={full ? Minimize : Maximize}
            onClick={() =>
              void (full ? document.exitFullscreen() : frame.current!.requestFullscreen()).then(() =>
                line.current?.focus(),
              )
            }
          >
            {full ? "Leave full screen" : "Full screen"}
          </Button>
        </span>
      </div>
      <div ref={place} className="m-2 min-h-0 flex-1 [&_.xterm]:h-full" />
      {pasting && (
        <Paste
          onClose={() => setPasting(false)}
          onPaste={(text) => {
            setPasting(false);
            line.current?.send(text);
            line.current?.focus();
          }}
        />
      )}
    </section>
  );
}
