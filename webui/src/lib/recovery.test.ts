import { expect, it } from "vitest";
import type { ReformHost } from "../api/client";
import { lostAtFirst, reformRefusal } from "./recovery";

const host = (name: string, fate: ReformHost["fate"]): ReformHost => ({
  host: name,
  name,
  fate,
  machines: [],
});

it("names exactly those that are lost", () => {
  const hosts = [host("a", "silent"), host("b", "follows"), host("c", "lost")];
  expect(lostAtFirst(hosts)).toEqual(["a"]);
  expect(reformRefusal({ hosts }, ["a"])).toBeUndefined();
  expect(reformRefusal({ hosts }, [])).toMatch(/^a does not answer/);
  const newer = [...hosts, host("d", "newer")];
  expect(reformRefusal({ hosts: newer }, lostAtFirst(newer))).toMatch(/^d has changes/);
  expect(reformRefusal({ hosts: newer }, ["a", "d"])).toBeUndefined();
});
