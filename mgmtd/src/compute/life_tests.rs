//! Scenarios, and a property test against a random world.

use super::*;
use lq_api::{
    Bytes, VmId,
    vm::{StopVm, VmState},
};
use proptest::prelude::*;

fn desired(power: PowerState) -> Desired {
    Desired {
        vm: VmId::new(),
        name: "a".into(),
        generation: 1,
        epoch: 0,
        part: Part::Owner,
        returned: false,
        leased: false,
        spec: lq_api::vm::VmSpec { memory_bytes: Bytes::mib(64), power, ..lq_api::vm::VmSpec::default() },
        hardware: None,
        stop: StopVm::default(),
        reset_count: 0,
        fault: None,
        launch: Launch::default(),
    }
}

/// A life with its clock and its wishes.
struct Bench {
    life: Life,
    want: Want,
    down: bool,
    now: Now,
}

impl Bench {
    fn new(power: PowerState) -> Self {
        let now = Now { clock: Instant::now(), wall: Timestamp::UNIX_EPOCH };
        Self { life: Life::resting(), want: Want::This(Box::new(desired(power))), down: false, now }
    }
    fn wish(&mut self, change: impl FnOnce(&mut Desired)) -> Vec<Effect> {
        if let Want::This(desired) = &mut self.want {
            change(desired);
        }
        self.see(Seen::Nothing)
    }
    fn see(&mut self, seen: Seen) -> Vec<Effect> {
        let (life, effects) = self.life.clone().next(&self.want, seen, self.down, self.now);
        self.life = life;
        effects
    }
    fn after(&mut self, seconds: u64) -> Vec<Effect> {
        self.now.clock += Duration::from_secs(seconds);
        self.see(Seen::Nothing)
    }
    fn up(power: PowerState) -> Self {
        let mut bench = Self::new(power);
        bench.see(Seen::Nothing);
        bench.see(Seen::Launched { pid: Some(7), started_at: None, state: MachineState::Running });
        bench
    }
    fn end(&mut self, reason: ExitReason) -> Vec<Effect> {
        self.see(Seen::Machine(MachineState::Ended(ExitRecord { reason, detail: "why".into() })))
    }
    fn state(&self) -> VmState {
        self.life.status(&self.want).unwrap().state
    }
    fn reason(&self) -> String {
        self.life.status(&self.want).unwrap().reason.unwrap_or_default()
    }
}

fn acts(effects: &[Effect]) -> Vec<Action> {
    effects.iter().filter_map(|e| if let Effect::Act(a) = e { Some(*a) } else { None }).collect()
}

#[test]
fn an_orderly_stop_presses_the_button_then_kills() {
    let mut bench = Bench::up(PowerState::Running);
    assert_eq!(bench.state(), VmState::Running);
    let effects = bench.wish(|d| d.spec.power = PowerState::Stopped);
    assert_eq!(acts(&effects), [Action::PowerButton]);
    assert_eq!(bench.state(), VmState::Stopping);
    assert_eq!(acts(&bench.after(5)), []);
    assert_eq!(acts(&bench.after(6)), [Action::PowerButton], "a booting guest missed the first");
    assert_eq!(acts(&bench.after(79)), [Action::Kill]);
    assert_eq!(acts(&bench.after(1)), []);
    assert_eq!(acts(&bench.after(5)), [Action::Kill], "again, as nothing came of it");
    bench.end(ExitReason::Internal);
    assert_eq!((bench.state(), bench.reason()), (VmState::Stopped, String::new()));
}

#[test]
fn force_kills_at_once_even_when_asked_before() {
    let mut bench = Bench::up(PowerState::Running);
    bench.wish(|d| d.spec.power = PowerState::Stopped);
    assert_eq!(acts(&bench.wish(|d| d.stop.force = true)), [Action::Kill]);
}

#[test]
fn a_paused_guest_is_resumed_to_hear_the_button() {
    let mut bench = Bench::up(PowerState::Paused);
    bench.see(Seen::Machine(MachineState::Paused));
    assert_eq!(bench.state(), VmState::Paused);
    let effects = bench.wish(|d| d.spec.power = PowerState::Stopped);
    assert_eq!(acts(&effects), [Action::Resume, Action::PowerButton]);
}

#[test]
fn a_start_during_a_stop_starts_again_after_the_end() {
    let mut bench = Bench::up(PowerState::Running);
    bench.wish(|d| d.spec.power = PowerState::Stopped);
    assert_eq!(bench.wish(|d| d.spec.power = PowerState::Running), []);
    assert_eq!(bench.state(), VmState::Stopping);
    let effects = bench.end(ExitReason::GuestPowerOff);
    assert!(effects.contains(&Effect::Launch), "{effects:?}");
    assert_eq!(bench.life.status(&bench.want).unwrap().restarts, 0, "a person asked for it");
}

