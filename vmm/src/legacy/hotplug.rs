//! The registers by which a guest learns which devices come and go, and says that it has let go of one. Read and written by
//! the methods in the DSDT (see [`crate::acpi`]).
//!
//! | offset | bytes | register |
//! |---|---|---|
//! | 0 | 4 | slots devices have come to, or gone from without a word; read clears |
//! | 4 | 4 | slots whose devices are asked for; read clears |
//! | 8 | 4 | written: the guest lets go of the devices in these slots |
//!
//! A slot is a bit. Other widths read as zeros and write nothing.
//!
//! ```text
//!  in its slot ── ask ─▶ asked for ── the guest lets go, or is reset ─▶ gone
//!       ▲                    │
//!       └────── forget ──────┘  (the guest may still let go: then it is gone, too)
//! ```

use super::power::{HOTPLUG, Power};
use crate::state::Saved;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// First port.
pub const BASE: u16 = 0x620;
/// Last port.
pub const END: u16 = 0x62f;
/// Bytes of the registers for slots.
pub const SLOTS_LENGTH: u8 = 12;

const CAME: u16 = 0;
const ASKED: u16 = 4;
const EJECT: u16 = 8;

/// What of it is not the devices' own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedHotplug {
    /// What the guest has not read yet of slots that changed.
    came: u32,
    /// … of slots whose devices are asked for.
    asked: u32,
}

impl Saved for SavedHotplug {
    const KIND: &'static str = "hotplug";
}

#[derive(Default)]
struct Registers {
    saved: SavedHotplug,
    /// Slots whose devices are asked for, whether or not the guest has read so.
    wanted: u32,
}

/// The registers.
pub struct Hotplug {
    registers: Mutex<Registers>,
    power: Arc<Power>,
}

fn bit(slot: usize) -> u32 {
    u32::try_from(slot).ok().and_then(|slot| 1_u32.checked_shl(slot)).unwrap_or(0)
}

impl Hotplug {
    /// Nothing has come or gone; `power` tells the guest to look.
    #[must_use]
    pub fn new(power: Arc<Power>) -> Self {
        Self { registers: Mutex::default(), power }
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device came to a slot, or was taken from it without asking.
    pub fn changed(&self, slot: usize) {
        let mut registers = self.lock();
        registers.saved.came |= bit(slot);
        registers.saved.asked &= !bit(slot);
        registers.wanted &= !bit(slot);
        drop(registers);
        self.power.raise(HOTPLUG);
    }

    /// Asks for the device in a slot.
    pub fn ask(&self, slot: usize) {
        let mut registers = self.lock();
        registers.saved.asked |= bit(slot);
        registers.wanted |= bit(slot);
        drop(registers);
        self.power.raise(HOTPLUG);
    }

    /// Asks no more. What the guest has read it may still do.
    pub fn forget(&self, slot: usize) {
        let mut registers = self.lock();
        registers.saved.asked &= !bit(slot);
        registers.wanted &= !bit(slot);
    }

    /// The guest is gone: nothing is pending. Returns the slots whose devices it was asked for.
    pub fn reset(&self) -> Vec<usize> {
        let mut registers = self.lock();
        let wanted = std::mem::take(&mut *registers).wanted;
        slots(wanted)
    }

    /// A port is read.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        data.fill(0);
        if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            let saved = &mut self.lock().saved;
            let value = match offset {
                CAME => std::mem::take(&mut saved.came),
                ASKED => std::mem::take(&mut saved.asked),
                _ => 0,
            };
            *data = value.to_le_bytes();
        }
    }

    /// A port is written. Returns the slots whose devices the guest lets go of.
    pub fn write(&self, offset: u16, data: &[u8]) -> Vec<usize> {
        match (offset, <[u8; 4]>::try_from(data)) {
            (EJECT, Ok(bytes)) => {
                let ejected = u32::from_le_bytes(bytes);
                self.lock().wanted &= !ejected;
                slots(ejected)
            }
            _ => Vec::new(),
        }
    }

    /// What is pending. Who asked is not there any more where it is taken up: what was asked for is not wanted then.
    #[must_use]
    pub fn save(&self) -> SavedHotplug {
        self.lock().saved
    }

    /// Takes up what was pending; the event that tells of it is saved with the others.
    pub fn load(&self, saved: SavedHotplug) {
        *self.lock() = Registers { saved, wanted: 0 };
    }
}

/// Their numbers.
fn slots(bits: u32) -> Vec<usize> {
    (0..32).filter(|slot| bits & bit(*slot) != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::power;

    fn registers() -> (Hotplug, Arc<Power>) {
        let power = Arc::new(Power::new().unwrap());
        (Hotplug::new(Arc::clone(&power)), power)
    }

    fn read(hotplug: &Hotplug, offset: u16) -> u32 {
        let mut data = [0xff; 4];
        hotplug.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn what_changed_is_read_once_and_told_by_an_event() {
        let (hotplug, power) = registers();
        hotplug.changed(5);
        hotplug.changed(31);
        hotplug.ask(7);
        let mut events = [0];
        power.read(power::EVENTS, &mut events);
        assert_eq!(events, [HOTPLUG]);
        assert_eq!((read(&hotplug, CAME), read(&hotplug, CAME)), (1 << 5 | 1 << 31, 0));
        assert_eq!((read(&hotplug, ASKED), read(&hotplug, ASKED)), (1 << 7, 0));
        assert_eq!(hotplug.write(EJECT, &(1_u32 << 7).to_le_bytes()), [7]);
        assert_eq!(hotplug.reset(), [0_usize; 0], "it has let go already");
    }

    #[test]
    fn a_reset_lets_go_of_what_is_still_asked_for() {
        let (hotplug, _) = registers();
        hotplug.ask(3);
        hotplug.ask(4);
        read(&hotplug, ASKED);
        hotplug.forget(4);
        assert_eq!(hotplug.reset(), [3]);
        assert_eq!((read(&hotplug, ASKED), hotplug.reset()), (0, vec![]));
    }

    #[test]
    fn other_widths_and_places_do_nothing() {
        let (hotplug, _) = registers();
        hotplug.changed(1);
        for length in [0, 1, 2, 3, 5, 8] {
            let mut data = vec![0xff; length];
            hotplug.read(CAME, &mut data);
            assert_eq!(data, vec![0; length]);
            assert!(
                hotplug.write(EJECT, &data).is_empty() && hotplug.write(EJECT, &vec![1; length]).is_empty()
            );
        }
        assert!(hotplug.write(CAME, &[0xff; 4]).is_empty());
        assert_eq!(read(&hotplug, CAME), 2);
        let saved = hotplug.save();
        hotplug.changed(9);
        hotplug.load(saved);
        assert_eq!(read(&hotplug, CAME), 0, "read before it was saved");
    }
}
