//! When to halt the guest, and how much to slow it down until then. No I/O, no clock.
//!
//! After each pass over memory the pages written meanwhile are known, and how fast pages went. If the rest can be sent within
//! the allowed pause, the guest is halted. If passes stop getting shorter, the guest writes faster than the connection
//! takes: it is given less time, step by step.

use std::time::Duration;

/// Passes that may fail to get shorter before the guest is slowed down.
const PATIENT_PASSES: u32 = 2;
/// Per cent of its time taken with each step.
const STEP: u8 = 20;
/// Most of its time that is taken: it never stands still for longer than the pause allows.
const MOST: u8 = 99;
/// A pass is shorter if it is less than so many per cent of the one before.
const SHORTER: u64 = 70;
/// Of the allowed pause, what is left for sending pages; the rest is for state and answers. Per cent.
const FOR_PAGES: u32 = 60;

/// What to do after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send what was written and look again.
    Copy,
    /// Halt the guest and send the rest.
    Halt,
}

/// The course so far.
#[derive(Debug)]
pub(super) struct Plan {
    pause: Duration,
    last: Option<u64>,
    not_shorter: u32,
    throttle: u8,
}

impl Plan {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, last: None, not_shorter: 0, throttle: 0 }
    }

    /// After a pass: `dirty` pages were written meanwhile; `rate` pages go in a second.
    pub(super) fn after_pass(&mut self, dirty: u64, rate: f64) -> Next {
        let budget = self.pause * FOR_PAGES / 100;
        if dirty as f64 <= rate * budget.as_secs_f64() {
            return Next::Halt;
        }
        let shorter = self.last.is_none_or(|last| dirty * 100 < last * SHORTER);
        self.not_shorter = if shorter { 0 } else { self.not_shorter + 1 };
        if self.not_shorter >= PATIENT_PASSES {
            self.not_shorter = 0;
            self.throttle = self.throttle.saturating_add(STEP).min(MOST);
        }
        self.last = Some(dirty);
        Next::Copy
    }

    /// Per cent of its time that the guest is to rest.
    pub(super) fn throttle(&self) -> u8 {
        self.throttle
    }
}

/// How long to wait before more is sent: `sent` bytes went in `elapsed`, `limit` may go in a second.
pub(super) fn wait(limit: Option<u64>, sent: u64, elapsed: Duration) -> Duration {
    let due =
        limit.map_or(Duration::ZERO, |limit| Duration::from_secs_f64(sent as f64 / limit.max(1) as f64));
    due.saturating_sub(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_quiet_guest_is_halted_at_once_and_a_busy_one_is_slowed_until_it_can_be() {
        let mut plan = Plan::new(Duration::from_millis(100));
        assert_eq!(plan.after_pass(500, 10_000.0), Next::Halt);
        let mut plan = Plan::new(Duration::from_millis(100));
        // It writes as many pages in the time of a pass as are sent in it, less what it rests.
        let mut dirty = 100_000.0_f64;
        let mut passes = 0;
        while plan.after_pass(dirty as u64, 10_000.0) == Next::Copy {
            dirty = dirty.min(100_000.0) * f64::from(100 - plan.throttle()) / 100.0 + 100.0;
            passes += 1;
            assert!(passes < 100, "it converges");
        }
        assert!(plan.throttle() > 0);
    }

    proptest! {
        #[test]
        fn any_course_is_survived(dirty in prop::collection::vec((any::<u32>(), 0.0_f64..1e9), 0..200)) {
            let mut plan = Plan::new(Duration::from_millis(1));
            for (dirty, rate) in dirty {
                plan.after_pass(dirty.into(), rate);
                prop_assert!(plan.throttle() <= MOST);
            }
        }

        #[test]
        fn the_limit_is_kept(limit in 1_u64..1 << 40, sent in any::<u32>(), millis in 0_u64..100_000) {
            let elapsed = Duration::from_millis(millis);
            let total = elapsed + wait(Some(limit), sent.into(), elapsed);
            prop_assert!(f64::from(sent) / total.as_secs_f64() <= limit as f64 * 1.001);
            prop_assert_eq!(wait(None, sent.into(), elapsed), Duration::ZERO);
        }
    }
}
