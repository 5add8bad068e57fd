//! The registers by which a guest learns which processors come and go, and says that it has let go of one. Read and written by
//! the methods in the DSDT (see [`crate::acpi`]).
//!
//! | offset | bytes | register, a bit for each of the first and of the other 32 processors |
//! |---|---|---|
//! | 0, 4 | 4 | processors there are |
//! | 8, 12 | 4 | processors that came; read clears |
//! | 16, 20 | 4 | processors that are asked for; read clears |
//! | 24, 28 | 4 | written: the guest lets go of these processors |
//!
//! Other widths read as zeros and write nothing. The first processor never goes; a guest may let go of others unasked.
//! Invariant: those that were ever made are the first `made`, because the lowest that is missing comes
//! first.

use super::power::{CPUS, Power};
use crate::state::Saved;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// First port.
pub const BASE: u16 = 0x640;
/// Last port.
pub const END: u16 = 0x65f;
/// Bytes of the registers.
pub const LENGTH: u8 = 32;

/// Which processors there are, and what is pending of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedCpus {
    /// So many were ever made.
    pub made: u8,
    /// Those there are.
    pub present: u64,
    /// What the guest has not read yet of those that came.
    came: u64,
    /// … of those that are asked for.
    asked: u64,
    /// Those that are asked for, whether or not the guest has read so.
    wanted: u64,
}

impl Saved for SavedCpus {
    const KIND: &'static str = "cpus";
}

/// The registers.
#[derive(Debug)]
pub struct Cpus {
    most: u8,
    registers: Mutex<SavedCpus>,
    power: Arc<Power>,
}

/// What is to be done so that there are as many processors as are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These come, in this order.
    Come(Vec<u8>),
    /// The guest was asked for so many.
    Asked(u8),
}

fn bit(cpu: u8) -> u64 {
    1_u64.checked_shl(cpu.into()).unwrap_or(0)
}

fn numbers(bits: u64) -> Vec<u8> {
    (0..64).filter(|cpu| bits & bit(*cpu) != 0).collect()
}

impl Cpus {
    /// The first `count` of at most `most` (up to 64) are there; `power` tells the guest to look.
    #[must_use]
    pub fn new(count: u8, most: u8, power: Arc<Power>) -> Self {
        let present = (0..count).fold(0, |bits, cpu| bits | bit(cpu));
        Self {
            most,
            registers: Mutex::new(SavedCpus { made: count, present, ..SavedCpus::default() }),
            power,
        }
    }

    fn lock(&self) -> MutexGuard<'_, SavedCpus> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there can be.
    #[must_use]
    pub fn most(&self) -> u8 {
        self.most
    }

    /// Those there are, a bit each.
    #[must_use]
    pub fn present(&self) -> u64 {
        self.lock().present
    }

    /// What brings the number to `count` (1 to `most`): the lowest that are missing come, the highest are asked for. What was
    /// asked for before and is to stay now is asked for no more; what the guest has read it may still do.
    #[must_use]
    pub fn aim(&self, count: u8) -> Step {
        let mut registers = self.lock();
        registers.asked = 0;
        registers.wanted = 0;
        let there = registers.present.count_ones() as u8;
        if count >= there {
            let missing = numbers(!registers.present).into_iter().take((count - there).into()).collect();
            return Step::Come(missing);
        }
        let too_many = there - count;
        let asked = numbers(registers.present & !1).into_iter().rev().take(too_many.into());
        let asked = asked.fold(0, |bits, cpu| bits | bit(cpu));
        (registers.asked, registers.wanted) = (asked, asked);
        drop(registers);
        self.power.raise(CPUS);
        Step::Asked(too_many)
    }

    /// A processor is there from now on.
    pub fn came(&self, cpu: u8) {
        let mut registers = self.lock();
        registers.made = registers.made.max(cpu.saturating_add(1));
        registers.present |= bit(cpu);
        registers.came |= bit(cpu);
        drop(registers);
        self.power.raise(CPUS);
    }

    /// The guest is gone, with what was pending: what was asked for it has let go of. Returns those.
    pub fn reset(&self) -> Vec<u8> {
        let mut registers = self.lock();
        let gone = registers.wanted & registers.present;
        registers.present &= !gone;
        (registers.came, registers.asked, registers.wanted) = (0, 0, 0);
        numbers(gone)
    }

