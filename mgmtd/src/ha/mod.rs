//! High availability: a protected machine is started on another host when its own is lost, and never on two at a time.
//!
//! ```text
//!   every host ([`host`])                           the leader ([`leader`], decides by [`manager`])
//!     beat, every 500 ms: "at this moment of my  ──▶  heard; grants a lease from that moment on,
//!     clock I was there"                              less what a majority is silent to it
//!     extends the leases of its monitors  ◀─────────  the grant, and the log position it must know first
//!                                                     silent, and the lease and all margins over, or proven off:
//!     ── a machine that is its own no more  ◀──────── `Op::FailOver`: next epoch, another host, through the log
//!        is ended; the new owner starts it
//! ```
//! Owns: who may run protected machines until when. [`manager`] is pure (no clock, no I/O); [`view`] makes what it looks at
//! from the agreed state; [`status`] puts it in words.
//!
//! Why no machine runs twice ([`manager`] has the rules, the simulation in `sim_tests` tries to break them):
//! 1. A monitor of a protected machine does no I/O after its deadline, on its host's own clock (`vmm/src/lease/`).
//! 2. A deadline is at most one lease after the last moment at which a majority followed the leader that granted it. So a new
//!    leader, whose election needs one of that majority, knows the end of every lease of its predecessors: one lease after
//!    its election.
//! 3. A machine fails over only when the lease of its host, the drift of two clocks and the time of the watchdog are over, or
//!    its host is proven to be off; by an entry of the log that counts only in the term it was decided in.
//! 4. A leader grants nothing before it has applied all of the terms before its own, nor to a host from which it is taking
//!    machines; and a host uses a grant only for machines that are its own at a log position not before the grant's.
//!
//! Nothing here ever restarts a host: one that is cut off only loses its leases.

pub mod fence;
pub mod host;
pub mod leader;
pub mod manager;
pub mod status;
pub mod view;

#[cfg(test)]
mod scenario_tests;
#[cfg(test)]
mod sim_tests;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Pause between two beats of a host, in milliseconds.
pub const BEAT: u64 = 500;

/// A host says that it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Its present boot.
    pub boot: Uuid,
    /// `CLOCK_BOOTTIME` of the host when it was sent, in milliseconds.
    pub sent: u64,
    /// What resets the host should it hang.
    #[serde(default)]
    pub watchdog: Watchdog,
}

/// What a beat is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A lease.
    Granted {
        /// Until when, on the clock the beat was timed by.
        until: u64,
        /// For machines that are the host's at this log position or a later one.
        known: u64,
    },
    /// None, and why.
    Denied(String),
}

/// A host's watchdog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watchdog {
    /// None.
    #[default]
    Absent,
    /// This one, which resets the host after so many seconds.
    Present {
        /// As its driver calls it.
        name: String,
        /// Seconds.
        seconds: u32,
    },
    /// The host is simulated.
    Simulated,
}

impl Watchdog {
    /// Whether it is a device of its own: the kernel's own watchdog hangs together with the kernel.
    fn is_hardware(name: &str) -> bool {
        !name.to_lowercase().contains("software")
    }
}

/// `CLOCK_BOOTTIME`, in milliseconds. It runs through suspend.
#[must_use]
pub fn boot_ms() -> u64 {
    ms(ClockId::CLOCK_BOOTTIME)
}

/// How long this host was suspended since its boot, in milliseconds.
fn suspended_ms() -> u64 {
    // In this order: a thread that is interrupted in between sees too much rather than too little.
    let awake = ms(ClockId::CLOCK_MONOTONIC);
    boot_ms().saturating_sub(awake)
}

fn ms(clock: ClockId) -> u64 {
    // Both exist on every kernel that has KVM; without one no lease is ever in force.
    clock_gettime(clock).map_or(u64::MAX, |time| {
        let part = |n: i64| u64::try_from(n).unwrap_or_default();
        part(time.tv_sec()).saturating_mul(1000).saturating_add(part(time.tv_nsec()) / 1_000_000)
    })
}
