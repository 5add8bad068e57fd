//! Devices beside disks and interfaces.

use serde::{Deserialize, Serialize};

/// Devices a machine may have besides. Adding one changes what the guest finds; machines keep those they began with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoreDevices {
    /// CD drives, at most 4.
    #[serde(default)]
    pub cdroms: Vec<CdromConfig>,
}

/// A CD drive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CdromConfig {
    /// The image in it, a raw ISO 9660 or UDF file; absent: it is empty.
    #[serde(default)]
    pub image: Option<String>,
}

/// Something firmware can boot from, by its place in the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootDevice {
    /// A disk.
    Disk(u32),
    /// A CD drive.
    Cdrom(u32),
    /// An interface.
    Nic(u32),
}

/// Takes a medium out of a CD drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CdromEject {
    /// Which, by its place in the configuration, from 0.
    pub cdrom: u32,
    /// Even if the guest has locked it. Otherwise such a guest is asked to eject it, and the request refused.
    #[serde(default)]
    pub force: bool,
}

/// Puts a medium into a CD drive: the file whose descriptor comes with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CdromInsert {
    /// Which, by its place in the configuration, from 0.
    pub cdrom: u32,
}
