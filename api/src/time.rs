//! Time: the servers the cluster's clocks follow, and how they do.

use crate::{HostId, Timestamp, problem::FieldError};
use serde::{Deserialize, Serialize};

/// Most time servers.
pub const MOST_SERVERS: usize = 8;

/// What the clocks of all hosts follow: `PUT /cluster/time`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TimeSpec {
    /// NTP servers, by name or address; with a port where it is not 123. None: nothing sets the clocks.
    #[serde(default)]
    pub servers: Vec<String>,
}

impl TimeSpec {
    /// Every fault.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.servers.len() > MOST_SERVERS {
            errors.push(FieldError::new("servers", format!("are more than {MOST_SERVERS}")));
        }
        for (n, server) in self.servers.iter().enumerate() {
            let field = format!("servers[{n}]");
            if server_and_port(server).is_none() {
                errors.push(FieldError::new(field, "is not a name or an address, with a port or without"));
            } else if self.servers.iter().take(n).any(|other| other == server) {
                errors.push(FieldError::new(field, "is there twice"));
            }
        }
        errors
    }
}

/// Name or address, and port.
#[must_use]
pub fn server_and_port(server: &str) -> Option<(String, u16)> {
    const PORT: u16 = 123;
    if let Ok(ip) = server.parse::<std::net::IpAddr>() {
        return Some((ip.to_string(), PORT));
    }
    if let Ok(address) = server.parse::<std::net::SocketAddr>() {
        return (address.port() != 0).then(|| (address.ip().to_string(), address.port()));
    }
    let (name, port) = match server.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|p| *p != 0)?),
        None => (server, PORT),
    };
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
    };
    (name.len() <= 253 && name.split('.').all(fits)).then(|| (name.to_owned(), port))
}

/// How a host's clock does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimeStatus {
    /// Servers agreed on the time a while ago, and the clock follows them.
    pub synchronised: bool,
    /// How far the clock was behind when they last agreed, in milliseconds; negative where it was ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_ms: Option<f64>,
    /// How far the truth may be from that, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_ms: Option<f64>,
    /// The server that counts most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// How far the clock is from a reference clock: one more than that server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratum: Option<u8>,
    /// When they last agreed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed_at: Option<Timestamp>,
    /// When the clock was last set, instead of brought nearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stepped_at: Option<Timestamp>,
    /// Why it is not synchronised, or what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Every server.
    #[serde(default)]
    pub servers: Vec<TimeServer>,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimeServer {
    /// As it is set.
    pub server: String,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// It is one of those that agree.
    pub chosen: bool,
    /// How far the clock is behind it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_ms: Option<f64>,
    /// The way there and back, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<f64>,
    /// How far it is from a reference clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratum: Option<u8>,
    /// Why it told no time when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// `GET /cluster/time`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Time {
    /// What is wanted.
    pub spec: TimeSpec,
    /// Every host.
    pub hosts: Vec<HostTime>,
}

/// A host's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostTime {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// How it does; absent where the host cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TimeStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_names_or_addresses() {
        let spec = |servers: &[&str]| TimeSpec { servers: servers.iter().map(|s| (*s).to_owned()).collect() };
        assert!(
            spec(&["ntp.example.org", "192.0.2.1", "2001:db8::1", "[2001:db8::1]:1123", "n:99"])
                .validate()
                .is_empty()
        );
        assert_eq!(server_and_port("2001:db8::1"), Some(("2001:db8::1".into(), 123)));
        let faults: Vec<String> =
            spec(&["a b", "ok", "ok", "x:0", ""]).validate().into_iter().map(|e| e.field).collect();
        assert_eq!(faults, ["servers[0]", "servers[2]", "servers[3]", "servers[4]"]);
        assert_eq!(spec(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]).validate().len(), 1);
    }
}
