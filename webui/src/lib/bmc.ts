// The form of a host's BMC, and what it says to the API.
import type { BmcSpec, SetBmc } from "../api/client";

export interface BmcForm {
  address: string;
  username: string;
  /** Empty: as it is. */
  password: string;
  certificate: string;
  /** Empty: the BMC manages one machine. */
  system: string;
}

export const bmcForm = (spec?: BmcSpec): BmcForm => ({
  address: spec?.address ?? "",
  username: spec?.username ?? "",
  password: "",
  certificate: spec?.certificate ?? "",
  system: spec?.system ?? "",
});

/** What is asked for. What was not written is not sent: the password that is kept stays, and goes nowhere else. */
export function setBmc(form: BmcForm): SetBmc {
  const certificate = form.certificate.trim();
  const system = form.system.trim();
  return {
    spec: {
      protocol: "redfish",
      address: form.address.trim(),
      username: form.username.trim(),
      ...(certificate ? { certificate } : {}),
      ...(system ? { system } : {}),
    },
    ...(form.password ? { password: form.password } : {}),
  };
}

/** A fingerprint in groups that can be compared by eye. */
export const fingerprintText = (text: string): string => {
  const digits = text.replaceAll(":", "").toUpperCase();
  return /^[0-9A-F]{64}$/.test(digits) ? (digits.match(/../g) ?? []).join(":") : text;
};
