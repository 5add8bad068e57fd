//! What must hold of the model.

use super::*;
use proptest::prelude::*;

fn ordinary() -> impl Strategy<Value = Chance> {
    let h = 0..2usize;
    prop_oneof![
        60 => Just(Chance::Turn),
        1 => h.clone().prop_map(Chance::Begin),
        4 => h.clone().prop_map(Chance::Sync),
        4 => h.clone().prop_map(Chance::Drive),
        4 => h.clone().prop_map(Chance::Launched),
        2 => h.clone().prop_map(Chance::Report),
        4 => h.clone().prop_map(Chance::Work),
        4 => h.clone().prop_map(Chance::Look),
        8 => h.clone().prop_map(Chance::Monitor),
        14 => (h.clone(), any::<bool>()).prop_map(|(h, forth)| Chance::Relay(h, forth)),
        1 => (h.clone(), any::<bool>()).prop_map(|(h, done)| Chance::LoseAnswer(h, done)),
        1 => (0..3usize).prop_map(Chance::Cut),
        1 => h.clone().prop_map(Chance::Cancel),
        1 => h.clone().prop_map(Chance::Refuse),
        1 => (h.clone(), 0..3usize).prop_map(|(h, arrive)| Chance::Crash(h, arrive)),
        2 => h.prop_map(Chance::Start),
    ]
}

fn deadly() -> impl Strategy<Value = Chance> {
    prop_oneof![
        60 => ordinary(),
        1 => (0..2usize).prop_map(Chance::Kill),
    ]
}

