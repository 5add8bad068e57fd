// The form of a host's BMC, and what it says to the API.
import type { BmcSpec, SetBmc } from "../api/client";

export type BmcProtocol = NonNullable<BmcSpec["protocol"]>;

/** What a protocol asks for. */
export const protocols: Record<BmcProtocol, { name: string; port: number; hasCertificate: boolean }> = {
  redfish: { name: "Redfish", port: 443, hasCertificate: true },
  ipmi: { name: "IPMI 2.0", port: 623, hasCertificate: false },
};

export interface BmcForm {
  protocol: BmcProtocol;
  address: string;
  username: string;
  /** Empty: as it is. */
  password: string;
  certificate: string;
  /** Empty: the BMC manages one machine. */
  system: string;
}

export const bmcForm = (spec?: BmcSpec): BmcForm => ({
  protocol: spec?.protocol ?? "redfish",
  address: spec?.address ?? "",
  username: spec?.username ?? "",
  password: "",
  certificate: spec?.certificate ?? "",
  system: spec?.system ?? "",
});

/** What is asked for. What was not written is not sent: the password that is kept stays, and goes nowhere else. */
export function setBmc(form: BmcForm): SetBmc {
  // What was written before IPMI was chosen is kept in the form, and not sent: nothing shows it.
  const { hasCertificate } = protocols[form.protocol];
  const certificate = hasCertificate && form.certificate.trim();
  const system = hasCertificate && form.system.trim();
  return {
    spec: {
      protocol: form.protocol,
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
