//! The ACPI power management timer: 3.579545 MHz, 32 bits (ACPI 6.5, 4.8.3.3). Firmware measures its delays by it.

use crate::{pci::q35, state::Saved};
use serde::{Deserialize, Serialize};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// Its first port.
pub const PORT: u16 = q35::PM_BASE + 8;
/// Its last port.
pub const LAST: u16 = PORT + 3;
const HERTZ: u128 = 3_579_545;

/// The timer, saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedTimer {
    /// Since power-on.
    nanoseconds: u64,
}

impl Saved for SavedTimer {
    const KIND: &'static str = "pm-timer";
}

/// The timer; it runs from when it was made, or from where a saved one stood.
pub struct Timer {
    made: Instant,
    /// Nanoseconds it is ahead, modulo 2^64.
    ahead: AtomicU64,
}

impl Timer {
    /// Counts from now.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "all devices are made by `new`")]
    pub fn new() -> Self {
        Self { made: Instant::now(), ahead: AtomicU64::new(0) }
    }

    /// Reads at `offset` inside the register.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        fill(ticks(self.now().into()), offset, data);
    }

    fn now(&self) -> u64 {
        (self.made.elapsed().as_nanos() as u64).wrapping_add(self.ahead.load(Ordering::Relaxed))
    }

    /// How far it is.
    #[must_use]
    pub fn save(&self) -> SavedTimer {
        SavedTimer { nanoseconds: self.now() }
    }

    /// Goes on where a saved one stood.
    pub fn load(&self, saved: SavedTimer) {
        self.ahead.fetch_add(saved.nanoseconds.wrapping_sub(self.now()), Ordering::Relaxed);
    }
}

fn ticks(nanoseconds: u128) -> u32 {
    (nanoseconds * HERTZ / 1_000_000_000) as u32
}

fn fill(ticks: u32, offset: u16, data: &mut [u8]) {
    for (at, byte) in (offset..).zip(data) {
        *byte = ticks.to_le_bytes().get(usize::from(at)).copied().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_at_its_rate_and_wraps() {
        assert_eq!(ticks(1_000_000_000), 3_579_545);
        assert_eq!(ticks(1_200_000_000_000), (3_579_545_u64 * 1200 % (1 << 32)) as u32);
        let mut data = [0; 4];
        fill(0x1234_5678, 1, &mut data);
        assert_eq!(data, [0x56, 0x34, 0x12, 0]);
        let timer = Timer::new();
        let mut read = || {
            timer.read(0, &mut data);
            u32::from_le_bytes(data)
        };
        let first = read();
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(read() - first >= 17_000);
    }

    #[test]
    fn it_goes_on_where_it_stood_forwards_and_backwards() {
        let timer = Timer::new();
        for nanoseconds in [3_600_000_000_000, 5, u64::MAX / 2] {
            timer.load(SavedTimer { nanoseconds });
            let now = timer.save().nanoseconds;
            assert!((nanoseconds..nanoseconds + 5_000_000_000).contains(&now), "{now}");
        }
    }
}
