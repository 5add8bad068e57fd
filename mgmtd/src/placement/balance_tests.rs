//! Properties of balancing: it lessens the imbalance, ends, keeps every rule, and is quick at the size of a data centre.

use super::{balance::*, tests::*, *};
use crate::cluster::state::{Capacity, Maintenance, Op, Peer};
use lq_api::{placement::Placement, vm::VmState};
use proptest::prelude::*;

/// Machines here and there, some with wishes and rules, whatever they make of the balance.
fn machines() -> impl Strategy<Value = Vec<(u64, u8, u128, Placement, &'static str, bool)>> {
    let label = prop_oneof![Just("app=a"), Just("app=b"), Just("")];
    let rules = || prop::collection::vec((prop_oneof![Just("app=a"), Just("app=b")], any::<bool>()), 0..2);
    let one = (64u64..3000, 1u8..8, 0u128..4, rules(), rules(), label, prop::bool::weighted(0.8));
    let one = one.prop_map(|(mib, vcpus, at, near, apart, label, runs)| {
        let rules = |all: Vec<(&str, bool)>| all.into_iter().map(|(l, s)| rule(l, s)).collect();
        let placement = Placement { host: None, near: rules(near), apart: rules(apart) };
        (mib, vcpus, at, placement, label, runs)
    });
    prop::collection::vec(one, 1..30)
}

