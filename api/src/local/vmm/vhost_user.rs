//! Devices whose queues another program of the host serves.

use super::one_queue;
use crate::vm::Mac;
use serde::{Deserialize, Serialize};

/// A device whose queues another program of the host serves, its back end (vhost-user). That program listens at a Unix socket and
/// is there before the monitor is started; it is given all of the guest's memory. Such a machine cannot be saved or moved: what
/// its back end knows stays where it is. A back end that ends is not connected to again: its device stands still, the machine
/// goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VhostUserConfig {
    /// What it is called in messages and events: 1 to 32 printable ASCII characters, once in a machine.
    pub name: String,
    /// The socket its back end listens at, an absolute path.
    pub socket: String,
    /// What it is.
    pub device: VhostUserDevice,
    /// Its slot on the bus, as of a disk; absent: after all other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
}

/// Kind of a [`VhostUserConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VhostUserDevice {
    /// A disk. Its size and its serial number are its back end's to say.
    Block(VhostUserBlock),
    /// A network interface with one pair of queues.
    Net(VhostUserNet),
    /// A directory of the host (virtio-fs).
    Fs(VhostUserFs),
}

impl VhostUserDevice {
    /// It writes to what others could write to as well: a lease would have to end that, and cannot.
    #[must_use]
    pub const fn stores(&self) -> bool {
        match self {
            Self::Block(_) | Self::Fs(_) => true,
            Self::Net(_) => false,
        }
    }
}

/// See [`VhostUserDevice::Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VhostUserBlock {
    /// Queues, as of a disk; not more than its back end serves.
    #[serde(default = "one_queue")]
    pub queues: u8,
}

/// See [`VhostUserDevice::Net`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VhostUserNet {
    /// Hardware address the guest sees.
    pub mac: Mac,
}

/// See [`VhostUserDevice::Fs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VhostUserFs {
    /// What the guest mounts it by: 1 to 36 bytes.
    pub tag: String,
    /// Queues for requests, as of a disk; not more than its back end serves.
    #[serde(default = "one_queue")]
    pub queues: u8,
}
