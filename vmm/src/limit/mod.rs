//! How much a device may do: bytes and requests in a second, each with a burst. Pure: moments come in.
//!
//! A device asks before each request; one that has to wait stays in its ring, and all behind it, so the order is kept and
//! nothing is refused.

mod bucket;

use bucket::Bucket;
use lq_api::local::vmm::{IoLimits, Rate};
use std::time::{Duration, Instant};

/// Limits as they are applied. By default: none.
#[derive(Clone, Debug, Default)]
pub struct Limiter {
    bytes: Option<Bucket>,
    requests: Option<Bucket>,
}

impl Limiter {
    /// Applies `limits` from `now` on, with full buckets.
    #[must_use]
    pub fn new(limits: IoLimits, now: Instant) -> Self {
        let bucket = |rate: Option<Rate>| {
            let Rate { per_second, burst } = rate?;
            Some(Bucket::new(per_second, if burst == 0 { per_second } else { burst }, now))
        };
        Self { bytes: bucket(limits.bandwidth), requests: bucket(limits.operations) }
    }

    /// There is something to ask for.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.requests.is_some()
    }

    /// Lets one request of `bytes` pass at `now`.
    ///
    /// # Errors
    /// It has to wait: ask again then. Nothing is taken.
    pub fn admit(&mut self, now: Instant, bytes: u64) -> Result<(), Instant> {
        let wait = |bucket: &mut Option<Bucket>, cost| {
            bucket.as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(now, cost))
        };
        let longest = wait(&mut self.bytes, bytes).max(wait(&mut self.requests, 1));
        if longest > Duration::ZERO {
            // Further away than the clock reaches: look again in a day.
            return Err(now.checked_add(longest).unwrap_or(now + Duration::from_secs(86_400)));
        }
        for (bucket, cost) in [(&mut self.bytes, bytes), (&mut self.requests, 1)] {
            if let Some(bucket) = bucket {
                bucket.take(cost);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_are_kept_and_a_refusal_costs_nothing() {
        let now = Instant::now();
        let mut none = Limiter::default();
        assert!(!none.is_limited() && (0..1000).all(|_| none.admit(now, u64::MAX).is_ok()));
        let limits = IoLimits {
            bandwidth: Some(Rate { per_second: 1000, burst: 0 }),
            operations: Some(Rate { per_second: 10, burst: 2 }),
        };
        let mut limiter = Limiter::new(limits, now);
        assert!(limiter.is_limited());
        assert_eq!(limiter.admit(now, 100), Ok(()));
        assert_eq!(limiter.admit(now, 100), Ok(()));
        assert_eq!(limiter.admit(now, 1), Err(now + Duration::from_millis(100)), "two requests at once");
        let later = now + Duration::from_millis(100);
        assert_eq!(
            limiter.admit(later, 1000),
            Err(now + Duration::from_millis(200)),
            "100 bytes are missing"
        );
        assert_eq!(limiter.admit(later, 900), Ok(()));
    }
}
