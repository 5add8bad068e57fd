//! Pairing: hosts that wait to be brought into a cluster, and the code on their console.

use crate::{HostId, Timestamp, problem::FieldError};
use serde::{Deserialize, Serialize};

/// How this host stands to being paired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pairing {
    /// It waits: it can be found on its network and brought in by its code.
    pub waiting: bool,
    /// Why it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The code, also on its console; absent while a cluster is bringing it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When there will be another code, unless it is guessed wrong three times before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How often this code was guessed wrong.
    #[serde(default)]
    pub wrong_guesses: u32,
    /// A cluster gave the right code and is bringing it in.
    #[serde(default)]
    pub joining: bool,
    /// Until when it waits although it has things of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_until: Option<Timestamp>,
}

/// `PUT /cluster/pairing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpenPairing {
    /// Wait for an hour although this host has machines, volumes or images of its own: they come along.
    pub open: bool,
}

/// A host that waits, as found on the network. Nothing of it is proven before its code was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitingHost {
    /// The id it tells.
    pub host: HostId,
    /// The name it tells.
    pub name: String,
    /// Where it is asked: address and port.
    pub address: String,
    /// The release it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// `GET /cluster/waiting`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitingHosts {
    /// The hosts that answered, by name.
    pub items: Vec<WaitingHost>,
    /// The address of this host on whose network they were looked for; absent where it cannot look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_from: Option<String>,
}

/// `POST /cluster/pair`: brings a waiting host in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PairHost {
    /// Where it is asked: an address, with a port where it is not 7443.
    pub address: String,
    /// Which host is meant, where it was found; absent: whoever waits at the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// The code on its console.
    pub code: String,
    /// Objects of that host whose names are taken here may be given others.
    #[serde(default)]
    pub rename: bool,
}

/// Port that is meant where none is given.
const PORT: u16 = 7443;

impl PairHost {
    /// Address and port, or every fault.
    pub fn target(&self) -> Result<String, Vec<FieldError>> {
        let mut errors = Vec::new();
        if self.code.trim().is_empty() {
            errors.push(FieldError::new("code", "is empty: read it from the console of the host"));
        }
        let target = target(self.address.trim());
        if target.is_none() {
            errors.push(FieldError::new(
                "address",
                "is not an address or a name, with a port or without: `192.0.2.7`, `[2001:db8::7]:7443`",
            ));
        }
        match target {
            Some(target) if errors.is_empty() => Ok(target),
            _ => Err(errors),
        }
    }
}

fn target(address: &str) -> Option<String> {
    if let Ok(ip) = address.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        return Some(std::net::SocketAddr::new(ip, PORT).to_string());
    }
    if let Ok(given) = address.parse::<std::net::SocketAddr>() {
        return (given.port() != 0).then(|| given.to_string());
    }
    let (name, port) = match address.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|p| *p != 0)?),
        None => (address, PORT),
    };
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
    };
    (name.len() <= 253 && name.split('.').all(fits)).then(|| format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_a_port() {
        for (given, meant) in [
            ("192.0.2.7", Some("192.0.2.7:7443")),
            ("192.0.2.7:9", Some("192.0.2.7:9")),
            ("2001:db8::7", Some("[2001:db8::7]:7443")),
            ("[2001:db8::7]:9", Some("[2001:db8::7]:9")),
            ("node-2.example.org", Some("node-2.example.org:7443")),
            ("node-2:8443", Some("node-2:8443")),
            ("192.0.2.7:0", None),
            ("node:x", None),
            ("a b", None),
            ("", None),
            ("https://node", None),
        ] {
            assert_eq!(target(given).as_deref(), meant, "{given}");
        }
    }

    #[test]
    fn every_fault_is_named() {
        let pair = PairHost { address: " ".into(), host: None, code: " ".into(), rename: false };
        let fields: Vec<String> = pair.target().unwrap_err().into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["code", "address"]);
    }
}
