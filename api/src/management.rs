//! The management network of one host: what is kept, what is in use, and a change that is only tried.
//!
//! A change is first tried, for a limited time: where nobody confirms it, the host takes it back by itself. Nothing of it is
//! written down before it is confirmed, so that a crash or a restart in that time ends with the old settings too.
//!
//! ```text
//!  kept ──try──▶ on trial ──keep──▶ kept (the new)
//!    ▲              │ time over, revert, crash, restart
//!    └──────────────┘
//! ```

use crate::{answer::HostNetwork, problem::FieldError, vm::Mac};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Seconds a change is tried where no other time is asked for.
pub const TRIAL_SECONDS: u32 = 60;
/// Shortest and longest trial, in seconds.
pub const TRIAL_RANGE: std::ops::RangeInclusive<u32> = 10..=600;

/// `GET /hosts/{id}/network`: the management network of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ManagementNetwork {
    /// The settings that hold at the next start.
    pub kept: HostNetwork,
    /// A change that is being tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<NetworkTrial>,
    /// Kernel name of the interface in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// The interfaces there are to choose from.
    #[serde(default)]
    pub nics: Vec<ManagementNic>,
    /// What became of the last change, where it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An interface the management network could use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ManagementNic {
    /// Kernel name.
    pub name: String,
    /// Hardware address, by which it is chosen.
    pub mac: Mac,
    /// A cable is in and the other side answers.
    pub link: bool,
}

/// A change on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkTrial {
    /// The settings that are tried.
    pub network: HostNetwork,
    /// Seconds until they are taken back.
    pub seconds_left: u32,
}

/// `PUT /hosts/{id}/network`: try these settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TryNetwork {
    /// The settings.
    pub network: HostNetwork,
    /// Seconds until they are taken back unless confirmed, 10 to 600.
    #[serde(default = "default_seconds")]
    pub seconds: u32,
}

fn default_seconds() -> u32 {
    TRIAL_SECONDS
}

/// `POST /hosts/{id}/network/test`: whether the network in use works, seen from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkTest {
    /// The host's address with its prefix; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The gateway of the default route; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub gateway: Option<Ipv4Addr>,
    /// Whether the gateway answers on the link (ARP); absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_answers: Option<bool>,
    /// Whether the API answers at the host's address.
    pub api_answers: bool,
}

impl NetworkTest {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn good(&self) -> bool {
        self.address.is_some() && self.api_answers && self.gateway_answers != Some(false)
    }
}

impl TryNetwork {
    /// What is wrong with it, by the fields of the request.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = self.network.validate("network");
        if !TRIAL_RANGE.contains(&self.seconds) {
            let reason = format!("must be {} to {}", TRIAL_RANGE.start(), TRIAL_RANGE.end());
            errors.push(FieldError::new("seconds", reason));
        }
        errors
    }
}

impl HostNetwork {
    /// What is wrong with it; fields are named below `at`.
    #[must_use]
    pub fn validate(&self, at: &str) -> Vec<FieldError> {
        let field = |name: &str, reason: &str| FieldError::new(format!("{at}.{name}"), reason);
        let mut errors = Vec::new();
        match self.static_address() {
            Some(Err(reason)) => errors.push(field("address", &reason)),
            Some(Ok((address, prefix))) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                let of = |a: Ipv4Addr| u32::from(a) & mask;
                let edge =
                    |a: Ipv4Addr| prefix < 31 && (u32::from(a) == of(a) || u32::from(a) == of(a) | !mask);
                if unfit(address) || edge(address) {
                    errors.push(field("address", "is not the address of a host"));
                }
                if let Some(gateway) = self.gateway {
                    if of(gateway) != of(address) {
                        errors.push(field("gateway", "is not in the network of `address`"));
                    } else if gateway == address || unfit(gateway) || edge(gateway) {
                        errors.push(field("gateway", "is not the address of another host"));
                    }
                }
            }
            None if self.gateway.is_some() => {
                errors.push(field("gateway", "is only used with `address`"));
            }
            None => {}
        }
        if self.dns.iter().any(|a| a.is_unspecified() || a.is_multicast() || a.is_broadcast()) {
            errors.push(field("dns", "holds what is not the address of a server"));
        }
        if self.dns.len() > 3 {
            errors.push(field("dns", "takes at most three servers"));
        }
        errors
    }
}

/// What can be no host's address, whatever its network.
fn unfit(address: Ipv4Addr) -> bool {
    address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(address: &str, gateway: Option<&str>) -> Vec<String> {
        let network = HostNetwork {
            address: Some(address.into()),
            gateway: gateway.map(|g| g.parse().unwrap()),
            ..HostNetwork::default()
        };
        network.validate("network").into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn settings_that_would_cut_a_host_off_are_refused() {
        assert!(fields("192.168.1.10/24", Some("192.168.1.1")).is_empty());
        assert!(fields("10.0.0.1/31", Some("10.0.0.0")).is_empty());
        assert_eq!(fields("192.168.1.10/24", Some("192.168.2.1")), ["network.gateway"]);
        assert_eq!(fields("192.168.1.10/24", Some("192.168.1.10")), ["network.gateway"]);
        for bad in
            ["192.168.1.0/24", "192.168.1.255/24", "127.0.0.1/8", "224.0.0.1/24", "1.2.3.4", "1.2.3.4/0"]
        {
            assert_eq!(fields(bad, None), ["network.address"], "{bad}");
        }
        let dhcp = HostNetwork { gateway: Some([10, 0, 0, 1].into()), ..HostNetwork::default() };
        assert_eq!(dhcp.validate("network")[0].field, "network.gateway");
    }

    #[test]
    fn a_trial_has_bounds() {
        let asked: TryNetwork = serde_json::from_str(r#"{"network":{}}"#).unwrap();
        assert_eq!((asked.seconds, asked.validate()), (60, vec![]));
        let endless = TryNetwork { seconds: 601, ..asked };
        assert_eq!(endless.validate()[0].field, "seconds");
    }
}