fn filled(memory: &[u64], machines: &[(u64, u8, u128, Placement, &'static str, bool)]) -> State {
    let mut state = site(memory);
    for (n, (mib, vcpus, at, placement, label, runs)) in machines.iter().enumerate() {
        let at = host(at % memory.len() as u128);
        // Its rules come after it: so that some are broken.
        let plain = VmSpec { vcpus: *vcpus, ..spec(*mib, Placement::default()) };
        if !refusals(&state, &state.hosts[&at].clone(), Request::new(&labels(label), &plain)).is_empty() {
            continue;
        }
        let id = running(&mut state, n, at, &labels(label), plain);
        let record = std::sync::Arc::make_mut(state.vms.get_mut(&id).unwrap());
        record.vm.spec.placement = placement.clone();
        if !runs {
            record.vm.status.state = VmState::Starting;
        }
    }
    state
}

/// Machines with a strict rule that is broken where they are.
fn broken_rules(state: &State) -> BTreeSet<(VmId, String)> {
    let mut all = BTreeSet::new();
    let site = Site::of(state);
    for record in state.vms.values() {
        let id = Some(record.vm.meta.id);
        let rules = &record.vm.spec.placement;
        for (rules, near) in [(&rules.near, true), (&rules.apart, false)] {
            for rule in rules.iter().filter(|r| r.strict) {
                if broken(&site, record.vm.status.host.unwrap(), id, rule, near).is_some() {
                    all.insert((record.vm.meta.id, rule.label.clone()));
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_move_is_better_and_allowed_and_there_is_a_last_one(
        memory in prop::collection::vec(4u64..16, 2..5),
        machines in machines(),
        dead in prop::option::weighted(0.3, 0u128..4),
    ) {
        let mut state = filled(&memory, &machines);
        let reachable: BTreeSet<HostId> =
            state.hosts.keys().copied().filter(|h| Some(*h) != dead.map(host)).collect();
        let limits = Limits { reachable: Some(&reachable), resting: None };
        let mut seen = BTreeSet::new();
        let mut moves = 0;
        while let Some(found) = best_move(&state, limits) {
            let places: Vec<_> = state.vms.iter().map(|(id, r)| (*id, r.vm.status.host)).collect();
            prop_assert!(seen.insert(places), "it came back to where it was");
            let record = state.vms[&found.vm].clone();
            prop_assert_eq!(record.vm.status.state, VmState::Running);
            prop_assert!(reachable.contains(&found.from) && reachable.contains(&found.to));
            prop_assert!(found.gain >= found.cost + MARGIN);
            prop_assert_eq!(state.may_move(&record, found.to), Ok(found.from));
            let (before, rules) = (imbalance(&state, limits), broken_rules(&state));
            move_to(&mut state, found.vm, found.to);
            let after = imbalance(&state, limits);
            // What is told is the gain, but for rounding.
            prop_assert!(before - after >= found.gain - 2, "{} to {}, told {}", before, after, found.gain);
            prop_assert!(broken_rules(&state).is_subset(&rules), "a rule was broken");
            moves += 1;
            prop_assert!(moves < 1000);
        }
    }

    #[test]
    fn a_plan_is_the_moves_one_after_the_other(
        memory in prop::collection::vec(4u64..16, 2..5),
        machines in machines(),
    ) {
        let mut state = filled(&memory, &machines);
        let planned = plan(&state, Limits::default(), 4);
        for found in planned {
            prop_assert_eq!(best_move(&state, Limits::default()), Some(found.clone()));
            move_to(&mut state, found.vm, found.to);
        }
    }
}

#[test]
fn a_full_host_is_relieved_until_all_are_alike() {
    let mut state = lopsided();
    let mut moves = 0;
    while let Some(found) = best_move(&state, Limits::default()) {
        assert_eq!(found.from, host(0));
        assert!(moves > 0 || is_worth_beginning(&found));
        move_to(&mut state, found.vm, found.to);
        moves += 1;
    }
    let on = |n| state.vms.values().filter(|r| r.vm.status.host == Some(host(n))).count();
    assert_eq!(moves, 5);
    assert_eq!([on(0), on(1), on(2)].iter().sum::<usize>(), 8);
    assert!([on(0), on(1), on(2)].iter().all(|n| (2..=3).contains(n)));
    let told = recommend(&lopsided(), Limits::default(), 3);
    assert_eq!(told.len(), 3);
    assert!(told[0].reason.contains("`h0` has promised"), "{}", told[0].reason);
}

#[test]
fn hosts_of_different_sizes_are_loaded_alike() {
    let mut state = site(&[8, 32]);
    let peer = Peer { pin: "1".into(), address: String::new() };
    let capacity = Some(Capacity {
        threads: 32,
        memory: Bytes::gib(32),
        lacks: vec![],
        release: None,
        witness: false,
        functions: vec![],
    });
    apply(&mut state, 5, Op::DescribeHost { host: host(1), peer, capacity }).unwrap();
    for n in 0..12 {
        running(&mut state, n, host(0), &BTreeMap::new(), spec(512, Placement::default()));
    }
    while let Some(found) = best_move(&state, Limits::default()) {
        move_to(&mut state, found.vm, found.to);
    }
    // Of 81 and 0 percent. What is left is worth less than a move.
    let loads = hosts(&state, Limits::default());
    assert!(loads[0].memory_percent.abs_diff(loads[1].memory_percent) <= 15, "{loads:?}");
}

#[test]
fn what_cannot_or_may_not_move_stays() {
    let all = |state: &State| plan(state, Limits::default(), 8);
    assert!(!all(&lopsided()).is_empty());
    let mut state = lopsided();
    for record in state.vms.values_mut() {
        std::sync::Arc::make_mut(record).vm.spec.placement.host = Some(host(0));
    }
    assert_eq!(all(&state), [], "pinned");
    let mut state = lopsided();
    for record in state.vms.values_mut() {
        std::sync::Arc::make_mut(record).vm.status.state = VmState::Paused;
    }
    assert_eq!(all(&state), [], "paused");
    let mut state = lopsided();
    let resting: BTreeSet<VmId> = state.vms.keys().copied().collect();
    assert_eq!(plan(&state, Limits { resting: Some(&resting), reachable: None }, 8), []);
    let maintenance = Some(Maintenance { shut_down: false });
    for n in 1..3 {
        let op = Op::SetMaintenance { id: host(n), expect: None, maintenance };
        apply(&mut state, 800, op).unwrap();
    }
    assert_eq!(all(&state), [], "nowhere to go");
    assert!(hosts(&state, Limits::default())[1].left_alone.as_ref().unwrap().contains("maintenance"));
}

#[test]
fn a_wish_is_granted_and_anothers_rule_is_kept() {
    let mut state = site(&[12, 12]);
    let a = labels("app=a");
    running(&mut state, 0, host(0), &a, spec(512, Placement::default()));
    let apart = |strict| Placement { apart: vec![rule("app=a", strict)], ..Placement::default() };
    let wishing = running(&mut state, 1, host(0), &BTreeMap::new(), spec(512, Placement::default()));
    std::sync::Arc::make_mut(state.vms.get_mut(&wishing).unwrap()).vm.spec.placement = apart(false);
    let found = best_move(&state, Limits::default()).unwrap();
    assert_eq!((found.vm, found.to), (wishing, host(1)));
    assert!(found.wishes > 0);
    // With a machine on the other host that must be apart from `app=a`, that one cannot go there.
    move_to(&mut state, wishing, host(1));
    std::sync::Arc::make_mut(state.vms.get_mut(&wishing).unwrap()).vm.spec.placement = apart(true);
    for n in 2..9 {
        running(&mut state, n, host(0), &a, spec(1024, Placement::default()));
    }
    assert_eq!(best_move(&state, Limits::default()), None);
}
