// The form of an identity provider: texts on the page, what the API takes behind them.
import type { ProviderSource, ProviderSpec } from "../api/client";

export interface ProviderForm {
  kind: "ldap" | "oidc";
  enabled: boolean;
  title: string;
  hours: string;
  groups: { external: string; group: string }[];
  ca: string;
  /** One a line. */
  servers: string;
  certificate: string;
  bindDn: string;
  userDn: string;
  baseDn: string;
  userFilter: string;
  userAttribute: string;
  nameAttribute: string;
  groupBaseDn: string;
  groupFilter: string;
  issuer: string;
  clientId: string;
  scopes: string;
  usernameClaim: string;
  nameClaim: string;
  groupsClaim: string;
}

const FRESH: ProviderForm = {
  kind: "ldap",
  enabled: true,
  title: "",
  hours: "12",
  groups: [],
  ca: "",
  servers: "ldaps://",
  certificate: "",
  bindDn: "",
  userDn: "",
  baseDn: "",
  userFilter: "(&(objectClass=person)(uid={user}))",
  userAttribute: "uid",
  nameAttribute: "cn",
  groupBaseDn: "",
  groupFilter: "",
  issuer: "https://",
  clientId: "",
  scopes: "profile email",
  usernameClaim: "preferred_username",
  nameClaim: "name",
  groupsClaim: "groups",
};

/** What an Active Directory asks for. */
export const ACTIVE_DIRECTORY: Partial<ProviderForm> = {
  userFilter: "(&(objectCategory=person)(objectClass=user)(sAMAccountName={user}))",
  userAttribute: "sAMAccountName",
  nameAttribute: "displayName",
  groupFilter: "(member:1.2.840.113556.1.4.1941:={dn})",
};

export function toForm(spec?: ProviderSpec): ProviderForm {
  if (!spec) return { ...FRESH };
  const { source } = spec;
  const form: ProviderForm = {
    ...FRESH,
    kind: source.kind,
    enabled: spec.enabled ?? true,
    title: spec.title ?? "",
    hours: String(spec.session_hours ?? FRESH.hours),
    groups: (spec.groups ?? []).map(({ external, group }) => ({ external, group })),
    ca: source.ca ?? "",
  };
  if (source.kind === "oidc")
    return {
      ...form,
      issuer: source.issuer,
      clientId: source.client_id,
      scopes: (source.scopes ?? []).join(" "),
      usernameClaim: source.username_claim ?? FRESH.usernameClaim,
      nameClaim: source.name_claim ?? FRESH.nameClaim,
      groupsClaim: source.groups_claim ?? FRESH.groupsClaim,
    };
  return {
    ...form,
    servers: source.servers.join("\n"),
    certificate: source.certificate_sha256 ?? "",
    bindDn: source.bind_dn ?? "",
    userDn: source.user_dn ?? "",
    baseDn: source.base_dn ?? "",
    userFilter: source.user_filter ?? FRESH.userFilter,
    userAttribute: source.user_attribute ?? FRESH.userAttribute,
    nameAttribute: source.name_attribute ?? FRESH.nameAttribute,
    groupBaseDn: source.group_base_dn ?? "",
    groupFilter: source.group_filter ?? "",
  };
}

/** A field that is left out where nothing was typed. */
function typed<Name extends string>(name: Name, text: string): { [Key in Name]?: string } {
  const value = text.trim();
  return (value ? { [name]: value } : {}) as { [Key in Name]?: string };
}

/** A fingerprint as it is copied: with colons, in any letter case. */
const fingerprint = (text: string) => text.replace(/[:\s]/g, "").toLowerCase();

function source(form: ProviderForm): ProviderSource {
  if (form.kind === "oidc")
    return {
      kind: "oidc",
      issuer: form.issuer.trim(),
      client_id: form.clientId.trim(),
      scopes: form.scopes.split(/[\s,]+/).filter(Boolean),
      username_claim: form.usernameClaim.trim(),
      name_claim: form.nameClaim.trim(),
      groups_claim: form.groupsClaim.trim(),
      ...typed("ca", form.ca),
    };
  return {
    kind: "ldap",
    servers: form.servers.split(/[\s,]+/).filter(Boolean),
    base_dn: form.baseDn.trim(),
    user_filter: form.userFilter.trim(),
    user_attribute: form.userAttribute.trim(),
    name_attribute: form.nameAttribute.trim(),
    ...typed("ca", form.ca),
    ...typed("certificate_sha256", fingerprint(form.certificate)),
    ...typed("bind_dn", form.bindDn),
    ...typed("user_dn", form.userDn),
    ...typed("group_base_dn", form.groupBaseDn),
    ...typed("group_filter", form.groupFilter),
  };
}

export function fromForm(form: ProviderForm): ProviderSpec {
  return {
    enabled: form.enabled,
    title: form.title.trim(),
    session_hours: Number(form.hours) || 0,
    groups: form.groups.map(({ external, group }) => ({ external: external.trim(), group })),
    source: source(form),
  };
}
