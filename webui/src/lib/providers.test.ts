import { expect, it } from "vitest";
import type { ProviderSpec } from "../api/client";
import { fromForm, toForm } from "./providers";

const LDAP: ProviderSpec = {
  enabled: true,
  title: "Corp",
  session_hours: 8,
  groups: [{ external: "vm admins", group: "g" }],
  source: {
    kind: "ldap",
    servers: ["ldaps://a", "ldap://b"],
    base_dn: "dc=x",
    user_filter: "(uid={user})",
    user_attribute: "uid",
    name_attribute: "cn",
    bind_dn: "cn=s",
    certificate_sha256: "ab".repeat(32),
  },
};

it("what was read is written again", () => {
  expect(fromForm(toForm(LDAP))).toEqual(LDAP);
  const oidc: ProviderSpec = {
    ...LDAP,
    source: {
      kind: "oidc",
      issuer: "https://id",
      client_id: "c",
      scopes: ["profile"],
      username_claim: "email",
      name_claim: "name",
      groups_claim: "roles",
      ca: "PEM",
    },
  };
  expect(fromForm(toForm(oidc))).toEqual(oidc);
});

it("what was not typed is left out, and a fingerprint is taken as it is copied", () => {
  const form = { ...toForm(), servers: " ldaps://a,\nldaps://b ", certificate: "AB:".repeat(31) + "AB" };
  const { source } = fromForm(form);
  expect(source).toMatchObject({ servers: ["ldaps://a", "ldaps://b"], certificate_sha256: "ab".repeat(32) });
  expect(Object.keys(source)).not.toContain("bind_dn");
  expect(Object.keys(source)).not.toContain("ca");
});
