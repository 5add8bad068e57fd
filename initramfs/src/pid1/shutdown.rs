//! The order in which a host goes down, as a pure state machine. The caller says what still runs; it answers what to do.
//!
//! ```text
//! Guests ──all ended or killed──► Services ──ended or 10 s──► Rest ──5 s──► Done
//!   SIGTERM to each vm-* unit        SIGTERM, SIGKILL          everyone else
//!   SIGKILL after its own time
//! ```
//! Invariants: nothing but guests is signalled while a guest runs; every phase ends by itself.

use nix::libc::{SIGKILL, SIGTERM};
use std::{collections::BTreeMap, time::Duration};

/// Prefix of the names of guests' units.
pub const GUEST: &str = "vm-";
const SERVICES_WAIT: Duration = Duration::from_secs(10);
const REST_WAIT: Duration = Duration::from_secs(5);
/// After SIGKILL, before the process is given up (it hangs in the kernel).
const KILL_WAIT: Duration = Duration::from_secs(5);
/// Longest time any unit gets, whatever it asked for.
const LONGEST_STOP: Duration = Duration::from_secs(600);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this signal to this process.
    Signal(i32, i32),
    /// Send this signal to every process but ourselves.
    SignalAll(i32),
    /// A line for the consoles.
    Say(String),
    /// Everything has ended: unmount and switch off.
    Done,
}

/// What runs now.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Units: name, process, seconds to stop.
    pub units: Vec<(String, i32, u32)>,
    /// Services: name, process.
    pub services: Vec<(String, i32)>,
    /// Any process is left besides those and PID 1.
    pub others: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Guests,
    Services { killed: bool },
    Rest { killed: bool },
    Done,
}

/// A shutdown under way.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: Phase,
    since: Duration,
    /// Guests told to stop: when SIGKILL follows, and whether it was sent.
    told: BTreeMap<i32, (Duration, bool)>,
    last_word: Duration,
}

impl Shutdown {
    /// Begins at `now`.
    pub const fn new(now: Duration) -> Self {
        Self { phase: Phase::Guests, since: now, told: BTreeMap::new(), last_word: now }
    }

