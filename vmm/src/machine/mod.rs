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
    exit, firmware,
    gate::{Gate, Order},
    legacy::{
        Devices,
        cpus::{Cpus, Step},
        hotplug::Hotplug,
        power::Power,
        serial::Serial,
    },
    memory::{self, Memory, SharedMemory},
    pci::{PciDevice, root::Placement},
    smbios::Identity,
    state::description::Description,
    stats::Counter,
    vcpu::Standing,
    virtio::{TransportError, VirtioDevice, VirtioPci},
};
use interrupts::KvmPlatform;
use lq_api::local::vmm::IoStats;
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
    /// A device has no place.
    #[error("cannot plug the device in")]
    Plug(#[from] TransportError),
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

/// What the guest is told of the machine besides.
fn told(description: &Description, devices: &Devices, pluggable: u64) -> boot::Told {
    let fixed_slots = devices.hotplug.is_some().then(|| devices.pci.fixed_slots());
    let (cpus, tpm) = (devices.cpus.clone(), devices.tpm.is_some());
    boot::Told { panic: description.panic, fixed_slots, pluggable, cpus, tpm }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { what, source }
}

/// The machine.
pub struct Machine {
    vm: kvm::Vm,
    memory: Memory,
    ram: u64,
    pluggable: u64,
    /// At most.
    vcpus: u8,
    identity: Identity,
    /// None: by firmware.
    boot: Option<BootSource>,
    devices: Arc<Devices>,
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
    /// Of all vCPUs.
    exits: Arc<AtomicU64>,
    /// By vCPU, those that were ever made.
    mailboxes: Vec<Arc<Mutex<Mailbox>>>,
    standings: Vec<Arc<Standing>>,
    maker: build::Maker,
    offers: Offers,
    description: Description,
    /// Devices that have gone, until somebody asks.
    removed: Vec<Removed>,
}

/// A device that has gone; its work has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Where it was.
    pub slot: usize,
    /// Why what the guest wrote to it may not be durable.
    pub failure: Option<String>,
}

