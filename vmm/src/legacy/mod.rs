//! The I/O ports of the machine and the small old devices behind them.
//!
//! | ports | device |
//! |---|---|
//! | 0x60, 0x64 | keyboard controller; without firmware: status and reset only |
//! | 0x70, 0x71 | real-time clock and its memory |
//! | 0x3f8–0x3ff | COM1 |
//! | 0x505 | panics of the guest's kernel, where the machine has that |
//! | 0x600–0x60f | ACPI registers: sleep, reset, events |
//! | 0x620–0x62f | what devices come and go, where the machine has that |
//! | 0x640–0x65f | what processors come and go, where the machine has that |
//! | 0xcf8–0xcff | PCI configuration; 0xcf9 resets |
//!
//! Interrupt controllers, interval timer and port 0x61 are emulated by KVM and never come here. Everything else reads
//! as ones and swallows writes, as an empty bus does.

pub mod clock;
pub mod cpus;
pub mod hotplug;
pub mod i8042;
pub mod keyboard;
pub mod power;
pub mod pvpanic;
pub mod serial;

use crate::{
    firmware::Platform,
    guest::{GuestEvent, Notifier},
    pci::root::PciRoot,
    state::{self, State},
    tpm::Tpm,
};
use clock::Clock;
use cpus::Cpus;
use hotplug::Hotplug;
use i8042::{Effect, I8042};
use power::Power;
use serial::Serial;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// First port of COM1.
pub const COM1: u16 = 0x3f8;
/// Interrupt of COM1.
pub const COM1_IRQ: u32 = 4;

const I8042_DATA: u16 = 0x60;
const I8042_STATUS: u16 = 0x64;
/// The command that pulses the reset line.
const I8042_RESET: u8 = 0xfe;
/// Reset control of Intel's chipsets, and its bit that resets.
const RESET_CONTROL: u16 = 0xcf9;
const RESET_CPU: u8 = 1 << 2;
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
    /// What only machines with firmware have.
    pub firmware: Option<Platform>,
    /// Keyboard controller of a machine with firmware.
    pub i8042: Option<Mutex<I8042>>,
    /// Registers of what comes and goes.
    pub hotplug: Option<Arc<Hotplug>>,
    /// Registers of processors that come and go.
    pub cpus: Option<Arc<Cpus>>,
    /// The TPM.
    pub tpm: Option<Arc<Tpm>>,
    /// There is the port for panics.
    panic: bool,
    clock: Mutex<Clock>,
    notifier: Arc<Notifier>,
}

/// What a machine may have of these or not.
#[derive(Clone, Debug, Default)]
pub struct Optional {
    /// The port for panics.
    pub panic: bool,
    /// Devices come and go.
    pub hotplug: bool,
    /// Processors do.
    pub cpus: Option<Arc<Cpus>>,
    /// A TPM.
    pub tpm: Option<Arc<Tpm>>,
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
    pub fn new(
        pci: PciRoot,
        serial: Serial,
        power: Arc<Power>,
        firmware: Option<(Platform, I8042)>,
        ram: u64,
        optional: Optional,
        notifier: Arc<Notifier>,
    ) -> Self {
        let (firmware, i8042) = firmware.unzip();
        let serial = Arc::new(Mutex::new(serial));
        let clock = Mutex::new(Clock::new(ram));
        let Optional { panic, hotplug, cpus, tpm } = optional;
        let hotplug = hotplug.then(|| Arc::new(Hotplug::new(Arc::clone(&power))));
        let i8042 = i8042.map(Mutex::new);
        Self { pci, serial, power, firmware, i8042, hotplug, cpus, tpm, panic, clock, notifier }
    }

