//! The life of one VM: every decision of its driver, without I/O.
//!
//! [`Life::next`] is told what is wanted, what was seen and what time it is, and answers with what to do. It is
//! level-triggered: called again with nothing new it asks for nothing new.
//!
//! ```text
//!                 wanted                 ready
//!   Resting ────────────────▶ Launching ───────▶ Up ──┐ pause, resume, reset,
//!      ▲                        ▲   │            │ ◀─┘ power button, kill
//!      │                 back-off   │ failed     │ process ended
//!      │                   is over  ▼            ▼
//!      │◀── not wanted ── Waiting ◀──────── Ended
//!      │                                         │ not wanted, powered off by itself,
//!      └─────────────────────────────────────────┘ or must not be restarted
//! ```
//!
//! The picture is of a machine that is this host's. One that moves here is launched to wait, once per move, and nothing else is
//! done to it; one that may run on another host is left as it is ([`Part`]). One that moves away is not started anew where it ends:
//! its end is reported, which ends the move, and only then decided on.
//! A machine whose lease ran out has not failed: it waits for a lease, whatever its restart policy says. Nor has one whose disk is still
//! locked: a server keeps the locks of a host that was lost for a while.
//!
//! What runs of an earlier epoch is ended: since then the machine was another host's. How something of an earlier epoch ended, or
//! a place that only waited for the machine, says nothing of the machine, whatever its restart policy is.
//!
//! A machine that runs as its owner's is brought to what is wanted of it, one step after the other ([`adjust`](super::adjust)); a step
//! that fails is tried again, with growing pauses. While it moves, nothing of it is changed.
//!
//! Invariants: a launch is asked for only while there is no process and none is being launched; nothing is launched while
//! the host goes down; what is not known to be wanted or unwanted (before the first sync) is left alone.

use super::{
    Action, Desired, Fault, Holds, Launch, MachineState, Notice, Part,
    adjust::{Plan, Step, plan},
};
use crate::hardware::Hardware;
use lq_api::{
    ImageId, Timestamp,
    event::EventLevel,
    local::vmm::{ExitReason, ExitRecord},
    vm::{PowerState, RestartPolicy},
};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Longest pause before a restart by policy; the first is one second, each further one twice as long.
pub(crate) const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// A run of this length makes the next failure the first again.
pub(crate) const SETTLED: Duration = Duration::from_secs(600);
/// An action that shows no effect is repeated after this time.
const NUDGE: Duration = Duration::from_secs(5);
/// The power button is pressed again after this time: a guest that is still booting misses the first.
const BUTTON: Duration = Duration::from_secs(10);

/// What is wanted of the VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Nobody said yet.
    Unknown,
    /// This.
    This(Box<Desired>),
    /// It is to be killed and forgotten.
    Gone,
}

impl Want {
    /// Whether it is of a later epoch: the other one was read before it.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        matches!((self, other), (Self::This(a), Self::This(b)) if a.epoch > b.epoch)
    }
}

/// The time, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For intervals.
    pub(crate) clock: Instant,
    /// For people.
    pub(crate) wall: Timestamp,
}

/// What was seen since the last decision.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// Nothing: time passed, or what is wanted changed.
    Nothing,
    /// The launch succeeded.
    Launched { pid: Option<u32>, started_at: Option<Timestamp>, state: MachineState },
    /// The launch failed; `lasting`: trying the same again is pointless.
    LaunchFailed { reason: String, lasting: bool },
    /// It was not started: this host has no lease for it.
    NoLease,
    /// It was not started: what it needs is in use by somebody else still.
    Busy { reason: String },
    /// The machine changed.
    Machine(MachineState),
    /// The step that was asked for was done, or why it was not.
    Adjusted(Result<(), String>),
    /// The guest did something.
    Notice(Notice),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start it.
    Launch,
    /// Ask the machine for this.
    Act(Action),
    /// Change it. One at a time.
    Adjust(Box<Step>),
    /// Tell that the guest has ejected what is wanted in this CD drive.
    Ejected(usize, ImageId),
    /// Its last end needs no longer be remembered.
    Forget,
    /// Tell people.
    Event { level: EventLevel, kind: &'static str, message: String },
}

/// The definition a machine came to rest under: it is not started again until this changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    generation: u64,
    epoch: u64,
    launch: Launch,
}

