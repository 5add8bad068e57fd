//! Functions on the PCI bus of a host: their addresses, and when one can be given to a machine.
//!
//! An IOMMU keeps groups of functions apart, not single ones: what a group holds is given away together, or not at all.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The driver by which a function is given away.
pub const VFIO_DRIVER: &str = "vfio-pci";

/// Where a function is on a host's PCI bus: domain, bus, device, function, written `0000:03:00.0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct PciAddress(
    /// Domain (16 bits), bus (8), device (5), function (3).
    u32,
);

impl PciAddress {
    /// Of the function `function` (0 to 7) of `device` (0 to 31) on `bus` of `domain`; none: there can be no such address.
    #[must_use]
    pub const fn new(domain: u16, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device < 32 && function < 8 {
            Some(Self((domain as u32) << 16 | (bus as u32) << 8 | (device as u32) << 3 | function as u32))
        } else {
            None
        }
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bits) = self;
        write!(f, "{:04x}:{:02x}:{:02x}.{}", bits >> 16, bits >> 8 & 0xff, bits >> 3 & 0x1f, bits & 7)
    }
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PciAddress {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let number = |text: &str, digits: usize| {
            let hex = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
            hex.then(|| u16::from_str_radix(text, 16).ok()).flatten()
        };
        let parse = || {
            let (rest, function) = s.rsplit_once('.')?;
            let mut parts = rest.rsplit(':');
            let device = number(parts.next()?, 2)?;
            let bus = number(parts.next()?, 2)?;
            let domain = parts.next().map_or(Some(0), |domain| number(domain, 4))?;
            if parts.next().is_some() {
                return None;
            }
            let narrow = |value: u16| u8::try_from(value).ok();
            Self::new(domain, narrow(bus)?, narrow(device)?, narrow(number(function, 1)?)?)
        };
        parse().ok_or_else(|| format!("`{s}` is not the address of a PCI function like 0000:03:00.0"))
    }
}

impl Serialize for PciAddress {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A function that shares the IOMMU group of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Where it is.
    pub address: PciAddress,
    /// The driver that has it; none: nobody does.
    pub driver: Option<String>,
}

impl Neighbour {
    /// Whether its driver keeps the kernel from giving its group away. That of a bridge does nothing by itself.
    #[must_use]
    pub fn stands_in_the_way(&self) -> bool {
        !matches!(self.driver.as_deref(), None | Some(VFIO_DRIVER | "pci-stub" | "pcieport"))
    }
}

/// Why the functions of IOMMU group `group` cannot be given away, where one of `others` stands in the way.
#[must_use]
pub fn group_obstacle(group: u32, others: &[Neighbour]) -> Option<String> {
    let held = others.iter().filter(|other| other.stands_in_the_way());
    let held: Vec<_> = held
        .map(|other| format!("{} (driver {})", other.address, other.driver.as_deref().unwrap_or_default()))
        .collect();
    (!held.is_empty()).then(|| {
        format!(
            "its IOMMU group {group} also holds {}: the host's hardware cannot keep the functions of a group apart, so all of them must be given up by their drivers, or none can be given to a machine",
            held.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let address: PciAddress = "0000:3A:1f.7".parse().unwrap();
        assert_eq!(address.to_string(), "0000:3a:1f.7");
        assert_eq!("03:00.0".parse::<PciAddress>().unwrap().to_string(), "0000:03:00.0");
        let wrong = [
            "",
            "03:00",
            "0:03:00.0",
            "0000:03:20.0",
            "0000:03:00.8",
            "0000:03:00.00",
            "+000:03:00.0",
            "1:0000:03:00.0",
            "0000:03:00.0\n",
            "../../etc",
        ];
        for wrong in wrong {
            assert!(wrong.parse::<PciAddress>().unwrap_err().contains("like 0000:03:00.0"), "{wrong}");
        }
    }

    #[test]
    fn who_stands_in_the_way_is_named() {
        let other = |address: &str, driver: Option<&str>| Neighbour {
            address: address.parse().unwrap(),
            driver: driver.map(str::to_owned),
        };
        let free =
            [other("00:1c.0", Some("pcieport")), other("03:00.1", None), other("03:00.2", Some("vfio-pci"))];
        assert_eq!(group_obstacle(7, &free), None);
        let held =
            [other("00:1f.2", Some("ahci")), other("00:1f.0", None), other("00:1f.3", Some("i801_smbus"))];
        let why = group_obstacle(3, &held).unwrap();
        assert!(
            why.contains("group 3 also holds 0000:00:1f.2 (driver ahci), 0000:00:1f.3 (driver i801_smbus)")
        );
    }
}
