//! Limits on guessing. Pure: the time comes from the caller.
//!
//! - Per source (an IPv4 address, an IPv6 /64): after [`FREE`] failures in a row a lock-out that doubles with each further
//!   one, from one second to fifteen minutes.
//! - Per account, from all sources together: the same after [`FREE_ACCOUNT`] failures, so that many sources gain nothing.
//! - In total: at most [`TOTAL`] attempts a minute.
//!
//! A source the account logged in from within [`KNOWN`] is outside the last two, and root on the host itself outside all:
//! whoever guesses locks out neither the people at their desks nor the one at the console.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Failures a source has free.
const FREE: u32 = 5;
/// Failures an account has free.
const FREE_ACCOUNT: u32 = 20;
/// Longest lock-out.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Attempts a minute from all sources.
const TOTAL: u32 = 120;
/// Sources and accounts remembered.
const REMEMBERED: usize = 10_000;
/// How long a source that logged in counts as known.
const KNOWN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of an account's name that are looked at.
const NAME: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Lock {
    failures: u32,
    last: Instant,
    until: Instant,
}

/// Lock-outs of one kind.
#[derive(Debug)]
struct Locks<K> {
    free: u32,
    locks: HashMap<K, Lock>,
}

impl<K: Eq + Hash> Locks<K> {
    fn new(free: u32) -> Self {
        Self { free, locks: HashMap::new() }
    }

    fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        self.locks.get(key).filter(|l| l.until > now).map(|l| l.until - now)
    }

    fn failed(&mut self, key: K, now: Instant) {
        if self.locks.len() >= REMEMBERED && !self.locks.contains_key(&key) {
            self.locks.retain(|_, l| now.saturating_duration_since(l.last) < LONGEST);
            if self.locks.len() >= REMEMBERED {
                // The limit on the total still holds.
                return;
            }
        }
        let lock = self.locks.entry(key).or_insert(Lock { failures: 0, last: now, until: now });
        if now.saturating_duration_since(lock.last) > 2 * LONGEST {
            lock.failures = 0;
        }
        lock.failures = lock.failures.saturating_add(1);
        lock.last = now;
        if lock.failures >= self.free {
            let doubled = 1u64.checked_shl(lock.failures - self.free).filter(|s| *s != 0).unwrap_or(u64::MAX);
            lock.until = now + Duration::from_secs(doubled).min(LONGEST);
        }
    }
}

/// Remembers failures.
#[derive(Debug)]
pub(super) struct Limiter {
    sources: Locks<IpAddr>,
    accounts: Locks<String>,
    /// Where accounts logged in from, and when last.
    known: HashMap<(IpAddr, String), Instant>,
    /// Beginning of the present minute and attempts in it.
    minute: Option<(Instant, u32)>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            sources: Locks::new(FREE),
            accounts: Locks::new(FREE_ACCOUNT),
            known: HashMap::new(),
            minute: None,
        }
    }
}

impl Limiter {
    /// Whether an attempt on the account may be made now; else how long to wait.
    pub(super) fn admit(
        &mut self,
        source: Option<IpAddr>,
        account: &str,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(source) = source.map(network) else { return Ok(()) };
        if let Some(wait) = self.sources.wait(&source, now) {
            return Err(wait);
        }
        let account = cut(account);
        let at = self.known.get(&(source, account.clone()));
        if at.is_some_and(|at| now.saturating_duration_since(*at) < KNOWN) {
            return Ok(());
        }
        if let Some(wait) = self.accounts.wait(&account, now) {
            return Err(wait);
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
    pub(super) fn failed(&mut self, source: Option<IpAddr>, account: &str, now: Instant) {
        let Some(source) = source.map(network) else { return };
        self.sources.failed(source, now);
        self.accounts.failed(cut(account), now);
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&mut self, source: Option<IpAddr>, account: &str, now: Instant) {
        let Some(source) = source.map(network) else { return };
        self.sources.locks.remove(&source);
        let account = cut(account);
        self.accounts.locks.remove(&account);
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, at| now.saturating_duration_since(*at) < KNOWN);
        }
        if self.known.len() < REMEMBERED {
            self.known.insert((source, account), now);
        }
    }
}

fn cut(account: &str) -> String {
    account.chars().take(NAME).collect()
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

    fn source(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4((0x0a00_0000 + n).into()))
    }

    #[test]
    fn lock_out_doubles_and_others_are_not_hit() {
        let (mut limiter, mut now) = (Limiter::default(), Instant::now());
        for _ in 0..FREE {
            assert!(limiter.admit(A, "admin", now).is_ok());
            limiter.failed(A, "admin", now);
        }
        assert_eq!(limiter.admit(A, "admin", now), Err(Duration::from_secs(1)));
        assert!(limiter.admit(B, "admin", now).is_ok());
        now += Duration::from_secs(1);
        assert!(limiter.admit(A, "admin", now).is_ok());
        limiter.failed(A, "admin", now);
        assert_eq!(limiter.admit(A, "admin", now), Err(Duration::from_secs(2)));
        for _ in 0..100 {
            limiter.failed(A, "admin", now);
        }
        assert_eq!(limiter.admit(A, "admin", now), Err(LONGEST));
        limiter.succeeded(A, "admin", now);
        assert!(limiter.admit(A, "admin", now).is_ok());
    }

    #[test]
    fn many_sources_lock_an_account_but_not_those_who_use_it() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        limiter.succeeded(A, "admin", now);
        for n in 0..FREE_ACCOUNT {
            assert!(limiter.admit(source(n), "admin", now).is_ok());
            limiter.failed(source(n), "admin", now);
        }
        assert!(limiter.admit(source(1000), "admin", now).is_err(), "a stranger");
        assert!(limiter.admit(source(1000), "eve", now).is_ok(), "another account");
        assert!(limiter.admit(A, "admin", now).is_ok(), "a known source");
        assert!(limiter.admit(None, "admin", now).is_ok(), "the host itself");
        assert!(limiter.admit(B, "admin", now + LONGEST).is_ok(), "later");
        assert!(limiter.admit(A, "admin", now + KNOWN).is_ok());
    }

    #[test]
    fn the_total_is_limited_but_not_for_root_and_known_sources() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        limiter.succeeded(A, "admin", now);
        for n in 0..TOTAL {
            assert!(limiter.admit(source(n), &n.to_string(), now).is_ok());
        }
        assert!(limiter.admit(B, "x", now).is_err());
        assert!(limiter.admit(A, "admin", now).is_ok());
        assert!(limiter.admit(A, "x", now).is_err(), "known for another account only");
        assert!(limiter.admit(None, "x", now).is_ok());
        assert!(limiter.admit(B, "x", now + Duration::from_secs(61)).is_ok());
    }

    #[test]
    fn an_ipv6_neighbourhood_is_one_source() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..u128::from(FREE) {
            limiter.failed(Some(IpAddr::V6((0x2001_0db8_u128 << 96 | n).into())), "x", now);
        }
        assert!(limiter.admit(Some("2001:db8::ffff".parse().unwrap()), "x", now).is_err());
        assert!(limiter.admit(Some("2001:db8:0:1::1".parse().unwrap()), "x", now).is_ok());
    }
}