impl Held {
    fn of(desired: &Desired) -> Self {
        Self { generation: desired.generation, epoch: desired.epoch, launch: desired.launch.clone() }
    }
}

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// None under way.
    No,
    /// The power button was pressed first and last at these times.
    Asked { since: Instant, last: Instant },
    /// Being killed; to be repeated at this time.
    Killing { again: Instant },
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No process, none wanted or none allowed.
    Resting { rest: Rest, reason: Option<String>, held: Option<Held>, remembered: bool },
    /// Being launched.
    Launching,
    /// A process runs.
    Up(Up),
    /// The process ended, or could not be started; what follows is not decided.
    Ended { end: End, ran: Duration, stopped: bool },
    /// Started again at this time.
    /// `blameless`: it is no restart, as nothing has failed.
    Waiting { until: Instant, reason: String, held: Held, blameless: bool },
}

/// Why there is no process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rest {
    /// None is wanted.
    #[default]
    Stopped,
    /// It is started as soon as what it waits for is there.
    Waits,
    /// It cannot be started.
    Failed,
}

/// A process that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Up {
    paused: bool,
    /// It was let go of.
    away: bool,
    since: Instant,
    started_at: Timestamp,
    pid: Option<u32>,
    stop: Stop,
    /// The power button was pressed in this run: if the guest powers off, that is the answer, however late.
    pressed: bool,
    nudge: Option<Instant>,
    /// Why its TPM has failed, where it has.
    tpm_failed: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this record.
    Record(ExitRecord),
    /// It never began.
    NotLaunched { reason: String, lasting: bool },
    /// It did not begin without a lease.
    NoLease,
    /// It did not begin while what it needs is in use by somebody else.
    Busy { reason: String },
}

/// A VM's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    state: State,
    /// Resets asked for that are done or were asked for before the run began.
    resets: Option<u64>,
    /// Failures in a row.
    failures: u32,
    /// Restarts by policy since a person started it.
    restarts: u32,
    /// The move a waiting machine was launched for.
    tried: Option<Uuid>,
    /// The epoch its process belongs to, where it is known: in another one its memory is of the past.
    epoch: Option<u64>,
    /// What the process has, where it is known.
    has: Option<Hardware>,
    /// Its changes.
    changes: Changes,
}

/// How far the place of a machine that moves here is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is being made, or waits for this.
    Making(Option<String>),
    /// It waits for the machine.
    Waits,
    /// There will be none.
    Failed(String),
}

impl End {
    /// It waited for a machine that did not come.
    fn never_ran(&self) -> bool {
        matches!(self, Self::Record(ExitRecord { reason: ExitReason::NotArrived, .. }))
    }

    /// Another host has it.
    fn migrated(&self) -> bool {
        matches!(self, Self::Record(ExitRecord { reason: ExitReason::Migrated, .. }))
    }

    fn why(&self) -> &str {
        match self {
            Self::Record(record) => &record.detail,
            Self::NotLaunched { reason, .. } | Self::Busy { reason } => reason,
            Self::NoLease => NO_LEASE_TO_ARRIVE,
        }
    }
}

impl Life {
    /// Of a VM without a process.
    pub(crate) fn resting() -> Self {
        Self::in_state(State::Resting { rest: Rest::Stopped, reason: None, held: None, remembered: false })
    }

    /// Of a VM whose process runs already.
    pub(crate) fn adopted(
        pid: Option<u32>,
        started_at: Option<Timestamp>,
        state: &MachineState,
        now: Now,
    ) -> Self {
        Self::in_state(State::Up(Up::new(pid, started_at, state, now)))
    }

    /// Of this epoch, where that is known.
    pub(crate) fn of_epoch(self, epoch: Option<u64>) -> Self {
        Self { epoch, ..self }
    }

    /// Of a VM whose process ended while nobody looked.
    pub(crate) fn ended(record: ExitRecord) -> Self {
        Self::in_state(State::Ended { end: End::Record(record), ran: Duration::ZERO, stopped: false })
    }

