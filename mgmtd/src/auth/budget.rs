//! How many refusals of one source are noted one by one. Pure: the time comes from the caller.
//!
//! Whoever is refused again and again would fill the log with it. Of a source (an IPv4 address, an IPv6 /64, a user of this
//! host) [`NOTED`] in each [`WINDOW`] are noted; the others are counted.

use super::network;
use lq_api::audit::AuditRecord;
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Refusals of a source that are noted one by one…
const NOTED: u32 = 60;
/// …in this time.
const WINDOW: Duration = Duration::from_secs(600);
/// Sources remembered; all others share one budget.
const REMEMBERED: usize = 1000;
/// What those are called.
const OTHERS: &str = "others";

/// What is to happen to a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spend {
    /// It is noted.
    Note,
    /// It is counted, the first one so; the count is to be told after this time.
    First(Duration),
    /// It is counted.
    Counted,
}

struct Spent {
    began: Instant,
    noted: u32,
    /// How many were counted and not told yet, and the last of them.
    more: Option<(u64, AuditRecord)>,
}

/// Refusals by source.
pub(super) struct Budget {
    noted: u32,
    window: Duration,
    sources: HashMap<String, Spent>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(NOTED, WINDOW)
    }
}

impl Budget {
    pub(super) fn new(noted: u32, window: Duration) -> Self {
        Self { noted, window, sources: HashMap::new() }
    }

    /// The source of a record from there.
    pub(super) fn source(from: &str) -> String {
        from.parse::<IpAddr>().map_or_else(|_| from.to_owned(), |ip| network(ip).to_string())
    }

    /// Whether one more refusal is noted.
    pub(super) fn spend(&mut self, source: &str, record: &AuditRecord, now: Instant) -> Spend {
        let window = self.window;
        let over = |s: &Spent| now.saturating_duration_since(s.began) >= window;
        let mut key = source;
        if self.sources.len() >= REMEMBERED && !self.sources.contains_key(key) {
            self.sources.retain(|_, s| s.more.is_some() || !over(s));
            if self.sources.len() >= REMEMBERED {
                key = OTHERS;
            }
        }
        let spent = self.sources.entry(key.to_owned()).or_insert(Spent { began: now, noted: 0, more: None });
        if over(spent) {
            (spent.began, spent.noted) = (now, 0);
        }
        if spent.noted < self.noted {
            spent.noted += 1;
            return Spend::Note;
        }
        match &mut spent.more {
            Some((more, last)) => {
                *more += 1;
                *last = record.clone();
                Spend::Counted
            }
            none => {
                *none = Some((1, record.clone()));
                Spend::First(window.saturating_sub(now.saturating_duration_since(spent.began)))
            }
        }
    }

    /// How many were counted, and the last of them; they are told now.
    pub(super) fn take(&mut self, source: &str) -> Option<(u64, AuditRecord)> {
        let own = self.sources.get_mut(source).and_then(|s| s.more.take());
        own.or_else(|| self.sources.get_mut(OTHERS).and_then(|s| s.more.take()))
    }
}
