//! Removable drives of a host (USB sticks, cards), and what is written to them.

use crate::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest a host takes to look at its drives.
pub const LOOKS: Duration = Duration::from_secs(20);
/// Longest a host takes to write to one of them.
pub const WRITES: Duration = Duration::from_secs(300);
/// So long who asks it to waits: for its answer, too.
pub const LOOK_TIMEOUT: Duration = LOOKS.saturating_add(Duration::from_secs(5));
/// The same, where it writes.
pub const WRITE_TIMEOUT: Duration = WRITES.saturating_add(Duration::from_secs(20));

/// `GET /hosts/{id}/removable`: what is plugged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemovableDrives {
    /// Partitions, and drives without any, by name.
    pub drives: Vec<RemovableDrive>,
}

/// A partition of a removable drive, or a drive without partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemovableDrive {
    /// Kernel name, by which it is chosen: `sdb1`.
    pub device: String,
    /// Size of the partition.
    pub size_bytes: Bytes,
    /// What the drive calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The file system on it, for people: `FAT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system: Option<String>,
    /// Label of the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Why nothing can be written to it; absent where it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
}

/// `POST /hosts/{id}/support-bundle`: write the support bundle to a removable drive of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WriteSupportBundle {
    /// [`RemovableDrive::device`].
    pub device: String,
}

/// It is on the drive, which can be pulled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SupportBundleWritten {
    /// Where.
    pub device: String,
    /// Name of the file, at the top of the file system.
    pub file: String,
    /// Its size.
    pub size_bytes: Bytes,
}