    /// A port is read.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        data.fill(0);
        if let (Ok(data), 0) = (<&mut [u8; 4]>::try_from(data), offset % 4) {
            let mut registers = self.lock();
            let high = offset & 4 != 0;
            let half = |bits: u64| if high { (bits >> 32) as u32 } else { bits as u32 };
            let mask = if high { u64::MAX << 32 } else { u64::from(u32::MAX) };
            let take = |bits: &mut u64| {
                let value = half(*bits);
                *bits &= !mask;
                value
            };
            let value = match offset / 8 {
                0 => half(registers.present),
                1 => take(&mut registers.came),
                2 => take(&mut registers.asked),
                _ => 0,
            };
            *data = value.to_le_bytes();
        }
    }

    /// A port is written. Returns the processors the guest lets go of.
    pub fn write(&self, offset: u16, data: &[u8]) -> Vec<u8> {
        let (24 | 28, Ok(bytes)) = (offset, <[u8; 4]>::try_from(data)) else { return Vec::new() };
        let bits = u64::from(u32::from_le_bytes(bytes)) << if offset == 28 { 32 } else { 0 };
        let mut registers = self.lock();
        let gone = bits & registers.present & !1;
        registers.present &= !gone;
        registers.wanted &= !gone;
        numbers(gone)
    }

    /// What is pending.
    #[must_use]
    pub fn save(&self) -> SavedCpus {
        *self.lock()
    }

    /// Takes up what was pending; the event that tells of it is saved with the others.
    ///
    /// # Errors
    /// There cannot be such processors here.
    pub fn load(&self, saved: SavedCpus) -> Result<(), String> {
        let possible = (0..saved.made).fold(0, |bits, cpu| bits | bit(cpu));
        if saved.made > self.most || saved.present & !possible != 0 || saved.present & 1 == 0 {
            return Err(format!("it has processors {:#x}, at most {} can be here", saved.present, self.most));
        }
        *self.lock() = saved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::power;
    use proptest::prelude::*;

    fn registers(count: u8, most: u8) -> (Cpus, Arc<Power>) {
        let power = Arc::new(Power::new().unwrap());
        (Cpus::new(count, most, Arc::clone(&power)), power)
    }

    fn read(cpus: &Cpus, offset: u16) -> u32 {
        let mut data = [0xff; 4];
        cpus.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn processors_come_are_asked_for_and_go() {
        let (cpus, power) = registers(2, 40);
        assert_eq!(read(&cpus, 0), 3);
        let Step::Come(missing) = cpus.aim(35) else { panic!() };
        assert_eq!(missing, (2..35).collect::<Vec<_>>());
        missing.into_iter().for_each(|cpu| cpus.came(cpu));
        let mut events = [0];
        power.read(power::EVENTS, &mut events);
        assert_eq!(events, [CPUS]);
        assert_eq!((read(&cpus, 0), read(&cpus, 4)), (u32::MAX, 7));
        assert_eq!((read(&cpus, 8), read(&cpus, 12), read(&cpus, 8), read(&cpus, 12)), (!3, 7, 0, 0));
        assert_eq!(cpus.aim(33), Step::Asked(2));
        assert_eq!((read(&cpus, 16), read(&cpus, 20), read(&cpus, 20)), (0, 6, 0));
        assert_eq!(cpus.write(28, &4_u32.to_le_bytes()), [34]);
        assert_eq!(cpus.write(28, &4_u32.to_le_bytes()), [0_u8; 0], "it is gone");
        // It wanted to let go of the first one, and of one nobody asked for.
        assert_eq!(cpus.write(24, &9_u32.to_le_bytes()), [3]);
        assert_eq!(cpus.aim(35), Step::Come(vec![3, 34]), "the lowest first; what was asked for stays");
        assert_eq!(cpus.reset(), [0_u8; 0]);
        assert_eq!(cpus.aim(1), Step::Asked(32));
        assert_eq!(cpus.reset().len(), 32, "a guest that is reset lets go");
        assert_eq!((read(&cpus, 0), read(&cpus, 4), read(&cpus, 16)), (1, 0, 0));
    }

    proptest! {
        #[test]
        fn the_first_stays_and_a_saved_state_is_taken_up(
            steps in prop::collection::vec((0..3_u8, any::<u8>(), any::<u32>(), 0..40_u16), 0..40),
            length in 0..9_usize,
        ) {
            let (cpus, _) = registers(1, 64);
            for (kind, count, value, offset) in steps {
                match kind {
                    0 => if let Step::Come(all) = cpus.aim(count % 64 + 1) {
                        all.into_iter().for_each(|cpu| cpus.came(cpu));
                        prop_assert_eq!(cpus.present().count_ones(), u32::from(count % 64 + 1));
                    },
                    1 => drop(cpus.write(offset, &value.to_le_bytes())),
                    _ => cpus.read(offset, &mut [0; 8][..length.min(8)]),
                }
                prop_assert!(cpus.present() & 1 == 1);
                let (other, _) = registers(1, 64);
                other.load(cpus.save()).unwrap();
                prop_assert_eq!(other.save(), cpus.save());
            }
        }
    }

    #[test]
    fn it_is_saved_as_the_first_version_did() {
        let (cpus, _) = registers(2, 4);
        cpus.came(2);
        let saved = serde_json::json!({"made": 3, "present": 7, "came": 4, "asked": 0, "wanted": 0});
        assert_eq!(serde_json::to_value(cpus.save()).unwrap(), saved);
    }

    #[test]
    fn a_state_with_too_many_or_without_the_first_is_refused() {
        let (large, _) = registers(8, 8);
        let (small, _) = registers(1, 4);
        assert!(small.load(large.save()).unwrap_err().contains("at most 4"));
        assert!(small.load(SavedCpus { made: 1, present: 0, ..SavedCpus::default() }).is_err());
        assert!(small.load(SavedCpus { made: 1, present: 3, ..SavedCpus::default() }).is_err());
    }
}
