//! How a host stands to a shared pool: a state machine without clock and without I/O.
//!
//! ```text
//!              ┌──────────────────── Mount, after a growing pause ◀───────────────┐
//!              ▼                                                                  │ failed
//!  mounting ─ Mount ── done ──▶ ready ── Check ── done ──▶ ready                  │
//!              │                             ├─ failed ──▶ unreachable ───────────┤
//!              └─ failed ────────────────────┼─▶ unreachable ─────────────────────┘
//!                                            └─ late ────▶ unreachable ─ done after all ─▶ ready
//!  any, not wanted any more ── Unmount ──▶ unmounting ── done ──▶ gone
//! ```
//! Invariants: one job at a time, but that a late one does not keep an unmount; while a job is late the pool is not ready;
//! whatever fails is tried again for ever, at most [`LONGEST`] later.

use lq_api::pool::PoolState;
use std::time::Duration;

/// Between two looks at a pool that is ready.
const EVERY: Duration = Duration::from_secs(10);
/// A job that takes longer is late.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause after the first failure; doubled by each.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// Something to be done, on a thread that it may block for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Sees to it that the pool is mounted, is ours, and can be written to.
    Mount,
    /// Asks the server, and looks whether it is still ours.
    Check,
    /// Takes the mount away, by force.
    Unmount,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    job: Job,
    since: Duration,
    late: bool,
}

/// The life of one shared pool on this host. Times are of any clock that does not go back.
#[derive(Clone, Debug)]
pub struct Life {
    state: PoolState,
    reason: Option<String>,
    running: Option<Running>,
    next: Job,
    due: Duration,
    failures: u32,
    gone: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            state: PoolState::Mounting,
            reason: None,
            running: None,
            next: Job::Mount,
            due: Duration::ZERO,
            failures: 0,
            gone: false,
        }
    }
}

impl Life {
    /// How the host stands to the pool, and why not better.
    #[must_use]
    pub fn state(&self) -> (PoolState, Option<&str>) {
        (self.state, self.reason.as_deref())
    }

    /// It is not there any more, and not wanted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// What is to be begun now, where that is anything. A job that was under way is given up with its outcome.
    pub fn step(&mut self, now: Duration, wanted: bool) -> Option<Job> {
        if self.gone {
            return None;
        }
        if let Some(running) = &mut self.running
            && !running.late
            && now.saturating_sub(running.since) >= PATIENCE
        {
            running.late = true;
            if self.state != PoolState::Unmounting {
                let seconds = PATIENCE.as_secs();
                self.stand(
                    PoolState::Unreachable,
                    Some(format!("the server has not answered for {seconds} seconds")),
                );
            }
        }
        let unmounting = self.running.is_some_and(|r| r.job == Job::Unmount);
        if !wanted && !unmounting {
            // Nothing of the pool matters any more: a late job ends by the unmount.
            if self.running.is_none_or(|r| r.late) && (self.next != Job::Unmount || now >= self.due) {
                self.stand(PoolState::Unmounting, None);
                return Some(self.begin(now, Job::Unmount));
            }
            return None;
        }
        if wanted && self.next == Job::Unmount && self.running.is_none() {
            *self = Self { due: now, ..Self::default() };
        }
        (self.running.is_none() && now >= self.due).then(|| self.begin(now, self.next))
    }

    fn begin(&mut self, now: Duration, job: Job) -> Job {
        self.running = Some(Running { job, since: now, late: false });
        self.next = job;
        job
    }

    fn stand(&mut self, state: PoolState, reason: Option<String>) {
        self.state = state;
        self.reason = reason;
    }

    /// The job under way ended.
    pub fn ended(&mut self, now: Duration, outcome: Result<(), String>) {
        let Some(Running { job, .. }) = self.running.take() else { return };
        match (job, outcome) {
            (Job::Unmount, Ok(())) => self.gone = true,
            (_, Ok(())) => {
                self.failures = 0;
                (self.next, self.due) = (Job::Check, now + EVERY);
                self.stand(PoolState::Ready, None);
            }
            (job, Err(reason)) => {
                let pause = FIRST * 2u32.saturating_pow(self.failures.min(6));
                self.failures = self.failures.saturating_add(1);
                self.due = now + pause.min(LONGEST);
                if job == Job::Unmount {
                    self.stand(PoolState::Unmounting, Some(reason));
                } else {
                    self.next = Job::Mount;
                    self.stand(PoolState::Unreachable, Some(reason));
                }
            }
        }
    }

