import { expect, test } from "vitest";
import { clockWords, serversOf } from "./clock";

test("servers are separated by anything that is no part of them", () => {
  expect(serversOf(" ntp1.lan,192.0.2.1;\n[2001:db8::1]:123 ")).toEqual([
    "ntp1.lan",
    "192.0.2.1",
    "[2001:db8::1]:123",
  ]);
  expect(serversOf("  ")).toEqual([]);
});

test("a clock says how far it is from whom", () => {
  const status = { synchronised: true, offset_ms: 1.234, server: "ntp1.lan", stratum: 3, servers: [] };
  expect(clockWords(status)).toEqual({
    dot: "up",
    word: "follows",
    detail: "1.23 ms behind; ntp1.lan, stratum 3",
  });
  expect(clockWords({ ...status, offset_ms: -120 }).detail).toContain("120 ms ahead");
  expect(clockWords({ ...status, offset_ms: 0.001 }).detail).toContain("exact");
  expect(clockWords({ synchronised: false, note: "no server", servers: [] })).toMatchObject({
    dot: "down",
    detail: "no server",
  });
  expect(clockWords(undefined).word).toBe("does not answer");
});
