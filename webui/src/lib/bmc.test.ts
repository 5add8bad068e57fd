import { expect, test } from "vitest";
import { bmcForm, fingerprintText, setBmc } from "./bmc";

const spec = {
  protocol: "redfish",
  address: "10.0.9.13",
  username: "lq",
  certificate: "ab".repeat(32),
} as const;

test("a form says what it was made of, and leaves the password as it is", () => {
  expect(setBmc(bmcForm(spec))).toEqual({ spec });
  expect(setBmc({ ...bmcForm(spec), system: " 2 ", password: " x " })).toEqual({
    spec: { ...spec, system: "2" },
    password: " x ",
  });
});

test("without a certificate none is claimed", () => {
  expect(setBmc({ ...bmcForm(spec), certificate: " " }).spec).not.toHaveProperty("certificate");
  expect(setBmc(bmcForm()).spec).toEqual({ protocol: "redfish", address: "", username: "" });
});

test("of IPMI neither a certificate nor a system is said", () => {
  const ipmi = { protocol: "ipmi", address: "10.0.9.13", username: "lq" } as const;
  expect(setBmc(bmcForm(ipmi))).toEqual({ spec: ipmi });
  expect(setBmc({ ...bmcForm(spec), protocol: "ipmi", system: "2" }).spec).toEqual(ipmi);
});

test("fingerprints look alike, however they were written", () => {
  const shown = Array(32).fill("AB").join(":");
  expect(fingerprintText("ab".repeat(32))).toBe(shown);
  expect(fingerprintText(shown)).toBe(shown);
  expect(fingerprintText("what is this")).toBe("what is this");
});
