//! The registers and the counting of the watchdog. No I/O, no clock: moments come in.
//!
//! ```text
//!            enable            first time over              second time over
//!  Stopped ─────────▶ Stage 1 ────────────────▶ Stage 2 ────────────────────▶ Expired (the machine acts), stopped
//!     ▲  disable        ▲ ▲        reload          │           free run: Stage 1 again
//!     └─────────────────┘ └────────────────────────┘
//! ```
//! A write to a timer or to reload counts only right after 0x80 and 0x86 were written to reload. Once locked, what the lock
//! register says stays until a reset. Invariant: a guest that reloads in time is never said to have expired; while the
//! machine stands still no time passes.

use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Offset of the configuration register in configuration space, 16 bits.
pub(super) const CONFIG: u16 = 0x60;
/// Offset of the lock register in configuration space, 8 bits.
pub(super) const LOCK: u16 = 0x68;
const CONFIG_FAST: u16 = 1 << 2;
const CONFIG_NO_OUTPUT: u16 = 1 << 5;
const LOCK_LOCKED: u8 = 1;
const LOCK_ENABLE: u8 = 2;
const LOCK_FREE_RUN: u8 = 4;

const TIMER1: u64 = 0;
const TIMER2: u64 = 4;
const RELOAD: u64 = 12;
const UNLOCK: [u32; 2] = [0x80, 0x86];
const RELOAD_NOW: u32 = 1 << 8;
const TIMED_OUT: u32 = 1 << 9;
/// Bits of a timer.
const PRELOAD: u32 = 0xf_ffff;
/// A tick of the bus, and how many of them make one of the timers, by the configuration register.
const BUS_TICK: Duration = Duration::from_nanos(30);
const SLOW: u32 = 1 << 15;
const FAST: u32 = 1 << 5;

/// What is counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    First,
    Second,
}

/// The watchdog as it is saved: what is left of the time instead of its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    config: u16,
    lock: u8,
    preload: [u32; 2],
    unlock: u8,
    stage: Stage,
    left_nanos: Option<u64>,
    timed_out: bool,
}