    /// Memory that is not RAM is read: ones where nothing is.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) {
        let found = self.pci.memory_read(address, data)
            || self.tpm.as_ref().is_some_and(|tpm| tpm.memory_read(address, data))
            || self.firmware.as_ref().is_some_and(|firmware| firmware.memory_read(address, data));
        if !found {
            data.fill(0xff);
        }
    }

    /// Memory that is not RAM is written.
    pub fn memory_write(&self, address: u64, data: &[u8]) {
        if !self.pci.memory_write(address, data)
            && !self.tpm.as_ref().is_some_and(|tpm| tpm.memory_write(address, data))
            && let Some(firmware) = &self.firmware
        {
            firmware.memory_write(address, data);
        }
    }

    /// A port is read.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if self.firmware.as_ref().is_some_and(|firmware| firmware.port_read(port, data)) {
            return;
        }
        match port {
            0xcf8..=0xcff => self.pci.port_read(port, data),
            COM1..=0x3ff => {
                let mut serial = lock(&self.serial);
                data.iter_mut().for_each(|byte| *byte = serial.read((port - COM1) as u8));
            }
            pvpanic::PORT if self.panic => data.fill(pvpanic::read()),
            power::BASE..=power::END => self.power.read(port - power::BASE, data),
            hotplug::BASE..=hotplug::END => {
                if let Some(registers) = &self.hotplug {
                    registers.read(port - hotplug::BASE, data);
                }
            }
            cpus::BASE..=cpus::END => {
                if let Some(registers) = &self.cpus {
                    registers.read(port - cpus::BASE, data);
                }
            }
            CLOCK_DATA => {
                let clock = lock(&self.clock);
                data.iter_mut().for_each(|byte| *byte = clock.read());
            }
            I8042_DATA | I8042_STATUS => match &self.i8042 {
                Some(controller) => {
                    let mut controller = lock(controller);
                    let mut read =
                        || if port == I8042_DATA { controller.read() } else { controller.status() };
                    data.iter_mut().for_each(|byte| *byte = read());
                }
                // Nothing to fetch, nothing still to be taken: drivers neither wait nor poll.
                None => data.fill(0),
            },
            _ => {}
        }
    }

    /// A port is written. A string instruction brings all its bytes for one register at once.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Next {
        match self.firmware.as_ref().and_then(|firmware| firmware.port_write(port, data)) {
            Some(true) => return self.tell(GuestEvent::PowerOff),
            Some(false) => return Next::Run,
            None => {}
        }
        match port {
            RESET_CONTROL if matches!(data, [value] if value & RESET_CPU != 0) => {
                return self.tell(GuestEvent::Reset);
            }
            0xcf8..=0xcff => self.pci.port_write(port, data),
            COM1..=0x3ff => {
                let mut serial = lock(&self.serial);
                data.iter().for_each(|byte| serial.write((port - COM1) as u8, *byte));
            }
            pvpanic::PORT if self.panic => {
                data.iter().filter_map(|value| pvpanic::written(*value)).for_each(|e| self.notifier.send(e));
            }
            power::BASE..=power::END => {
                if let Some(event) = self.power.write(port - power::BASE, data) {
                    return self.tell(event);
                }
            }
            hotplug::BASE..=hotplug::END => {
                let ejected = self.hotplug.iter().flat_map(|h| h.write(port - hotplug::BASE, data));
                ejected.for_each(|slot| self.eject(slot));
            }
            cpus::BASE..=cpus::END => {
                let gone = self.cpus.as_ref().map(|cpus| cpus.write(port - cpus::BASE, data));
                if gone.is_some_and(|gone| !gone.is_empty()) {
                    self.notifier.send(GuestEvent::Unplugged);
                }
            }
            CLOCK_INDEX | CLOCK_DATA => {
                let mut clock = lock(&self.clock);
                data.iter().for_each(|byte| clock.write(port == CLOCK_DATA, *byte));
            }
            I8042_DATA | I8042_STATUS => return self.i8042_write(port == I8042_STATUS, data),
            _ => {}
        }
        Next::Run
    }

    /// The guest lets go of the device in `slot`, where there is one it can let go of.
    fn eject(&self, slot: usize) {
        if self.pci.eject(slot) {
            self.notifier.send(GuestEvent::Unplugged);
        }
    }

    fn i8042_write(&self, command: bool, data: &[u8]) -> Next {
        let resets = match &self.i8042 {
            Some(controller) => {
                let mut controller = lock(controller);
                let mut write =
                    |byte| if command { controller.command(byte) } else { controller.write(byte) };
                data.iter().any(|byte| write(*byte) == Effect::Reset)
            }
            None => command && data.first() == Some(&I8042_RESET),
        };
        if resets { self.tell(GuestEvent::Reset) } else { Next::Run }
    }

    fn tell(&self, event: GuestEvent) -> Next {
        self.notifier.send(event);
        Next::Wait
    }

    /// Adds the state of the bus, of what is on it, of the old devices and of what comes with firmware. No vCPU may run, and
    /// devices are paused.
    pub fn save(&self, state: &mut State) -> Result<(), state::Error> {
        self.pci.save(state)?;
        state.put(0, &lock(&self.serial).save())?;
        state.put(0, &lock(&self.clock).save())?;
        state.put(0, &self.power.save())?;
        if let Some(controller) = &self.i8042 {
            state.put(0, &lock(controller).save())?;
        }
        if let Some(hotplug) = &self.hotplug {
            state.put(0, &hotplug.save())?;
        }
        if let Some(tpm) = &self.tpm {
            state.put(0, &tpm.save()?)?;
        }
        self.firmware.as_ref().map_or(Ok(()), |firmware| firmware.save(state))
    }

    /// Takes up a state; nothing ran yet.
    pub fn load(&self, state: &mut State) -> Result<(), state::Error> {
        self.pci.load(state)?;
        lock(&self.serial).load(state.take(0)?)?;
        lock(&self.clock).load(&state.take(0)?)?;
        self.power.load(&state.take(0)?);
        if let Some(controller) = &self.i8042 {
            lock(controller).load(state.take(0)?)?;
        }
        if let Some(hotplug) = &self.hotplug {
            hotplug.load(state.take(0)?);
        }
        if let Some(tpm) = &self.tpm {
            tpm.load(state.take(0)?)?;
        }
        self.firmware.as_ref().map_or(Ok(()), |firmware| firmware.load(state))
    }

    /// Returns the old devices to power-on (PCI has its own way) and forgets what the guest asked of the machine: it is
    /// gone. No vCPU may run.
    pub fn reset_legacy(&self) {
        for slot in self.hotplug.iter().flat_map(|hotplug| hotplug.reset()) {
            // It may have left already.
            let _ = self.pci.eject(slot);
        }
        if let Some(cpus) = &self.cpus {
            let _ = cpus.reset();
        }
        self.notifier.forget();
        lock(&self.serial).reset();
        lock(&self.clock).reset();
        self.power.reset();
        if let Some(firmware) = &self.firmware {
            firmware.reset();
            if let Some(cpus) = &self.cpus {
                firmware.set_vcpus(cpus.present().count_ones() as u16);
            }
        }
        if let Some(controller) = &self.i8042 {
            lock(controller).reset();
        }
        if let Some(tpm) = &self.tpm {
            tpm.reset();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
