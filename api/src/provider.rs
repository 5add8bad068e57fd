//! Identity providers: whose word on who someone is counts, beside the cluster's own users.
//!
//! A provider's name is its realm: its users are `user@realm`. What they may do comes from groups of the cluster which groups of
//! the directory are mapped to, and from what they were granted themselves. The secret of a provider (password of the service
//! account, client secret) is given and never told again.

use crate::{
    GroupId, Metadata, ProviderId, Timestamp,
    meta::{check_labels, check_name, is_unseen},
    problem::FieldError,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest URL, distinguished name, filter or claim, bytes.
const MAX_TEXT: usize = 1024;
/// Most servers of a directory.
const MAX_SERVERS: usize = 8;
/// Most mappings of groups.
pub const MAX_MAPPINGS: usize = 256;
/// Most scopes asked for at an OpenID provider.
const MAX_SCOPES: usize = 16;
/// Longest secret, bytes.
const MAX_SECRET: usize = 1024;
/// Longest list of certificates, bytes.
const MAX_CA: usize = 64 << 10;
/// Longest that a session may be allowed to last, hours.
pub const MAX_SESSION_HOURS: u32 = 720;
/// What a user name stands for in a filter or template.
pub const USER: &str = "{user}";
/// What the distinguished name of a user stands for in a filter.
pub const DN: &str = "{dn}";
/// The realm of the cluster's own users.
pub const LOCAL_REALM: &str = "local";

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Provider {
    /// Identity; the name is the realm.
    pub meta: Metadata<ProviderId>,
    /// What is wanted.
    pub spec: ProviderSpec,
    /// It has a secret, which is never told.
    pub has_secret: bool,
    /// How it does.
    pub status: ProviderStatus,
}

/// What is wanted of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProviderSpec {
    /// One can log in by it. Switched off, sessions and tokens of its users end.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What the login page calls it; its name where empty.
    #[serde(default)]
    pub title: String,
    /// Which of its groups stand for which of the cluster.
    #[serde(default)]
    pub groups: Vec<GroupMapping>,
    /// A session ends this long after its login, however it is used, 1 to 720 hours.
    #[serde(default = "session_hours")]
    pub session_hours: u32,
    /// Where it is and how it is asked.
    pub source: ProviderSource,
}

fn yes() -> bool {
    true
}
fn session_hours() -> u32 {
    12
}

/// A group of the directory that stands for one of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupMapping {
    /// Its name or distinguished name there, letter case aside; `*` for everyone the provider knows.
    pub external: String,
    /// The group of the cluster.
    pub group: GroupId,
}

/// Where a provider is and how it is asked. TLS is verified with the certificates in `ca` (PEM) alone where there are such, else
/// with those of public authorities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProviderSource {
    /// A directory (LDAP version 3, RFC 4511). Never spoken to without TLS.
    Ldap(LdapSource),
    /// An OpenID Connect provider (authorization code with PKCE).
    Oidc(OidcSource),
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LdapSource {
    /// `ldaps://host[:port]` (TLS from the first byte) or `ldap://host[:port]` (StartTLS), 1 to 8, tried in this order.
    pub servers: Vec<String>,
    /// Certificates that are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// SHA-256 of the one certificate that is trusted, hexadecimal, in place of authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// Distinguished name of the service account that searches, whose password is the provider's secret; nobody in particular
    /// where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_dn: Option<String>,
    /// Distinguished name of a user, `{user}` standing for their name: where it is given users are not searched for. Without a
    /// service account it cannot be seen then that someone was removed, before their session ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_dn: Option<String>,
    /// Below this users are searched for.
    #[serde(default)]
    pub base_dn: String,
    /// Finds one user, `{user}` standing for their name (RFC 4515).
    #[serde(default = "user_filter")]
    pub user_filter: String,
    /// Attribute with the user's name.
    #[serde(default = "user_attribute")]
    pub user_attribute: String,
    /// Attribute with their name for people.
    #[serde(default = "name_attribute")]
    pub name_attribute: String,
    /// Below this groups are searched for; `base_dn` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_base_dn: Option<String>,
    /// Finds the groups of a user, `{dn}` standing for their distinguished name and `{user}` for their name; where absent the
    /// attribute `memberOf` of the user tells them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_filter: Option<String>,
}