/// The watchdog.
#[derive(Clone, Debug)]
pub(super) struct Watchdog {
    config: u16,
    lock: u8,
    preload: [u32; 2],
    /// Words of [`UNLOCK`] written.
    unlock: u8,
    stage: Stage,
    /// End of the stage; none: nothing counts.
    due: Option<Instant>,
    /// Left of the stage while the machine stands still.
    left: Option<Duration>,
    /// It expired, and nobody has taken note yet.
    timed_out: bool,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        Self {
            config: 0,
            lock: 0,
            preload: [PRELOAD; 2],
            unlock: 0,
            stage: Stage::First,
            due: None,
            left: None,
            timed_out: false,
        }
    }

    /// Power-on; that it expired is remembered, for the guest that starts then.
    pub(super) fn reset(&mut self) {
        *self = Self { timed_out: self.timed_out, ..Self::new() };
    }

    /// When something happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    fn length(&self, stage: Stage) -> Duration {
        let scale = if self.config & CONFIG_FAST == 0 { SLOW } else { FAST };
        let [first, second] = self.preload;
        let ticks = if stage == Stage::First { first } else { second };
        BUS_TICK * scale * ticks.max(1)
    }

    fn begin(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.due = Some(now + self.length(stage));
    }

    /// It is `now`. True: it has expired, and the machine is to act.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        if self.stage == Stage::First {
            self.begin(Stage::Second, now);
            return false;
        }
        if self.lock & LOCK_FREE_RUN != 0 {
            self.begin(Stage::First, now);
            return false;
        }
        self.due = None;
        self.timed_out = true;
        self.config & CONFIG_NO_OUTPUT == 0
    }

    /// The guest wrote the configuration register.
    pub(super) fn set_config(&mut self, value: u16) {
        self.config = value;
    }

    /// The guest wrote the lock register; returns what it reads as.
    pub(super) fn set_lock(&mut self, value: u8, now: Instant) -> u8 {
        if self.lock & LOCK_LOCKED == 0 {
            let was = self.lock & LOCK_ENABLE != 0;
            self.lock = value & (LOCK_LOCKED | LOCK_ENABLE | LOCK_FREE_RUN);
            match (was, self.lock & LOCK_ENABLE != 0) {
                (false, true) => self.begin(Stage::First, now),
                (_, false) => self.due = None,
                _ => {}
            }
        }
        self.lock
    }

    /// The guest reads memory at `offset`.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let value = if self.timed_out { TIMED_OUT } else { 0 };
        for (at, byte) in (offset..).zip(data) {
            let within = at.checked_sub(RELOAD).and_then(|at| usize::try_from(at).ok());
            *byte = within.and_then(|at| value.to_le_bytes().get(at).copied()).unwrap_or(0);
        }
    }

    /// The guest writes memory at `offset`.
    pub(super) fn write(&mut self, offset: u64, data: &[u8], now: Instant) {
        let value = data.iter().take(4).rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        let unlocked = std::mem::take(&mut self.unlock);
        let next = UNLOCK.get(usize::from(unlocked));
        match (offset, next) {
            (RELOAD, Some(word)) if value & 0xff == *word => self.unlock = unlocked + 1,
            (RELOAD, None) => {
                if value & RELOAD_NOW != 0 && self.lock & LOCK_ENABLE != 0 {
                    self.begin(Stage::First, now);
                }
                if value & TIMED_OUT != 0 {
                    self.timed_out = false;
                }
            }
            (TIMER1, None) => self.preload[0] = value & PRELOAD,
            (TIMER2, None) => self.preload[1] = value & PRELOAD,
            _ => {}
        }
    }

    /// The machine stands still.
    pub(super) fn pause(&mut self, now: Instant) {
        self.left = self.due.take().map(|due| due.saturating_duration_since(now));
    }

    /// The machine goes on.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(left) = self.left.take() {
            self.due = Some(now + left);
        }
    }

    /// While it stands still.
    pub(super) fn save(&self) -> Saved {
        let nanos = |left: Duration| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        Saved {
            config: self.config,
            lock: self.lock,
            preload: self.preload,
            unlock: self.unlock,
            stage: self.stage,
            left_nanos: self.left.map(nanos),
            timed_out: self.timed_out,
        }
    }

    /// Takes up a saved one; it stands still.
    pub(super) fn load(&mut self, saved: &Saved) {
        // The longest there is, so that a made-up one cannot reach beyond the clock.
        let longest = BUS_TICK * SLOW * PRELOAD;
        *self = Self {
            config: saved.config,
            lock: saved.lock,
            preload: saved.preload.map(|preload| preload & PRELOAD),
            unlock: saved.unlock.min(UNLOCK.len() as u8),
            stage: saved.stage,
            due: None,
            left: saved.left_nanos.map(|nanos| Duration::from_nanos(nanos).min(longest)),
            timed_out: saved.timed_out,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unlocked(dog: &mut Watchdog, offset: u64, value: u32, now: Instant) {
        for (offset, value) in [(RELOAD, 0x80), (RELOAD, 0x86), (offset, value)] {
            dog.write(offset, &value.to_le_bytes()[..], now);
        }
    }

    /// Enabled as a driver does, with so many ticks in each stage (about a millisecond each).
    fn enabled(ticks: u32, now: Instant) -> Watchdog {
        let mut dog = Watchdog::new();
        dog.set_config(3);
        unlocked(&mut dog, TIMER1, ticks, now);
        unlocked(&mut dog, TIMER2, ticks, now);
        dog.set_lock(LOCK_ENABLE, now);
        dog
    }

    fn expires(dog: &mut Watchdog) -> Option<Instant> {
        for _ in 0..3 {
            let due = dog.due()?;
            if dog.tick(due) {
                return Some(due);
            }
        }
        None
    }

    #[test]
    fn it_expires_after_both_stages_and_the_next_guest_sees_it() {
        let now = Instant::now();
        let mut dog = enabled(1000, now);
        let after = expires(&mut dog).unwrap() - now;
        assert_eq!(after, 2 * 1000 * Duration::from_nanos(30 * 32768));
        assert_eq!(dog.due(), None);
        dog.reset();
        let mut status = [0; 2];
        dog.read(RELOAD, &mut status);
        assert_eq!(u16::from_le_bytes(status) & 0x200, 0x200);
        unlocked(&mut dog, RELOAD, TIMED_OUT, now);
        dog.read(RELOAD, &mut status);
        assert_eq!(status, [0; 2]);
    }

    #[test]
    fn the_lock_holds_and_writes_need_the_key() {
        let now = Instant::now();
        let mut dog = enabled(1000, now);
        dog.write(TIMER1, &5_u32.to_le_bytes(), now);
        assert_eq!(dog.preload[0], 1000);
        assert_eq!(dog.set_lock(LOCK_LOCKED | LOCK_ENABLE, now), 3);
        assert_eq!(dog.set_lock(0, now), 3, "it cannot be switched off any more");
        assert!(expires(&mut dog).is_some());
        let mut dog = enabled(10, now);
        dog.set_config(CONFIG_NO_OUTPUT);
        assert_eq!(expires(&mut dog), None, "the guest does not want the machine to act");
        let mut dog = enabled(10, now);
        dog.set_lock(0, now);
        assert_eq!(dog.due(), None);
    }

    #[test]
    fn no_time_passes_while_the_machine_stands_still() {
        let now = Instant::now();
        let mut dog = enabled(1000, now);
        dog.pause(now + Duration::from_millis(400));
        assert!(!dog.tick(now + Duration::from_secs(3600)));
        let mut other = Watchdog::new();
        other.load(&dog.save());
        assert_eq!(other.save(), dog.save());
        let later = now + Duration::from_secs(3600);
        other.resume(later);
        let left = other.due().unwrap() - later;
        assert_eq!(left, Duration::from_nanos(1000 * 30 * 32768) - Duration::from_millis(400));
    }

    proptest! {
        #[test]
        fn whoever_reloads_in_time_is_left_alone(
            ticks in 100_u32..1000, steps in prop::collection::vec((1_u64..190, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let mut now = Instant::now();
            let mut dog = enabled(ticks, now);
            for (millis, pauses, looks) in steps {
                // Both stages are at least 196 milliseconds.
                now += Duration::from_millis(millis);
                if looks {
                    prop_assert!(!dog.tick(now));
                }
                if pauses {
                    dog.pause(now);
                    now += Duration::from_secs(100);
                    dog.resume(now);
                }
                unlocked(&mut dog, RELOAD, RELOAD_NOW, now);
            }
            prop_assert!(expires(&mut dog).is_some(), "and who stops is not");
        }

        #[test]
        fn any_access_is_survived(
            accesses in prop::collection::vec((0_u8..5, any::<u64>(), prop::collection::vec(any::<u8>(), 0..9)), 0..60),
        ) {
            let mut now = Instant::now();
            let mut dog = Watchdog::new();
            for (kind, offset, mut data) in accesses {
                now += Duration::from_millis(offset & 0x3ff);
                match kind {
                    0 => dog.read(offset % 32, &mut data),
                    1 => dog.write(offset % 32, &data, now),
                    2 => drop(dog.set_lock(offset as u8, now)),
                    3 => dog.set_config(offset as u16),
                    _ => drop(dog.tick(now)),
                }
                dog.read(offset, &mut data);
            }
        }
    }
}
