//! When a service that ended is started again. Pure.
//!
//! 1 s after the first end, twice as long after each following one up to 30 s; a service that ran for a minute starts afresh.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
const PROVEN: Duration = Duration::from_secs(60);

/// Waits between starts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The service ended after running for `ran`: how long to wait before the next start.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= PROVEN {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_start_afresh_after_a_good_run() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.after(Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.after(PROVEN).as_secs(), 1);
    }
}