fn user_filter() -> String {
    "(&(objectClass=person)(uid={user}))".into()
}
fn user_attribute() -> String {
    "uid".into()
}
fn name_attribute() -> String {
    "cn".into()
}

/// An OpenID Connect provider. Where it is asked for a redirection address, register `https://HOST/oidc` for every name and
/// address by which the page is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OidcSource {
    /// Its issuer, `https://…` (`http://…` only on this very machine); what it is and can is found below it by discovery.
    pub issuer: String,
    /// How it knows us. The client secret, where there is one, is the provider's secret.
    pub client_id: String,
    /// What is asked for beside `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// Claim with the user's name.
    #[serde(default = "username_claim")]
    pub username_claim: String,
    /// Claim with their name for people.
    #[serde(default = "name_claim")]
    pub name_claim: String,
    /// Claim with their groups.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
    /// Certificates that are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

fn scopes() -> Vec<String> {
    ["profile", "email"].map(str::to_owned).into()
}
fn username_claim() -> String {
    "preferred_username".into()
}
fn name_claim() -> String {
    "name".into()
}
fn groups_claim() -> String {
    "groups".into()
}

/// How a provider does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProviderStatus {
    /// Users of it that the cluster knows.
    pub users: u64,
    /// When it was last asked whether those with sessions and tokens are still there. Directories only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
    /// Since when it cannot be asked; absent while it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Why it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// `POST /identity-providers`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateProvider {
    /// The realm; unique among providers, and not `local`.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: ProviderSpec,
    /// Password of the service account, or client secret, at most 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for CreateProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreateProvider({}, secret hidden)", self.name)
    }
}

/// `PATCH /identity-providers/{id}`; what is absent stays. The name stays for ever: it is part of its users' names.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateProvider {
    /// All labels anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// All of what is wanted anew. The kind stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ProviderSpec>,
    /// A new secret; an empty one takes it away. Needed again where another server is to be spoken to, or in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for UpdateProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpdateProvider(secret hidden)")
    }
}

/// `POST /identity-providers/{id}/test`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TestProvider {
    /// Of a directory: who is to be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Their password, where it is to be tried too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// What came of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProviderTest {
    /// All that was asked for worked.
    pub passed: bool,
    /// What worked, in order.
    pub steps: Vec<String>,
    /// What did not, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Who was found: the name they would log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Their name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// Their groups there.
    #[serde(default)]
    pub external_groups: Vec<String>,
    /// The groups of the cluster they would be in.
    #[serde(default)]
    pub groups: Vec<GroupId>,
}

/// A way to log in, as the login page shows it. `GET /session/realms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Realm {
    /// The name.
    pub name: String,
    /// What the page calls it.
    pub title: String,
    /// How one logs in there.
    pub kind: RealmKind,
}

/// How one logs in to a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RealmKind {
    /// With name and password.
    Password,
    /// At the provider's own page.
    Redirect,
}

/// A text that is shown, compared or put into a request as it is.
fn clean(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(is_unseen)
}

/// Scheme, host and port of a server's address.
#[must_use]
pub fn parse_server(url: &str) -> Option<(bool, String, u16)> {
    let (tls, rest) = match url.strip_prefix("ldaps://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("ldap://")?),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':').map(str::to_owned).or(after.is_empty().then(String::new))?)
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, port.to_owned()),
            None => (rest, String::new()),
        },
    };
    let port = match port.as_str() {
        "" => {
            if tls {
                636
            } else {
                389
            }
        }
        text => text.parse().ok().filter(|p| *p != 0)?,
    };
    let good = host.parse::<std::net::IpAddr>().is_ok() || crate::pool::is_host(host);
    good.then(|| (tls, host.to_owned(), port))
}

