//! What several servers say, made into one offset: the best of each server's samples, the intersection of their intervals, and
//! the mean of those inside (RFC 5905, sections 10 and 11.2). Pure.

use super::packet::Nanos;
use std::collections::VecDeque;

/// Samples of a server that are remembered.
const KEPT: usize = 8;
/// How much a sample gets worse with time: 15 parts in a million, a clock's drift (PHI).
const DRIFT_PPM: i128 = 15;
/// What a server's interval is at least, either way: the jitter of a network.
const LEAST: Nanos = 1_000_000;
/// A server farther from its source than this is not believed (MAXDIST is 1 s; one that is bad says so).
pub(super) const FARTHEST: Nanos = 1_500_000_000;

/// What was learnt by one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// How far this host's clock is behind, in nanoseconds.
    pub(super) offset: Nanos,
    /// The way there and back.
    pub(super) delay: Nanos,
    /// The server's own distance from its source: half its delay and its dispersion.
    pub(super) root: Nanos,
    pub(super) stratum: u8,
    /// When, by a clock that is never set, in nanoseconds.
    pub(super) at: Nanos,
}

impl Sample {
    /// How far the true offset may be from the told one, at `now`.
    pub(super) fn distance(&self, now: Nanos) -> Nanos {
        let age = (now - self.at).max(0);
        self.delay.max(0) / 2 + self.root + age * DRIFT_PPM / 1_000_000 + LEAST
    }
}

/// The last samples of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter(VecDeque<Sample>);

impl Filter {
    pub(super) fn add(&mut self, sample: Sample) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// This host's clock was set forward by so much: what was told before is of the clock before.
    pub(super) fn shift(&mut self, by: Nanos) {
        for sample in &mut self.0 {
            sample.offset -= by;
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The sample that is least wrong at `now`: the quickest way, unless it is old.
    pub(super) fn best(&self, now: Nanos) -> Option<Sample> {
        self.0.iter().min_by_key(|s| s.distance(now)).copied()
    }
}

/// What the servers agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreement {
    /// How far this host's clock is behind.
    pub(super) offset: Nanos,
    /// How far the truth may be from it.
    pub(super) error: Nanos,
    /// The servers that agree, by their place in what was given; the best first.
    pub(super) chosen: Vec<usize>,
}

/// The largest part of the servers whose intervals have a point in common, where it is a majority of them.
pub(super) fn agree(servers: &[Option<Sample>], now: Nanos) -> Option<Agreement> {
    let told: Vec<(usize, Sample)> = servers
        .iter()
        .enumerate()
        .filter_map(|(n, s)| Some((n, (*s)?)))
        .filter(|(_, s)| s.distance(now) <= FARTHEST)
        .collect();
    let interval = |s: &Sample| (s.offset - s.distance(now), s.offset + s.distance(now));
    let mut edges: Vec<(Nanos, bool)> = told
        .iter()
        .flat_map(|(_, s)| {
            let (low, high) = interval(s);
            [(low, false), (high, true)]
        })
        .collect();
    // Where one ends at the point at which another begins, they have it in common.
    edges.sort_unstable();
    let (mut inside, mut most, mut best) = (0usize, 0usize, None);
    for (n, (at, ends)) in edges.iter().enumerate() {
        if *ends {
            inside -= 1;
            continue;
        }
        inside += 1;
        if inside > most {
            most = inside;
            let end = edges.get(n + 1..).unwrap_or_default().iter().find(|(_, ends)| *ends);
            best = end.map(|(end, _)| (*at, *end));
        }
    }
    let (low, high) = best?;
    // Of an even number half is not enough: each half might be right.
    if most * 2 <= told.len() {
        return None;
    }
    let mut chosen: Vec<(usize, Sample)> = told
        .into_iter()
        .filter(|(_, s)| {
            let (l, h) = interval(s);
            l <= high && h >= low
        })
        .collect();
    chosen.sort_by_key(|(n, s)| (s.stratum, s.distance(now), *n));
    // Each counts by how near it is.
    let weight = |s: &Sample| 1.0 / s.distance(now).max(1) as f64;
    let all: f64 = chosen.iter().map(|(_, s)| weight(s)).sum();
    let mean: f64 = chosen.iter().map(|(_, s)| s.offset as f64 * weight(s)).sum::<f64>() / all;
    let offset = (mean as Nanos).clamp(low, high);
    let error = (high - offset).max(offset - low);
    Some(Agreement { offset, error, chosen: chosen.into_iter().map(|(n, _)| n).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Nanos = 1_000_000;

    fn sample(offset: Nanos, delay: Nanos) -> Sample {
        Sample { offset, delay, root: 0, stratum: 2, at: 0 }
    }

    #[test]
    fn the_quickest_answer_of_a_server_counts_until_it_is_old() {
        let mut filter = Filter::default();
        for (offset, delay) in [(30, 90), (10, 10), (40, 80)] {
            filter.add(sample(offset * MS, delay * MS));
        }
        assert_eq!(filter.best(0).unwrap().offset, 10 * MS);
        filter.add(Sample { at: 3_600_000 * MS, ..sample(20 * MS, 40 * MS) });
        assert_eq!(filter.best(3_600_000 * MS).unwrap().offset, 20 * MS);
        filter.shift(20 * MS);
        assert_eq!(filter.best(3_600_000 * MS).unwrap().offset, 0);
        filter.clear();
        assert_eq!(filter.best(0), None);
    }

    #[test]
    fn a_server_that_lies_is_outvoted_and_two_that_differ_are_not_believed() {
        let good = |offset: Nanos| Some(sample(offset * MS, 10 * MS));
        let agreed = agree(&[good(100), good(102), good(5000)], 0).unwrap();
        assert_eq!(agreed.chosen.len(), 2);
        assert!(!agreed.chosen.contains(&2));
        assert!((99 * MS..103 * MS).contains(&agreed.offset), "{agreed:?}");
        assert_eq!(agree(&[good(100), good(5000)], 0), None);
        assert_eq!(agree(&[good(0), good(1), good(500), good(501)], 0), None);
        assert_eq!(agree(&[good(7), None, None], 0).unwrap().offset, 7 * MS);
        assert_eq!(agree(&[None], 0), None);
        assert_eq!(agree(&[Some(Sample { root: 2 * FARTHEST, ..sample(0, 0) })], 0), None);
    }

    proptest! {
        /// With most servers right, whatever the others say, the truth is within what is told.
        #[test]
        fn falsetickers_do_not_move_the_clock(
            truth in -1_000_000i64..1_000_000,
            right in prop::collection::vec((-4i64..=4, 0i64..20), 2..6),
            lies in prop::collection::vec((10_000_000i64..100_000_000, 0i64..20), 0..2),
        ) {
            prop_assume!(lies.len() < right.len());
            let truth = Nanos::from(truth) * 1000;
            let mut servers: Vec<Option<Sample>> = right
                .iter()
                .map(|(off, delay)| Some(sample(truth + Nanos::from(*off) * MS / 8, Nanos::from(*delay + 1) * MS)))
                .collect();
            servers.extend(lies.iter().map(|(off, delay)| Some(sample(truth + Nanos::from(*off) * 1000, Nanos::from(*delay) * MS))));
            let agreed = agree(&servers, 0);
            prop_assert!(agreed.is_some());
            let agreed = agreed.unwrap();
            prop_assert!((agreed.offset - truth).abs() <= agreed.error + MS, "{agreed:?} {truth}");
            prop_assert!(agreed.chosen.iter().all(|n| *n < right.len()));
        }
    }
}