    /// The epoch its process belongs to, where it is known.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    fn in_state(state: State) -> Self {
        Self {
            state,
            resets: None,
            failures: 0,
            restarts: 0,
            tried: None,
            epoch: None,
            has: None,
            changes: Changes::default(),
        }
    }

    /// Takes up what the process has.
    pub(crate) fn set_hardware(&mut self, has: Option<Hardware>) {
        self.has = has;
    }

    /// Whether a process runs or may be about to.
    pub(crate) fn has_process(&self) -> bool {
        matches!(self.state, State::Launching | State::Up(_))
    }

    /// Takes in what was seen and decides what to do.
    pub(crate) fn next(mut self, want: &Want, seen: Seen, going_down: bool, now: Now) -> (Self, Vec<Effect>) {
        let mut effects = Vec::new();
        self.absorb(seen, now, &mut effects);
        // One decision may open the next (ended → resting → launching); each step moves on along the diagram.
        while self.decide(want, going_down, now, &mut effects) {}
        (self, effects)
    }

    fn absorb(&mut self, seen: Seen, now: Now, effects: &mut Vec<Effect>) {
        match (seen, &mut self.state) {
            (Seen::Launched { pid, started_at, state }, State::Launching) => {
                self.state = State::Up(Up::new(pid, started_at, &state, now));
                if state != MachineState::Incoming {
                    effects.push(event(EventLevel::Info, "vm.started", "The machine was started.".into()));
                }
            }
            (Seen::LaunchFailed { reason, lasting }, State::Launching) => {
                let end = End::NotLaunched { reason, lasting };
                self.state = State::Ended { end, ran: Duration::ZERO, stopped: false };
            }
            (Seen::Busy { reason }, State::Launching) => {
                self.state = State::Ended { end: End::Busy { reason }, ran: Duration::ZERO, stopped: false };
            }
            (Seen::NoLease, State::Launching) => {
                self.state = State::Ended { end: End::NoLease, ran: Duration::ZERO, stopped: false };
            }
            (Seen::Machine(MachineState::Ended(record)), State::Up(up)) => {
                let ran = now.clock.saturating_duration_since(up.since);
                let answer = up.pressed && record.reason == ExitReason::GuestPowerOff;
                let stopped = answer || up.stop != Stop::No;
                self.state = State::Ended { end: End::Record(record), ran, stopped };
            }
            (Seen::Adjusted(done), State::Up(_)) => self.changes.over(done, now, effects),
            (Seen::Notice(notice), State::Up(up)) => {
                if let Notice::TpmFailed { why, .. } = &notice {
                    up.tpm_failed = Some(why.clone());
                }
                effects.extend(told(notice));
            }
            (Seen::Machine(state), State::Up(up)) => {
                let now = (state == MachineState::Paused, state == MachineState::Away);
                if now != (up.paused, up.away) {
                    (up.paused, up.away) = now;
                    up.nudge = None;
                }
            }
            _ => {}
        }
    }

    /// Takes one step; false where there is none to take.
    fn decide(&mut self, want: &Want, going_down: bool, now: Now, effects: &mut Vec<Effect>) -> bool {
        match (&mut self.state, want) {
            (State::Launching, _) | (_, Want::Unknown) => false,
            (State::Up(up), Want::Gone) => up.kill(now, effects),
            (State::Up(up), Want::This(desired)) => match desired.part {
                Part::Still => false,
                // Of an earlier move, or of a time when it was this host's: it is another's.
                Part::Arriving(moving)
                    if self.tried.is_some_and(|tried| tried != moving)
                        || self.epoch.is_some_and(|e| e != desired.runs_in()) =>
                {
                    up.kill(now, effects)
                }
                Part::Arriving(moving) => {
                    self.tried = Some(moving);
                    false
                }
                Part::Owner if is_past(self.epoch, up.away, desired) => up.kill(now, effects),
                Part::Owner if self.epoch != Some(desired.epoch) => {
                    self.epoch = Some(desired.epoch);
                    true
                }
                Part::Leaving if up.away => false,
                Part::Owner if up.away => up.reclaim(desired, now, effects),
                Part::Owner => {
                    let more = self.steer(desired, now, effects);
                    self.adjust(desired, now, effects);
                    more
                }
                Part::Leaving => self.steer(desired, now, effects),
            },
            (State::Resting { remembered, .. }, Want::Gone) => {
                if std::mem::take(remembered) {
                    effects.push(Effect::Forget);
                }
                false
            }
            (_, Want::Gone) => {
                self.rest(Rest::Stopped, None, None);
                true
            }
            (_, Want::This(desired)) if desired.part == Part::Still => false,
            (_, Want::This(desired)) if let Part::Arriving(moving) = desired.part => {
                self.make_place(desired, moving, going_down, effects)
            }
            (State::Ended { .. } | State::Waiting { .. } | State::Resting { .. }, Want::This(desired))
                if desired.part == Part::Leaving =>
            {
                false
            }
            (State::Ended { .. }, Want::This(desired)) => {
                self.conclude(desired, going_down, now, effects);
                true
            }
            (State::Waiting { until, held, blameless, .. }, Want::This(desired)) => {
                // A changed definition, or a person who starts it anew, does not wait.
                let anew = *held != Held::of(desired);
                if anew || going_down || desired.spec.power == PowerState::Stopped || desired.fault.is_some()
                {
                    let reason = going_down.then(|| HOST_GOES_DOWN.to_owned());
                    self.rest(Rest::Stopped, reason, None);
                    return true;
                }
                if now.clock < *until {
                    return false;
                }
                self.restarts = self.restarts.saturating_add(u32::from(!*blameless));
                self.launch(desired, effects);
                true
            }
            (State::Resting { .. }, Want::This(desired)) => self.wake(desired, going_down, effects),
        }
    }

    /// Has a machine wait for the one that moves here, unless that was tried for this move.
    fn make_place(
        &mut self,
        desired: &Desired,
        moving: Uuid,
        going_down: bool,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if self.tried == Some(moving) {
            return false;
        }
        match &mut self.state {
            // Nobody here knows for which move it waited; for this one, maybe, and then its end says how it went.
            State::Ended { end, .. } if self.tried.is_none() && end.never_ran() => {
                self.tried = Some(moving);
                false
            }
            State::Resting { rest, reason, .. } => {
                let obstacle = match &desired.fault {
                    Some(Fault::Broken(why)) => Some((Rest::Failed, why.clone())),
                    _ if going_down => Some((Rest::Failed, HOST_GOES_DOWN.to_owned())),
                    Some(Fault::Wait(why)) => Some((Rest::Waits, why.clone())),
                    None => None,
                };
                if let Some((why, said)) = obstacle {
                    (*rest, *reason) = (why, Some(said));
                    return false;
                }
                self.tried = Some(moving);
                self.launch(desired, effects);
                true
            }
            // What ended here was of an earlier time.
            _ => {
                self.rest(Rest::Stopped, None, None);
                true
            }
        }
    }

    /// A machine at rest: is it to be started?
    fn wake(&mut self, desired: &Desired, going_down: bool, effects: &mut Vec<Effect>) -> bool {
        let State::Resting { rest, reason, held, remembered } = &mut self.state else { return false };
        if desired.spec.power == PowerState::Stopped {
            if std::mem::take(remembered) {
                effects.push(Effect::Forget);
            }
            // Why it stopped by itself stays true; why it failed does not matter to a machine that is not wanted.
            if std::mem::take(rest) != Rest::Stopped {
                *reason = None;
            }
            *held = None;
            (self.failures, self.restarts) = (0, 0);
            return false;
        }
        if going_down {
            return false;
        }
        match &desired.fault {
            None => {}
            Some(Fault::Wait(why)) => {
                (*rest, *held, *reason) = (Rest::Waits, None, Some(why.clone()));
                return false;
            }
            Some(Fault::Broken(why)) => {
                if reason.as_ref() != Some(why) {
                    let message = format!("The machine cannot be started: {why}");
                    effects.push(event(EventLevel::Error, "vm.failed", message));
                }
                (*rest, *held, *reason) = (Rest::Failed, None, Some(why.clone()));
                return false;
            }
        }
        if held.as_ref().is_some_and(|held| *held == Held::of(desired)) {
            return false;
        }
        (self.failures, self.restarts) = (0, 0);
        self.launch(desired, effects);
        true
    }

    fn launch(&mut self, desired: &Desired, effects: &mut Vec<Effect>) {
        self.resets = Some(desired.reset_count);
        self.epoch = Some(desired.runs_in());
        self.state = State::Launching;
        (self.has, self.changes) = (None, Changes::default());
        effects.push(Effect::Launch);
    }

    fn rest(&mut self, rest: Rest, reason: Option<String>, held: Option<Held>) {
        self.state = State::Resting { rest, reason, held, remembered: true };
    }

    /// A run ended: what follows?
    fn conclude(&mut self, desired: &Desired, going_down: bool, now: Now, effects: &mut Vec<Effect>) {
        let State::Ended { end, ran, stopped } = &self.state else { return };
        let (ran, stopped) = (*ran, *stopped);
        // A machine that moved away is this host's again only in a later epoch. Where the epoch of what ended is not known, the
        // daemon was started since, and reads no older word than the one that let the machine go.
        let moved_before = end.migrated() && self.epoch.is_none();
        if end.never_ran() || moved_before || is_past(self.epoch, false, desired) {
            // That was not the machine as it is this host's now: its end says nothing of this one, which is yet to be started.
            return self.rest(Rest::Stopped, None, None);
        }
        if end.migrated() {
            // Another host has it: whatever else is wanted is not for this one to do, before it is told so in a later epoch.
            let reason = "the machine moved to another host".to_owned();
            return self.rest(Rest::Stopped, Some(reason), Some(Held::of(desired)));
        }
        // Neither the machine nor its monitor has failed, so that its policy does not count. Whether it is started again is not
        // decided here: without a lease, or what it needs, it is not.
        let blameless = match end {
            End::NoLease => Some(LEASE_PAUSE),
            End::Record(ExitRecord { reason: ExitReason::LeaseLost, .. }) => Some(Duration::ZERO),
            End::Busy { .. } | End::Record(ExitRecord { reason: ExitReason::Busy, .. }) => Some(BUSY_PAUSE),
            _ => None,
        };
        let lease_lost = matches!(end, End::Record(ExitRecord { reason: ExitReason::LeaseLost, .. }));
        let (clean, lasting, reason) = match end {
            End::NotLaunched { reason, lasting } => (false, *lasting, reason.clone()),
            End::NoLease => (false, false, NO_LEASE.to_owned()),
            End::Busy { reason } => (false, false, format!("{reason}; {WHEN_FREE}")),
            End::Record(ExitRecord { reason, detail }) => match reason {
                ExitReason::Busy => (false, false, format!("{detail}; {WHEN_FREE}")),
                ExitReason::GuestPowerOff => (true, false, "the guest powered itself off".to_owned()),
                ExitReason::Told => (true, false, format!("the monitor was told to end: {detail}")),
                ExitReason::Config => (false, true, detail.clone()),
                ExitReason::LeaseLost => (false, false, format!("its lease ran out; {NO_LEASE}")),
                // Of the last two nothing is left to conclude here.
                ExitReason::Host
                | ExitReason::GuestFault
                | ExitReason::Internal
                | ExitReason::NotArrived
                | ExitReason::Migrated => (false, false, detail.clone()),
            },
        };
        let ended = |message: String| event(EventLevel::Info, "vm.stopped", message);
        if desired.spec.power == PowerState::Stopped {
            effects.push(ended("The machine was stopped.".into()));
            self.rest(Rest::Stopped, None, None);
        } else if going_down {
            effects.push(ended(format!("The machine was stopped: {HOST_GOES_DOWN}.")));
            self.rest(Rest::Stopped, Some(HOST_GOES_DOWN.into()), None);
        } else if stopped {
            // Told to stop, then to start again before it had stopped.
            effects.push(ended("The machine was stopped; it is started again as asked.".into()));
            self.rest(Rest::Stopped, None, None);
        } else if let Some(pause) = blameless {
            if lease_lost {
                let message = format!("The machine was ended: {reason}.");
                effects.push(event(EventLevel::Warning, "vm.lease-lost", message));
            }
            let until = now.clock + pause;
            self.state = State::Waiting { until, reason, held: Held::of(desired), blameless: true };
        } else if clean && desired.spec.restart != RestartPolicy::Always {
            effects.push(ended(format!("The machine stopped: {reason}.")));
            self.rest(Rest::Stopped, Some(reason), Some(Held::of(desired)));
        } else if lasting || (!clean && desired.spec.restart == RestartPolicy::Never) {
            let message = format!("The machine failed and is not started again: {reason}");
            effects.push(event(EventLevel::Error, "vm.failed", message));
            self.rest(Rest::Failed, Some(reason), Some(Held::of(desired)));
        } else {
            if ran >= SETTLED {
                self.failures = 0;
            }
            self.failures = self.failures.saturating_add(1);
            let pause = back_off(self.failures);
            let words = format!("{reason}; started again after {} s", pause.as_secs());
            let level = if clean { EventLevel::Info } else { EventLevel::Warning };
            effects.push(event(level, "vm.restarting", format!("The machine ended: {words}.")));
            let held = Held::of(desired);
            self.state = State::Waiting { until: now.clock + pause, reason: words, held, blameless: false };
        }
    }

    /// A machine that runs: what must change?
    fn steer(&mut self, desired: &Desired, now: Now, effects: &mut Vec<Effect>) -> bool {
        let State::Up(up) = &mut self.state else { return false };
        let resets = self.resets.get_or_insert(desired.reset_count);
        let timeout = Duration::from_secs(desired.stop.timeout_seconds.into());
        if desired.spec.power == PowerState::Stopped {
            match &mut up.stop {
                Stop::Killing { .. } => {
                    up.kill(now, effects);
                }
                _ if desired.stop.force => {
                    up.kill(now, effects);
                }
                Stop::No => {
                    up.press(now, now.clock, effects);
                }
                Stop::Asked { since, .. } if now.clock >= *since + timeout => {
                    let message = format!(
                        "The guest did not power off within {} s and is ended by force.",
                        desired.stop.timeout_seconds
                    );
                    effects.push(event(EventLevel::Warning, "vm.forced", message));
                    up.kill(now, effects);
                }
                Stop::Asked { since, last } => {
                    if now.clock >= *last + BUTTON {
                        let since = *since;
                        up.press(now, since, effects);
                    }
                }
            }
            return false;
        }
        match up.stop {
            Stop::Killing { .. } => {
                up.kill(now, effects);
                return false;
            }
            // Started again while stopping: the guest powers off and is started, or has ignored the button.
            Stop::Asked { since, .. } if now.clock < since + timeout => return false,
            Stop::Asked { .. } | Stop::No => up.stop = Stop::No,
        }
        if !up.paused && desired.reset_count > *resets {
            *resets = desired.reset_count;
            effects.push(Effect::Act(Action::Reset));
            effects.push(event(EventLevel::Info, "vm.reset", "The machine was reset.".into()));
        }
        let wanted = match (desired.spec.power, up.paused) {
            (PowerState::Paused, false) => Some(Action::Pause),
            (PowerState::Running, true) => Some(Action::Resume),
            _ => None,
        };
        if wanted.is_none() {
            up.nudge = None;
        }
        if let Some(action) = wanted
            && up.nudge.is_none_or(|at| now.clock >= at)
        {
            up.nudge = Some(now.clock + NUDGE);
            effects.push(Effect::Act(action));
        }
        false
    }

    /// The process waited for a machine that moves here, and has ended without it: it never ran and never will.
    pub(crate) fn never_ran(&self) -> bool {
        matches!(&self.state, State::Ended { end, .. } if end.never_ran())
    }

    /// How far the place is for a machine that moves here.
    pub(crate) fn arrival(&self, want: &Want) -> Option<(Uuid, Arrival)> {
        let Want::This(desired) = want else { return None };
        let Part::Arriving(moving) = desired.part else { return None };
        let arrival = match &self.state {
            State::Up(_) if self.tried == Some(moving) => Arrival::Waits,
            // One that is in its place ends first.
            State::Up(_) => Arrival::Making(None),
            State::Ended { end, .. } => Arrival::Failed(end.why().to_owned()),
            State::Resting { rest: Rest::Failed, reason: Some(reason), .. } => {
                Arrival::Failed(reason.clone())
            }
            State::Resting { reason, .. } => Arrival::Making(reason.clone()),
            State::Launching | State::Waiting { .. } => Arrival::Making(None),
        };
        Some((moving, arrival))
    }

    /// When to decide again though nothing was seen.
    pub(crate) fn wake_at(&self, want: &Want) -> Option<Instant> {
        let moves = |desired: &Desired| matches!(desired.part, Part::Still | Part::Arriving(_));
        match (&self.state, want) {
            (State::Up(Up { stop: Stop::Killing { again }, .. }), Want::This(desired))
                if matches!(desired.part, Part::Arriving(_)) =>
            {
                Some(*again)
            }
            (_, Want::This(desired)) if moves(desired) => None,
            (State::Waiting { .. }, Want::This(desired)) if desired.part == Part::Leaving => None,
            (State::Up(up), Want::This(desired)) if up.away => {
                up.nudge.filter(|_| desired.part == Part::Owner)
            }
            (State::Waiting { until, .. }, Want::This(_)) => Some(*until),
            (State::Up(up), Want::This(desired)) => match up.stop {
                Stop::Killing { again } => Some(again),
                Stop::Asked { since, last } => {
                    let timeout = Duration::from_secs(desired.stop.timeout_seconds.into());
                    let press = (desired.spec.power == PowerState::Stopped).then_some(last + BUTTON);
                    press.into_iter().chain([since + timeout]).min()
                }
                Stop::No => [up.nudge, self.changes.again(desired)].into_iter().flatten().min(),
            },
            (State::Up(Up { stop: Stop::Killing { again }, .. }), Want::Gone) => Some(*again),
            _ => None,
        }
    }
}

