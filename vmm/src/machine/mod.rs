//! The machine: KVM, memory, virtual CPUs and devices under one hand, the operator's.
//!
//! ```text
//!  new ─▶ parked ── power_on ─▶ running ⇄ paused
//!        └─ load(state) ─▶ paused  │       save: paused, and stays so
//!                                 └── reset: park, everything to power-on, boot files loaded again, run ──┘
//! ```
//! Invariants: virtual CPUs are parked whenever devices or guest memory are reset or paused; devices are paused only
//! after the CPUs and resume before them, so that no request is made that nobody serves.

mod build;
pub mod cpu_model;
pub mod cpu_state;
pub mod cpuid;
pub mod interrupts;
pub mod kvm;
pub mod save;
pub mod vcpu_state;

pub use build::{Builder, Display, Parts};

use crate::{
    boot::{self, BootSource, Entry},
    change::Change,
    firmware,
    gate::{Gate, Order},
    legacy::{Devices, power::Power, serial::Serial},
    memory::{self, Memory},
    pci::PciDevice,
    smbios::Identity,
    state::description::Description,
};
use save::Mailbox;
use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};
use vcpu_state::Offers;

/// Why a machine cannot be made or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// Boot files.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// Firmware.
    #[error(transparent)]
    Firmware(#[from] firmware::Error),
    /// The bus.
    #[error(transparent)]
    Pci(#[from] crate::pci::root::Error),
    /// A file with a saved machine.
    #[error("cannot take up the saved machine {path}")]
    Restore {
        /// The file.
        path: String,
        /// Why.
        source: Box<save::Failure>,
    },
    /// A saved state.
    #[error("cannot save or take up the machine's state")]
    State(#[from] crate::state::Error),
    /// The CPUs' leaves.
    #[error("cannot make the virtual CPUs")]
    Cpuid(#[from] cpuid::Error),
    /// The host's kernel refused something simple.
    #[error("cannot {what}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn host(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { what, source }
}

/// The machine.
pub struct Machine {
    vm: kvm::Vm,
    memory: Memory,
    ram: u64,
    vcpus: u8,
    identity: Identity,
    /// None: by firmware.
    boot: Option<BootSource>,
    devices: Arc<Devices>,
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
    exits: Vec<Arc<AtomicU64>>,
    mailboxes: Vec<Arc<Mutex<Mailbox>>>,
    offers: Offers,
    description: Description,
}

impl Machine {
    /// The guest's memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Loads the guest and starts it.
    pub fn power_on(&mut self) -> Result<(), Error> {
        let entry = match &mut self.boot {
            Some(source) => {
                let panic = self.description.panic;
                boot::load(source, &self.identity, &self.memory, self.vcpus, self.ram, panic)?
            }
            None => Entry::Reset,
        };
        self.gate.order(Order::Reset(entry));
        self.gate.order(Order::Run);
        Ok(())
    }

    /// Halts the virtual CPUs, then the devices once their requests under way are finished.
    pub fn pause(&self) {
        self.gate.order(Order::Park);
        self.devices.pci.for_each(|device| device.pause());
        self.settle();
    }

    /// What the guest has stored in its firmware's variables is in their file. What the file does not take is reported,
    /// seen by the guest, and tried again.
    fn settle(&self) {
        if let Some(firmware) = &self.devices.firmware {
            firmware.settle();
        }
    }

    /// Goes on after [`Machine::pause`].
    pub fn resume(&self) {
        self.devices.pci.for_each(|device| device.resume());
        self.gate.order(Order::Run);
    }

    /// Presses reset: everything to power-on, then the boot files again. Also from paused.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.gate.order(Order::Park);
        self.devices.pci.reset()?;
        self.devices.reset_legacy();
        self.vm.reset()?;
        memory::clear(&self.memory).map_err(host("clear guest memory"))?;
        // A copy made meanwhile knows nothing of that otherwise.
        memory::mark_all(&self.memory);
        self.power_on()
    }

    /// Changes the device in `slot`, running or paused.
    ///
    /// # Errors
    /// There is none, or it cannot be changed so.
    pub fn change(&mut self, slot: usize, change: Change) -> Result<(), Error> {
        const WHAT: &str = "change the device";
        let changed = self.devices.pci.with(slot, |device| device.change(change));
        changed.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into())).map_err(host(WHAT))?;
        self.description.devices = self.devices.pci.describe();
        Ok(())
    }

    /// What a migration needs of the machine while the guest runs.
    #[must_use]
    pub fn copier(&self) -> Copier {
        let mut disks = Vec::new();
        self.devices
            .pci
            .for_each(|device| disks.extend(device.written().and_then(|file| file.try_clone().ok())));
        Copier {
            disks,
            log: self.vm.dirty_log(&self.memory),
            memory: self.memory.clone(),
            gate: Arc::clone(&self.gate),
            description: self.description.clone(),
        }
    }

    /// Lets another monitor have the disks, all of them durable. Only while paused.
    ///
    /// # Errors
    /// The first disk that failed; those before it are given up.
    pub fn release(&self) -> Result<(), Error> {
        self.on_devices("give up a disk", |device| device.release())
    }

    /// Takes the disks and the firmware's variables back, or over from another monitor. Only while paused.
    ///
    /// # Errors
    /// The first disk that cannot be had.
    pub fn acquire(&self) -> Result<(), Error> {
        self.on_devices("take a disk", |device| device.acquire())?;
        self.settle();
        Ok(())
    }

    /// Tells the networks that the machine is here now. Only while paused.
    pub fn announce(&self) {
        self.devices.pci.for_each(|device| device.announce());
    }

    fn on_devices(
        &self,
        what: &'static str,
        mut action: impl FnMut(&mut dyn PciDevice) -> io::Result<()>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        self.devices.pci.for_each(|device| {
            let done = action(device).map_err(host(what));
            result = std::mem::replace(&mut result, Ok(())).and(done);
        });
        result
    }

    /// What may be done at any time, from any thread, without waiting.
    #[must_use]
    pub fn levers(&self) -> Levers {
        let Devices { serial, power, .. } = &*self.devices;
        Levers { serial: Arc::clone(serial), power: Arc::clone(power), exits: self.exits.clone() }
    }

    /// Makes durable what the guest wrote to its disks. Only while paused.
    ///
    /// # Errors
    /// The first disk that failed; all were tried.
    pub fn sync(&self) -> Result<(), Error> {
        self.on_devices("make a disk durable", |device| device.sync())
    }

    /// Stops everything for good: no request is under way afterwards, and disks are durable.
    ///
    /// # Errors
    /// A disk could not be made durable; everything is stopped all the same.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.gate.order(Order::Quit);
        for thread in self.threads.drain(..) {
            // A panicked thread has ended the process already.
            let _ = thread.join();
        }
        self.devices.pci.for_each(|device| device.pause());
        self.settle();
        self.sync()
    }
}

/// Copies the machine while its guest runs.
pub struct Copier {
    /// What is written.
    pub log: kvm::DirtyLog,
    /// The guest's memory.
    pub memory: Memory,
    /// What the guest writes to: made durable beforehand, so that little is left to do while it stands still.
    pub disks: Vec<File>,
    /// Slows the guest down.
    pub gate: Arc<Gate>,
    /// What the machine is.
    pub description: Description,
}

/// The parts of a machine that nobody has to wait for. Whoever drops them last has nothing to ask of KVM.
pub struct Levers {
    serial: Arc<Mutex<Serial>>,
    power: Arc<Power>,
    exits: Vec<Arc<AtomicU64>>,
}

impl Levers {
    /// Presses the power button.
    pub fn power_button(&self) {
        self.power.press();
    }

    /// Someone types on COM1.
    pub fn type_in(&self, bytes: &[u8]) {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner).type_in(bytes);
    }

    /// Exits to user space so far.
    #[must_use]
    pub fn exits(&self) -> u64 {
        self.exits.iter().map(|e| e.load(Ordering::Relaxed)).sum()
    }
}
