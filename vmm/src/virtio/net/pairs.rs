//! The taps of an interface, one for each queue pair, and how many of them are in use.
//!
//! All are queues of one tap device; the kernel spreads packets over those that are attached. Invariant: the first `active`
//! are, and no other: a packet the kernel has put into a queue nobody serves would be lost.

use crate::virtio::tap;
use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
};

/// The taps.
pub(super) struct Pairs {
    taps: Vec<Arc<File>>,
    active: AtomicU16,
}

impl Pairs {
    /// Of at least one tap; the first alone is attached.
    pub(super) fn new(taps: Vec<File>) -> io::Result<Self> {
        if taps.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface without a tap"));
        }
        let pairs = Self { taps: taps.into_iter().map(Arc::new).collect(), active: AtomicU16::new(0) };
        // All are attached when they are opened.
        pairs.taps.iter().skip(1).try_for_each(|tap| tap::attach(tap, false))?;
        pairs.active.store(1, SeqCst);
        Ok(pairs)
    }

    pub(super) fn taps(&self) -> &[Arc<File>] {
        &self.taps
    }

    pub(super) fn most(&self) -> u16 {
        self.taps.len() as u16
    }

    pub(super) fn active(&self) -> u16 {
        self.active.load(SeqCst)
    }

    /// Has the first `count` in use. `false`: there are not that many, or none is wanted. Not called by two threads at once.
    ///
    /// # Errors
    /// The kernel refused; those before are as wanted.
    pub(super) fn activate(&self, count: u16) -> io::Result<bool> {
        if !(1..=self.most()).contains(&count) {
            return Ok(false);
        }
        loop {
            let active = self.active();
            let (at, attach) = match active.cmp(&count) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => (active, true),
                std::cmp::Ordering::Greater => (active - 1, false),
            };
            let tap = self.taps.get(usize::from(at)).ok_or(io::ErrorKind::NotFound)?;
            tap::attach(tap, attach)?;
            self.active.store(if attach { active + 1 } else { active - 1 }, SeqCst);
        }
    }
}
