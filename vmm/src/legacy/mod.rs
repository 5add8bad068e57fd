//! The I/O ports of the machine and the small old devices behind them.
//!
//! | ports | device |
//! |---|---|
//! | 0x60, 0x64 | keyboard controller: status and reset only |
//! | 0x70, 0x71 | real-time clock and its memory |
//! | 0x3f8–0x3ff | COM1 |
//! | 0x600–0x60f | ACPI registers: sleep, reset, events |
//! | 0xcf8–0xcff | PCI configuration |
//!
//! Interrupt controllers, interval timer and port 0x61 are emulated by KVM and never come here. Everything else reads
//! as ones and swallows writes, as an empty bus does.

pub mod clock;
pub mod power;
pub mod serial;

use crate::{
    guest::{GuestEvent, Notifier},
    pci::root::PciRoot,
    state::{self, State},
};
use clock::Clock;
use power::Power;
use serial::Serial;
use std::sync::{Arc, Mutex, PoisonError};

/// First port of COM1.
pub const COM1: u16 = 0x3f8;
/// Interrupt of COM1.
pub const COM1_IRQ: u32 = 4;

const I8042_DATA: u16 = 0x60;
const I8042_STATUS: u16 = 0x64;
/// The command that pulses the reset line.
const I8042_RESET: u8 = 0xfe;
const CLOCK_INDEX: u16 = 0x70;
const CLOCK_DATA: u16 = 0x71;

/// Everything a guest reaches by ports and by memory that is not RAM.
pub struct Devices {
    /// The PCI bus.
    pub pci: PciRoot,
    /// COM1.
    pub serial: Arc<Mutex<Serial>>,
    /// ACPI registers.
    pub power: Arc<Power>,
    clock: Mutex<Clock>,
    notifier: Arc<Notifier>,
}

/// What a vCPU does after a port was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Goes on.
    Run,
    /// Waits: the machine is about to be reset or switched off.
    Wait,
}

impl Devices {
    /// Puts the devices together.
    pub fn new(pci: PciRoot, serial: Serial, power: Power, ram: u64, notifier: Arc<Notifier>) -> Self {
        let (serial, power) = (Arc::new(Mutex::new(serial)), Arc::new(power));
        Self { pci, serial, power, clock: Mutex::new(Clock::new(ram)), notifier }
    }

    /// A port is read.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        match port {
            0xcf8..=0xcff => self.pci.port_read(port, data),
            COM1..=0x3ff => {
                let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
                data.iter_mut().for_each(|byte| *byte = serial.read((port - COM1) as u8));
            }
            power::BASE..=power::END => self.power.read(port - power::BASE, data),
            CLOCK_DATA => {
                let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
                data.iter_mut().for_each(|byte| *byte = clock.read());
            }
            // Nothing to fetch, nothing still to be taken: drivers neither wait nor poll.
            I8042_DATA | I8042_STATUS => data.fill(0),
            _ => {}
        }
    }

    /// A port is written. A string instruction brings all its bytes for one register at once.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Next {
        match port {
            0xcf8..=0xcff => self.pci.port_write(port, data),
            COM1..=0x3ff => {
                let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
                data.iter().for_each(|byte| serial.write((port - COM1) as u8, *byte));
            }
            power::BASE..=power::END => {
                if let Some(event) = self.power.write(port - power::BASE, data) {
                    self.notifier.send(event);
                    return Next::Wait;
                }
            }
            CLOCK_INDEX | CLOCK_DATA => {
                let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
                data.iter().for_each(|byte| clock.write(port == CLOCK_DATA, *byte));
            }
            I8042_STATUS if data.first() == Some(&I8042_RESET) => {
                self.notifier.send(GuestEvent::Reset);
                return Next::Wait;
            }
            _ => {}
        }
        Next::Run
    }

    /// Adds the state of the bus, of what is on it, and of the old devices. No vCPU may run, and devices are paused.
    pub fn save(&self, state: &mut State) -> Result<(), state::Error> {
        self.pci.save(state)?;
        state.put(0, &self.serial.lock().unwrap_or_else(PoisonError::into_inner).save())?;
        state.put(0, &self.clock.lock().unwrap_or_else(PoisonError::into_inner).save())?;
        state.put(0, &self.power.save())
    }

    /// Takes up a state; nothing ran yet.
    pub fn load(&self, state: &mut State) -> Result<(), state::Error> {
        self.pci.load(state)?;
        self.serial.lock().unwrap_or_else(PoisonError::into_inner).load(state.take(0)?)?;
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).load(&state.take(0)?)?;
        self.power.load(&state.take(0)?);
        Ok(())
    }

    /// Returns the old devices to power-on (PCI has its own way) and forgets what the guest asked of the machine: it is
    /// gone. No vCPU may run.
    pub fn reset_legacy(&self) {
        drop(self.notifier.take());
        self.serial.lock().unwrap_or_else(PoisonError::into_inner).reset();
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).reset();
        self.power.reset();
    }
}
