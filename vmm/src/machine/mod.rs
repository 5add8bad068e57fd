//! The machine: KVM, memory, virtual CPUs and devices under one hand, the operator's.
//!
//! ```text
//!  new ─▶ parked ── power_on ─▶ running ⇄ paused
//!        └─ load(state) ─▶ paused  │       save: paused, and stays so
//!                                 └── reset: park, everything to power-on, boot files loaded again, run ──┘
//! ```
//! Invariants: virtual CPUs are parked whenever devices or guest memory are reset or paused; devices are paused only
//! after the CPUs and resume before them, so that no request is made that nobody serves.

pub mod cpu_state;
pub mod cpuid;
pub mod interrupts;
pub mod kvm;
pub mod save;
pub mod vcpu_state;

use crate::{
    boot::{self, BootSource},
    console::Output,
    gate::{self, Gate, Order},
    guest::Notifier,
    legacy::{self, COM1_IRQ, Devices, power::Power, serial::Serial},
    memory::{self, Memory},
    pci::{PciDevice, root::PciRoot},
    state::{
        self,
        description::{Description, Leaf},
    },
    thread::{self, Kind},
    vcpu::Vcpu,
};
use cpu_state::PowerOn;
use interrupts::KvmPlatform;
use kvm_ioctls::Kvm;
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

/// Room for the leaves of any processor.
const MAX_CPUID: usize = 256;

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
    #[error("cannot describe the virtual CPUs: {0}")]
    Cpuid(String),
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

/// A machine whose devices are still to be put in. Devices need its memory and its platform.
pub struct Builder {
    kvm: Kvm,
    vm: kvm::Vm,
    memory: Memory,
    ram: u64,
    vcpus: u8,
    pci: PciRoot,
}

impl Builder {
    /// Reserves memory and makes the KVM machine.
    pub fn new(kvm: Kvm, vcpus: u8, ram: u64) -> Result<Self, Error> {
        let memory = memory::create(ram)?;
        let vm = kvm::Vm::new(&kvm, &memory)?;
        Ok(Self { kvm, vm, memory, ram, vcpus, pci: PciRoot::new(ram) })
    }

    /// What devices are given.
    #[must_use]
    pub fn platform(&self) -> Arc<KvmPlatform> {
        Arc::new(KvmPlatform(Arc::clone(self.vm.routing())))
    }

    /// The guest's memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Puts a device on the bus.
    pub fn add(&mut self, device: Box<dyn PciDevice>) -> Result<(), Error> {
        Ok(self.pci.add(device)?)
    }

    /// Puts the rest together. Needs no privilege any more; starts the vCPU threads, parked.
    pub fn build(self, boot: BootSource, output: Output, notifier: Arc<Notifier>) -> Result<Machine, Error> {
        let Self { kvm, vm, memory, ram, vcpus, pci } = self;
        let serial = Serial::new(output).map_err(host("make the serial port"))?;
        let power = Power::new().map_err(host("make the power button"))?;
        vm.routing().connect_line(COM1_IRQ, serial.interrupt()).map_err(host("connect COM1's interrupt"))?;
        let button = power.interrupt();
        vm.routing().connect_line(legacy::power::IRQ, button).map_err(host("connect the power button"))?;
        let devices = Arc::new(Devices::new(pci, serial, power, ram, Arc::clone(&notifier)));
        let supported = kvm.get_supported_cpuid(MAX_CPUID).map_err(kvm::refused("list CPU features"))?;
        gate::install_kick().map_err(host("install a signal handler"))?;
        let gate = Arc::new(Gate::new());
        let offers = Offers::new(vm.fd());
        let description = Description {
            format: state::FORMAT,
            monitor: env!("CARGO_PKG_VERSION").to_owned(),
            vm: boot.identity.vm,
            vcpus,
            memory_bytes: ram,
            cpuid: Vec::new(),
            tsc_khz: None,
            devices: devices.pci.describe(),
        };
        let mut machine = Machine {
            vm,
            memory,
            ram,
            vcpus,
            boot,
            devices: Arc::clone(&devices),
            gate: Arc::clone(&gate),
            threads: Vec::new(),
            exits: Vec::new(),
            mailboxes: Vec::new(),
            offers,
            description,
        };
        for id in 0..vcpus {
            let fd = machine.vm.fd().create_vcpu(u64::from(id)).map_err(kvm::refused("create a vCPU"))?;
            let leaves =
                cpuid::leaves(&kvm, &supported, id, vcpus).map_err(|e| Error::Cpuid(e.to_string()))?;
            // Before anything else: what registers exist follows from it.
            fd.set_cpuid2(&leaves).map_err(kvm::refused("set CPU features"))?;
            let power_on = PowerOn::read(&kvm, &fd, &leaves)?;
            if id == 0 {
                machine.description.cpuid = leaves.as_slice().iter().map(Leaf::from).collect();
                machine.description.tsc_khz = offers.tsc_khz(&fd);
            }
            let exits = Arc::new(AtomicU64::new(0));
            machine.exits.push(Arc::clone(&exits));
            let mailbox = Arc::<Mutex<Mailbox>>::default();
            machine.mailboxes.push(Arc::clone(&mailbox));
            let (devices, notifier) = (Arc::clone(&devices), Arc::clone(&notifier));
            let gate = Arc::clone(&gate);
            let vcpu = Vcpu::new(id, fd, leaves, power_on, offers, mailbox, devices, notifier, gate, exits);
            let thread = thread::spawn(Kind::Vcpu, &format!("vcpu-{id}"), move || vcpu.run());
            machine.threads.push(thread.map_err(host("start a vCPU thread"))?);
        }
        gate.wait_for_threads(usize::from(vcpus));
        machine.devices.pci.assign()?;
        Ok(machine)
    }
}

/// The machine.
pub struct Machine {
    vm: kvm::Vm,
    memory: Memory,
    ram: u64,
    vcpus: u8,
    boot: BootSource,
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
        let entry = boot::load(&mut self.boot, &self.memory, self.vcpus, self.ram)?;
        self.gate.order(Order::Reset(entry));
        self.gate.order(Order::Run);
        Ok(())
    }

    /// Halts the virtual CPUs, then the devices once their requests under way are finished.
    pub fn pause(&self) {
        self.gate.order(Order::Park);
        self.devices.pci.for_each(|device| device.pause());
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

    /// Takes the disks back, or over from another monitor. Only while paused.
    ///
    /// # Errors
    /// The first disk that cannot be had.
    pub fn acquire(&self) -> Result<(), Error> {
        self.on_devices("take a disk", |device| device.acquire())
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
