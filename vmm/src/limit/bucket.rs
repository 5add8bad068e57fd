//! A token bucket. Pure: moments come in.
//!
//! It fills at its rate up to its burst. What costs no more than there is passes and is taken away. What costs more than the
//! bucket ever holds passes when it is full, and leaves a debt that fills up first: so it is late, but on average the rate
//! is kept. Invariant: in any time t no more passes than burst + rate · t + one such cost.

use std::time::{Duration, Instant};

/// Parts of a token, so that slow rates lose nothing to rounding.
const PARTS: i128 = 1_000_000_000;

/// The bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// Tokens a second, at least 1.
    rate: u64,
    /// Tokens it holds, at least 1.
    burst: u64,
    /// What is in it, in parts; below zero: debt.
    level: i128,
    at: Instant,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub(super) fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let (rate, burst) = (rate.max(1), burst.max(1));
        Self { rate, burst, level: i128::from(burst) * PARTS, at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        // A nanosecond brings `rate` parts.
        let gained = i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX).saturating_mul(self.rate.into());
        self.level = self.level.saturating_add(gained).min(i128::from(self.burst) * PARTS);
    }

    /// How long `cost` tokens have to wait yet; zero: they may be taken.
    #[must_use]
    pub(super) fn wait(&mut self, now: Instant, cost: u64) -> Duration {
        self.fill(now);
        let lacking = i128::from(cost.min(self.burst)) * PARTS - self.level;
        if lacking <= 0 {
            return Duration::ZERO;
        }
        let nanoseconds = (lacking + i128::from(self.rate) - 1) / i128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Takes `cost` tokens, which need not wait.
    pub(super) fn take(&mut self, cost: u64) {
        self.level -= i128::from(cost) * PARTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 100, start);
        assert_eq!(bucket.wait(start, 100), Duration::ZERO);
        bucket.take(100);
        assert_eq!(bucket.wait(start, 1), Duration::from_millis(1));
        // Larger than the bucket: when it is full, and its debt is paid before anything else.
        assert_eq!(bucket.wait(start, 500), Duration::from_millis(100));
        let full = start + Duration::from_millis(100);
        assert_eq!(bucket.wait(full, 500), Duration::ZERO);
        bucket.take(500);
        assert_eq!(bucket.wait(full, 1), Duration::from_millis(401));
        // A clock that goes back gives nothing.
        assert_eq!(bucket.wait(start, 1), Duration::from_millis(401));
    }

    proptest! {
        #[test]
        fn no_more_passes_than_was_allowed_and_whoever_waits_comes_through(
            rate in 1_u64..1 << 40, burst in 1_u64..1 << 40,
            steps in prop::collection::vec((0_u64..2_000_000_000, 0_u64..1 << 41, any::<bool>()), 1..60),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut bucket = Bucket::new(rate, burst, start);
            let (mut passed, mut largest) = (0_u128, 0_u128);
            for (nanoseconds, cost, patient) in steps {
                now += Duration::from_nanos(nanoseconds);
                let wait = bucket.wait(now, cost);
                if patient && wait < Duration::from_secs(1 << 30) {
                    now += wait;
                    prop_assert_eq!(bucket.wait(now, cost), Duration::ZERO, "the wait was enough");
                }
                if bucket.wait(now, cost) == Duration::ZERO {
                    bucket.take(cost);
                    passed += u128::from(cost);
                    largest = largest.max(cost.into());
                }
                let time = (now - start).as_nanos();
                let allowed = u128::from(burst) + u128::from(rate) * time / 1_000_000_000 + largest + 1;
                prop_assert!(passed <= allowed, "{} of {}", passed, allowed);
            }
        }
    }
}
