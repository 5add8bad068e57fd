//! Limits on guessing. Pure: the time comes from the caller.
//!
//! - Per source (an IPv4 address, an IPv6 /64): after [`FREE`] failures in a row a lock-out that doubles with each further
//!   one, from one second to fifteen minutes.
//! - Per account, from all sources together: the same after [`FREE_ACCOUNT`] failures, so that many sources gain nothing.
//! - In total: at most [`TOTAL`] attempts a minute.
//!
//! An attempt is booked before it is looked at, so that many at once gain nothing: no more are under way than may still fail,
//! the others wait. A success takes back its own booking and the failures of the same source on the same account, no others:
//! whoever has an account of their own cannot go on guessing at another by logging in between.
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

/// Lock-outs of one kind. Every key remembers, per account, the attempts that have not been answered yet and those that failed.
#[derive(Debug)]
struct Locks<K> {
    free: u32,
    locks: HashMap<K, Lock>,
}

#[derive(Debug)]
struct Lock {
    /// Failures by what succeeds together: a success takes only its own away.
    failures: HashMap<Pair, u32>,
    /// Attempts under way.
    pending: u32,
    last: Instant,
    until: Instant,
}

impl Lock {
    fn failures(&self) -> u32 {
        self.failures.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

impl<K: Eq + Hash> Locks<K> {
    fn new(free: u32) -> Self {
        Self { free, locks: HashMap::new() }
    }

    fn wait(&self, key: &K, now: Instant) -> Result<(), Wait> {
        let Some(lock) = self.locks.get(key) else { return Ok(()) };
        if lock.until > now {
            return Err(Wait::For(lock.until - now));
        }
        let failures = lock.failures();
        // After a lock-out one attempt at a time; before it no more at once than may fail.
        let open = self.free.saturating_sub(failures).max(1);
        if lock.pending >= open { Err(Wait::ForOthers) } else { Ok(()) }
    }

    /// Books an attempt that is about to be made.
    fn begin(&mut self, key: K, now: Instant) {
        if self.locks.len() >= REMEMBERED && !self.locks.contains_key(&key) {
            self.locks.retain(|_, l| l.pending > 0 || now.saturating_duration_since(l.last) < LONGEST);
            if self.locks.len() >= REMEMBERED {
                // The limit on the total still holds.
                return;
            }
        }
        let lock = self.locks.entry(key).or_insert_with(|| Lock {
            failures: HashMap::new(),
            pending: 0,
            last: now,
            until: now,
        });
        if lock.pending == 0 && now.saturating_duration_since(lock.last) > 2 * LONGEST {
            lock.failures.clear();
        }
        lock.pending += 1;
        lock.last = now;
    }

    /// The attempt is over.
    fn end(&mut self, key: &K, pair: &Pair, outcome: Outcome, now: Instant) {
        let free = self.free;
        let Some(lock) = self.locks.get_mut(key) else { return };
        lock.pending = lock.pending.saturating_sub(1);
        match outcome {
            Outcome::Excused => {}
            Outcome::Succeeded => {
                lock.failures.remove(pair);
                if lock.failures() < free {
                    lock.until = now;
                }
            }
            Outcome::Failed => {
                let own = lock.failures.entry(pair.clone()).or_default();
                *own = own.saturating_add(1);
                lock.last = now;
                let failures = lock.failures();
                if failures >= free {
                    let doubled = 1u64.checked_shl(failures - free).filter(|s| *s != 0).unwrap_or(u64::MAX);
                    lock.until = now + Duration::from_secs(doubled).min(LONGEST);
                }
            }
        }
        if lock.pending == 0 && lock.failures.is_empty() {
            self.locks.remove(key);
        }
    }
}

/// A source and an account.
type Pair = (IpAddr, String);

/// Why an attempt may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Too many have failed.
    For(Duration),
    /// As many as may fail are under way: one of them has to end first.
    ForOthers,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was wrong.
    Failed,
    /// It was right: what failed before from this source on this account was a slip.
    Succeeded,
    /// It says nothing about guessing.
    Excused,
}

/// Remembers failures.
#[derive(Debug)]
pub(super) struct Limiter {
    sources: Locks<IpAddr>,
    accounts: Locks<String>,
    /// Where accounts logged in from, and when last.
    known: HashMap<Pair, Instant>,
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
    /// Books an attempt on the account, or says why it may not be made now. Whatever is booked must be ended by
    /// [`Limiter::end`].
    pub(super) fn begin(&mut self, source: Option<IpAddr>, account: &str, now: Instant) -> Result<(), Wait> {
        let Some(pair) = pair(source, account) else { return Ok(()) };
        self.sources.wait(&pair.0, now)?;
        let at = self.known.get(&pair);
        if at.is_none_or(|at| now.saturating_duration_since(*at) >= KNOWN) {
            self.accounts.wait(&pair.1, now)?;
            let minute = Duration::from_secs(60);
            let (began, attempts) = self
                .minute
                .filter(|(began, _)| now.saturating_duration_since(*began) < minute)
                .unwrap_or((now, 0));
            if attempts >= TOTAL {
                let left = minute.saturating_sub(now.saturating_duration_since(began));
                return Err(Wait::For(left));
            }
            self.minute = Some((began, attempts + 1));
        }
        self.sources.begin(pair.0, now);
        self.accounts.begin(pair.1, now);
        Ok(())
    }