/// Whether an attribute's description may be one (RFC 4512, 1.4).
fn is_attribute(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-;".contains(c))
}

fn check_ca(field: &str, ca: Option<&String>) -> Option<FieldError> {
    let bad = ca.is_some_and(|ca| ca.len() > MAX_CA || !ca.contains("-----BEGIN CERTIFICATE-----"));
    bad.then(|| FieldError::new(field, "holds no certificate in PEM form, or is larger than 65536 bytes"))
}

impl LdapSource {
    fn validate(&self, has_secret: bool, wrong: &mut impl FnMut(&str, &str)) {
        if self.servers.is_empty() || self.servers.len() > MAX_SERVERS {
            wrong("servers", "there must be 1 to 8 servers");
        }
        for (n, _) in self.servers.iter().enumerate().filter(|(_, s)| parse_server(s).is_none()) {
            wrong(&format!("servers[{n}]"), "is not an address like ldaps://host or ldap://host:389");
        }
        let is_pin = |pin: &String| pin.len() == 64 && pin.bytes().all(|b| b.is_ascii_hexdigit());
        if self.certificate_sha256.as_ref().is_some_and(|pin| !is_pin(pin)) {
            wrong("certificate_sha256", "is not 64 hexadecimal digits");
        }
        if self.certificate_sha256.is_some() && self.ca.is_some() {
            wrong("ca", "cannot be beside `certificate_sha256`: trust the one or the other");
        }
        for (field, text) in
            [("bind_dn", &self.bind_dn), ("user_dn", &self.user_dn), ("group_base_dn", &self.group_base_dn)]
        {
            if text.as_ref().is_some_and(|t| !clean(t)) {
                wrong(field, "is empty, too long, or has a character that is not seen");
            }
        }
        // With a name and no password a directory binds nobody, and says that it went well (RFC 4513, 5.1.2).
        if self.bind_dn.is_some() && !has_secret {
            wrong("bind_dn", "needs a password: give `secret`");
        }
        match &self.user_dn {
            Some(template) if !template.contains(USER) => {
                wrong("user_dn", "does not say where `{user}` stands")
            }
            Some(_) => {}
            None if !clean(&self.base_dn) => {
                wrong("base_dn", "is needed where there is no `user_dn`, e.g. dc=example,dc=org");
            }
            None if !self.user_filter.contains(USER) => {
                wrong("user_filter", "does not say where `{user}` stands: it would find anyone");
            }
            None => {}
        }
        if self.base_dn.len() > MAX_TEXT || self.base_dn.chars().any(is_unseen) {
            wrong("base_dn", "is too long, or has a character that is not seen");
        }
        for (field, filter) in
            [("user_filter", Some(&self.user_filter)), ("group_filter", self.group_filter.as_ref())]
        {
            if filter.is_some_and(|f| !clean(f) || !f.starts_with('(') || !f.ends_with(')')) {
                wrong(field, "is not a filter like (uid={user})");
            }
        }
        if let Some(filter) = &self.group_filter {
            if !filter.contains(DN) && !filter.contains(USER) {
                wrong(
                    "group_filter",
                    "says neither where `{dn}` nor where `{user}` stands: it would find all groups",
                );
            }
            if self.group_base_dn.is_none() && self.base_dn.is_empty() {
                wrong("group_base_dn", "is needed to search for groups");
            }
        }
        for (field, attribute) in
            [("user_attribute", &self.user_attribute), ("name_attribute", &self.name_attribute)]
        {
            if !is_attribute(attribute) {
                wrong(field, "is not the name of an attribute");
            }
        }
    }
}

