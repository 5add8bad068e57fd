//! Counters of one device: written by its worker, read by the control thread.

use lq_api::local::vmm::IoStats;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters since the start, from the guest's view.
#[derive(Debug, Default)]
pub struct Counters {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    /// One request or packet of `bytes` was read or received.
    pub fn read(&self, bytes: u64) {
        self.reads.fetch_add(1, Relaxed);
        self.read_bytes.fetch_add(bytes, Relaxed);
    }
    /// One request or packet of `bytes` was written or sent.
    pub fn written(&self, bytes: u64) {
        self.writes.fetch_add(1, Relaxed);
        self.written_bytes.fetch_add(bytes, Relaxed);
    }
    /// One request failed or one packet was dropped.
    pub fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }
    /// The counters as the control protocol says them.
    #[must_use]
    pub fn stats(&self) -> IoStats {
        IoStats {
            read_bytes: self.read_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            errors: self.errors.load(Relaxed),
        }
    }
}

impl From<&Counters> for IoStats {
    fn from(counters: &Counters) -> Self {
        counters.stats()
    }
}
