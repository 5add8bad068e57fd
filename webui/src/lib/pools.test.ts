import { expect, it } from "vitest";
import type { Pool } from "../api/client";
import { NFS_FORM, nfsPool, place, standing } from "./pools";

const meta = { id: "p", name: "shared", labels: {}, generation: 1, revision: 1, created_at: "" };
const nfs = (states: string[], server = "nas"): Pool =>
  ({
    meta,
    spec: { driver: "nfs", server, export: "/vm" },
    hosts: states.map((state, n) => ({ host: `h${n}`, state, since: "" })),
  }) as unknown as Pool;

it("tells how the hosts stand to a pool", () => {
  expect(standing(nfs([]))?.state).toBe("pending");
  expect(standing(nfs(["ready"]))).toEqual({ state: "ready", word: "ready on 1 host" });
  expect(standing(nfs(["ready", "unreachable"]))).toEqual({
    state: "warning",
    word: "ready on 1 of 2 hosts",
  });
  expect(standing(nfs(["unreachable"]))?.state).toBe("failed");
  expect(standing(nfs(["ready", "mounting"]))?.state).toBe("pending");
  expect(standing({ meta, spec: { driver: "dir", host: "h" } } as unknown as Pool)).toBeUndefined();
});

it("tells where a pool is", () => {
  expect(place(nfs([]), () => undefined)).toBe("nas:/vm");
  expect(place(nfs([], "fd00::1"), () => undefined)).toBe("[fd00::1]:/vm");
  const dir = { meta, spec: { driver: "dir", host: "h" } } as unknown as Pool;
  expect(place(dir, () => "one")).toBe("directory of one");
});

it("makes of the form what is sent", () => {
  const filled = { ...NFS_FORM, name: " shared ", server: "nas", export: "/vm", nconnect: "4" };
  const spec = { driver: "nfs", server: "nas", export: "/vm", version: "4.2", port: 2049 };
  expect(nfsPool(filled)).toEqual({ body: { name: "shared", spec: { ...spec, options: { nconnect: 4 } } } });
  const together = nfsPool({ ...NFS_FORM, name: "s", server: "[fd00::1]:/srv/vm" });
  expect(together).toMatchObject({ body: { spec: { server: "fd00::1", export: "/srv/vm" } } });
  const wrong = nfsPool({ ...NFS_FORM, rsize: "many" });
  expect(wrong).toMatchObject({ faults: { name: /name/, server: /address/, rsize: /number/ } });
});