/// Whether a URL leads to this very machine.
fn is_loopback(authority: &str) -> bool {
    let host = authority.strip_prefix('[').and_then(|a| a.split(']').next());
    let host = host.unwrap_or_else(|| authority.split(':').next().unwrap_or_default());
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a URL may be an endpoint of a provider: TLS, but for what is on this very machine; no user name, no fragment.
#[must_use]
pub fn is_endpoint(url: &str) -> bool {
    let (tls, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => match url.strip_prefix("http://") {
            Some(rest) => (false, rest),
            None => return false,
        },
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    !authority.is_empty()
        && !authority.contains('@')
        && (tls || is_loopback(authority))
        && clean(url)
        && url.is_ascii()
        && !url.contains([' ', '#', '\\', '"', '<', '>'])
}

impl OidcSource {
    fn validate(&self, wrong: &mut impl FnMut(&str, &str)) {
        if !is_endpoint(&self.issuer) || self.issuer.contains('?') {
            wrong(
                "issuer",
                "is not an address like https://id.example.org/realm (http only on this very machine)",
            );
        }
        if !clean(&self.client_id) {
            wrong("client_id", "is empty, too long, or has a character that is not seen");
        }
        if self.scopes.len() > MAX_SCOPES {
            wrong("scopes", "at most 16 scopes");
        }
        // RFC 6749, 3.3.
        let good = |s: &String| {
            (1..=128).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
        };
        for (n, _) in self.scopes.iter().enumerate().filter(|(_, s)| !good(s)) {
            wrong(&format!("scopes[{n}]"), "is not a scope: letters, digits and signs without blanks");
        }
        let claims = [
            ("username_claim", &self.username_claim),
            ("name_claim", &self.name_claim),
            ("groups_claim", &self.groups_claim),
        ];
        for (field, claim) in claims {
            if !clean(claim) {
                wrong(field, "is empty, too long, or has a character that is not seen");
            }
        }
    }
}

impl ProviderSource {
    /// The servers and who is spoken to as: a secret belongs to this.
    #[must_use]
    pub fn place(&self) -> (Vec<&str>, Option<&str>, Option<&str>, Option<&str>) {
        match self {
            Self::Ldap(l) => (
                l.servers.iter().map(String::as_str).collect(),
                l.bind_dn.as_deref(),
                l.ca.as_deref(),
                l.certificate_sha256.as_deref(),
            ),
            Self::Oidc(o) => (vec![&o.issuer], Some(&o.client_id), o.ca.as_deref(), None),
        }
    }

    /// Whether it is of the same kind as another.
    #[must_use]
    pub fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl ProviderSpec {
    /// Every fault; `has_secret` says whether there is, or will be, one.
    #[must_use]
    pub fn validate(&self, has_secret: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.title.chars().count() > 63 || self.title.chars().any(is_unseen) {
            errors.push(FieldError::new("spec.title", "has at most 63 characters, all of them seen"));
        }
        if !(1..=MAX_SESSION_HOURS).contains(&self.session_hours) {
            errors.push(FieldError::new("spec.session_hours", "is from 1 to 720"));
        }
        if self.groups.len() > MAX_MAPPINGS {
            errors.push(FieldError::new("spec.groups", format!("at most {MAX_MAPPINGS} mappings")));
        }
        for (n, _) in self.groups.iter().enumerate().filter(|(_, g)| !clean(&g.external)) {
            let field = format!("spec.groups[{n}].external");
            errors.push(FieldError::new(field, "is empty, too long, or has a character that is not seen"));
        }
        let mut wrong = |field: &str, why: &str| {
            errors.push(FieldError::new(format!("spec.source.{field}"), why));
        };
        let ca = match &self.source {
            ProviderSource::Ldap(ldap) => {
                ldap.validate(has_secret, &mut wrong);
                ldap.ca.as_ref()
            }
            ProviderSource::Oidc(oidc) => {
                oidc.validate(&mut wrong);
                oidc.ca.as_ref()
            }
        };
        errors.extend(check_ca("spec.source.ca", ca));
        errors
    }
}

/// Checks a secret.
#[must_use]
pub fn check_secret(secret: &str) -> Option<FieldError> {
    (secret.len() > MAX_SECRET)
        .then(|| FieldError::new("secret", format!("is longer than {MAX_SECRET} bytes")))
}

impl CreateProvider {
    /// Every fault.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = check_name("name", &self.name).into_iter().collect();
        if self.name.eq_ignore_ascii_case(LOCAL_REALM) {
            errors.push(FieldError::new("name", "`local` is the realm of the cluster's own users"));
        }
        errors.extend(check_labels("labels", &self.labels));
        errors.extend(self.secret.as_deref().and_then(check_secret));
        errors.extend(self.spec.validate(self.secret.as_ref().is_some_and(|s| !s.is_empty())));
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(source: &str, secret: bool) -> Vec<String> {
        let spec: ProviderSpec = serde_json::from_str(&format!(r#"{{"source":{source}}}"#)).unwrap();
        spec.validate(secret).into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn servers_are_read() {
        for (url, found) in [
            ("ldaps://dc1.example.org", Some((true, "dc1.example.org", 636))),
            ("ldap://dc1.example.org:3389/", Some((false, "dc1.example.org", 3389))),
            ("ldaps://[fd00::1]:636", Some((true, "fd00::1", 636))),
            ("ldap://[fd00::1]", Some((false, "fd00::1", 389))),
            ("ldap://a:0", None),
            ("ldap://", None),
            ("ldap://a b", None),
            ("http://a", None),
            ("ldap://u@a", None),
            ("ldap://a/dc=x", None),
        ] {
            let found = found.map(|(tls, host, port)| (tls, host.to_owned(), port));
            assert_eq!(parse_server(url), found, "{url}");
        }
    }

    #[test]
    fn each_fault_of_a_directory_is_named() {
        let ldap = |more: &str, secret| {
            faults(&format!(r#"{{"kind":"ldap","servers":["ldaps://a"],"base_dn":"dc=x"{more}}}"#), secret)
        };
        assert!(ldap("", false).is_empty());
        assert!(ldap(r#","bind_dn":"cn=s""#, true).is_empty());
        for (more, field) in [
            (r#","bind_dn":"cn=s""#, "spec.source.bind_dn"),
            (r#","user_filter":"(uid=*)""#, "spec.source.user_filter"),
            (r#","group_filter":"(objectClass=*)""#, "spec.source.group_filter"),
            (r#","user_dn":"cn=x""#, "spec.source.user_dn"),
            (r#","user_attribute":"a b""#, "spec.source.user_attribute"),
            (r#","certificate_sha256":"12""#, "spec.source.certificate_sha256"),
            (r#","ca":"x""#, "spec.source.ca"),
        ] {
            assert_eq!(ldap(more, false), [field], "{more}");
        }
        assert_eq!(
            faults(r#"{"kind":"ldap","servers":[]}"#, false),
            ["spec.source.servers", "spec.source.base_dn"]
        );
        assert!(serde_json::from_str::<ProviderSource>(r#"{"kind":"ldap","servers":[],"x":1}"#).is_err());
    }

    #[test]
    fn each_fault_of_an_openid_provider_is_named() {
        let oidc = |issuer: &str| {
            faults(&format!(r#"{{"kind":"oidc","issuer":"{issuer}","client_id":"c"}}"#), false)
        };
        for good in
            ["https://id.example.org/realm", "http://127.0.0.1:9", "http://localhost:9/x", "http://[::1]:9"]
        {
            assert!(oidc(good).is_empty(), "{good}");
        }
        for bad in [
            "",
            "http://id.example.org",
            "https://",
            "https://u@x",
            "https://x?y",
            "https://x#y",
            "https://a b",
        ] {
            assert_eq!(oidc(bad), ["spec.source.issuer"], "{bad}");
        }
    }
}
