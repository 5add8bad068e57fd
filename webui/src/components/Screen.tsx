// The screen of a machine: an RFB (VNC) connection over a WebSocket, shown by noVNC. It connects again by itself.
import RFB from "@novnc/novnc";
import { ClipboardPaste, Keyboard, Maximize, Minimize, RefreshCw } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { queryClient } from "../api/queries";
import { keysyms } from "../lib/keys";
import { Paste } from "./Paste";
import { Button, Dot } from "./ui";

/** Longest pause between two tries, in milliseconds. */
const MAX_PAUSE = 5000;
/** Pause between two typed keys, in milliseconds: guests lose keys that come all at once. */
const KEY_PAUSE = 8;

type Status = { state: "up" | "starting" | "error"; words: string };

export default function Screen({ vm, name }: { vm: string; name: string }) {
  const place = useRef<HTMLDivElement>(null);
  const frame = useRef<HTMLElement>(null);
  const screen = useRef<RFB>(undefined);
  const again = useRef<() => void>(undefined);
  const [status, setStatus] = useState<Status>({ state: "starting", words: "connecting …" });
  const [full, setFull] = useState(false);
  const [pasting, setPasting] = useState(false);

  useEffect(() => {
    let over = false;
    let pause = 500;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const url = `${location.origin.replace(/^http/, "ws")}/api/v1/vms/${encodeURIComponent(vm)}/display`;
    const connect = () => {
      clearTimeout(timer);
      const ours = new RFB(place.current!, url, { wsProtocols: ["binary"], shared: true });
      screen.current = ours;
      ours.scaleViewport = true;
      ours.background = "transparent";
      ours.addEventListener("connect", () => {
        pause = 500;
        setStatus({ state: "up", words: "connected" });
        ours.focus();
      });
      ours.addEventListener("disconnect", () => {
        if (over || screen.current !== ours) return;
        setStatus({ state: "error", words: "not connected; connecting again …" });
        // Logged out, stopped, or gone: the pages around find out.
        void queryClient.invalidateQueries({ queryKey: ["vm", vm] });
        timer = setTimeout(connect, pause);
        pause = Math.min(pause * 2, MAX_PAUSE);
      });
    };
    connect();
    again.current = () => {
      const old = screen.current;
      screen.current = undefined;
      old?.disconnect();
      setStatus({ state: "starting", words: "connecting …" });
      connect();
    };
    return () => {
      over = true;
      clearTimeout(timer);
      screen.current?.disconnect();
      screen.current = undefined;
    };
  }, [vm]);

  useEffect(() => {
    const changed = () => setFull(document.fullscreenElement === frame.current);
    document.addEventListener("fullscreenchange", changed);
    return () => document.removeEventListener("fullscreenchange", changed);
  }, []);

  const type = async (text: string) => {
    setPasting(false);
    const to = screen.current;
    for (const key of keysyms(text)) {
      if (screen.current !== to) return;
      to?.sendKey(key, null);
      await new Promise((resolve) => setTimeout(resolve, KEY_PAUSE));
    }
    to?.focus();
  };
  const refusal = status.state === "up" ? undefined : "The screen is not connected.";

  return (
    <section
      ref={frame}
      className="flex min-h-80 flex-1 flex-col overflow-hidden rounded-lg border border-line bg-[#0b0f14]"
      aria-label={`Screen of ${name}`}
    >
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1 border-b border-line bg-surface px-3 py-1.5">
        <h2 className="font-semibold">Screen</h2>
        <span role="status" className="flex items-center gap-2">
          <Dot state={status.state} />
          {status.words}
        </span>
        <span className="ml-auto flex flex-wrap gap-1.5">
          <Button
            small
            kind="quiet"
            icon={Keyboard}
            refusal={refusal}
            onClick={() => {
              screen.current?.sendCtrlAltDel();
              screen.current?.focus();
            }}
          >
            Ctrl-Alt-Del
          </Button>
          <Button small kind="quiet" icon={ClipboardPaste} refusal={refusal} onClick={() => setPasting(true)}>
            Paste
          </Button>
          <Button small kind="quiet" icon={RefreshCw} onClick={() => again.current?.()}>
            Reconnect
          </Button>
          <Button
            small
            kind="quiet"
            icon={full ? Minimize : Maximize}
            onClick={() =>
              void (full ? document.exitFullscreen() : frame.current!.requestFullscreen()).then(() =>
                screen.current?.focus(),
              )
            }
          >
            {full ? "Leave full screen" : "Full screen"}
          </Button>
        </span>
      </div>
      <div ref={place} className="min-h-0 flex-1" />
      {pasting && <Paste onClose={() => setPasting(false)} onPaste={(text) => void type(text)} />}
    </section>
  );
}