/// Pause before a lease is asked for again.
const LEASE_PAUSE: Duration = Duration::from_millis(500);
/// Pause before what was in use is tried again.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
const WHEN_FREE: &str = "the machine is started as soon as it is let go of";

const NO_LEASE: &str = "it is started as soon as this host has a lease for it, unless another host starts it";
const NO_LEASE_TO_ARRIVE: &str = "the host has no lease for it: it does not reach the one that leads";
const HOST_GOES_DOWN: &str = "the host is going down";

/// Whether the memory of a process is of the past: the machine was another host's since its epoch, and it is not known that it never
/// ran there. Where the epoch is not known there was no lease, and only machines with leases fail over.
fn is_past(epoch: Option<u64>, away: bool, desired: &Desired) -> bool {
    match epoch {
        Some(epoch) if epoch == desired.epoch => false,
        Some(epoch) => !(desired.returned && epoch + 2 == desired.epoch),
        None => away && desired.leased && !desired.returned,
    }
}

/// The pause before the restart after this many failures in a row.
fn back_off(failures: u32) -> Duration {
    let seconds = 1u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_BACK_OFF)
}

fn event(level: EventLevel, kind: &'static str, message: String) -> Effect {
    Effect::Event { level, kind, message }
}

impl Up {
    fn new(pid: Option<u32>, started_at: Option<Timestamp>, state: &MachineState, now: Now) -> Self {
        Self {
            paused: *state == MachineState::Paused,
            away: *state == MachineState::Away,
            since: now.clock,
            started_at: started_at.unwrap_or(now.wall),
            pid,
            stop: Stop::No,
            pressed: false,
            nudge: None,
            tpm_failed: None,
        }
    }

