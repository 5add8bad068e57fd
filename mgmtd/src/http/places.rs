//! Places for connections: how many there may be of whom, so that nobody keeps others out by merely being connected.
//!
//! ```text
//!  accepted ──▶ stranger ──a request with a credential──▶ known
//!                  │ few of a source, none for long         │ a share of its own, as long as it likes
//!                  └──▶ asked to end, then cut off           └──▶ back when it ends
//! ```
//! Invariants: a stranger's place comes back after a time that the stranger has no say in; connections that were known hold
//! none of the strangers' places, as long as there is room among the known; a stranger has only [`AT_ONCE`] requests answered at a
//! time, or one connection could hold the memory of as many bodies as it has streams.

use crate::auth::network;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often a refusal is told at most.
const TELL: Duration = Duration::from_secs(10);
/// Requests of a stranger's connection that are answered at a time; the others wait, unread.
const AT_ONCE: usize = 8;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Of those who have not shown a credential.
    pub(super) strangers: usize,
    /// Of these, from one source: an IPv4 address, an IPv6 /64.
    pub(super) of_a_source: usize,
    /// Of those who have.
    pub(super) known: usize,
}

/// The places of one listener.
#[derive(Clone)]
pub(super) struct Places(Arc<Inner>);

struct Inner {
    share: Share,
    strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
    sources: Mutex<HashMap<IpAddr, usize>>,
    /// When a refusal was told last, and how many there were since.
    refused: Mutex<(Option<Instant>, u64)>,
}

/// The place of one connection; it is free again when the last clone of it is dropped.
pub(super) struct Place {
    held: Mutex<Held>,
    known: AtomicBool,
    /// Closed once they are known.
    turns: Arc<Semaphore>,
    places: Places,
}

/// That a request is answered now.
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// What a connection holds.
enum Held {
    Stranger { _permit: OwnedSemaphorePermit, _source: Option<OfSource> },
    Known { _permit: OwnedSemaphorePermit },
}

/// One of the connections of a source.
struct OfSource {
    source: IpAddr,
    places: Places,
}

impl Drop for OfSource {
    fn drop(&mut self) {
        let mut sources = self.places.sources();
        if let Some(count) = sources.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

impl Places {
    pub(super) fn new(share: Share) -> Self {
        Self(Arc::new(Inner {
            share,
            strangers: Arc::new(Semaphore::new(share.strangers)),
            known: Arc::new(Semaphore::new(share.known)),
            sources: Mutex::default(),
            refused: Mutex::default(),
        }))
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from there; `None` where there is none left.
    pub(super) fn take(&self, from: IpAddr) -> Option<Arc<Place>> {
        let taken = self.of_source(network(from)).and_then(|source| self.stranger(Some(source)));
        if taken.is_none() {
            self.tell(from);
        }
        taken
    }

    /// A place for a connection from this host itself.
    pub(super) fn take_local(&self) -> Option<Arc<Place>> {
        self.stranger(None)
    }

    fn stranger(&self, source: Option<OfSource>) -> Option<Arc<Place>> {
        let permit = self.0.strangers.clone().try_acquire_owned().ok()?;
        let held = Mutex::new(Held::Stranger { _permit: permit, _source: source });
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Some(Arc::new(Place { held, known: AtomicBool::new(false), turns, places: self.clone() }))
    }

    fn of_source(&self, source: IpAddr) -> Option<OfSource> {
        let mut sources = self.sources();
        let count = sources.entry(source).or_default();
        if *count >= self.0.share.of_a_source {
            return None;
        }
        *count += 1;
        Some(OfSource { source, places: self.clone() })
    }

    /// Says that connections are refused, not for each one: the log must not be filled by them either.
    fn tell(&self, from: IpAddr) {
        let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.1 += 1;
        if refused.0.is_none_or(|told| told.elapsed() >= TELL) {
            tracing::warn!(connections = refused.1, last = %from, "too many connections: some were refused");
            *refused = (Some(Instant::now()), 0);
        }
    }
}

impl Place {
    /// Whoever is at the other end has shown who they are. Where the known have no room it stays among the strangers, and is
    /// left in peace nevertheless.
    pub(super) fn know(&self) {
        if self.known.swap(true, Ordering::Relaxed) {
            return;
        }
        self.turns.close();
        if let Ok(permit) = self.places.0.known.clone().try_acquire_owned() {
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Held::Known { _permit: permit };
        }
    }

    /// Waits until one more request of theirs may be answered, which is at once where they have shown who they are.
    pub(super) async fn turn(&self) -> Turn {
        Turn { _permit: self.turns.clone().acquire_owned().await.ok() }
    }

    /// Whether they have shown who they are.
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { strangers: 4, of_a_source: 2, known: 2 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_takes_no_more_than_its_part() {
        let places = Places::new(SHARE);
        let (a, b) = (ip("192.0.2.1"), ip("2001:db8::1"));
        let held: Vec<_> = [a, a, a].iter().filter_map(|ip| places.take(*ip)).collect();
        assert_eq!(held.len(), 2);
        let others: Vec<_> =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].iter().filter_map(|t| places.take(ip(t))).collect();
        assert_eq!(others.len(), 2, "a /64 is one source");
        assert!(places.take(ip("192.0.2.9")).is_none(), "all strangers' places are taken");
        drop(held);
        assert!(places.take(a).is_some());
        drop(others);
        assert!(places.sources().is_empty());
        assert!(places.take(b).is_some());
    }

    #[tokio::test]
    async fn a_stranger_has_a_few_requests_answered_at_a_time_and_the_known_all() {
        use futures::FutureExt as _;
        let place = Places::new(SHARE).take(ip("192.0.2.1")).unwrap();
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(place.turn().now_or_never().expect("a turn"));
        }
        assert!(place.turn().now_or_never().is_none());
        turns.pop();
        turns.push(place.turn().now_or_never().expect("one was given back"));
        let waiting = place.turn();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        place.know();
        assert!(waiting.now_or_never().is_some(), "who waits goes on as soon as they are known");
        assert!(place.turn().now_or_never().is_some());
    }

    #[test]
    fn who_is_known_makes_room_for_strangers() {
        let places = Places::new(SHARE);
        let a = ip("192.0.2.1");
        let mut held = Vec::new();
        for _ in 0..2 {
            let place = places.take(a).unwrap();
            place.know();
            held.push(place);
        }
        let third = places.take(a).unwrap();
        third.know();
        assert!(third.is_known(), "served although the known have no room");
        assert!(places.take(a).is_some());
        let fourth = places.take(a);
        assert!(fourth.is_some() && places.take(a).is_none(), "the third still counts among the strangers");
        held.clear();
        assert_eq!(places.0.known.available_permits(), 2);
    }
}
