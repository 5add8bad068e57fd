//! Networks guests connect to.

use crate::{
    Metadata, NetworkId,
    meta::{check_labels, check_name},
    problem::FieldError,
    vm::Mac,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Network {
    /// Identity.
    pub meta: Metadata<NetworkId>,
    /// What is wanted.
    pub spec: NetworkSpec,
}

/// The wanted network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// How it reaches the outside.
    pub kind: NetworkKind,
    /// The network's own DHCP service for guests. Absent: guests are served by whatever serves the uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
}

/// How a network reaches the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// Guests are on the host's uplink, side by side with it.
    Bridged,
}

/// DHCP for guests. It answers only machines of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Dhcp {
    /// The subnet, e.g. `192.168.1.0/24`; prefix 8 to 30.
    pub subnet: String,
    /// First address given to guests.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub first: Ipv4Addr,
    /// Last address given to guests.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub last: Ipv4Addr,
    /// Default gateway told to guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub gateway: Option<Ipv4Addr>,
    /// Name servers told to guests.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub dns: Vec<Ipv4Addr>,
    /// Seconds a lease lasts, 120 to 604800.
    #[serde(default = "default_lease")]
    pub lease_seconds: u32,
}

fn default_lease() -> u32 {
    3600
}

/// A lease of the network's own DHCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    /// Of the guest's interface.
    pub mac: Mac,
    /// Given to it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: Ipv4Addr,
    /// What the guest calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// Creates a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateNetwork {
    /// Its name, unique among networks.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What is wanted.
    pub spec: NetworkSpec,
}

/// Changes a network; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateNetwork {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New set of labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// New wanted network, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<NetworkSpec>,
}

/// An IPv4 subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Lowest address.
    pub base: Ipv4Addr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl Subnet {
    /// The netmask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }
    /// Highest address.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) | !u32::from(self.mask()))
    }
    /// Whether a host may have this address in it (neither its lowest nor its highest).
    #[must_use]
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        u32::from(address) & u32::from(self.mask()) == u32::from(self.base)
            && address != self.base
            && address != self.broadcast()
    }
}

impl std::str::FromStr for Subnet {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{s}` is not a subnet like 192.168.1.0/24");
        let (base, prefix) = s.split_once('/').ok_or_else(wrong)?;
        let subnet =
            Self { base: base.parse().map_err(|_| wrong())?, prefix: prefix.parse().map_err(|_| wrong())? };
        if !(8..=30).contains(&subnet.prefix) {
            return Err(format!("the prefix of `{s}` is not between 8 and 30"));
        }
        if u32::from(subnet.base) & !u32::from(subnet.mask()) != 0 {
            return Err(format!("`{s}` has bits set beyond its prefix"));
        }
        Ok(subnet)
    }
}

impl NetworkSpec {
    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        self.dhcp.as_ref().map(Dhcp::validate).unwrap_or_default()
    }
}

impl Dhcp {
    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        match self.subnet.parse::<Subnet>() {
            Err(reason) => errors.push(FieldError::new("spec.dhcp.subnet", reason)),
            Ok(subnet) => {
                let gateway = self.gateway.map(|g| ("gateway", g));
                for (field, address) in
                    [("first", self.first), ("last", self.last)].into_iter().chain(gateway)
                {
                    if !subnet.has_host(address) {
                        let reason = format!("{address} is not a host address in {}", self.subnet);
                        errors.push(FieldError::new(format!("spec.dhcp.{field}"), reason));
                    }
                }
            }
        }
        if self.first > self.last {
            errors.push(FieldError::new("spec.dhcp.first", "is above `last`"));
        }
        if let Some(gateway) = self.gateway
            && (self.first..=self.last).contains(&gateway)
        {
            errors.push(FieldError::new("spec.dhcp.gateway", "is inside the range given to guests"));
        }
        if !(120..=604_800).contains(&self.lease_seconds) {
            errors.push(FieldError::new("spec.dhcp.lease_seconds", "is not between 120 and 604800"));
        }
        errors
    }
}

impl CreateNetwork {
    /// Every fault that can be seen without looking at other objects.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = check_name("name", &self.name).into_iter().collect();
        errors.extend(check_labels("labels", &self.labels));
        errors.extend(self.spec.validate());
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let net: Subnet = "10.0.2.0/24".parse().unwrap();
        assert_eq!(net.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(net.broadcast(), Ipv4Addr::new(10, 0, 2, 255));
        assert!(net.has_host(Ipv4Addr::new(10, 0, 2, 1)));
        for out in [[10, 0, 2, 0], [10, 0, 2, 255], [10, 0, 3, 1]] {
            assert!(!net.has_host(out.into()));
        }
        for bad in ["10.0.2.1/24", "10.0.2.0", "10.0.2.0/31", "x/24"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn range_outside_the_subnet_is_named() {
        let dhcp = Dhcp {
            subnet: "10.0.2.0/24".into(),
            first: [10, 0, 3, 1].into(),
            last: [10, 0, 2, 9].into(),
            gateway: Some([10, 0, 2, 2].into()),
            dns: vec![],
            lease_seconds: 3600,
        };
        let fields: Vec<_> = dhcp.validate().into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["spec.dhcp.first", "spec.dhcp.first"]);
    }
}
