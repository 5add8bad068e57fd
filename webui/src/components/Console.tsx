// The serial console of a machine: a terminal over a WebSocket that connects again by itself and keeps what it showed.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal, type ITheme } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useEffect, useRef, useState } from "react";
import { queryClient } from "../api/queries";
import { withSheets } from "../lib/sheets";
import { Splice } from "../lib/splice";

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

function join(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export default function Console({ vm, name }: { vm: string; name: string }) {
  const place = useRef<HTMLDivElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const [status, setStatus] = useState("connecting …");

  useEffect(() => {
    const terminal = new Terminal({
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
    const connect = () => {
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
        setStatus("connected");
      };
      ours.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
        const bytes =
          typeof event.data === "string" ? encoder.encode(event.data) : new Uint8Array(event.data);
        if (!scrollBack) return show(bytes);
        if (scrollBack.push(bytes) === 1) setTimeout(settle, SETTLE);
      };
      ours.onclose = (event) => {
        if (over) return;
        settle();
        if (event.code === 1000) return setStatus(event.reason || "closed");
        setStatus(
          event.reason
            ? `closed: ${event.reason}; connecting again …`
            : "connection lost; connecting again …",
        );
        // Logged out, or the machine is gone: the pages around find out.
        void queryClient.invalidateQueries({ queryKey: ["vms", vm] });
        timer = setTimeout(connect, pause);
        pause = Math.min(pause * 2, MAX_PAUSE);
      };
    };
    connect();
    const typed = terminal.onData((text) => {
      if (socket?.readyState === WebSocket.OPEN) socket.send(encoder.encode(text));
    });
    const bytes = terminal.onBinary((text) => {
      if (socket?.readyState === WebSocket.OPEN) socket.send(Uint8Array.from(text, (c) => c.charCodeAt(0)));
    });
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

  return (
    <section className="console" aria-label={`Serial console of ${name}`}>
      <div className="console-bar">
        <h2 ref={heading} tabIndex={-1}>
          Serial console
        </h2>
        <span className="hint">Shift+Esc leaves it</span>
        <span role="status" className={status === "connected" ? "ok" : "dim"}>
          {status}
        </span>
      </div>
      <div ref={place} className="terminal" />
    </section>
  );
}
