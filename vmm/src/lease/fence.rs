//! Where the end of a lease is looked at: before each request, and before each system call on a disk.
//!
//! The control thread moves two moments; whoever is about to touch a disk compares them with the clock, so that nothing is
//! begun too late however late the control thread is. A thread that is taken off its processor between the look and the
//! system call for longer than the lease's margin is what remains; that the machine's hardware watchdog is for.

use super::{Lease, Moment};
use std::{
    io,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
};

/// The clock of leases.
#[must_use]
pub fn now() -> Moment {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call, which knows this clock on every kernel that has KVM.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Moment((time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64))
}

/// The two moments. Without a lease they never come.
#[derive(Debug)]
pub struct Fence {
    requests: AtomicU64,
    calls: AtomicU64,
}

impl Default for Fence {
    fn default() -> Self {
        Self { requests: AtomicU64::new(u64::MAX), calls: AtomicU64::new(u64::MAX) }
    }
}

impl Fence {
    /// Follows a lease that has changed.
    pub fn follow(&self, lease: &Lease) {
        self.requests.store(lease.fence().0, Release);
        self.calls.store(lease.deadline().0, Release);
    }

    /// A request may be begun now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        before(self.requests.load(Acquire))
    }

    /// There is no lease.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.calls.load(Acquire) == u64::MAX
    }

    /// A system call on a disk may be made now.
    ///
    /// # Errors
    /// The deadline is past ([`is_over`] knows the error).
    pub fn check(&self) -> io::Result<()> {
        if before(self.calls.load(Acquire)) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ECANCELED))
        }
    }
}

/// Without a lease the clock is not asked.
fn before(moment: u64) -> bool {
    moment == u64::MAX || now() < Moment(moment)
}

/// The error of [`Fence::check`].
#[must_use]
pub fn is_over(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}
