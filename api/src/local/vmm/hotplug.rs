//! Disks and interfaces that come and go while a machine runs.
//!
//! Devices are named by what their guest sees of them, not by their place: places move up when a device before them goes.

use super::{DiskConfig, NicConfig};
use crate::vm::Mac;
use serde::{Deserialize, Serialize};

/// Disks and interfaces come and go while the machine runs. It changes what the guest finds at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HotplugConfig {}

/// Plugs a disk in. The files of its chain come with the request as descriptors, the top first: opened for reading and, the
/// top one of a disk that is not read only, for writing. They are locked here and stay so until the disk goes; whoever sends
/// them closes its own. The paths in the configuration are names for messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPlug {
    /// The disk.
    pub disk: DiskConfig,
}

/// Plugs an interface in. Its tap comes with the request as a descriptor, attached to the device, with virtio-net headers
/// (`IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`); of an interface with several queues one descriptor for each (`IFF_MULTI_QUEUE` too).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicPlug {
    /// The interface.
    pub nic: NicConfig,
}

/// A device that can be unplugged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceName {
    /// The disk with this serial number.
    Disk(String),
    /// The interface with this address.
    Nic(Mac),
}

/// Unplugs a device.
///
/// The guest is asked to let go of it; the request is answered when it has, and everything it wrote is durable. A guest that
/// does not within `timeout_ms` keeps the device and goes on with it; where it lets go later, [`super::Event::Unplugged`] tells.
/// A guest that is reset lets go of what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unplug {
    /// Which.
    pub device: DeviceName,
    /// Takes it away at once, whatever the guest does with it: as if it were torn out. What the guest has not yet written
    /// is lost to it.
    #[serde(default)]
    pub force: bool,
    /// How long the guest has, in milliseconds, at least 1.
    #[serde(default = "default_unplug_timeout")]
    pub timeout_ms: u32,
}

/// [`Unplug::timeout_ms`] where nothing is said.
#[must_use]
pub const fn default_unplug_timeout() -> u32 {
    30_000
}
