//! How a machine comes to be: memory and bus first, because devices need them, then the devices, then all the rest.

use super::{
    Error, Machine, cpu_state::PowerOn, cpuid, host, interrupts::KvmPlatform, kvm, save::Mailbox,
    vcpu_state::Offers,
};
use crate::{
    boot::{Boot, BootSource, Told},
    console::Output,
    display::{ramfb::Screen, server::Server},
    firmware,
    gate::{self, Gate},
    guest::Notifier,
    legacy::{self, COM1_IRQ, Devices, Optional, cpus::Cpus, i8042::I8042, power::Power, serial::Serial},
    memory::{self, Memory, Wanted},
    pci::{
        PciDevice, root,
        root::{PciRoot, Placement},
    },
    smbios::Identity,
    state::{
        self,
        description::{Description, Leaf},
    },
    thread::{self, Kind},
    tpm::{self, Tpm},
    vcpu::{Standing, Vcpu},
    virtio::input::Pointer,
};
use kvm_bindings::CpuId;
use kvm_ioctls::Kvm;
use lq_api::local::vmm::CpuModel;
use std::{
    collections::BTreeSet,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
};

/// Room for the leaves of any processor.
const MAX_CPUID: usize = 256;

/// What a machine is besides its devices.
pub struct Parts {
    /// Which one it is.
    pub identity: Identity,
    /// What it boots.
    pub boot: Boot,
    /// Where COM1 writes to.
    pub output: Output,
    /// Where the guest's ends and restarts go.
    pub notifier: Arc<Notifier>,
    /// What firmware tries to boot, in order, as OpenFirmware paths.
    pub boot_order: Vec<String>,
    /// What the guest sees of the processor.
    pub cpu: CpuModel,
    /// It has a port by which the guest says that it has panicked.
    pub panic: bool,
    /// Its disks and interfaces may come and go.
    pub hotplug: bool,
    /// So many processors at most, where they come and go.
    pub most_cpus: Option<u8>,
    /// Its TPM.
    pub tpm: Option<tpm::Connection>,
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

/// A machine whose devices are still to be put in. Devices need its memory and its platform.
pub struct Builder {
    kvm: Kvm,
    supported: CpuId,
    vm: kvm::Vm,
    memory: Memory,
    ram: u64,
    /// Bytes that can be plugged at most.
    pluggable: u64,
    vcpus: u8,
    pci: PciRoot,
}

impl Builder {
    /// Reserves memory and makes the KVM machine, with a bus that is set up by this.
    pub fn new(kvm: Kvm, vcpus: u8, wanted: Wanted, bus: root::Kind) -> Result<Self, Error> {
        let (memory, Wanted { ram, pluggable, .. }) = (wanted.create()?, wanted);
        let extent = memory::extent(ram, pluggable);
        let vm = kvm::Vm::new(&kvm, &memory)?;
        let supported = kvm.get_supported_cpuid(MAX_CPUID).map_err(kvm::refused("list CPU features"))?;
        let pci = match bus {
            root::Kind::Assigned => PciRoot::new(extent),
            root::Kind::ByFirmware => PciRoot::by_firmware(extent, cpuid::address_bits(&leaves(&supported))),
        };
        Ok(Self { kvm, supported, vm, memory, ram, pluggable, vcpus, pci })
    }

    /// What devices are given.
    #[must_use]
    pub fn platform(&self) -> Arc<KvmPlatform> {
        Arc::new(KvmPlatform(Arc::clone(self.vm.routing())))
    }

    /// Where devices' own memory is shown.
    #[must_use]
    pub fn device_memory(&self) -> kvm::DeviceMemory {
        self.vm.device_memory()
    }

    /// The guest's memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// No device comes into one of these slots but where it is said.
    pub fn keep_empty(&mut self, slots: BTreeSet<usize>) {
        self.pci.keep_empty(slots);
    }

    /// Puts a device on the bus; returns its slot.
    ///
    /// # Errors
    /// There is no such place for it.
    pub fn add(&mut self, device: Box<dyn PciDevice>, placement: Placement) -> Result<usize, Error> {
        Ok(self.pci.place(device, placement)?)
    }

