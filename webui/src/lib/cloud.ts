// What a guest sets itself up by (cloud-init): from a user and keys to the words for it.
import type { components } from "../api/schema";

export type CloudInit = components["schemas"]["CloudInit"];

/** How the guest is set up: not at all, by a user with keys, by words of one's own. */
export type Way = "none" | "user" | "own";

export interface Setup {
  way: Way;
  user: string;
  /** SSH public keys, one a line. */
  keys: string;
  userData: string;
  /** Empty: the guest asks for addresses by DHCP. */
  networkConfig: string;
}

export const NO_SETUP: Setup = { way: "none", user: "admin", keys: "", userData: "", networkConfig: "" };

/** Longest text, as the host has it. */
const MOST = 64 * 1024;
/** Key types of OpenSSH that are taken as public keys. */
const KEY =
  /^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) [A-Za-z0-9+/=]+( .*)?$/;

const lines = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);

/** What can be seen to be wrong without asking the host. */
export function setupFaults(setup: Setup): Partial<Record<keyof Setup, string>> {
  const found: Partial<Record<keyof Setup, string>> = {};
  if (setup.way === "none") return found;
  if (setup.way === "user") {
    if (!/^[a-z_][a-z0-9_-]{0,31}$/.test(setup.user))
      found.user = "1 to 32 lower-case letters, digits, underscores or hyphens, not beginning with a digit.";
    const wrong = lines(setup.keys).find((line) => !KEY.test(line));
    if (wrong !== undefined) found.keys = `Not an SSH public key: ${wrong.slice(0, 40)}`;
    else if (lines(setup.keys).length === 0) found.keys = "Without a key nobody could log in.";
  } else if (setup.userData.trim() === "") found.userData = "Write user data, or choose another way.";
  else if (
    !/^(#cloud-config|#!|#include|#part-handler|#cloud-boothook|## template: jinja|Content-Type: multipart\/mixed|MIME-Version:)/.test(
      setup.userData,
    )
  )
    found.userData = "cloud-init would ignore it: begin with #cloud-config or #!.";
  for (const field of ["userData", "networkConfig"] as const)
    if (new TextEncoder().encode(setup[field]).length > MOST) found[field] = "At most 64 KiB.";
  return found;
}

/** For the machine; `undefined` where the guest is not set up. */
export function cloudInit(setup: Setup): CloudInit | undefined {
  if (setup.way === "none") return undefined;
  const network = setup.networkConfig.trim() === "" ? {} : { network_config: setup.networkConfig };
  return { user_data: setup.way === "user" ? userData(setup) : setup.userData, ...network };
}

/** JSON strings are YAML: nothing that is typed gets out of its place. */
function userData({ user, keys }: Setup): string {
  const listed = lines(keys).map((key) => `      - ${JSON.stringify(key)}\n`);
  return (
    "#cloud-config\nusers:\n" +
    `  - name: ${JSON.stringify(user)}\n    shell: /bin/bash\n    lock_passwd: true\n` +
    `    sudo: "ALL=(ALL) NOPASSWD:ALL"\n    ssh_authorized_keys:\n${listed.join("")}`
  );
}

/** The form for what a machine has. */
export function setupOf(given: CloudInit | null | undefined): Setup {
  if (!given) return NO_SETUP;
  return {
    ...NO_SETUP,
    way: "own",
    userData: given.user_data ?? "",
    networkConfig: given.network_config ?? "",
  };
}