    /// A booked attempt is over.
    pub(super) fn end(&mut self, source: Option<IpAddr>, account: &str, outcome: Outcome, now: Instant) {
        let Some(pair) = pair(source, account) else { return };
        self.sources.end(&pair.0, &pair, outcome, now);
        self.accounts.end(&pair.1, &pair, outcome, now);
    }

    /// The source has logged in to the account.
    pub(super) fn know(&mut self, source: Option<IpAddr>, account: &str, now: Instant) {
        let Some(pair) = pair(source, account) else { return };
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, at| now.saturating_duration_since(*at) < KNOWN);
        }
        if self.known.len() < REMEMBERED {
            self.known.insert(pair, now);
        }
    }
}

/// Root on the host itself is no source.
fn pair(source: Option<IpAddr>, account: &str) -> Option<Pair> {
    Some((network(source?), cut(account)))
}

fn cut(account: &str) -> String {
    account.chars().take(NAME).collect()
}

/// One customer commonly has a whole IPv6 /64.
pub(crate) fn network(source: IpAddr) -> IpAddr {
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

    impl Limiter {
        /// Whether one attempt may be made; it leaves no trace but in the total.
        fn admit(&mut self, source: Option<IpAddr>, account: &str, now: Instant) -> Result<(), Wait> {
            self.begin(source, account, now)?;
            self.end(source, account, Outcome::Excused, now);
            Ok(())
        }
        fn failed(&mut self, source: Option<IpAddr>, account: &str, now: Instant) {
            self.begin(source, account, now).unwrap();
            self.end(source, account, Outcome::Failed, now);
        }
        fn succeeded(&mut self, source: Option<IpAddr>, account: &str, now: Instant) {
            self.begin(source, account, now).unwrap();
            self.end(source, account, Outcome::Succeeded, now);
            self.know(source, account, now);
        }
    }

    fn seconds(n: u64) -> Result<(), Wait> {
        Err(Wait::For(Duration::from_secs(n)))
    }

    #[test]
    fn lock_out_doubles_and_others_are_not_hit() {
        let (mut limiter, mut now) = (Limiter::default(), Instant::now());
        for _ in 0..FREE {
            limiter.failed(A, "admin", now);
        }
        assert_eq!(limiter.admit(A, "admin", now), seconds(1));
        assert_eq!(limiter.admit(B, "admin", now), Ok(()));
        now += Duration::from_secs(1);
        limiter.failed(A, "admin", now);
        assert_eq!(limiter.admit(A, "admin", now), seconds(2));
        for _ in 0..20 {
            now += LONGEST;
            limiter.failed(A, "admin", now);
        }
        assert_eq!(limiter.admit(A, "admin", now), Err(Wait::For(LONGEST)));
        now += LONGEST;
        limiter.succeeded(A, "admin", now);
        for _ in 0..FREE - 1 {
            limiter.failed(A, "admin", now);
        }
        assert_eq!(limiter.admit(A, "admin", now), Ok(()), "the success cleared what was failed before");
    }

    #[test]
    fn many_at_once_gain_nothing() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let begun = (0..100).filter(|_| limiter.begin(A, "admin", now).is_ok()).count();
        assert_eq!(begun, FREE as usize);
        assert_eq!(limiter.begin(A, "admin", now), Err(Wait::ForOthers));
        assert_eq!(limiter.begin(B, "admin", now), Ok(()), "another source does not wait for them");
        limiter.end(A, "admin", Outcome::Succeeded, now);
        assert_eq!(limiter.begin(A, "admin", now), Ok(()), "what is given back may be used");
        for _ in 0..FREE {
            limiter.end(A, "admin", Outcome::Failed, now);
        }
        assert_eq!(limiter.begin(A, "admin", now), seconds(1));
        let later = now + Duration::from_secs(1);
        let begun = (0..100).filter(|_| limiter.begin(A, "admin", later).is_ok()).count();
        assert_eq!(begun, 1, "one at a time after a lock-out");
    }

    #[test]
    fn a_success_on_ones_own_account_does_not_clear_guesses_at_another() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        limiter.succeeded(A, "eve", now);
        for _ in 0..FREE {
            limiter.failed(A, "admin", now);
            if limiter.admit(A, "eve", now).is_ok() {
                limiter.succeeded(A, "eve", now);
            }
        }
        assert_eq!(limiter.admit(A, "admin", now), seconds(1));
        // Nor does the owner of the account, from where they are, clear what is guessed from elsewhere.
        let mut limiter = Limiter::default();
        for n in 0..FREE_ACCOUNT {
            limiter.failed(source(n), "admin", now);
            if n == 3 {
                limiter.succeeded(B, "admin", now);
            }
        }
        assert!(limiter.admit(source(1000), "admin", now).is_err());
        assert_eq!(limiter.admit(B, "admin", now), Ok(()));
    }

    #[test]
    fn many_sources_lock_an_account_but_not_those_who_use_it() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        limiter.succeeded(A, "admin", now);
        for n in 0..FREE_ACCOUNT {
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
        limiter.know(A, "admin", now);
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
