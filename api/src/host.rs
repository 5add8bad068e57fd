//! Hosts.

use crate::{Bytes, HostId, Metadata, Timestamp, pci::PciAddress};
use serde::{Deserialize, Serialize};

/// A host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Host {
    /// Identity.
    pub meta: Metadata<HostId>,
    /// No machine is placed on it, and those that ran there were moved away, as far as they could be.
    #[serde(default)]
    pub maintenance: bool,
    /// It only votes: no machine, pool or network is ever on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub witness: bool,
    /// Read at the time of the request; absent where the host cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HostStatus>,
}

/// What a host says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostStatus {
    /// LimiQuantix version it runs.
    pub version: String,
    /// Kernel it runs.
    pub kernel: String,
    /// When it booted.
    pub booted_at: Timestamp,
    /// Live, or from which slot.
    pub boot: String,
    /// Its processors.
    pub cpu: Cpu,
    /// Its memory.
    pub memory: Memory,
    /// Whether it can run guests, and if not, why.
    pub virtualization: Virtualization,
    /// Its physical network interfaces.
    pub interfaces: Vec<Interface>,
    /// Its disks.
    pub disks: Vec<BlockDevice>,
    /// Functions on its PCI bus, but for bridges: what can be given to a machine (`spec.passthrough`), and why the others cannot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<PciFunction>,
    /// Whether the simulated host stands in for a real one.
    pub simulated: bool,
    /// What it shows to browsers and clients; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// What keeps it from full health or safety, in words an administrator can act on.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The certificate of a host's API and page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Certificate {
    /// SHA-256 of it, hexadecimal with colons, as browsers and the host's console show it.
    pub fingerprint: String,
    /// When it ends; absent where it does not say so in a way that is understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

/// Processors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cpu {
    /// As it calls itself.
    pub model: String,
    /// Logical processors.
    pub threads: u32,
    /// Cores.
    pub cores: u32,
    /// Sockets.
    pub sockets: u32,
    /// Features of the highest CPU model that it has not, as `/proc/cpuinfo` names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// Share of all threads in use over the last seconds, 0 to 1.
    pub usage: f64,
}

/// Memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Memory {
    /// In all.
    pub total_bytes: Bytes,
    /// Available for new guests.
    pub available_bytes: Bytes,
}

/// Whether guests can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Virtualization {
    /// They can.
    pub available: bool,
    /// Why not, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// Hardware address.
    pub mac: String,
    /// Link is up.
    pub up: bool,
    /// Addresses with prefix.
    pub addresses: Vec<String>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BlockDevice {
    /// Kernel name.
    pub name: String,
    /// Size.
    pub size_bytes: Bytes,
    /// Model, where it tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Serial number, where it tells one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// What it says of its own health; absent where it was not asked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<DiskHealth>,
}

/// A function on a host's PCI bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PciFunction {
    /// Where it is.
    pub address: PciAddress,
    /// What it is, by its class.
    pub name: String,
    /// Class, six hexadecimal digits.
    pub class: String,
    /// Vendor, four hexadecimal digits.
    pub vendor: String,
    /// Device, four hexadecimal digits.
    pub device: String,
    /// The driver that has it; absent: none. `vfio-pci` where it is given to a machine that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Its IOMMU group; absent: it is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu_group: Option<u32>,
    /// The other functions of its group: all of them are given to one machine, or none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together_with: Vec<PciAddress>,
    /// Why it cannot be given to a machine; absent: it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

/// What a disk says of its own health (SMART).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum DiskHealth {
    /// It says it is well.
    Healthy,
    /// It is near the end of what it was made for.
    Worn {
        /// What it says.
        reason: String,
    },
    /// It says it is failing.
    Failing {
        /// What it says.
        reason: String,
    },
    /// It says nothing. That is not the same as healthy.
    Unknown {
        /// Why it is not known.
        reason: String,
    },
}

/// `POST /hosts/{id}/power`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HostPower {
    /// What to do; guests are stopped first.
    pub action: HostPowerAction,
}

/// `POST /hosts/{id}/certificate`: a new certificate for the API and the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewCertificate {
    /// The name of the host, as a word that this is meant: whoever trusts the old certificate has to look at the new one.
    pub confirm: String,
}

/// `POST /hosts/{id}/factory-reset`: the host forgets what it has kept and starts as if it were installed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FactoryReset {
    /// The name of the host, as a word that this is meant.
    pub confirm: String,
    /// The images and volumes on its data partition go too. What stays there is not known to the host any more.
    pub data: bool,
}

/// Power action of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HostPowerAction {
    /// Restart.
    Reboot,
    /// Switch off.
    PowerOff,
}

/// `POST /hosts/{id}/maintenance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HostMaintenance {
    /// Whether it is to be in maintenance.
    pub on: bool,
    /// Shut down the machines that cannot be moved.
    #[serde(default)]
    pub shut_down: bool,
}
