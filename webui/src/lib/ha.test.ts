import { expect, test } from "vitest";
import type { HaMachine, HaStatus } from "../api/client";
import { inOrder, protection, seconds } from "./ha";

const machine = (name: string, priority: HaMachine["priority"]): HaMachine => ({
  vm: name,
  name,
  priority,
  state: "protected",
});

const status = (change: Partial<HaStatus>): HaStatus => ({
  spec: { armed: true },
  watched_by: "h1",
  hosts: [{ host: "h1", name: "h1", state: "present" }],
  machines: [machine("web", "medium")],
  ...change,
});

test("machines stand in the order they are started in", () => {
  const all = [machine("b", "low"), machine("z", "high"), machine("a", "medium"), machine("a2", "high")];
  expect(inOrder(all).map(({ name }) => name)).toEqual(["a2", "z", "a", "b"]);
});

test("the worst is said first", () => {
  expect(protection(status({}))).toEqual({ ok: true, word: "armed" });
  expect(protection(status({ spec: { armed: false }, watched_by: undefined })).word).toBe("disarmed");
  expect(protection(status({ watched_by: undefined })).word).toBe("nobody watches");
  const host = (state: "silent" | "lost") => [{ host: "h2", name: "h2", state }];
  expect(protection(status({ hosts: host("lost") })).word).toBe("a host is lost");
  expect(protection(status({ hosts: host("silent") })).word).toBe("a host is silent");
  const bare = [{ ...machine("web", "high"), state: "not-protectable" as const }];
  expect(protection(status({ machines: bare })).ok).toBe(false);
});

test("times are said in seconds", () => expect(seconds(10_250)).toBe("10.3 s"));