    /// Puts the rest together. Needs no privilege any more; starts the vCPU threads, parked.
    pub fn build(self, parts: Parts) -> Result<Machine, Error> {
        let Self { kvm, supported, vm, memory, ram, pluggable, vcpus, pci } = self;
        let Parts {
            identity,
            boot,
            output,
            notifier,
            boot_order,
            cpu,
            panic,
            hotplug,
            most_cpus,
            tpm,
            display,
        } = parts;
        let power = Arc::new(Power::new().map_err(host("make the power button"))?);
        let cpus = most_cpus.map(|most| Arc::new(Cpus::new(vcpus, most, Arc::clone(&power))));
        let most = most_cpus.unwrap_or(vcpus);
        let tpm = tpm.map(|connection| Tpm::new(connection, Arc::clone(&notifier)).map(Arc::new)).transpose();
        let tpm = tpm.map_err(host("start the TPM's thread"))?;
        let told = Told {
            panic,
            fixed_slots: hotplug.then(|| pci.fixed_slots()),
            pluggable,
            cpus: cpus.clone(),
            tpm: tpm.is_some(),
        };
        let screen = display.is_some().then(Screen::default);
        let (boot, firmware): (Option<BootSource>, _) = match boot {
            Boot::Direct(source) => (Some(source), None),
            Boot::Firmware(sources) => {
                let told = firmware::Machine {
                    vcpus: most,
                    ram,
                    address_bits: cpuid::address_bits(&leaves(&supported)),
                    told,
                    identity: identity.clone(),
                    boot_order,
                    screen: screen.clone(),
                };
                let ((code, vars), ecam) = (vm.flash_windows(), Arc::clone(pci.ecam()));
                let platform = firmware::Platform::new(sources, &told, memory.clone(), ecam, code, vars)?;
                let keyboard = I8042::new().map_err(host("make the keyboard controller"))?;
                let connected = vm.routing().connect_line(legacy::i8042::IRQ, keyboard.interrupt());
                connected.map_err(host("connect the keyboard's interrupt"))?;
                (None, Some((platform, keyboard)))
            }
        };
        let serial = Serial::new(output).map_err(host("make the serial port"))?;
        vm.routing().connect_line(COM1_IRQ, serial.interrupt()).map_err(host("connect COM1's interrupt"))?;
        let button = power.interrupt();
        vm.routing().connect_line(legacy::power::IRQ, button).map_err(host("connect the power button"))?;
        let has_tpm = tpm.is_some();
        let optional = Optional { panic, hotplug, cpus, tpm };
        let devices =
            Arc::new(Devices::new(pci, serial, power, firmware, ram, optional, Arc::clone(&notifier)));
        if let (Some(screen), Some(display)) = (screen, display) {
            let server = Server::new(display, screen, memory.clone(), Arc::clone(&devices));
            server.and_then(Server::start).map_err(host("start the display"))?;
        }
        gate::install_kick().map_err(host("install a signal handler"))?;
        let offers = Offers::new(vm.fd());
        let description = Description {
            format: state::FORMAT,
            monitor: env!("CARGO_PKG_VERSION").to_owned(),
            vm: identity.vm,
            vcpus,
            memory_bytes: ram,
            cpuid: Vec::new(),
            tsc_khz: None,
            devices: devices.pci.describe(),
            firmware: devices.firmware.as_ref().map(firmware::Platform::describe),
            panic,
            hotplug,
            cpus: most_cpus,
            tpm: has_tpm,
            leased: false,
        };
        let mut machine = Machine {
            vm,
            memory,
            ram,
            pluggable,
            vcpus: most,
            identity,
            boot,
            devices,
            gate: Arc::new(Gate::new()),
            threads: Vec::new(),
            exits: Arc::default(),
            mailboxes: Vec::new(),
            standings: Vec::new(),
            maker: Maker { kvm, supported, model: cpu, notifier },
            offers,
            description,
            removed: Vec::new(),
        };
        machine.make_vcpus(vcpus)?;
        machine.standings.iter().for_each(|standing| standing.load(true));
        machine.devices.pci.assign()?;
        Ok(machine)
    }
}

fn leaves(entries: &CpuId) -> Vec<Leaf> {
    entries.as_slice().iter().map(Leaf::from).collect()
}

/// What vCPUs are made of, as long as there may be more.
pub(super) struct Maker {
    kvm: Kvm,
    supported: CpuId,
    model: CpuModel,
    notifier: Arc<Notifier>,
}

impl Machine {
    /// Makes vCPUs until there are `count`; their threads are parked, and they are not there for the guest yet.
    pub(super) fn make_vcpus(&mut self, count: u8) -> Result<(), Error> {
        let made = self.standings.len();
        let result = (made as u8..count).try_for_each(|id| self.add_vcpu(id));
        self.gate.wait_for_threads(self.threads.len());
        result
    }

    /// Makes a vCPU and starts its thread, parked.
    fn add_vcpu(&mut self, id: u8) -> Result<(), Error> {
        let Maker { kvm, supported, model, notifier } = &self.maker;
        let (model, notifier) = (*model, Arc::clone(notifier));
        let fd = self.vm.fd().create_vcpu(u64::from(id)).map_err(kvm::refused("create a vCPU"))?;
        let entries = cpuid::leaves(kvm, supported, id, self.vcpus, model)?;
        // Before anything else: what registers exist follows from it.
        fd.set_cpuid2(&entries).map_err(kvm::refused("set CPU features"))?;
        let power_on = PowerOn::read(kvm, &fd, &entries)?;
        let offers = self.offers;
        if id == 0 {
            self.description.cpuid = leaves(&entries);
            self.description.tsc_khz = offers.tsc_khz(&fd);
        }
        let exits = Arc::clone(&self.exits);
        let (mailbox, standing) = (Arc::<Mutex<Mailbox>>::default(), Arc::<Standing>::default());
        let devices = Arc::clone(&self.devices);
        let gate = Arc::clone(&self.gate);
        let vcpu = Vcpu::new(
            id,
            fd,
            entries,
            power_on,
            offers,
            Arc::clone(&mailbox),
            devices,
            notifier,
            gate,
            exits,
            Arc::clone(&standing),
        );
        let thread = thread::spawn(Kind::Vcpu, &format!("vcpu-{id}"), move || vcpu.run());
        self.threads.push(thread.map_err(host("start a vCPU thread"))?);
        self.mailboxes.push(mailbox);
        self.standings.push(standing);
        Ok(())
    }
}
