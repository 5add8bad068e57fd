//! How many requests are answered: of each user and API token, and of each address. Pure: the time comes from the caller.
//!
//! Whoever uses the page, the one with 5,000 machines too, never meets these limits; a script that asks in a loop does, and is
//! told when to go on. Guessing passwords has limits of its own ([`crate::auth`]), so have connections ([`super::places`]).
//!
//! Invariants: root's socket is not counted; a request passed on to another host is counted by the one that was asked, not
//! again there; what is refused was not looked at and does not count.

use crate::auth::{By, Caller, network};
use lq_api::{TokenId, UserId};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Users, tokens and addresses remembered. Beyond it new ones are not counted; connections are limited all the same.
const REMEMBERED: usize = 20_000;
/// How often a refusal is told at most.
const TELL: Duration = Duration::from_secs(10);

/// So many at once, and so many a second for as long as it goes on. Both at least 1.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Requests a second.
    pub per_second: u32,
    /// Requests at once, after a rest.
    pub burst: u32,
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of a user with all their sessions, and of each API token.
    pub caller: Rate,
    /// Of an IPv4 address or an IPv6 /64, whoever is there: there may be many people behind one.
    pub address: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        // The page starts 5,000 selected machines with one request each.
        Self {
            caller: Rate { per_second: 100, burst: 6_000 },
            address: Rate { per_second: 500, burst: 24_000 },
        }
    }
}

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    User(UserId),
    Token(TokenId),
    Address(IpAddr),
}

#[derive(Debug, Default)]
struct Counted {
    /// When the debt of each is paid: every request adds the time one is worth, and the debt may be a burst long.
    paid: HashMap<Key, Instant>,
    told: Option<Instant>,
}

/// Counts requests.
#[derive(Debug)]
pub(super) struct Counter {
    rates: Rates,
    counted: Mutex<Counted>,
}

impl Counter {
    pub(super) fn new(rates: Rates) -> Self {
        Self { rates, counted: Mutex::default() }
    }

    /// One more request from this address; else how long to wait.
    pub(super) fn of_address(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.one(Key::Address(network(address)), self.rates.address, now)
    }

    /// One more request of this caller; else how long to wait.
    pub(super) fn of_caller(&self, caller: &Caller, now: Instant) -> Result<(), Duration> {
        match (caller.by, caller.user) {
            (By::Local, _) | (By::Session(_), None) => Ok(()),
            (By::Session(_), Some(user)) => self.one(Key::User(user), self.rates.caller, now),
            (By::Token(token), _) => self.one(Key::Token(token), self.rates.caller, now),
        }
    }

    fn one(&self, key: Key, rate: Rate, now: Instant) -> Result<(), Duration> {
        let worth = Duration::from_secs(1) / rate.per_second.max(1);
        let burst = worth.saturating_mul(rate.burst.max(1));
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = counted.paid.get(&key).copied().unwrap_or(now).max(now) + worth;
        let debt = paid - now;
        if debt > burst {
            if counted.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL) {
                counted.told = Some(now);
                tracing::warn!(who = ?key, "too many requests: some are refused");
            }
            return Err(debt - burst);
        }
        if counted.paid.len() >= REMEMBERED && !counted.paid.contains_key(&key) {
            counted.paid.retain(|_, paid| *paid > now);
            if counted.paid.len() >= REMEMBERED {
                return Ok(());
            }
        }
        counted.paid.insert(key, paid);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counter(per_second: u32, burst: u32) -> Counter {
        let rate = Rate { per_second, burst };
        Counter::new(Rates { caller: rate, address: rate })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_then_so_many_a_second_each_on_their_own() {
        let (counter, now) = (counter(10, 5), Instant::now());
        for _ in 0..5 {
            assert_eq!(counter.of_address(ip("192.0.2.1"), now), Ok(()));
        }
        assert_eq!(counter.of_address(ip("192.0.2.1"), now), Err(Duration::from_millis(100)));
        assert_eq!(counter.of_address(ip("192.0.2.2"), now), Ok(()));
        let later = now + Duration::from_millis(100);
        assert_eq!(counter.of_address(ip("192.0.2.1"), later), Ok(()));
        assert!(counter.of_address(ip("192.0.2.1"), later).is_err());
        for n in 0..5 {
            assert_eq!(counter.of_address(ip(&format!("2001:db8::{n}")), now), Ok(()));
        }
        assert!(counter.of_address(ip("2001:db8::ffff"), now).is_err(), "a /64 is one address");
    }

    #[test]
    fn root_is_not_counted_and_tokens_are_counted_apart() {
        let (counter, now) = (counter(1, 1), Instant::now());
        let root = Caller::local();
        let user = Some(UserId::new());
        let token = || Caller { by: By::Token(TokenId::new()), user, ..Caller::local() };
        let session = || Caller { by: By::Session(lq_api::SessionId::new()), user, ..Caller::local() };
        for _ in 0..9 {
            assert_eq!(counter.of_caller(&root, now), Ok(()));
            assert_eq!(counter.of_caller(&token(), now), Ok(()));
        }
        assert_eq!(counter.of_caller(&session(), now), Ok(()));
        assert!(counter.of_caller(&session(), now).is_err(), "all sessions of a user are counted together");
    }

    #[test]
    fn addresses_that_rest_are_forgotten_for_others() {
        let (counter, now) = (counter(1, 1), Instant::now());
        let address = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
        for n in 0..u32::try_from(REMEMBERED).unwrap() {
            assert_eq!(counter.of_address(address(n), now), Ok(()));
        }
        // Not counted while there is no room.
        let (one, later) = (ip("192.0.2.1"), now + Duration::from_secs(2));
        assert_eq!((counter.of_address(one, now), counter.of_address(one, now)), (Ok(()), Ok(())));
        assert_eq!(counter.of_address(one, later), Ok(()));
        assert!(counter.of_address(one, later).is_err());
        assert_eq!(counter.counted.lock().unwrap().paid.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However they come: never more than the burst and what the time is worth, and whoever waits as told is answered.
        #[test]
        fn never_more_than_the_rate(pauses in prop::collection::vec(0u64..200, 1..200), per_second in 1u32..50, burst in 1u32..20) {
            let (counter, begin) = (counter(per_second, burst), Instant::now());
            let (mut now, mut answered, a) = (begin, 0u64, ip("192.0.2.1"));
            for pause in pauses {
                now += Duration::from_millis(pause);
                match counter.of_address(a, now) {
                    Ok(()) => answered += 1,
                    Err(wait) => {
                        now += wait;
                        prop_assert_eq!(counter.of_address(a, now), Ok(()));
                        answered += 1;
                    }
                }
                let worth = (now - begin).as_secs_f64() * f64::from(per_second) + f64::from(burst);
                #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
                { prop_assert!(answered as f64 <= worth + 0.001, "{} of {}", answered, worth); }
            }
        }
    }
}