    /// When [`Self::step`] has something to do at the latest, though nothing ends and nobody wants anything else.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        match &self.running {
            Some(running) if running.late => None,
            Some(running) => Some(running.since + PATIENCE),
            None if self.gone => None,
            None => Some(self.due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_server_that_falls_silent_and_comes_back() {
        let mut life = Life::default();
        assert_eq!(life.step(at(0), true), Some(Job::Mount));
        assert_eq!(life.state().0, PoolState::Mounting);
        life.ended(at(1), Ok(()));
        assert_eq!(life.state(), (PoolState::Ready, None));
        assert_eq!((life.step(at(10), true), life.due()), (None, Some(at(11))));
        assert_eq!(life.step(at(11), true), Some(Job::Check));
        assert_eq!(life.due(), Some(at(31)));
        assert_eq!((life.step(at(30), true), life.state().0), (None, PoolState::Ready));
        assert_eq!((life.step(at(31), true), life.state().0), (None, PoolState::Unreachable));
        assert!(life.state().1.unwrap().contains("not answered"));
        assert_eq!((life.step(at(9999), true), life.due()), (None, None), "one job at a time");
        life.ended(at(10_000), Ok(()));
        assert_eq!(life.state(), (PoolState::Ready, None));
    }

    #[test]
    fn what_fails_is_mounted_anew_after_growing_pauses() {
        let mut life = Life::default();
        let (mut now, mut pauses) = (at(0), Vec::new());
        for _ in 0..9 {
            assert_eq!(life.step(now, true), Some(Job::Mount));
            life.ended(now, Err("no".into()));
            assert_eq!(life.state(), (PoolState::Unreachable, Some("no")));
            pauses.push(life.due().unwrap() - now);
            now = life.due().unwrap();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60].map(at));
    }

    #[test]
    fn a_late_job_does_not_keep_an_unmount() {
        let mut life = Life::default();
        life.step(at(0), true);
        assert_eq!(life.step(at(5), false), None);
        assert_eq!(life.step(at(20), false), Some(Job::Unmount));
        assert_eq!(life.state().0, PoolState::Unmounting);
        life.ended(at(21), Err("busy".into()));
        assert_eq!(life.step(at(21), false), None);
        assert_eq!(life.step(at(22), false), Some(Job::Unmount));
        life.ended(at(23), Ok(()));
        assert!(life.is_gone() && life.step(at(24), false).is_none() && life.due().is_none());
    }

    #[derive(Clone, Debug)]
    enum Event {
        Pass(u64),
        End(bool),
        Want(bool),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0u64..90).prop_map(Event::Pass),
            any::<bool>().prop_map(Event::End),
            prop::bool::weighted(0.8).prop_map(Event::Want),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn one_job_at_a_time_ready_only_after_success_and_never_at_a_standstill(
            events in prop::collection::vec(event(), 0..120))
        {
            let (mut life, mut now, mut wanted) = (Life::default(), at(0), true);
            let mut running: Option<(Job, Duration)> = None;
            for event in events {
                match event {
                    Event::Pass(seconds) => now += at(seconds),
                    Event::End(good) => if running.take().is_some() {
                        life.ended(now, if good { Ok(()) } else { Err("no".into()) });
                    },
                    Event::Want(w) => wanted = w,
                }
                let job = life.step(now, wanted);
                if let Some(job) = job {
                    let kept = running.is_some_and(|(r, since)| r == Job::Unmount || now - since < PATIENCE);
                    prop_assert!(!kept, "{job:?} beside {running:?}");
                    running = Some((job, now));
                }
                let (state, reason) = life.state();
                let late = running.is_some_and(|(_, since)| now - since >= PATIENCE);
                prop_assert!(!(state == PoolState::Ready && (late || reason.is_some())));
                prop_assert!(state != PoolState::Unreachable || reason.is_some());
                if running.is_none() && !life.is_gone() {
                    prop_assert!(life.due().is_some_and(|due| due <= now + LONGEST));
                }
            }
        }
    }
}
