//! The real-time clock (MC146818) and its memory: time by the host's clock in UTC, and how much RAM there is.
//!
//! The FADT says that there is none, so that Linux takes its time from KVM and saves the accesses; it is here for those
//! who look anyway. Alarms and periodic interrupts do not exist. What a guest writes into the memory is kept, the time
//! is not set.

use crate::state::{self, Saved};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

const SIZE: usize = 128;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_C: u8 = 0x0c;
const STATUS_D: u8 = 0x0d;
const CENTURY: u8 = 0x32;
/// 32.768 kHz, no update under way.
const DIVIDER: u8 = 0x26;
/// 24 hours, BCD.
const MODE: u8 = 0x02;
const MODE_BINARY: u8 = 0x04;
/// The battery is good.
const VALID: u8 = 0x80;

/// The clock, saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedClock {
    index: u8,
    memory: Vec<u8>,
}

impl Saved for SavedClock {
    const KIND: &'static str = "clock";
}

/// The clock.
pub struct Clock {
    index: u8,
    memory: [u8; SIZE],
    initial: [u8; SIZE],
}

impl Clock {
    /// On a machine with `ram` bytes.
    #[must_use]
    pub fn new(ram: u64) -> Self {
        let mut memory = [0; SIZE];
        let low = ram.min(crate::memory::LOW_RAM_END);
        // Memory above 16 MiB in 64 KiB units, then memory above 4 GiB in 64 KiB units.
        let above_16m = ((low.saturating_sub(16 << 20)) >> 16).min(0xffff) as u16;
        memory[0x34..0x36].copy_from_slice(&above_16m.to_le_bytes());
        let above_4g = ((ram - low) >> 16).min(0xff_ffff) as u32;
        memory[0x5b..0x5e].copy_from_slice(&above_4g.to_le_bytes()[..3]);
        memory[usize::from(STATUS_B)] = MODE;
        Self { index: 0, memory, initial: memory }
    }

    /// Index and memory.
    #[must_use]
    pub fn save(&self) -> SavedClock {
        SavedClock { index: self.index, memory: self.memory.to_vec() }
    }

    /// Takes up a saved index and memory.
    pub fn load(&mut self, saved: &SavedClock) -> Result<(), state::Error> {
        let problem = format!("{} bytes, not {SIZE}", saved.memory.len());
        let invalid = |_| state::Error::Invalid { kind: SavedClock::KIND.into(), id: 0, problem };
        self.memory = saved.memory.as_slice().try_into().map_err(invalid)?;
        self.index = saved.index;
        Ok(())
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        *self = Self { index: 0, memory: self.initial, initial: self.initial };
    }

    /// A write of the index or the data register.
    pub fn write(&mut self, data: bool, value: u8) {
        if !data {
            self.index = value & 0x7f;
        } else if !matches!(self.index, 0..=9 | STATUS_A | STATUS_C | STATUS_D | CENTURY)
            && let Some(byte) = self.memory.get_mut(usize::from(self.index))
        {
            *byte = value;
        }
    }

    /// A read of the data register.
    #[must_use]
    pub fn read(&self) -> u8 {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.read_at(seconds)
    }

    fn read_at(&self, seconds: u64) -> u8 {
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let value = match self.index {
            0 => second % 60,
            2 => second / 60 % 60,
            4 => second / 3600,
            // 1 January 1970 was a Thursday, day 5 where Sunday is 1.
            6 => (days + 4) % 7 + 1,
            7 => day,
            8 => month,
            9 => year % 100,
            CENTURY => year / 100,
            STATUS_A => return DIVIDER,
            STATUS_C => return 0,
            STATUS_D => return VALID,
            index => return self.memory.get(usize::from(index)).copied().unwrap_or(0),
        } as u8;
        let binary = self.memory[usize::from(STATUS_B)] & MODE_BINARY != 0;
        if binary { value } else { ((value / 10) << 4) | (value % 10) }
    }
}

/// Year, month and day of the month of a day counted from 1 January 1970 (Gregorian).
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 1 March of year 0, so that the leap day ends a year; 719,468 days lie between.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> String {
        let mut clock = Clock::new(1 << 30);
        let mut show = |index| {
            clock.write(false, index);
            clock.read_at(seconds)
        };
        format!(
            "{:02x}{:02x}-{:02x}-{:02x} {:x} {:02x}:{:02x}:{:02x}",
            show(0x32),
            show(9),
            show(8),
            show(7),
            show(6),
            show(4),
            show(2),
            show(0)
        )
    }

    #[test]
    fn time_is_shown_in_bcd() {
        assert_eq!(at(0), "1970-01-01 5 00:00:00");
        assert_eq!(at(951_827_696), "2000-02-29 3 12:34:56");
        assert_eq!(at(1_795_470_019), "2026-11-23 2 21:40:19");
    }

    #[test]
    fn memory_size_is_told_and_survives_any_access() {
        let mut clock = Clock::new(5 << 30);
        for index in 0..=255 {
            clock.write(false, index);
            let _ = clock.read();
        }
        clock.write(false, 0x35);
        assert_eq!(clock.read(), 0x7f);
        clock.write(false, 0x5c);
        assert_eq!(clock.read(), 0xc0);
        clock.write(true, 1);
        clock.reset();
        clock.write(false, 0x5c);
        assert_eq!(clock.read(), 0xc0);
    }
}
