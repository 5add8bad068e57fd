import { expect, test } from "vitest";
import { addressOf, hostNetwork, networkFault, networkForm, networkText } from "./management";

const network = {
  interface: "52:54:00:00:00:01",
  address: "10.0.0.5/24",
  gateway: "10.0.0.1",
  dns: ["10.0.0.2"],
};

test("a form says what it was made of", () => {
  expect(hostNetwork(networkForm(network))).toEqual(network);
  expect(hostNetwork(networkForm({ dns: [] }))).toEqual({ dns: [] });
});

test("with DHCP neither address nor gateway is sent", () => {
  expect(hostNetwork({ ...networkForm(network), by: "dhcp", interface: "" })).toEqual({ dns: ["10.0.0.2"] });
});

test("what cannot be an address is named before the host is asked", () => {
  const form = networkForm(network);
  expect(networkFault(form)).toBeUndefined();
  expect(networkFault({ ...form, address: "10.0.0.5" })?.field).toBe("address");
  expect(networkFault({ ...form, gateway: "10.0.0" })?.field).toBe("gateway");
  expect(networkFault({ ...form, gateway: "10.0.0.256" })?.field).toBe("gateway");
  expect(networkFault({ ...form, dns: "10.0.0.2, nine" })?.reason).toContain("nine");
  expect(networkFault({ ...form, by: "dhcp", address: "", gateway: "x" })).toBeUndefined();
});

test("where the host will be", () => {
  expect(addressOf(network)).toBe("10.0.0.5");
  expect(addressOf({ dns: [] })).toBeUndefined();
  expect(networkText(network)).toBe("10.0.0.5/24, gateway 10.0.0.1");
  expect(networkText({ dns: [] })).toBe("address by DHCP");
});
