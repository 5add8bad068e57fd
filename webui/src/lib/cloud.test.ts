import { expect, it } from "vitest";
import { NO_SETUP, cloudInit, setupFaults, setupOf } from "./cloud";

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ admin@desk";

it("makes a user with keys", () => {
  const setup = { ...NO_SETUP, way: "user" as const, user: "ops", keys: `${KEY}\n\n  ${KEY} two ` };
  expect(setupFaults(setup)).toEqual({});
  const { user_data, network_config } = cloudInit(setup)!;
  expect(user_data).toContain(`#cloud-config\nusers:\n  - name: "ops"\n`);
  expect(user_data!.match(/ {6}- "ssh-ed25519/g)).toHaveLength(2);
  expect(network_config).toBeUndefined();
});

it("says what is wrong before the host does", () => {
  expect(setupFaults(NO_SETUP)).toEqual({});
  expect(cloudInit(NO_SETUP)).toBeUndefined();
  const user = { ...NO_SETUP, way: "user" as const };
  expect(Object.keys(setupFaults({ ...user, user: "1st", keys: "" }))).toEqual(["user", "keys"]);
  expect(setupFaults({ ...user, keys: "my key" }).keys).toContain("my key");
  const own = { ...NO_SETUP, way: "own" as const };
  expect(setupFaults(own).userData).toBeTruthy();
  expect(setupFaults({ ...own, userData: "users: []" }).userData).toContain("#cloud-config");
  expect(setupFaults({ ...own, userData: "#!/bin/sh", networkConfig: "x".repeat(65537) })).toEqual({
    networkConfig: "At most 64 KiB.",
  });
});

it("keeps what a machine has", () => {
  const given = { user_data: "#cloud-config\n{}\n", network_config: "version: 2\n" };
  expect(cloudInit(setupOf(given))).toEqual(given);
  expect(setupOf(null).way).toBe("none");
});