    /// Takes back what was let go of; where it is to end at once, it ends.
    fn reclaim(&mut self, desired: &Desired, now: Now, effects: &mut Vec<Effect>) -> bool {
        if desired.spec.power == PowerState::Stopped && desired.stop.force {
            return self.kill(now, effects);
        }
        if self.nudge.is_none_or(|at| now.clock >= at) {
            self.nudge = Some(now.clock + NUDGE);
            effects.push(Effect::Act(Action::Reclaim));
        }
        false
    }

    fn press(&mut self, now: Now, since: Instant, effects: &mut Vec<Effect>) {
        if self.paused {
            // Halted virtual CPUs cannot hear the button.
            effects.push(Effect::Act(Action::Resume));
        }
        effects.push(Effect::Act(Action::PowerButton));
        self.pressed = true;
        self.stop = Stop::Asked { since, last: now.clock };
    }

    /// Kills now, or again where the last time had no effect. Never opens a further decision.
    fn kill(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        if !matches!(self.stop, Stop::Killing { again } if now.clock < again) {
            self.stop = Stop::Killing { again: now.clock + NUDGE };
            effects.push(Effect::Act(Action::Kill));
        }
        false
    }
}

#[path = "life_changes.rs"]
mod changes;
#[path = "life_status.rs"]
mod status;

use changes::{Changes, told};

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
