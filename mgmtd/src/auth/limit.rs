//! Limits on guessing. Pure: the time comes from the caller.
//!
//! Per source (an IPv4 address, an IPv6 /64): after five failures in a row a lock-out that doubles with each further one,
//! from one second to fifteen minutes. In total: at most [`TOTAL`] attempts a minute from all sources together, so that many
//! sources gain nothing; root on the host itself is outside both.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Failures a source has free.
const FREE: u32 = 5;
/// Longest lock-out.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Attempts a minute from all sources.
const TOTAL: u32 = 120;
/// Sources remembered.
const SOURCES: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Source {
    failures: u32,
    last: Instant,
    until: Instant,
}

/// Remembers failures.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    sources: HashMap<IpAddr, Source>,
    /// Beginning of the present minute and attempts in it.
    minute: Option<(Instant, u32)>,
}

impl Limiter {
    /// Whether an attempt may be made now; else how long to wait.
    pub(super) fn admit(&mut self, source: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let Some(source) = source.map(network) else { return Ok(()) };
        if let Some(known) = self.sources.get(&source)
            && known.until > now
        {
            return Err(known.until - now);
        }
        let minute = Duration::from_secs(60);
        let (began, attempts) = self
            .minute
            .filter(|(began, _)| now.saturating_duration_since(*began) < minute)
            .unwrap_or((now, 0));
        if attempts >= TOTAL {
            return Err(minute.saturating_sub(now.saturating_duration_since(began)));
        }
        self.minute = Some((began, attempts + 1));
        Ok(())
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, source: Option<IpAddr>, now: Instant) {
        let Some(source) = source.map(network) else { return };
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, s| now.saturating_duration_since(s.last) < LONGEST);
            if self.sources.len() >= SOURCES {
                // The limit on the total still holds.
                return;
            }
        }
        let entry = self.sources.entry(source).or_insert(Source { failures: 0, last: now, until: now });
        if now.saturating_duration_since(entry.last) > 2 * LONGEST {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
        if entry.failures >= FREE {
            let doubled = 1u64.checked_shl(entry.failures - FREE).filter(|s| *s != 0).unwrap_or(u64::MAX);
            entry.until = now + Duration::from_secs(doubled).min(LONGEST);
        }
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&mut self, source: Option<IpAddr>) {
        if let Some(source) = source.map(network) {
            self.sources.remove(&source);
        }
    }
}

/// One customer commonly has a whole IPv6 /64.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(a) => IpAddr::V6((u128::from(a) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const B: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn lock_out_doubles_and_others_are_not_hit() {
        let (mut limiter, mut now) = (Limiter::default(), Instant::now());
        for _ in 0..FREE {
            assert!(limiter.admit(A, now).is_ok());
            limiter.failed(A, now);
        }
        assert_eq!(limiter.admit(A, now), Err(Duration::from_secs(1)));
        assert!(limiter.admit(B, now).is_ok());
        now += Duration::from_secs(1);
        assert!(limiter.admit(A, now).is_ok());
        limiter.failed(A, now);
        assert_eq!(limiter.admit(A, now), Err(Duration::from_secs(2)));
        for _ in 0..100 {
            limiter.failed(A, now);
        }
        assert_eq!(limiter.admit(A, now), Err(LONGEST));
        limiter.succeeded(A);
        assert!(limiter.admit(A, now).is_ok());
    }

    #[test]
    fn the_total_is_limited_but_not_for_root() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..TOTAL {
            assert!(limiter.admit(Some(IpAddr::V4(n.into())), now).is_ok());
        }
        assert!(limiter.admit(B, now).is_err());
        assert!(limiter.admit(None, now).is_ok());
        assert!(limiter.admit(B, now + Duration::from_secs(61)).is_ok());
    }

    #[test]
    fn an_ipv6_neighbourhood_is_one_source() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..u128::from(FREE) {
            limiter.failed(Some(IpAddr::V6((0x2001_0db8_u128 << 96 | n).into())), now);
        }
        assert!(limiter.admit(Some("2001:db8::ffff".parse().unwrap()), now).is_err());
        assert!(limiter.admit(Some("2001:db8:0:1::1".parse().unwrap()), now).is_ok());
    }
}
