//! Until when the machine may write to its disks. No I/O, no clock: moments in, effects out.
//!
//! ```text
//!          set                  margin before the deadline, or release              grace over
//!  Free ────────▶ Held ────────────────────────────────────────────▶ Stopped ───────────────────▶ Lost (the end)
//!    ▲            │ ▲ set: later deadline, no older epoch              │
//!    └────────────┘ └──────────────────────────────────────────────────┘
//!   release, running on          set: the guest goes on
//!
//!  time ──── Held ─────┬── margin ──────────┬── grace ─────────┬
//!            I/O       │ what is under way  │ nothing at all   │ Lost
//!                    fence               deadline
//! ```
//! Invariants
//! - A lease never gets shorter, but by a release; no grant of an older epoch changes anything.
//! - No request is begun at or after the fence ([`Lease::fence`]), no system call on a disk at or after the deadline: both
//!   are looked at where they are begun ([`fence`]), whatever else is delayed.
//! - While the machine is another host's ([`Lease::set_away`]) the lease neither ends the monitor nor comes back by itself.

pub mod fence;

use lq_api::local::vmm::{LeasePhase, LeaseStatus};
use std::time::Duration;

/// A moment on `CLOCK_BOOTTIME`, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Before everything.
    pub const PAST: Self = Self(0);
    /// After everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// Of milliseconds on the clock.
    #[must_use]
    pub const fn of_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Milliseconds on the clock, rounded down.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    fn later(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn earlier(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Why a grant or a release changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Someone owns the machine by a newer epoch.
    #[error("epoch {epoch} is not that of the lease, {held}")]
    Epoch {
        /// The one that came.
        epoch: u64,
        /// The lease's.
        held: u64,
    },
    /// It would end earlier than it does.
    #[error("the lease ends at {held} ms of the boot clock: it cannot be shortened, only released")]
    Shorter {
        /// Its end.
        held: u64,
    },
    /// The deadline, less the margin, is past.
    #[error("the deadline lies at {deadline} ms of the boot clock: too early to do anything before it")]
    Past {
        /// The one that came.
        deadline: u64,
    },
    /// It has run out, and what it was for is over.
    #[error("the lease is lost")]
    Lost,
    /// There is nothing to release.
    #[error("the machine holds no lease")]
    NotHeld,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Halt the guest, and make the disks durable before the moment.
    Stop(Moment),
    /// Let the guest go on, if it was halted by the lease.
    GoOn,
    /// End the monitor without touching a disk.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Held { epoch: u64, deadline: Moment },
    Stopped { epoch: u64, deadline: Moment, lost_at: Moment, released: bool },
    Lost { epoch: u64, deadline: Moment },
}

/// The lease of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    margin: Duration,
    grace: Duration,
    state: State,
    away: bool,
}

impl Lease {
    /// None: the machine may run for ever. The terms are those of a lease it is given later.
    #[must_use]
    pub const fn none(margin: Duration, grace: Duration) -> Self {
        Self { margin, grace, state: State::Free, away: false }
    }

    /// A grant came at `now`.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing has changed.
    pub fn set(&mut self, now: Moment, epoch: u64, deadline: Moment) -> Result<Effect, Refusal> {
        let effect = match self.state {
            State::Free => Effect::None,
            State::Lost { .. } => return Err(Refusal::Lost),
            State::Held { epoch: held, .. } | State::Stopped { epoch: held, .. } if epoch < held => {
                return Err(Refusal::Epoch { epoch, held });
            }
            // What was given back is granted again only by a new epoch.
            State::Stopped { epoch: held, released: true, .. } if epoch == held => {
                return Err(Refusal::Epoch { epoch, held });
            }
            State::Held { deadline: held, .. } | State::Stopped { deadline: held, released: false, .. }
                if deadline < held =>
            {
                return Err(Refusal::Shorter { held: held.millis() });
            }
            State::Held { .. } => Effect::None,
            State::Stopped { .. } => Effect::GoOn,
        };
        if deadline.earlier(self.margin) <= now {
            return Err(Refusal::Past { deadline: deadline.millis() });
        }
        self.state = State::Held { epoch, deadline };
        Ok(effect)
    }

    /// It is given back at `now`; `run_on`: the machine needs none any more.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing has changed.
    pub fn release(&mut self, now: Moment, epoch: u64, run_on: bool) -> Result<Effect, Refusal> {
        let State::Held { epoch: held, deadline } = self.state else { return Err(Refusal::NotHeld) };
        if epoch != held {
            return Err(Refusal::Epoch { epoch, held });
        }
        if run_on {
            self.state = State::Free;
            return Ok(Effect::None);
        }
        // Until the deadline what is under way may be finished.
        let lost_at = now.min(deadline).later(self.grace);
        self.state = State::Stopped { epoch, deadline, lost_at, released: true };
        Ok(Effect::Stop(deadline))
    }

    /// It is `now`.
    pub fn tick(&mut self, now: Moment) -> Effect {
        match self.state {
            State::Held { epoch, deadline } if deadline.earlier(self.margin) <= now => {
                let lost_at = deadline.later(self.grace);
                self.state = State::Stopped { epoch, deadline, lost_at, released: false };
                Effect::Stop(deadline)
            }
            State::Stopped { epoch, deadline, lost_at, .. } if lost_at <= now && !self.away => {
                self.state = State::Lost { epoch, deadline };
                Effect::End
            }
            _ => Effect::None,
        }
    }

    /// When [`Lease::tick`] does something next.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        match self.state {
            State::Held { deadline, .. } => Some(deadline.earlier(self.margin)),
            State::Stopped { lost_at, .. } if !self.away => Some(lost_at),
            _ => None,
        }
    }

    /// The machine is another host's, or is back from there.
    pub fn set_away(&mut self, away: bool) {
        self.away = away;
    }

    /// From when on no request is begun.
    #[must_use]
    pub fn fence(&self) -> Moment {
        match self.state {
            State::Free => Moment::NEVER,
            State::Held { deadline, .. } => deadline.earlier(self.margin),
            State::Stopped { .. } | State::Lost { .. } => Moment::PAST,
        }
    }

    /// From when on nothing at all is done to a disk.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        match self.state {
            State::Free => Moment::NEVER,
            State::Held { deadline, .. } | State::Stopped { deadline, .. } | State::Lost { deadline, .. } => {
                deadline
            }
        }
    }

    /// As the control protocol says it.
    #[must_use]
    pub fn status(&self) -> Option<LeaseStatus> {
        let status = |phase, epoch, deadline: Moment| LeaseStatus {
            phase,
            epoch,
            deadline_boot_ms: deadline.millis(),
        };
        match self.state {
            State::Free => None,
            State::Held { epoch, deadline } => Some(status(LeasePhase::Held, epoch, deadline)),
            State::Stopped { epoch, deadline, .. } | State::Lost { epoch, deadline } => {
                Some(status(LeasePhase::Stopped, epoch, deadline))
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
