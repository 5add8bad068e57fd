//! Notification channels: whom alerts are told to, by webhook, mail or syslog.
//!
//! The secret of a channel (key of the signature, password of the mail server) is given and never told again.

use crate::{
    ChannelId, Metadata, Timestamp,
    alert::Severity,
    meta::{check_labels, check_name, is_unseen},
    problem::FieldError,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest URL, name of a server or address, bytes.
const MAX_TEXT: usize = 1024;
/// Most recipients of a mail.
const MAX_RECIPIENTS: usize = 50;
/// Longest secret, bytes.
const MAX_SECRET: usize = 1024;
/// Longest list of certificates, bytes.
const MAX_CA: usize = 64 << 10;

/// A notification channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Channel {
    /// Identity.
    pub meta: Metadata<ChannelId>,
    /// What is wanted.
    pub spec: ChannelSpec,
    /// It has a secret, which is never told.
    pub has_secret: bool,
    /// How it does.
    pub status: ChannelStatus,
}

/// What is wanted of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChannelSpec {
    /// Alerts are told to it.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Only alerts at least this grave.
    #[serde(default = "warning")]
    pub min_severity: Severity,
    /// Where to.
    pub target: ChannelTarget,
}

fn yes() -> bool {
    true
}
fn warning() -> Severity {
    Severity::Warning
}

/// Where alerts are told to. TLS is verified with the certificates in `ca` (PEM) alone where there are such, else with those of
/// public authorities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ChannelTarget {
    /// A JSON document by HTTP POST. With a secret the header `X-LQ-Signature: sha256=<hexadecimal>` is the HMAC-SHA-256 of the
    /// body.
    Webhook {
        /// `https://…`, or `http://…` inside a network that is trusted.
        url: String,
        /// Certificates that are trusted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
    },
    /// A mail by SMTP (RFC 5321). The secret is the password.
    Mail {
        /// The mail server.
        server: String,
        /// Its port; by the security where absent: 587 (STARTTLS), 465 (TLS) or 25.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// How the connection is protected.
        #[serde(default)]
        security: MailSecurity,
        /// Who logs in; nobody where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        /// The sender.
        from: String,
        /// The recipients, 1 to 50.
        to: Vec<String>,
        /// Certificates that are trusted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
    },
    /// A syslog server (RFC 5424), over TCP with octet counting (RFC 6587) or over TLS (RFC 5425).
    Syslog {
        /// The server.
        server: String,
        /// Its port; 6514 (TLS) or 514 where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// Over TLS.
        #[serde(default = "yes")]
        tls: bool,
        /// Certificates that are trusted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
    },
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MailSecurity {
    /// TLS begins after the greeting (RFC 3207); a server that does not offer it is refused.
    #[default]
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// Not at all; no password is sent then.
    None,
}

impl MailSecurity {
    /// The port where none is given.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// How a channel does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChannelStatus {
    /// When it last took a notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// Since when it takes none; absent while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Why it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Notifications that wait for it.
    pub waiting: u64,
    /// Notifications that were given up: too many waited, or they waited longer than a day.
    pub dropped: u64,
}

/// `POST /notification-channels`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateChannel {
    /// Unique among channels.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: ChannelSpec,
    /// Key of the signature, or password of the mail server, at most 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for CreateChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreateChannel({}, secret hidden)", self.name)
    }
}

/// `PATCH /notification-channels/{id}`; what is absent stays.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateChannel {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All labels anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// All of what is wanted anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ChannelSpec>,
    /// A new secret; an empty one takes it away. Needed again where the channel is to speak to another server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for UpdateChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpdateChannel(secret hidden)")
    }
}

/// What came of a test. `POST /notification-channels/{id}/test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChannelTest {
    /// The channel took it.
    pub delivered: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl ChannelTarget {
    /// The server and what is asked of it: a secret belongs to this.
    #[must_use]
    pub fn place(&self) -> (&'static str, String, u16) {
        match self {
            Self::Webhook { url, .. } => ("webhook", url.clone(), 0),
            Self::Mail { server, port, security, .. } => {
                ("mail", server.to_ascii_lowercase(), port.unwrap_or(security.port()))
            }
            Self::Syslog { server, port, tls, .. } => {
                ("syslog", server.to_ascii_lowercase(), port.unwrap_or(if *tls { 6514 } else { 514 }))
            }
        }
    }
}

fn clean(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(|c| is_unseen(c) || c.is_whitespace())
}

/// Whether a text may be the address of a mail: one `@`, and nothing that could end the command it is put into.
fn is_address(text: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    text.len() <= 254
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len()) && local.chars().all(ok) && is_server(domain)
        })
}

fn is_server(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok() || crate::pool::is_host(text)
}