fn lossy() -> impl Strategy<Value = Chance> {
    let h = 0..2usize;
    prop_oneof![
        60 => deadly(),
        6 => h.clone().prop_map(Chance::Lease),
        1 => (h.clone(), 0..3usize).prop_map(|(h, arrive)| Chance::PowerCut(h, arrive)),
        1 => h.clone().prop_map(Chance::Silence),
        2 => h.clone().prop_map(Chance::Boot),
        2 => h.prop_map(Chance::Heal),
        2 => Just(Chance::FailOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Daemons die, connections break, answers are lost, someone calls it off: the guest never boots again.
    #[test]
    fn what_happens_to_daemons_never_touches_the_guest(chances in prop::collection::vec(ordinary(), 0..250)) {
        let mut world = World::new();
        for chance in chances {
            world.step(chance);
        }
        world.settle();
        world.at_home();
        prop_assert_eq!(world.boots, 1, "the guest was booted again");
    }

    /// Monitors die too: it may boot again, but it never runs twice, and runs in the end.
    #[test]
    fn where_monitors_die_it_runs_once_in_the_end(chances in prop::collection::vec(deadly(), 0..250)) {
        let mut world = World::new();
        for chance in chances {
            world.step(chance);
        }
        world.settle();
        world.at_home();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Hosts are lost too, by power or to the cluster, and what they ran fails over: never two owners in one epoch, never two that
    /// write, never one that goes on from the past; and it runs in the end.
    #[test]
    fn where_hosts_are_lost_it_runs_once_in_the_end(chances in prop::collection::vec(lossy(), 0..250)) {
        let mut world = World::new();
        for chance in chances {
            world.step(chance);
        }
        world.settle();
        world.at_home();
    }
}

/// Both hosts take turns, nothing happens: it moves, and back.
#[test]
fn undisturbed_it_moves() {
    let mut world = World::new();
    for (from, to) in [(0, 1), (1, 0)] {
        world.begin(from);
        world.settle();
        assert_eq!(world.at_home(), to);
    }
    assert_eq!(world.boots, 1);
}

/// Steps of an undisturbed move.
fn steps(broken: Option<Broken>) -> usize {
    let mut world = World { broken, ..World::new() };
    world.begin(0);
    let mut steps = 0;
    while !world.has_moved() && steps < 1000 {
        world.turn(steps);
        steps += 1;
    }
    steps
}

/// Daemons die after so many steps of a move.
fn crashed(broken: Option<Broken>, at: usize, dead: &[usize], arrive: usize) {
    let mut world = World { broken, ..World::new() };
    world.begin(0);
    (0..at).for_each(|n| world.turn(n));
    dead.iter().for_each(|h| world.step(Chance::Crash(*h, arrive)));
    world.settle();
    world.at_home();
    assert_eq!(world.boots, 1, "booted again: {dead:?} died after step {at}");
}

/// The source daemon, the target daemon, or both die after each step of an undisturbed move.
fn crashes(broken: Option<Broken>) -> impl Iterator<Item = (usize, &'static [usize], usize)> {
    const DEAD: [&[usize]; 3] = [&[0], &[1], &[0, 1]];
    let steps = steps(broken);
    assert!(steps < 1000, "it never arrives");
    (0..=steps)
        .flat_map(|at| DEAD.into_iter().flat_map(move |dead| (0..3).map(move |arrive| (at, dead, arrive))))
}

#[test]
fn the_source_daemon_the_target_daemon_or_both_die_after_each_step() {
    crashes(None).for_each(|(at, dead, arrive)| crashed(None, at, dead, arrive));
}

#[test]
fn a_broken_rule_is_noticed() {
    for broken in [Broken::Switch, Broken::Return, Broken::Forget].map(Some) {
        let noticed = |(at, dead, arrive): (usize, &'static [usize], usize)| {
            std::panic::catch_unwind(move || crashed(broken, at, dead, arrive)).is_err()
        };
        assert!(crashes(None).any(noticed), "nobody notices that {broken:?} is broken");
    }
}

/// A host is lost after so many steps of a move, and what it owned then fails over; it comes back before or after the other is
/// lost too and all fails over once more. Where it only reaches the cluster no more, its daemon may die too.
fn lost(broken: Option<Broken>, (at, host, how, again): (usize, usize, Loss, bool)) {
    let mut world = World { broken, ..World::new() };
    let lose = |h| if how == Loss::Power { Chance::PowerCut(h, 1) } else { Chance::Silence(h) };
    world.begin(0);
    (0..at).for_each(|n| world.turn(n));
    world.step(lose(host));
    if how == Loss::SilenceAndCrash {
        world.step(Chance::Crash(host, 1));
    }
    let record = world.record(&world.state);
    let (owner, epoch) = (record.vm.status.host, record.epoch);
    world.step(Chance::FailOver);
    let record = world.record(&world.state);
    if owner == Some(world.ids[host]) {
        assert_eq!((record.vm.status.host, record.epoch), (Some(world.ids[OTHER[host]]), epoch + 2));
        assert_eq!((record.moving, record.vm.status.moving_to), (None, None), "the move goes on");
    } else {
        assert_eq!(
            (record.vm.status.host, record.epoch),
            (owner, epoch),
            "what the other host has failed over"
        );
    }
    (0..40).for_each(|n| world.turn(n));
    if again {
        world.step(Chance::Heal(host));
        world.step(Chance::Boot(host));
        world.step(lose(OTHER[host]));
        world.step(Chance::FailOver);
        (0..40).for_each(|n| world.turn(n));
    }
    world.settle();
    world.at_home();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Power,
    Silence,
    SilenceAndCrash,
}

fn losses() -> impl Iterator<Item = (usize, usize, Loss, bool)> {
    let ways = [Loss::Power, Loss::Silence, Loss::SilenceAndCrash];
    let each = move |at| {
        let ways = ways.into_iter().flat_map(|how| [(how, false), (how, true)]);
        ways.flat_map(move |(how, again)| [0, 1].map(|host| (at, host, how, again)))
    };
    (0..=steps(None)).flat_map(each)
}

#[test]
fn either_host_is_lost_after_each_step_and_what_it_owns_fails_over() {
    losses().for_each(|case| lost(None, case));
}

#[test]
fn a_broken_rule_of_failing_over_is_noticed() {
    for broken in [Broken::Lease, Broken::Past, Broken::Epoch].map(Some) {
        let noticed = |case| std::panic::catch_unwind(move || lost(broken, case)).is_err();
        assert!(losses().any(noticed), "nobody notices that {broken:?} is broken");
    }
}
