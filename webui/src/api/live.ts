// Keeps what the pages know up to date: the host streams every change of an object (server-sent events), and the changes of a
// moment are laid into the query cache together, so that a burst of thousands draws once.
//
//   up ──stream breaks──▶ lost ──(asks again: 1, 2, 4, 5 s …)──▶ up, everything is read anew
//                          └── 401 ──▶ session is looked at, which asks for the password
//  A stream that is refused while the session is good is asked for again at the same pauses.
import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { Gather } from "../lib/gather";
import { merge, type Changes, type Stored } from "../lib/merge";
import { later, withTold } from "../lib/tasks";
import { ApiError, api, call, type Host, type Pool, type Task, type Vm } from "./client";
import { followLink, isUp, linkLost, linkUp } from "./link";
import { RECENT_TASKS } from "./queries";

/** Changes that come within this time are drawn together, in milliseconds. */
const GATHER = 100;
/** Longest pause between two tries, in milliseconds. */
const MAX_PAUSE = 5000;

interface Kind {
  list: string;
  /** Carries over what the stream does not tell. */
  keep?: (old: never, fresh: never) => unknown;
}

const KINDS: Record<string, Kind> = {
  vm: {
    list: "vms",
    keep: (old: Vm, fresh: Vm): Vm => {
      const leased = fresh.status.state === "running" || fresh.status.state === "paused";
      return leased && old.status.addresses?.length && !fresh.status.addresses?.length
        ? { ...fresh, status: { ...fresh.status, addresses: old.status.addresses } }
        : fresh;
    },
  },
  host: {
    list: "hosts",
    keep: (old: Host, fresh: Host): Host => ({ ...fresh, status: fresh.status ?? old.status }),
  },
  pool: {
    list: "pools",
    keep: (old: Pool, fresh: Pool): Pool => ({ ...fresh, status: fresh.status ?? old.status }),
  },
  image: { list: "images" },
  volume: { list: "volumes" },
  network: { list: "networks" },
  user: { list: "users" },
};

interface Notice<T> {
  id: string;
  object?: T | null;
}

/** Lays the changes of one kind into the cache. */
function lay(client: QueryClient, { list, keep }: Kind, changes: Changes<Stored>) {
  client.setQueryData<Stored[]>([list], (known) =>
    known ? merge(known, changes, keep as (old: Stored, fresh: Stored) => Stored) : undefined,
  );
  if (list !== "vms") return;
  for (const [id, fresh] of changes) {
    const key = ["vm", id];
    const known = client.getQueryData<Stored>(key);
    if (!known) continue;
    if (fresh) client.setQueryData(key, merge([known], new Map([[id, fresh]]), keep as never)[0]);
    else void client.invalidateQueries({ queryKey: key });
  }
}

/** Lays what was told of tasks into the cache. */
function layTasks(client: QueryClient, told: Changes<Task>) {
  client.setQueryData<Task[]>(["tasks"], (known) => known && withTold(known, told, RECENT_TASKS));
  for (const [id, fresh] of told)
    if (fresh) client.setQueryData<Task>(["task", id], (known) => known && later(known, fresh));
}

/** Follows the host's changes while someone is logged in. */
export function useLive(active: boolean) {
  const client = useQueryClient();
  useEffect(() => {
    if (!active) return;
    let source: EventSource | undefined;
    let retry: ReturnType<typeof setTimeout> | undefined;
    let pause = 1000;
    let over = false;
    const gather = new Gather<Stored>((all) => {
      for (const [name, changes] of all) lay(client, KINDS[name]!, changes);
      if (all.has("vm") || all.has("volume")) void client.invalidateQueries({ queryKey: ["events"] });
    }, GATHER);
    const tasks = new Gather<Task>((all) => {
      for (const told of all.values()) layTasks(client, told);
    }, GATHER);
    let missed = false;
    let opened = false;
    const afterPause = (again: () => void) => {
      retry = setTimeout(again, pause);
      pause = Math.min(pause * 2, MAX_PAUSE);
    };
    const connect = () => {
      opened = false;
      const ours = new EventSource("/api/v1/watch");
      source = ours;
      for (const name of Object.keys(KINDS))
        ours.addEventListener(name, (event: MessageEvent<string>) => {
          const notice = JSON.parse(event.data) as Notice<Stored>;
          gather.take(name, notice.id, notice.object ?? undefined);
        });
      ours.addEventListener("task", (event: MessageEvent<string>) => {
        const notice = JSON.parse(event.data) as Notice<Task>;
        tasks.take("task", notice.id, notice.object ?? undefined);
      });
      // Of alerts only that they changed: they are few, and read anew.
      ours.addEventListener("alert", () => void client.invalidateQueries({ queryKey: ["alerts"] }));
      ours.onopen = () => {
        opened = true;
        pause = 1000;
        // From now on everything is heard. What changed before was not: of tasks since the list was read, and where the stream
        // broke, of everything.
        void client.invalidateQueries({
          predicate: ({ queryKey: [key] }) => (missed ? key !== "session" : key === "tasks"),
        });
        missed = false;
      };
      ours.onerror = () => {
        ours.close();
        if (source === ours) void ask();
      };
    };
    /** Why did the stream end, and may it begin again? */
    const ask = async () => {
      source = undefined;
      missed = true;
      clearTimeout(retry);
      try {
        await call(api.GET("/session"));
      } catch (error) {
        if (over) return;
        if (error instanceof ApiError && error.problem.status === 401) {
          linkUp();
          return void client.refetchQueries({ queryKey: ["session"] });
        }
        linkLost();
        return afterPause(() => void ask());
      }
      if (over) return;
      linkUp();
      if (opened) connect();
      else afterPause(connect);
    };
    connect();
    // A request that found no host: the stream may hang without knowing it.
    const unfollow = followLink(() => {
      if (isUp() || !source) return;
      source.close();
      void ask();
    });
    return () => {
      over = true;
      unfollow();
      clearTimeout(retry);
      gather.stop();
      tasks.stop();
      source?.close();
    };
  }, [client, active]);
}