    /// Looks at what runs and says what to do. Call at every end of a process and at least once a second.
    pub fn step(&mut self, now: Duration, world: &World) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.phase == Phase::Guests && !self.guests(now, world, &mut steps) {
            self.enter(Phase::Services { killed: false }, now);
            steps.push(Step::Say("stopping services".into()));
            steps.extend(Self::signal_services(world, SIGTERM));
        }
        if let Phase::Services { killed } = self.phase {
            let over = now >= self.since + if killed { KILL_WAIT } else { SERVICES_WAIT };
            if world.services.is_empty() || (over && killed) {
                self.enter(Phase::Rest { killed: false }, now);
                steps.push(Step::SignalAll(SIGTERM));
                return steps;
            }
            if over {
                self.enter(Phase::Services { killed: true }, now);
                steps.push(Step::Say("services did not stop in time and are ended".into()));
                steps.extend(Self::signal_services(world, SIGKILL));
            }
        }
        if let Phase::Rest { killed } = self.phase {
            let left = world.others || !world.units.is_empty() || !world.services.is_empty();
            let over = now >= self.since + REST_WAIT;
            if !left || (over && killed) {
                self.enter(Phase::Done, now);
                steps.push(Step::Done);
            } else if over {
                self.enter(Phase::Rest { killed: true }, now);
                steps.push(Step::SignalAll(SIGKILL));
            }
        }
        steps
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        (self.phase, self.since) = (phase, now);
    }

    fn signal_services(world: &World, signal: i32) -> impl Iterator<Item = Step> {
        world.services.iter().map(move |(_, pid)| Step::Signal(*pid, signal))
    }

    /// Tells guests to stop and ends those whose time is over. Returns whether any is still waited for.
    fn guests(&mut self, now: Duration, world: &World, steps: &mut Vec<Step>) -> bool {
        let guests: Vec<_> = world.units.iter().filter(|(name, ..)| name.starts_with(GUEST)).collect();
        let mut waited_for = 0;
        for (name, pid, seconds) in &guests {
            match self.told.get_mut(pid) {
                None => {
                    let time = Duration::from_secs(u64::from(*seconds)).min(LONGEST_STOP);
                    self.told.insert(*pid, (now + time, false));
                    steps.push(Step::Signal(*pid, SIGTERM));
                    waited_for += 1;
                }
                Some((deadline, killed)) if now >= *deadline => {
                    if !*killed {
                        (*deadline, *killed) = (now + KILL_WAIT, true);
                        steps.push(Step::Say(format!("guest {name} did not stop in time and is ended")));
                        steps.push(Step::Signal(*pid, SIGKILL));
                        waited_for += 1;
                    }
                }
                Some(_) => waited_for += 1,
            }
        }
        let new = steps.iter().any(|s| matches!(s, Step::Signal(_, SIGTERM)));
        if waited_for > 0 && (new || now >= self.last_word + Duration::from_secs(10)) {
            self.last_word = now;
            let ids: Vec<&str> = guests.iter().take(4).map(|(n, ..)| n.as_str()).collect();
            let end = guests
                .iter()
                .filter_map(|(_, pid, _)| self.told.get(pid))
                .map(|(deadline, _)| *deadline)
                .max();
            steps.push(Step::Say(format!(
                "waiting for {} guest(s) to stop, at most {} s more: {}",
                guests.len(),
                end.unwrap_or(now).saturating_sub(now).as_secs(),
                ids.join(", ")
            )));
        }
        waited_for > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn world(units: &[(&str, i32, u32)], services: &[(&str, i32)], others: bool) -> World {
        World {
            units: units.iter().map(|(n, p, s)| ((*n).to_owned(), *p, *s)).collect(),
            services: services.iter().map(|(n, p)| ((*n).to_owned(), *p)).collect(),
            others,
        }
    }

    fn signals(steps: &[Step]) -> Vec<(i32, i32)> {
        steps.iter().filter_map(|s| if let Step::Signal(p, n) = s { Some((*p, *n)) } else { None }).collect()
    }

    #[test]
    fn guests_first_each_with_its_own_time_then_services_then_the_rest() {
        let mut down = Shutdown::new(at(0));
        let all = world(&[("vm-a", 10, 20), ("vm-b", 11, 60), ("job", 12, 60)], &[("mgmtd", 20)], true);
        assert_eq!(signals(&down.step(at(0), &all)), [(10, SIGTERM), (11, SIGTERM)]);
        assert_eq!(signals(&down.step(at(19), &all)), []);
        assert_eq!(signals(&down.step(at(20), &all)), [(10, SIGKILL)]);
        let only_b = world(&[("vm-b", 11, 60), ("job", 12, 60)], &[("mgmtd", 20)], true);
        assert_eq!(signals(&down.step(at(21), &only_b)), []);
        let none = world(&[("job", 12, 60)], &[("mgmtd", 20)], true);
        assert_eq!(signals(&down.step(at(30), &none)), [(20, SIGTERM)]);
        assert_eq!(signals(&down.step(at(40), &none)), [(20, SIGKILL)]);
        let rest = world(&[("job", 12, 60)], &[], true);
        assert_eq!(down.step(at(41), &rest), [Step::SignalAll(SIGTERM)]);
        assert_eq!(down.step(at(46), &rest), [Step::SignalAll(SIGKILL)]);
        assert_eq!(down.step(at(47), &world(&[], &[], false)), [Step::Done]);
    }

    #[test]
    fn a_guest_that_hangs_in_the_kernel_does_not_hold_the_host() {
        let mut down = Shutdown::new(at(0));
        let stuck = world(&[("vm-a", 10, 5)], &[], false);
        let mut done = None;
        for second in 0..60 {
            if down.step(at(second), &stuck).contains(&Step::Done) {
                done = Some(second);
                break;
            }
        }
        assert!(done.is_some_and(|s| s <= 25), "{done:?}");
    }

    proptest! {
        #[test]
        fn every_shutdown_ends_and_no_service_is_signalled_before_the_guests_are_gone(
            times in proptest::collection::vec((0u32..2000, 0u64..700), 0..5), service_ends in 0u64..700)
        {
            let mut down = Shutdown::new(at(0));
            let mut services_told = None;
            for second in 0..1000u64 {
                let units: Vec<(String, i32, u32)> = times.iter().enumerate()
                    .filter(|(_, (_, ends))| second < *ends)
                    .map(|(i, (stop, _))| (format!("vm-{i}"), 100 + i as i32, *stop)).collect();
                let services = if second < service_ends { vec![("mgmtd".to_owned(), 20)] } else { vec![] };
                let world = World { units: units.clone(), services, others: false };
                let steps = down.step(at(second), &world);
                if signals(&steps).iter().any(|(pid, _)| *pid == 20) {
                    services_told.get_or_insert(second);
                    let patient = units.iter().any(|(_, pid, stop)| {
                        let _ = pid;
                        u64::from(*stop).min(600) + 5 > second
                    });
                    prop_assert!(!patient, "a guest still had time at {}", second);
                }
                if steps.contains(&Step::Done) {
                    return Ok(());
                }
            }
            prop_assert!(false, "never done");
        }
    }
}