/// A device that was plugged in.
pub struct Plugged {
    /// Where it is.
    pub slot: usize,
    /// What it has done.
    pub counter: Counter,
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
                let told = told(&self.description, &self.devices, self.pluggable);
                boot::load(source, &self.identity, &self.memory, self.vcpus, self.ram, told)?
            }
            None => Entry::Reset,
        };
        self.gate.order(Order::Reset(entry));
        self.gate.order(Order::Run);
        Ok(())
    }

    /// Halts the virtual CPUs, then the devices once their requests under way are finished.
    pub fn pause(&mut self) {
        self.gate.order(Order::Park);
        self.sweep();
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
        self.sweep();
        self.sweep_cpus(false);
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

    /// Plugs a device in, running or paused: into `slot`, or the lowest that is free. The guest is told.
    ///
    /// # Errors
    /// It has no place; it is gone then.
    pub fn plug(&mut self, device: Box<dyn VirtioDevice>, slot: Option<usize>) -> Result<Plugged, Error> {
        self.sweep();
        let counters = device.counters();
        let platform = Arc::new(KvmPlatform(Arc::clone(self.vm.routing())));
        let function = VirtioPci::new(device, SharedMemory::new(self.memory.clone()), platform)?;
        let pci = &self.devices.pci;
        let placement = Placement { slot: slot.or_else(|| pci.free_slot()), removable: true };
        let slot = pci.place(Box::new(function), placement)?;
        if let Some(hotplug) = &self.devices.hotplug {
            hotplug.changed(slot);
        }
        self.description.devices = self.devices.pci.describe();
        Ok(Plugged { slot, counter: Box::new(move || IoStats::from(&*counters)) })
    }

    /// Takes a device out, whatever the guest does with it.
    ///
    /// # Errors
    /// There is none that can be taken out.
    pub fn take_out(&mut self, slot: usize) -> Result<(), Error> {
        if !self.devices.pci.eject(slot) {
            return Err(host("take the device out")(io::ErrorKind::NotFound.into()));
        }
        if let Some(hotplug) = &self.devices.hotplug {
            hotplug.changed(slot);
        }
        self.sweep();
        Ok(())
    }

    /// Ends the work of devices the guest has let go of: what it wrote is durable, and others may have it.
    pub fn sweep(&mut self) {
        let left = self.devices.pci.take_left();
        if left.is_empty() {
            return;
        }
        for (slot, mut device) in left {
            device.pause();
            let settled = device.sync().and_then(|()| device.release());
            self.removed.push(Removed { slot, failure: settled.err().map(|error| exit::chain(&error)) });
        }
        self.description.devices = self.devices.pci.describe();
    }

    /// Brings processors until there are `count`, or asks the guest for the highest ones. `running`: the machine is.
    ///
    /// # Errors
    /// They do not come and go here, or one cannot be made: those before it are there.
    pub fn aim_cpus(&mut self, count: u8, running: bool) -> Result<(), Error> {
        let missing = || host("bring processors")(io::ErrorKind::Unsupported.into());
        let cpus = self.devices.cpus.clone().ok_or_else(missing)?;
        // One that goes and comes at once begins anew too.
        self.sweep_cpus(running);
        let Step::Come(come) = cpus.aim(count) else { return Ok(()) };
        for id in come {
            self.make_vcpus(id + 1)?;
            if let Some(standing) = self.standings.get(usize::from(id)) {
                standing.set(true);
            }
            // It is at power-on before the guest learns of it, and could send it anything.
            self.gate.order(if running { Order::Run } else { Order::Park });
            cpus.came(id);
        }
        Ok(())
    }

    /// Keeps processors out of the guest that it has let go of. `running`: the machine is.
    pub fn sweep_cpus(&mut self, running: bool) {
        let Some(cpus) = &self.devices.cpus else { return };
        let present = cpus.present();
        let mut gone = false;
        for (id, standing) in self.standings.iter().enumerate() {
            // Those that came are there already.
            gone |= present >> id & 1 == 0 && standing.set(false);
        }
        if gone && running {
            self.gate.order(Order::Run);
        }
    }

    /// Devices that have gone since the last call.
    pub fn take_removed(&mut self) -> Vec<Removed> {
        std::mem::take(&mut self.removed)
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
        let Devices { serial, power, hotplug, cpus, .. } = &*self.devices;
        Levers {
            serial: Arc::clone(serial),
            power: Arc::clone(power),
            hotplug: hotplug.clone(),
            cpus: cpus.clone(),
            exits: Arc::clone(&self.exits),
        }
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
        self.sweep();
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
    hotplug: Option<Arc<Hotplug>>,
    cpus: Option<Arc<Cpus>>,
    exits: Arc<AtomicU64>,
}

impl Levers {
    /// Presses the power button.
    pub fn power_button(&self) {
        self.power.press();
    }

    /// Asks the guest for the device in a slot.
    pub fn ask_for(&self, slot: usize) {
        if let Some(hotplug) = &self.hotplug {
            hotplug.ask(slot);
        }
    }

    /// Asks for it no more.
    pub fn forget(&self, slot: usize) {
        if let Some(hotplug) = &self.hotplug {
            hotplug.forget(slot);
        }
    }

    /// Processors there can be at most, and those there are; none: they do not come and go.
    #[must_use]
    pub fn cpus(&self) -> Option<(u8, u8)> {
        self.cpus.as_ref().map(|cpus| (cpus.most(), cpus.present().count_ones() as u8))
    }

    /// Someone types on COM1.
    pub fn type_in(&self, bytes: &[u8]) {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner).type_in(bytes);
    }

    /// Exits to user space so far.
    #[must_use]
    pub fn exits(&self) -> u64 {
        self.exits.load(Ordering::Relaxed)
    }
}
