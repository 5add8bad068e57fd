// What is said of a storage pool, and what is sent to make one.
import type { CreatePool, Pool } from "../api/client";

/** Where it is, in words. */
export function place(pool: Pool, host: (id: string) => string | undefined): string {
  const { spec } = pool;
  return spec.driver === "dir"
    ? `directory of ${host(spec.host) ?? "a host"}`
    : `${spec.server.includes(":") ? `[${spec.server}]` : spec.server}:${spec.export}`;
}

/** How its hosts stand to it: the state of the whole, and how many of them reach it. */
export function standing(pool: Pool): { state: string; word: string } | undefined {
  if (pool.spec.driver === "dir") return undefined;
  if (pool.deleting) return { state: "deleting", word: "being deleted" };
  const hosts = pool.hosts ?? [];
  const ready = hosts.filter(({ state }) => state === "ready").length;
  if (hosts.length === 0) return { state: "pending", word: "no host has mounted it yet" };
  if (ready === hosts.length) return { state: "ready", word: `ready on ${count(ready)}` };
  const word = `ready on ${ready} of ${count(hosts.length)}`;
  if (hosts.some(({ state }) => state === "unreachable"))
    return { state: ready === 0 ? "failed" : "warning", word };
  return { state: "pending", word };
}

/** Whether a host has the pool, or is to reach it. */
export const onHost = ({ spec, hosts }: Pool, host: string): boolean =>
  spec.driver === "dir" ? spec.host === host : (hosts ?? []).some((on) => on.host === host);

const count = (n: number) => (n === 1 ? "1 host" : `${n} hosts`);

/** Fields of the form that makes an NFS pool. */
export interface NfsForm {
  name: string;
  server: string;
  export: string;
  version: "4.1" | "4.2";
  port: string;
  nconnect: string;
  rsize: string;
  wsize: string;
}

export const NFS_FORM: NfsForm = {
  name: "",
  server: "",
  export: "",
  version: "4.2",
  port: "2049",
  nconnect: "",
  rsize: "",
  wsize: "",
};

/** What the form asks for, or what is no number in it. `server:/export` in the field of the server is taken apart. */
export function nfsPool(
  form: NfsForm,
): { body: CreatePool } | { faults: Partial<Record<keyof NfsForm, string>> } {
  const faults: Partial<Record<keyof NfsForm, string>> = {};
  const number = (field: "port" | "nconnect" | "rsize" | "wsize") => {
    const text = form[field].trim();
    if (text === "") return undefined;
    if (!/^\d{1,9}$/.test(text)) faults[field] = "Give a whole number.";
    return Number(text);
  };
  const [nconnect, rsize, wsize] = [number("nconnect"), number("rsize"), number("wsize")];
  const port = number("port") ?? 2049;
  if (!form.name.trim()) faults.name = "Give it a name.";
  let [server, path] = [form.server.trim(), form.export.trim()];
  const both = /^(?:\[([^\]]+)\]|([^:]+)):(\/.*)$/.exec(server);
  if (both && path === "") [server, path] = [both[1] ?? both[2] ?? "", both[3] ?? ""];
  if (!server) faults.server = "Give its name or address.";
  if (!path && !faults.server) faults.export = "Give the path of the export.";
  if (Object.keys(faults).length > 0) return { faults };
  const options = {
    ...(nconnect === undefined ? {} : { nconnect }),
    ...(rsize === undefined ? {} : { rsize }),
    ...(wsize === undefined ? {} : { wsize }),
  };
  const spec = { driver: "nfs", server, export: path, version: form.version, port, options } as const;
  return { body: { name: form.name.trim(), spec } };
}
