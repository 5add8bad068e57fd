//! How much the devices of a machine may do.

use serde::{Deserialize, Serialize};

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many in a second, at least 1.
    pub per_second: u64,
    /// So many at once after a time without any; 0: as many as in a second. A single request that is larger passes, and
    /// what follows waits the longer.
    #[serde(default)]
    pub burst: u64,
}

/// Limits of a disk, or of one direction of an interface. Absent: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct IoLimits {
    /// Bytes.
    #[serde(default)]
    pub bandwidth: Option<Rate>,
    /// Requests or packets.
    #[serde(default)]
    pub operations: Option<Rate>,
}

impl IoLimits {
    /// Nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong: the field, and why.
    pub fn faults(&self) -> impl Iterator<Item = (String, String)> {
        let rates = [("bandwidth", self.bandwidth), ("operations", self.operations)];
        rates.into_iter().filter(|(_, rate)| rate.is_some_and(|r| r.per_second == 0)).map(|(name, _)| {
            (format!("{name}.per_second"), "must be at least 1; leave the limit out for none".to_owned())
        })
    }
}

/// Limits of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NicLimits {
    /// Of what the guest receives.
    #[serde(default)]
    pub receive: IoLimits,
    /// Of what the guest sends.
    #[serde(default)]
    pub transmit: IoLimits,
}

impl NicLimits {
    /// Nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// New limits of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskLimitsChange {
    /// Which, by its place in the configuration, from 0.
    pub disk: u32,
    /// All limits it has from now on.
    pub limits: IoLimits,
}

/// New limits of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicLimitsChange {
    /// Which, by its place in the configuration, from 0.
    pub nic: u32,
    /// All limits it has from now on.
    pub limits: NicLimits,
}

/// A new size of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskResize {
    /// Which, by its place in the configuration, from 0.
    pub disk: u32,
    /// Bytes, a multiple of 512, not less than it has.
    pub size_bytes: u64,
}

/// An interface's cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicLink {
    /// Which, by its place in the configuration, from 0.
    pub nic: u32,
    /// It is in.
    pub up: bool,
}
