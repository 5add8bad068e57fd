//! The ACPI registers of a hardware-reduced machine, all one byte wide.
//!
//! | offset | register |
//! |---|---|
//! | 0 | sleep control (ACPI 6.5, 4.8.3.7): S5 switches off |
//! | 1 | sleep status: always 0 |
//! | 2 | reset: [`RESET_VALUE`] resets |
//! | 4 | events of the Generic Event Device: read clears; bit 0 = power button, bit 1 = new generation, bit 2 = what came or is to go, bit 3 = processors that came or are to go |
//!
//! An event sets its bit and pulses the device's interrupt; the DSDT's `_EVT` method reads the register.

use crate::{guest::GuestEvent, state::Saved};
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::atomic::{AtomicU8, Ordering},
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// First port.
pub const BASE: u16 = 0x600;
/// Last port.
pub const END: u16 = 0x60f;
/// Offset of sleep control.
pub const SLEEP_CONTROL: u16 = 0;
/// Offset of sleep status.
pub const SLEEP_STATUS: u16 = 1;
/// Offset of the reset register.
pub const RESET: u16 = 2;
/// What a guest writes to reset.
pub const RESET_VALUE: u8 = 1;
/// Offset of the event register.
pub const EVENTS: u16 = 4;
/// Interrupt of the Generic Event Device, edge triggered.
pub const IRQ: u32 = 5;
/// Event: the power button was pressed.
pub const POWER_BUTTON: u8 = 1;
/// Event: the machine is a copy now; its generation has changed.
pub const GENERATION: u8 = 2;
/// Event: devices have come or are asked for (see [`super::hotplug`]).
pub const HOTPLUG: u8 = 4;
/// Event: processors have come or are asked for (see [`super::cpus`]).
pub const CPUS: u8 = 8;
/// Sleep type of S5, in the DSDT's `_S5` too.
pub const S5: u8 = 5;

const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;

/// The registers, saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPower {
    events: u8,
}

impl Saved for SavedPower {
    const KIND: &'static str = "power";
}

/// The registers.
#[derive(Debug)]
pub struct Power {
    events: AtomicU8,
    interrupt: EventFd,
}

impl Power {
    /// Nothing pending.
    pub fn new() -> io::Result<Self> {
        Ok(Self { events: AtomicU8::new(0), interrupt: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? })
    }

    /// The eventfd of [`IRQ`].
    pub fn interrupt(&self) -> &EventFd {
        &self.interrupt
    }

    /// Presses the power button.
    pub fn press(&self) {
        self.raise(POWER_BUTTON);
    }

    /// The machine's generation has changed: it is a copy of another one from now on.
    pub fn new_generation(&self) {
        self.raise(GENERATION);
    }

    /// Sets the bits of an event and interrupts the guest for it.
    pub(super) fn raise(&self, event: u8) {
        self.events.fetch_or(event, Ordering::SeqCst);
        // Fails only when the interrupt is already on its way.
        let _ = self.interrupt.write(1);
    }

    /// The guest reads the register at `offset`.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        data.fill(0);
        if let (EVENTS, Some(byte)) = (offset, data.first_mut()) {
            *byte = self.events.swap(0, Ordering::SeqCst);
        }
    }

    /// The guest writes the register at `offset`.
    pub fn write(&self, offset: u16, data: &[u8]) -> Option<GuestEvent> {
        match (offset, data.first()?) {
            (SLEEP_CONTROL, value) if *value == SLEEP_ENABLE | S5 << SLEEP_TYPE_SHIFT => {
                Some(GuestEvent::PowerOff)
            }
            (RESET, &RESET_VALUE) => Some(GuestEvent::Reset),
            _ => None,
        }
    }

    /// What is pending.
    #[must_use]
    pub fn save(&self) -> SavedPower {
        SavedPower { events: self.events.load(Ordering::SeqCst) }
    }

    /// Takes up what was pending, and interrupts for it: the interrupt may have been on its way.
    pub fn load(&self, saved: &SavedPower) {
        self.events.store(saved.events, Ordering::SeqCst);
        if saved.events != 0 {
            let _ = self.interrupt.write(1);
        }
    }

    /// Forgets what is pending.
    pub fn reset(&self) {
        self.events.store(0, Ordering::SeqCst);
        let _ = self.interrupt.read();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_button_is_seen_once() {
        let power = Power::new().unwrap();
        power.press();
        assert_eq!(power.interrupt().read().unwrap(), 1);
        let mut data = [0xff];
        power.read(EVENTS, &mut data);
        assert_eq!(data, [POWER_BUTTON]);
        power.read(EVENTS, &mut data);
        assert_eq!(data, [0]);
    }

    #[test]
    fn only_the_written_words_switch_off_or_reset() {
        let power = Power::new().unwrap();
        assert_eq!(power.write(SLEEP_CONTROL, &[0x34]), Some(GuestEvent::PowerOff));
        assert_eq!(power.write(SLEEP_CONTROL, &[0x14]), None, "not enabled");
        assert_eq!(power.write(SLEEP_CONTROL, &[0x24]), None, "S1");
        assert_eq!(power.write(RESET, &[RESET_VALUE]), Some(GuestEvent::Reset));
        assert_eq!(power.write(RESET, &[0]), None);
        assert_eq!(power.write(RESET, &[]), None);
    }
}