impl ChannelSpec {
    /// Every fault; `has_secret` says whether there is, or will be, one.
    #[must_use]
    pub fn validate(&self, has_secret: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, why: &str| {
            errors.push(FieldError::new(format!("spec.target.{field}"), why));
        };
        let (port, ca) = match &self.target {
            ChannelTarget::Webhook { url, ca } => {
                let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
                let good = rest.is_some_and(|r| clean(r) && !r.starts_with('/') && url.is_ascii());
                if !good {
                    wrong("url", "is not an address like https://host/path");
                } else if rest.is_some_and(|r| r.split('/').next().is_some_and(|a| a.contains('@'))) {
                    wrong(
                        "url",
                        "has a user name in it: put what authenticates into the path or use the signature",
                    );
                }
                (None, ca)
            }
            ChannelTarget::Mail { server, port, security, username, from, to, ca } => {
                if !is_server(server) {
                    wrong("server", "is neither a host name nor an IP address");
                }
                if !is_address(from) {
                    wrong("from", "is not a mail address");
                }
                if to.is_empty() || to.len() > MAX_RECIPIENTS {
                    wrong("to", "there must be 1 to 50 recipients");
                }
                for (n, _) in to.iter().enumerate().filter(|(_, t)| !is_address(t)) {
                    wrong(&format!("to[{n}]"), "is not a mail address");
                }
                if username
                    .as_ref()
                    .is_some_and(|u| u.is_empty() || u.len() > 255 || u.chars().any(is_unseen))
                {
                    wrong("username", "is empty, too long, or has a character that is not seen");
                }
                if username.is_some() && *security == MailSecurity::None {
                    wrong("security", "a password is never sent without TLS: choose `start-tls` or `tls`");
                }
                if username.is_some() && !has_secret {
                    wrong("username", "needs a password: give `secret`");
                }
                (*port, ca)
            }
            ChannelTarget::Syslog { server, port, ca, .. } => {
                if !is_server(server) {
                    wrong("server", "is neither a host name nor an IP address");
                }
                (*port, ca)
            }
        };
        if port == Some(0) {
            wrong("port", "is not from 1 to 65535");
        }
        if ca.as_ref().is_some_and(|ca| ca.len() > MAX_CA || !ca.contains("-----BEGIN CERTIFICATE-----")) {
            wrong("ca", "holds no certificate in PEM form, or is larger than 65536 bytes");
        }
        errors
    }
}

/// Checks a secret.
#[must_use]
pub fn check_secret(secret: &str) -> Option<FieldError> {
    (secret.len() > MAX_SECRET)
        .then(|| FieldError::new("secret", format!("is longer than {MAX_SECRET} bytes")))
}

impl CreateChannel {
    /// Every fault.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = check_name("name", &self.name).into_iter().collect();
        errors.extend(check_labels("labels", &self.labels));
        errors.extend(self.secret.as_deref().and_then(check_secret));
        errors.extend(self.spec.validate(self.secret.as_ref().is_some_and(|s| !s.is_empty())));
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(target: &str, secret: bool) -> Vec<String> {
        let spec: ChannelSpec = serde_json::from_str(&format!(r#"{{"target":{target}}}"#)).unwrap();
        spec.validate(secret).into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn each_fault_is_named() {
        for good in [
            r#"{"kind":"webhook","url":"https://hooks.example.org/x?y=1"}"#,
            r#"{"kind":"webhook","url":"http://127.0.0.1:9/"}"#,
            r#"{"kind":"mail","server":"mail.lan","from":"lq@example.org","to":["a+b@example.org"]}"#,
            r#"{"kind":"syslog","server":"fd00::1"}"#,
        ] {
            assert!(faults(good, false).is_empty(), "{good}");
        }
        let url = |url: &str| faults(&format!(r#"{{"kind":"webhook","url":"{url}"}}"#), false);
        for bad in
            ["", "ftp://x", "https://", "https:///x", "https://a b", "https://u:p@x/", "https://x/\\r\\nA: b"]
        {
            assert_eq!(url(bad), ["spec.target.url"], "{bad}");
        }
        let to = |to: &str| {
            faults(&format!(r#"{{"kind":"mail","server":"m","from":"a@b.c","to":["{to}"]}}"#), false)
        };
        for bad in ["", "a", "a@", "@b", "a b@c", "a@b>\\r\\nDATA", "a@b@c d"] {
            assert_eq!(to(bad), ["spec.target.to[0]"], "{bad}");
        }
        let mail = r#"{"kind":"mail","server":"m","from":"a@b.c","to":["a@b.c"],"username":"u""#;
        assert_eq!(faults(&format!("{mail}}}"), false), ["spec.target.username"]);
        assert_eq!(faults(&format!(r#"{mail},"security":"none"}}"#), true), ["spec.target.security"]);
        assert!(faults(&format!("{mail}}}"), true).is_empty());
        assert_eq!(faults(r#"{"kind":"syslog","server":"x","port":0,"ca":"y"}"#, false).len(), 2);
    }
}