#[test]
fn a_guest_that_ignored_the_button_runs_on_when_wanted_again() {
    let mut bench = Bench::up(PowerState::Running);
    bench.wish(|d| d.spec.power = PowerState::Stopped);
    bench.wish(|d| d.spec.power = PowerState::Running);
    assert_eq!(acts(&bench.after(100)), []);
    assert_eq!(bench.state(), VmState::Running);
}

#[test]
fn a_late_answer_to_the_button_does_not_leave_a_machine_off_that_is_wanted_again() {
    let mut bench = Bench::up(PowerState::Running);
    bench.wish(|d| d.spec.power = PowerState::Stopped);
    bench.wish(|d| d.spec.power = PowerState::Running);
    bench.after(100);
    let effects = bench.end(ExitReason::GuestPowerOff);
    assert!(effects.contains(&Effect::Launch), "{effects:?}");
}

#[test]
fn a_stop_during_a_start_is_carried_out_once_it_is_up() {
    let mut bench = Bench::new(PowerState::Running);
    assert_eq!(bench.see(Seen::Nothing), [Effect::Launch]);
    assert_eq!(bench.wish(|d| d.spec.power = PowerState::Stopped), []);
    let effects = bench.see(Seen::Launched { pid: None, started_at: None, state: MachineState::Running });
    assert_eq!(acts(&effects), [Action::PowerButton]);
}

#[test]
fn failures_back_off_up_to_a_minute_and_a_long_run_resets_it() {
    let mut bench = Bench::up(PowerState::Running);
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        bench.end(ExitReason::Internal);
        assert_eq!(bench.state(), VmState::Starting);
        assert_eq!(bench.reason(), format!("why; started again after {expected} s"));
        assert_eq!(bench.after(expected - 1), []);
        assert_eq!(bench.after(1), [Effect::Launch]);
        bench.see(Seen::Launched { pid: None, started_at: None, state: MachineState::Running });
    }
    assert_eq!(bench.life.status(&bench.want).unwrap().restarts, 8);
    bench.after(600);
    bench.end(ExitReason::GuestFault);
    assert_eq!(bench.reason(), "why; started again after 1 s");
}

#[test]
fn a_guest_that_powered_off_stays_off_until_it_is_started_anew() {
    let mut bench = Bench::up(PowerState::Running);
    bench.end(ExitReason::GuestPowerOff);
    assert_eq!((bench.state(), bench.reason().as_str()), (VmState::Stopped, "the guest powered itself off"));
    assert_eq!(bench.after(3600), []);
    assert_eq!(bench.wish(|d| d.generation += 1), [Effect::Launch]);

    // Whoever writes "stopped" into the definition as a consequence does not wipe out why.
    let mut bench = Bench::up(PowerState::Running);
    bench.end(ExitReason::GuestPowerOff);
    bench.wish(|d| d.spec.power = PowerState::Stopped);
    assert_eq!((bench.state(), bench.reason().as_str()), (VmState::Stopped, "the guest powered itself off"));
}

#[test]
fn policies() {
    for (policy, reason, state) in [
        (RestartPolicy::Never, ExitReason::Internal, VmState::Failed),
        (RestartPolicy::Never, ExitReason::GuestPowerOff, VmState::Stopped),
        (RestartPolicy::OnFailure, ExitReason::Internal, VmState::Starting),
        (RestartPolicy::OnFailure, ExitReason::GuestPowerOff, VmState::Stopped),
        (RestartPolicy::OnFailure, ExitReason::Config, VmState::Failed),
        (RestartPolicy::Always, ExitReason::GuestPowerOff, VmState::Starting),
        (RestartPolicy::Always, ExitReason::Host, VmState::Starting),
    ] {
        let mut bench = Bench::up(PowerState::Running);
        bench.wish(|d| d.spec.restart = policy);
        bench.end(reason);
        assert_eq!(bench.state(), state, "{policy:?} {reason:?}");
    }
}

#[test]
fn a_host_going_down_starts_nothing_and_keeps_what_is_wanted() {
    let mut bench = Bench::up(PowerState::Running);
    bench.wish(|d| d.spec.restart = RestartPolicy::Always);
    bench.down = true;
    bench.see(Seen::Nothing);
    let effects = bench.end(ExitReason::GuestPowerOff);
    assert!(!effects.contains(&Effect::Launch));
    assert_eq!((bench.state(), bench.reason().as_str()), (VmState::Stopped, HOST_GOES_DOWN));
    assert_eq!(bench.after(600), []);
}

