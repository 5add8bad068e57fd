//! Whether a history of one register can have happened in some order that fits with what its clients saw, and when
//! (linearizability; Wing and Gong's search, with the configurations that were tried kept, after Lowe).

use std::collections::HashSet;

/// What was done, and came of it. Every value that is written is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read(u64),
    Write(u64),
    /// From the one value to the other, where the register had the one.
    Swap(u64, u64),
    /// Was to be like `Swap`, and was refused because the register had not this value.
    Refused(u64),
}

/// A call of a client. Times are the order of all events; no two are equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) step: Step,
    pub(super) invoked: u64,
    /// Nothing: what became of it is not known; it may have happened at any time since, or never.
    pub(super) returned: Option<u64>,
}

impl Step {
    /// The value after it, where it can happen at this one.
    fn after(self, value: u64) -> Option<u64> {
        match self {
            Self::Read(seen) => (seen == value).then_some(value),
            Self::Write(new) => Some(new),
            Self::Swap(from, to) => (from == value).then_some(to),
            Self::Refused(not) => (not != value).then_some(value),
        }
    }
}

type Set = Vec<u64>;

fn has(set: &Set, n: usize) -> bool {
    set[n / 64] & (1 << (n % 64)) != 0
}

/// Calls that have to be looked at, in the order of their beginnings. One whose outcome is not known and that changes nothing says
/// nothing.
fn relevant(calls: &[Call]) -> Vec<Call> {
    let changes = |c: &&Call| c.returned.is_some() || matches!(c.step, Step::Write(_) | Step::Swap(..));
    let mut calls: Vec<Call> = calls.iter().filter(changes).copied().collect();
    calls.sort_by_key(|c| c.invoked);
    calls
}

/// Values of which someone saw that the register had them.
fn seen(calls: &[Call]) -> HashSet<u64> {
    let value = |c: &Call| match c.step {
        Step::Read(seen) | Step::Swap(seen, _) => Some(seen),
        Step::Write(_) | Step::Refused(_) => None,
    };
    calls.iter().filter_map(value).collect()
}

/// Whether there is such an order, beginning with the value `first`.
pub(super) fn is_linearizable(first: u64, calls: &[Call]) -> bool {
    let calls = relevant(calls);
    let seen = seen(&calls);
    let mut tried: HashSet<(Set, u64)> = HashSet::new();
    let mut todo = vec![(vec![0u64; calls.len() / 64 + 1], first)];
    while let Some((done, value)) = todo.pop() {
        let open = || calls.iter().enumerate().filter(|(n, _)| !has(&done, *n));
        // Nothing that began after another one had ended comes before it.
        let Some(end) = open().filter_map(|(_, c)| c.returned).min() else { return true };
        let next = || open().take_while(|(_, c)| c.invoked < end);
        let mut take = |n: usize, value: u64| {
            let mut done = done.clone();
            done[n / 64] |= 1 << (n % 64);
            if tried.insert((done.clone(), value)) {
                todo.push((done, value));
            }
        };
        // What changes nothing and fits now need not come later.
        if let Some((n, _)) = next().find(|(_, c)| c.step.after(value) == Some(value)) {
            take(n, value);
            continue;
        }
        // Of writes nobody saw, and nobody knows to have happened, one is like another: the first is tried.
        let mut unseen = false;
        for (n, call) in next() {
            if call.returned.is_none()
                && let Step::Write(new) = call.step
                && !seen.contains(&new)
                && std::mem::replace(&mut unseen, true)
            {
                continue;
            }
            if let Some(value) = call.step.after(value) {
                take(n, value);
            }
        }
    }
    false
}

/// The call that ended first of those with whose end there is no such order any more.
pub(super) fn first_that_does_not_fit(first: u64, calls: &[Call]) -> Option<Call> {
    if is_linearizable(first, calls) {
        return None;
    }
    let mut ends: Vec<&Call> = calls.iter().filter(|c| c.returned.is_some()).collect();
    ends.sort_by_key(|c| c.returned);
    let fits = |last: &&&Call| {
        let upto = last.returned;
        let begun = calls.iter().filter(|c| Some(c.invoked) < upto);
        let then: Vec<_> =
            begun.map(|c| Call { returned: c.returned.filter(|r| Some(*r) <= upto), ..*c }).collect();
        !is_linearizable(first, &then)
    };
    ends.iter().find(fits).map(|c| **c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(step: Step, invoked: u64, returned: u64) -> Call {
        Call { step, invoked, returned: (returned > 0).then_some(returned) }
    }

    #[test]
    fn known_histories() {
        use Step::{Read, Refused, Swap, Write};
        let fits = |calls: &[(Step, u64, u64)]| {
            is_linearizable(0, &calls.iter().map(|(s, i, r)| call(*s, *i, *r)).collect::<Vec<_>>())
        };
        assert!(fits(&[]));
        assert!(fits(&[(Write(1), 1, 4), (Read(0), 2, 3), (Read(1), 5, 6)]));
        assert!(!fits(&[(Write(1), 1, 2), (Read(0), 3, 4)]), "a stale read");
        assert!(!fits(&[(Write(1), 1, 9), (Read(1), 2, 3), (Read(0), 4, 5)]), "back in time");
        assert!(!fits(&[(Swap(0, 1), 1, 2), (Swap(0, 2), 3, 4)]), "two from the same");
        assert!(fits(&[(Swap(0, 1), 1, 2), (Refused(0), 3, 4), (Swap(1, 2), 5, 6)]));
        assert!(!fits(&[(Refused(0), 1, 2), (Swap(0, 1), 3, 4)]), "refused without a reason");
        // What became of it is not known: both may be.
        assert!(fits(&[(Write(1), 1, 0), (Read(0), 2, 3), (Read(1), 4, 5)]));
        assert!(fits(&[(Write(1), 1, 0), (Read(0), 2, 3), (Read(0), 4, 5)]));
        assert!(!fits(&[(Write(1), 1, 0), (Read(1), 2, 3), (Read(0), 4, 5)]));
        assert!(!fits(&[(Write(1), 1, 2), (Write(2), 3, 4), (Read(1), 5, 6)]), "a lost write");
    }

    proptest! {
        /// What really happened in one order fits, however the calls overlapped.
        #[test]
        fn what_happened_fits(kinds in proptest::collection::vec((0u8..4, 0u64..30, 0u64..30, any::<bool>()), 0..40)) {
            let (mut value, mut calls) = (0, Vec::new());
            for (n, (kind, early, late, known)) in (1u64..).zip(kinds) {
                let step = match kind {
                    0 => Step::Read(value),
                    1 => Step::Write(n),
                    2 => Step::Swap(value, n),
                    _ => Step::Refused(value + 1_000),
                };
                value = step.after(value).unwrap();
                let at = n * 15 + 100;
                let returned = (known || kind == 0).then_some(at + late + 1);
                calls.push(Call { step, invoked: at - early, returned });
            }
            prop_assert!(is_linearizable(0, &calls));
            // And what cannot have been read does not.
            calls.push(Call { step: Step::Read(999_999), invoked: 10_000, returned: Some(10_001) });
            prop_assert!(!is_linearizable(0, &calls));
        }
    }
}
