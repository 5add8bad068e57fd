//! Leases: until when a monitor may write to its machine's disks.
//!
//! A machine that another host may take over carries one. It belongs to an epoch of ownership and ends at a deadline on
//! `CLOCK_BOOTTIME`, which runs through suspend. Whoever grants leases lets another host have the disks only after the
//! deadline.

use serde::{Deserialize, Serialize};

/// The lease a machine starts with, and its terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseConfig {
    /// The first grant.
    pub grant: LeaseGrant,
    /// How long before the deadline no request to a disk is begun any more and the guest is halted, in milliseconds. What
    /// is under way then must be finished and durable by the deadline.
    #[serde(default = "default_margin")]
    pub margin_ms: u32,
    /// How long after the deadline a later grant is waited for before the monitor ends, in milliseconds.
    #[serde(default = "default_grace")]
    pub grace_ms: u32,
}

/// [`LeaseConfig::margin_ms`] where nothing is said.
#[must_use]
pub const fn default_margin() -> u32 {
    250
}

/// [`LeaseConfig::grace_ms`] where nothing is said, and where a machine gets its first lease while it runs. It stands still
/// meanwhile and has given up its disks, so that this is only a question of its memory.
#[must_use]
pub const fn default_grace() -> u32 {
    10 * 60 * 1000
}

/// A lease, new or extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseGrant {
    /// Epoch of ownership; an older one than the lease's is refused.
    pub epoch: u64,
    /// Until when. Never earlier than it was.
    pub until: LeaseEnd,
}

/// An end on `CLOCK_BOOTTIME`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseEnd {
    /// On the clock itself. Right however late the message arrives: prefer it.
    BootMs(u64),
    /// Counted from when the message is read.
    RemainingMs(u64),
}

/// Gives a lease back before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRelease {
    /// Its epoch.
    pub epoch: u64,
    /// The machine runs on and needs no lease any more. Otherwise it stops as if the deadline had come; answered when it
    /// stands still and its disks are durable.
    #[serde(default)]
    pub run_on: bool,
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeasePhase {
    /// The machine may run.
    Held,
    /// It ran out or was given back: no disk is touched, the guest stands still, a later grant lets it go on.
    Stopped,
}

/// The lease of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Where it stands.
    pub phase: LeasePhase,
    /// Its epoch.
    pub epoch: u64,
    /// Its deadline on `CLOCK_BOOTTIME`, in milliseconds.
    pub deadline_boot_ms: u64,
}