#[test]
fn a_reset_is_done_once_per_growth_and_never_for_the_past() {
    let mut bench = Bench::new(PowerState::Running);
    bench.wish(|d| d.reset_count = 5);
    let effects = bench.see(Seen::Launched { pid: None, started_at: None, state: MachineState::Running });
    assert_eq!(acts(&effects), []);
    assert_eq!(acts(&bench.wish(|d| d.reset_count = 7)), [Action::Reset]);
    assert_eq!(acts(&bench.after(60)), []);
}

#[test]
fn a_fault_is_shown_and_its_repair_starts_the_machine() {
    let mut bench = Bench::new(PowerState::Running);
    bench.wish(|d| d.fault = Some(Fault::Broken("image x is missing".into())));
    assert_eq!((bench.state(), bench.reason().as_str()), (VmState::Failed, "image x is missing"));
    assert_eq!(bench.after(9), [], "said once");
    assert_eq!(bench.wish(|d| d.fault = None), [Effect::Launch]);
}

#[test]
fn what_is_being_made_is_waited_for() {
    let mut bench = Bench::new(PowerState::Stopped);
    let effects = bench.wish(|d| {
        d.fault = Some(Fault::Wait("the image is being brought".into()));
        d.spec.power = PowerState::Running;
    });
    assert_eq!(effects, [], "nothing to tell anybody");
    assert_eq!((bench.state(), bench.reason().as_str()), (VmState::Starting, "the image is being brought"));
    assert_eq!(bench.wish(|d| d.spec.power = PowerState::Stopped), []);
    assert_eq!((bench.state(), bench.reason().as_str()), (VmState::Stopped, ""));
    bench.wish(|d| d.spec.power = PowerState::Running);
    assert_eq!(bench.state(), VmState::Starting);
    assert_eq!(bench.wish(|d| d.fault = None), [Effect::Launch]);
}

#[test]
fn an_adopted_machine_is_left_alone_until_something_is_said() {
    let now = Now { clock: Instant::now(), wall: Timestamp::UNIX_EPOCH };
    let life = Life::adopted(Some(3), None, &MachineState::Running, now);
    let (life, effects) = life.next(&Want::Unknown, Seen::Nothing, false, now);
    assert_eq!((effects, life.status(&Want::Unknown)), (vec![], None));
    let (_, effects) = life.next(&Want::Gone, Seen::Nothing, false, now);
    assert_eq!(effects, [Effect::Act(Action::Kill)]);
}

#[test]
fn a_failure_while_nobody_looked_is_reported_and_repaired() {
    let mut bench = Bench::new(PowerState::Running);
    bench.life = Life::ended(ExitRecord { reason: ExitReason::Internal, detail: "killed".into() });
    bench.see(Seen::Nothing);
    assert_eq!(bench.reason(), "killed; started again after 1 s");
    assert_eq!(bench.after(1), [Effect::Launch]);
}

/// Something that happens in the random world.
#[derive(Clone, Debug)]
enum Step {
    Power(PowerState),
    Policy(RestartPolicy),
    Generation,
    Reset,
    Fault(bool),
    Force(bool),
    Gone,
    Down,
    Pass(u64),
    LaunchEnds(bool),
    Ends(ExitReason),
    Obeys,
}

fn step() -> impl Strategy<Value = Step> {
    use PowerState::{Paused, Running, Stopped};
    let power = prop::sample::select(vec![Running, Paused, Stopped]);
    let policy =
        prop::sample::select(vec![RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always]);
    let reason = prop::sample::select(vec![
        ExitReason::GuestPowerOff,
        ExitReason::Told,
        ExitReason::Config,
        ExitReason::Internal,
    ]);
    prop_oneof![
        4 => power.prop_map(Step::Power),
        1 => policy.prop_map(Step::Policy),
        1 => Just(Step::Generation),
        1 => Just(Step::Reset),
        1 => any::<bool>().prop_map(Step::Fault),
        1 => any::<bool>().prop_map(Step::Force),
        1 => Just(Step::Gone),
        1 => Just(Step::Down),
        6 => (0u64..200_000).prop_map(Step::Pass),
        6 => any::<bool>().prop_map(Step::LaunchEnds),
        3 => reason.prop_map(Step::Ends),
        4 => Just(Step::Obeys),
    ]
}

/// The world around a life: at most one process, which may or may not do what it is asked.
struct World {
    bench: Bench,
    launching: bool,
    process: bool,
    asked: Vec<Action>,
}

