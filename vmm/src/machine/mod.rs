//! The machine: KVM, memory, virtual CPUs and devices under one hand, the control thread's.
//!
//! ```text
//!  new ─▶ parked ── power_on ─▶ running ⇄ paused
//!                                 └── reset: park, everything to power-on, boot files loaded again, run ──┘
//! ```
//! Invariants: virtual CPUs are parked whenever devices or guest memory are reset or paused; devices are paused only
//! after the CPUs and resume before them, so that no request is made that nobody serves.

pub mod cpu_state;
pub mod cpuid;
pub mod interrupts;
pub mod kvm;

use crate::{
    boot::{self, Boot, BootSource, Entry},
    console::Output,
    display::{ramfb::Screen, server::Server},
    firmware,
    gate::{self, Gate, Order},
    guest::Notifier,
    legacy::{self, COM1_IRQ, Devices, i8042::I8042, power::Power, serial::Serial},
    memory::{self, Memory},
    pci::{PciDevice, root, root::PciRoot},
    thread::{self, Kind},
    vcpu::Vcpu,
    virtio::input::Pointer,
};
use cpu_state::PowerOn;
use interrupts::KvmPlatform;
use kvm_bindings::CpuId;
use kvm_ioctls::Kvm;
use std::{
    io,
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

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
    /// Firmware.
    #[error(transparent)]
    Firmware(#[from] firmware::Error),
    /// The bus.
    #[error(transparent)]
    Pci(#[from] crate::pci::root::Error),
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
    supported: CpuId,
    vm: kvm::Vm,
    memory: Memory,
    ram: u64,
    vcpus: u8,
    pci: PciRoot,
}

/// What a machine is besides its devices.
pub struct Parts {
    /// What it boots.
    pub boot: Boot,
    /// Where COM1 writes to.
    pub output: Output,
    /// Where the guest's ends and restarts go.
    pub notifier: Arc<Notifier>,
    /// Its id.
    pub uuid: [u8; 16],
    /// What firmware tries to boot, in order, as OpenFirmware paths.
    pub boot_order: Vec<String>,
    /// Its screen. Only with firmware.
    pub display: Option<Display>,
}

/// A screen to be served.
pub struct Display {
    /// Where viewers come to.
    pub socket: UnixListener,
    /// The machine's name for them.
    pub name: String,
    /// What their pointers move.
    pub pointer: Option<Arc<Pointer>>,
}

impl Builder {
    /// Reserves memory and makes the KVM machine, with a bus that is set up by this.
    pub fn new(kvm: Kvm, vcpus: u8, ram: u64, bus: root::Kind) -> Result<Self, Error> {
        let memory = memory::create(ram)?;
        let vm = kvm::Vm::new(&kvm, &memory)?;
        let supported = kvm.get_supported_cpuid(MAX_CPUID).map_err(kvm::refused("list CPU features"))?;
        let pci = match bus {
            root::Kind::Assigned => PciRoot::new(ram),
            root::Kind::ByFirmware => PciRoot::by_firmware(ram, cpuid::address_bits(&supported)),
        };
        Ok(Self { kvm, supported, vm, memory, ram, vcpus, pci })
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

    /// Puts a device on the bus; returns its slot.
    pub fn add(&mut self, device: Box<dyn PciDevice>) -> Result<usize, Error> {
        Ok(self.pci.add(device)?)
    }

    /// Puts the rest together. Needs no privilege any more; starts the vCPU threads, parked.
    pub fn build(self, parts: Parts) -> Result<Machine, Error> {
        let Self { kvm, supported, vm, memory, ram, vcpus, pci } = self;
        let Parts { boot, output, notifier, uuid, boot_order, display } = parts;
        let screen = display.is_some().then(Screen::default);
        let (boot, firmware) = match boot {
            Boot::Direct(source) => (Some(source), None),
            Boot::Firmware(sources) => {
                let address_bits = cpuid::address_bits(&supported);
                let told =
                    firmware::Machine { vcpus, ram, address_bits, uuid, boot_order, screen: screen.clone() };
                let ((code, vars), ecam) = (vm.flash_windows(), Arc::clone(pci.ecam()));
                let platform = firmware::Platform::new(sources, &told, memory.clone(), ecam, code, vars)?;
                let keyboard = I8042::new().map_err(host("make the keyboard controller"))?;
                let connected = vm.routing().connect_line(legacy::i8042::IRQ, keyboard.interrupt());
                connected.map_err(host("connect the keyboard's interrupt"))?;
                (None, Some((platform, keyboard)))
            }
        };
        let serial = Serial::new(output).map_err(host("make the serial port"))?;
        let power = Power::new().map_err(host("make the power button"))?;
        vm.routing().connect_line(COM1_IRQ, serial.interrupt()).map_err(host("connect COM1's interrupt"))?;
        let button = power.interrupt();
        vm.routing().connect_line(legacy::power::IRQ, button).map_err(host("connect the power button"))?;
        let devices = Arc::new(Devices::new(pci, serial, power, firmware, ram, Arc::clone(&notifier)));
        if let (Some(screen), Some(display)) = (screen, display) {
            let server = Server::new(display, screen, memory.clone(), Arc::clone(&devices));
            let started = server.and_then(Server::start);
            started.map_err(host("start the display"))?;
        }
        gate::install_kick().map_err(host("install a signal handler"))?;
        let gate = Arc::new(Gate::new());
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
        };
        for id in 0..vcpus {
            let fd = machine.vm.fd().create_vcpu(u64::from(id)).map_err(kvm::refused("create a vCPU"))?;
            let leaves =
                cpuid::leaves(&kvm, &supported, id, vcpus).map_err(|e| Error::Cpuid(e.to_string()))?;
            // Before anything else: what registers exist follows from it.
            fd.set_cpuid2(&leaves).map_err(kvm::refused("set CPU features"))?;
            let power_on = PowerOn::read(&kvm, &fd, &leaves)?;
            let exits = Arc::new(AtomicU64::new(0));
            machine.exits.push(Arc::clone(&exits));
            let (devices, notifier) = (Arc::clone(&devices), Arc::clone(&notifier));
            let vcpu = Vcpu { id, fd, power_on, devices, notifier, gate: Arc::clone(&gate), exits };
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
    /// None: by firmware.
    boot: Option<BootSource>,
    devices: Arc<Devices>,
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
    exits: Vec<Arc<AtomicU64>>,
}

impl Machine {
    /// Loads the guest and starts it.
    pub fn power_on(&mut self) -> Result<(), Error> {
        let entry = match &mut self.boot {
            Some(source) => boot::load(source, &self.memory, self.vcpus, self.ram)?,
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

    /// What the guest has stored is in its files.
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
        self.power_on()
    }

    /// Presses the power button.
    pub fn power_button(&self) {
        self.devices.power.press();
    }

    /// Someone types on COM1.
    pub fn type_in(&self, bytes: &[u8]) {
        self.devices.serial.lock().unwrap_or_else(std::sync::PoisonError::into_inner).type_in(bytes);
    }

    /// Exits to user space so far.
    #[must_use]
    pub fn exits(&self) -> u64 {
        self.exits.iter().map(|e| e.load(Ordering::Relaxed)).sum()
    }

    /// Stops everything for good: no request is under way afterwards.
    pub fn stop(&mut self) {
        self.gate.order(Order::Quit);
        for thread in self.threads.drain(..) {
            // A panicked thread has ended the process already.
            let _ = thread.join();
        }
        self.devices.pci.for_each(|device| device.pause());
        self.settle();
    }
}
