//! The clock by which credentials end: the host's, which tests may set ahead instead of waiting.

use lq_api::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// The time for sessions and tokens. Clones go together.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Seconds it is ahead of the host's.
    ahead: Arc<AtomicI64>,
}

impl Clock {
    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ahead = jiff::SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed));
        Timestamp::now().saturating_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// What time it will be.
    pub(super) fn after(&self, time: Duration) -> Timestamp {
        later(self.now(), time)
    }

    /// Sets it ahead, for tests: nothing in the daemon calls this.
    pub fn advance(&self, time: Duration) {
        self.ahead.fetch_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

/// So long after a moment; the last there is where there is none.
pub(super) fn later(than: Timestamp, by: Duration) -> Timestamp {
    let by = jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX);
    than.saturating_add(by).unwrap_or(Timestamp::MAX)
}