impl World {
    fn see(&mut self, seen: Seen) {
        let effects = self.bench.see(seen);
        for effect in effects {
            match effect {
                Effect::Launch => {
                    assert!(!self.process && !self.launching, "two processes");
                    assert!(!self.bench.down, "started while the host goes down");
                    let Want::This(desired) = &self.bench.want else { panic!("started unwanted") };
                    assert!(desired.spec.power != PowerState::Stopped && desired.fault.is_none());
                    self.launching = true;
                }
                Effect::Act(action) => {
                    assert!(self.process, "asked nobody for {action:?}");
                    self.asked.push(action);
                }
                Effect::Forget | Effect::Event { .. } | Effect::Adjust(_) | Effect::Ejected(..) => {}
            }
        }
        assert_eq!(self.bench.life.has_process(), self.process || self.launching);
        // Level-triggered: nothing new, nothing done; and never a wake-up that is due already.
        assert_eq!(self.bench.see(Seen::Nothing), []);
        let wake = self.bench.life.wake_at(&self.bench.want);
        assert!(wake.is_none_or(|at| at > self.bench.now.clock), "a busy loop");
    }

    fn end(&mut self, reason: ExitReason) {
        if std::mem::take(&mut self.process) {
            self.asked.clear();
            self.see(Seen::Machine(MachineState::Ended(ExitRecord { reason, detail: "x".into() })));
        }
    }

    /// The process does what it was asked last.
    fn obey(&mut self) {
        if let Some(action) = self.asked.pop() {
            match action {
                Action::Pause => self.see(Seen::Machine(MachineState::Paused)),
                Action::Resume => self.see(Seen::Machine(MachineState::Running)),
                Action::PowerButton => self.end(ExitReason::GuestPowerOff),
                Action::Kill => self.end(ExitReason::Told),
                Action::Reset | Action::CancelMove | Action::Reclaim => {}
            }
        }
    }

