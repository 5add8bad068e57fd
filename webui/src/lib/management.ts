// The form of a host's management network, and what it says to the host.
import type { HostNetwork } from "../api/client";

export interface NetworkForm {
  /** Hardware address; empty for the first with a link. */
  interface: string;
  by: "dhcp" | "static";
  address: string;
  gateway: string;
  /** With commas or spaces between. */
  dns: string;
}

export const networkForm = (network: HostNetwork): NetworkForm => ({
  interface: network.interface ?? "",
  by: network.address ? "static" : "dhcp",
  address: network.address ?? "",
  gateway: network.gateway ?? "",
  dns: (network.dns ?? []).join(", "),
});

/** What is asked for. An address is sent as it was written: whether it fits is the host's to say. */
export function hostNetwork(form: NetworkForm): HostNetwork {
  const fixed = form.by === "static";
  return {
    ...(form.interface ? { interface: form.interface } : {}),
    ...(fixed && form.address.trim() ? { address: form.address.trim() } : {}),
    ...(fixed && form.gateway.trim() ? { gateway: form.gateway.trim() } : {}),
    dns: form.dns.split(/[\s,]+/).filter(Boolean),
  };
}

/** What the form lacks before the host need be asked. */
export function networkFault(form: NetworkForm): { field: keyof NetworkForm; reason: string } | undefined {
  if (form.by === "static" && !/^[\d.]+\/\d+$/.test(form.address.trim()))
    return { field: "address", reason: "Give the address with its prefix, like 192.168.1.10/24." };
  const address = (text: string) =>
    /^\d{1,3}(\.\d{1,3}){3}$/.test(text) && text.split(".").every((n) => Number(n) < 256);
  if (form.by === "static" && form.gateway.trim() && !address(form.gateway.trim()))
    return { field: "gateway", reason: "Give an address like 192.168.1.1." };
  const wrong = form.dns.split(/[\s,]+/).find((part) => part && !address(part));
  if (wrong !== undefined) return { field: "dns", reason: `${wrong} is not an address.` };
  return undefined;
}

/** Where the page of the host is once these settings hold; nothing where that is DHCP's to say. */
export const addressOf = (network: HostNetwork): string | undefined => network.address?.split("/")[0];

/** The settings in a line. */
export const networkText = (network: HostNetwork): string =>
  network.address
    ? `${network.address}${network.gateway ? `, gateway ${network.gateway}` : ", no gateway"}`
    : "address by DHCP";
