//! Who votes: 1, 3 or 5 hosts, chosen by the leader. Pure.

use lq_api::HostId;
use std::collections::BTreeSet;

/// What the leader knows of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) host: HostId,
    /// It votes now.
    pub(super) voter: bool,
    /// It answers, and has for voters long enough not to be given up.
    pub(super) alive: bool,
    /// It runs nothing: hosts are preferred.
    pub(super) witness: bool,
    /// It has nearly all of the log.
    pub(super) caught_up: bool,
}

/// Voters for so many hosts.
fn wanted(hosts: usize) -> usize {
    match hosts {
        0..3 => 1,
        3..5 => 3,
        _ => 5,
    }
}

/// The voters there should be, where they should be others than now. `me` leads.
///
/// The number of voters is odd, never grows before there are hosts fit for it, and never shrinks because hosts are silent: a
/// silent voter is only ever replaced, by one that is there. A witness votes where there are not hosts enough.
pub(super) fn plan(hosts: &[Seen], me: HostId) -> Option<BTreeSet<HostId>> {
    let now: BTreeSet<_> = hosts.iter().filter(|h| h.voter).map(|h| h.host).collect();
    let mut order: Vec<_> = hosts.iter().filter(|h| h.host == me).collect();
    for witness in [false, true] {
        let others = || hosts.iter().filter(|h| h.host != me && h.witness == witness && h.alive);
        order.extend(others().filter(|h| h.voter));
        order.extend(others().filter(|h| !h.voter && h.caught_up));
    }
    let fit = order.len();
    order.extend(hosts.iter().filter(|h| h.host != me && h.voter && !h.alive));
    let target = wanted(hosts.len());
    let count = if fit >= target {
        target
    } else {
        // As many as there are fit for it, but not fewer than now, and odd.
        let count = fit.max(now.len().min(target));
        if count % 2 == 0 { count - 1 } else { count }
    };
    let then: BTreeSet<_> = order.into_iter().take(count.max(1)).map(|h| h.host).collect();
    (then != now && !then.is_empty()).then_some(then)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn host(n: u128) -> HostId {
        HostId(Uuid::from_u128(n))
    }

    /// `V` votes, `v` votes and is silent, `l` is fit to, `x` is not; `W` is a witness that votes, `w` one that is fit to.
    fn hosts(text: &str) -> Vec<Seen> {
        let one = |(n, c): (u128, char)| Seen {
            host: host(n),
            voter: matches!(c, 'V' | 'v' | 'W'),
            alive: c != 'v' && c != 'x',
            witness: matches!(c, 'W' | 'w'),
            caught_up: c != 'x',
        };
        (1u128..).zip(text.chars()).map(one).collect()
    }

    fn after(text: &str) -> String {
        let hosts = hosts(text);
        let voters = plan(&hosts, host(1));
        let now: BTreeSet<_> = hosts.iter().filter(|h| h.voter).map(|h| h.host).collect();
        let voters = voters.unwrap_or(now);
        hosts.iter().map(|h| if voters.contains(&h.host) { 'V' } else { '-' }).collect()
    }

    #[test]
    fn the_number_of_voters_follows_the_number_of_hosts() {
        for (before, expected) in [
            ("V", "V"),
            ("Vl", "V-"),
            ("Vlx", "V--"),
            ("Vll", "VVV"),
            ("VVVl", "VVV-"),
            ("VVvl", "VV-V"),
            ("VVv", "VVV"),
            ("Vvv", "VVV"),
            ("VVVll", "VVVVV"),
            ("VVVlx", "VVV--"),
            ("VVVVV", "VVVVV"),
            ("VVVvvl", "VVVV-V"),
            ("VVVVVl", "VVVVV-"),
            ("VVVV", "VVV-"),
            ("VV", "V-"),
            // A witness is the third of two, leaves its vote to a host, and takes it while that is silent.
            ("Vw", "V-"),
            ("Vlw", "VVV"),
            ("VWl", "VVV"),
            ("VVWl", "VV-V"),
            ("VVvw", "VV-V"),
            ("VWWll", "VVVVV"),
            ("WVV", "VVV"),
        ] {
            assert_eq!(after(before), expected, "{before}");
        }
    }

    proptest! {
        #[test]
        fn always_odd_and_always_with_the_leader(rest in "[VvlxWw]{0,9}") {
            let hosts = hosts(&format!("V{rest}"));
            if let Some(voters) = plan(&hosts, host(1)) {
                prop_assert!(voters.contains(&host(1)));
                prop_assert_eq!(voters.len() % 2, 1);
                prop_assert!(voters.len() <= 5);
                // Nobody who is not fit for it comes in.
                for seen in hosts.iter().filter(|h| voters.contains(&h.host) && !h.voter) {
                    prop_assert!(seen.alive && seen.caught_up);
                }
            }
            // What is planned is then kept.
            let voters = plan(&hosts, host(1));
            if let Some(voters) = voters {
                let then: Vec<_> =
                    hosts.iter().map(|h| Seen { voter: voters.contains(&h.host), ..*h }).collect();
                prop_assert_eq!(plan(&then, host(1)), None);
            }
        }
    }
}