    fn take(&mut self, step: Step) {
        if let Step::Power(_) = step
            && self.bench.want == Want::Gone
        {
            self.bench.want = Want::This(Box::new(desired(PowerState::Stopped)));
        }
        if let Want::This(desired) = &mut self.bench.want {
            match step {
                Step::Power(power) => desired.spec.power = power,
                Step::Policy(policy) => desired.spec.restart = policy,
                Step::Generation => desired.generation += 1,
                Step::Reset => desired.reset_count += 1,
                Step::Fault(fault) => desired.fault = fault.then(|| Fault::Broken("fault".into())),
                Step::Force(force) => desired.stop.force = force,
                _ => {}
            }
        }
        match step {
            Step::Gone => self.bench.want = Want::Gone,
            Step::Down => self.bench.down = true,
            Step::Pass(ms) => self.bench.now.clock += Duration::from_millis(ms),
            Step::LaunchEnds(well) if self.launching => {
                self.launching = false;
                self.process = well;
                return self.see(if well {
                    Seen::Launched { pid: Some(1), started_at: None, state: MachineState::Running }
                } else {
                    Seen::LaunchFailed { reason: "no".into(), lasting: false }
                });
            }
            Step::Ends(reason) => return self.end(reason),
            Step::Obeys => return self.obey(),
            _ => {}
        }
        self.see(Seen::Nothing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history_keeps_the_invariants_and_ends_as_wanted(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let bench = Bench::new(PowerState::Stopped);
        let mut world = World { bench, launching: false, process: false, asked: vec![] };
        for step in steps {
            world.take(step);
        }
        // From now on the world is kind: launches succeed, machines obey, time passes. It must come to what is wanted.
        world.take(Step::Fault(false));
        world.take(Step::Generation);
        for _ in 0..40 {
            world.take(Step::LaunchEnds(true));
            world.take(Step::Obeys);
            world.take(Step::Pass(4_000));
        }
        match &world.bench.want {
            Want::Gone | Want::Unknown => prop_assert!(!world.process),
            Want::This(desired) => {
                let state = world.bench.life.status(&world.bench.want).unwrap().state;
                match desired.spec.power {
                    PowerState::Stopped => prop_assert_eq!(state, VmState::Stopped),
                    _ if world.bench.down && !world.process => {
                        prop_assert!(matches!(state, VmState::Stopped | VmState::Failed));
                    }
                    PowerState::Running => prop_assert_eq!(state, VmState::Running),
                    PowerState::Paused => prop_assert_eq!(state, VmState::Paused),
                }
            }
        }
    }
}

#[test]
fn a_machine_whose_lease_ran_out_waits_for_another_whatever_its_policy() {
    for policy in [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always] {
        let mut bench = Bench::up(PowerState::Running);
        bench.wish(|d| d.spec.restart = policy);
        let effects = bench.end(ExitReason::LeaseLost);
        assert!(effects.contains(&Effect::Launch), "{effects:?}");
        assert_eq!(bench.state(), VmState::Starting);
        for _ in 0..20 {
            assert!(!bench.see(Seen::NoLease).contains(&Effect::Launch));
            assert_eq!(bench.state(), VmState::Starting, "it has neither failed nor stopped by itself");
            assert!(bench.reason().contains("lease"), "{}", bench.reason());
            assert!(bench.after(1).contains(&Effect::Launch));
        }
        bench.see(Seen::Launched { pid: Some(8), started_at: None, state: MachineState::Running });
        assert_eq!(bench.life.status(&bench.want).unwrap().restarts, 0);
    }
}

#[test]
fn a_machine_whose_disk_is_in_use_is_started_when_it_is_free_whatever_its_policy() {
    for policy in [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always] {
        let mut bench = Bench::new(PowerState::Running);
        bench.wish(|d| d.spec.restart = policy);
        for _ in 0..200 {
            let effects =
                bench.see(Seen::Busy { reason: "disk image x is in use by another process".into() });
            assert_eq!(effects, [], "it has not failed, and is not started at once");
            assert_eq!(bench.state(), VmState::Starting);
            assert!(bench.reason().contains("in use by another process; the machine is started as soon as"));
            assert!(bench.after(1).contains(&Effect::Launch), "its pauses do not grow");
        }
        bench.see(Seen::Launched { pid: Some(8), started_at: None, state: MachineState::Running });
        assert_eq!((bench.state(), bench.life.status(&bench.want).unwrap().restarts), (VmState::Running, 0));
    }
}

#[test]
fn a_machine_without_a_lease_stops_when_it_is_told_to() {
    let mut bench = Bench::new(PowerState::Running);
    bench.see(Seen::Nothing);
    bench.see(Seen::NoLease);
    bench.wish(|d| d.spec.power = PowerState::Stopped);
    assert_eq!(bench.state(), VmState::Stopped);
}

#[test]
fn what_runs_of_an_earlier_epoch_is_ended_and_started_anew() {
    let mut bench = Bench::up(PowerState::Running);
    let effects = bench.wish(|d| d.epoch = 2);
    assert_eq!(acts(&effects), [Action::Kill]);
    let effects = bench.end(ExitReason::Told);
    assert!(effects.contains(&Effect::Launch), "{effects:?}");
    bench.see(Seen::Launched { pid: Some(8), started_at: None, state: MachineState::Running });
    assert_eq!(bench.state(), VmState::Running);
}

#[test]
fn how_something_of_an_earlier_epoch_ended_says_nothing_of_the_machine() {
    use ExitReason::{GuestPowerOff, Internal, Migrated, NotArrived, Told};
    for reason in [GuestPowerOff, Internal, Migrated, NotArrived, Told] {
        let mut bench = Bench::new(PowerState::Running);
        bench.wish(|d| (d.epoch, d.spec.restart) = (3, RestartPolicy::Never));
        bench.life = Life::ended(ExitRecord { reason, detail: "before".into() }).of_epoch(Some(1));
        assert_eq!(bench.see(Seen::Nothing), [Effect::Launch], "{reason:?}");
    }
}

#[test]
fn a_place_that_ended_is_no_machine_that_failed() {
    let mut bench = Bench::new(PowerState::Running);
    bench.wish(|d| d.spec.restart = RestartPolicy::Never);
    bench.life = Life::ended(ExitRecord { reason: ExitReason::NotArrived, detail: "cut".into() });
    assert_eq!(bench.see(Seen::Nothing), [Effect::Launch]);
}

#[test]
fn what_moved_away_is_not_started_before_a_later_epoch_makes_it_this_hosts_again() {
    let mut bench = Bench::up(PowerState::Running);
    assert!(!bench.end(ExitReason::Migrated).contains(&Effect::Launch));
    assert!(!bench.after(600).contains(&Effect::Launch));
    assert!(bench.wish(|d| d.epoch += 3).contains(&Effect::Launch));
    // Found ended by a daemon that was started since: what is wanted now was said after it had moved.
    bench.life = Life::ended(ExitRecord { reason: ExitReason::Migrated, detail: "gone".into() });
    assert_eq!(bench.see(Seen::Nothing), [Effect::Launch]);
}

#[path = "life_changes_tests.rs"]
mod changes;
