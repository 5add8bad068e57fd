//! What is done about an offset. Pure.
//!
//! ```text
//!  starting ── first agreement: stepped where it is large, else slewed ──▶ following: slewed
//!                                                  ▲                          │ far off, and again and again
//!                                                  └───────── stepped ────────┘
//! ```
//! A step is what everything that measures by this clock suffers from; so after the start it takes several agreements in a row
//! that say the same. Nothing of the cluster's safety measures by it (leases run by `CLOCK_BOOTTIME`).

use super::packet::Nanos;

/// At the start an offset beyond this is stepped (RFC 5905: STEPT).
const STEP_AT_START: Nanos = 128_000_000;
/// Later one beyond this, which the kernel's loop does not take.
pub(super) const STEP: Nanos = 500_000_000;
/// So many agreements in a row have to say so.
const TIMES: u32 = 4;

/// What is to be done with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Bring it nearer by running faster or slower.
    Slew(Nanos),
    /// Set it.
    Step(Nanos),
    /// Nothing yet: it is far off, and will be set if it stays so.
    Wait,
}

/// What happened before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Discipline {
    started: bool,
    far: u32,
}

impl Discipline {
    pub(super) fn decide(&mut self, offset: Nanos) -> Action {
        let limit = if self.started { STEP } else { STEP_AT_START };
        if offset.abs() <= limit {
            *self = Self { started: true, far: 0 };
            return Action::Slew(offset);
        }
        if self.started {
            self.far += 1;
            if self.far < TIMES {
                return Action::Wait;
            }
        }
        *self = Self { started: true, far: 0 };
        Action::Step(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn it_is_set_at_the_start_and_later_only_if_it_stays_off() {
        let mut fresh = Discipline::default();
        assert_eq!(fresh.decide(-3_600_000 * MS), Action::Step(-3_600_000 * MS));
        assert_eq!(fresh.decide(300 * MS), Action::Slew(300 * MS));
        for _ in 1..TIMES {
            assert_eq!(fresh.decide(2000 * MS), Action::Wait);
        }
        assert_eq!(fresh.decide(2000 * MS), Action::Step(2000 * MS));
        // One good word among them begins the count anew.
        assert_eq!(fresh.decide(2000 * MS), Action::Wait);
        assert_eq!(fresh.decide(MS), Action::Slew(MS));
        assert_eq!(fresh.decide(2000 * MS), Action::Wait);
        let mut near = Discipline::default();
        assert_eq!(near.decide(100 * MS), Action::Slew(100 * MS));
        assert_eq!(near.decide(200 * MS), Action::Slew(200 * MS));
    }
}
