//! Interrupt routing: fixed lines to the I/O APIC, and message-signalled interrupts on numbers of their own.
//!
//! Numbers (GSIs) 0 to 23 are the pins of the I/O APIC; from 24 on each is one MSI vector of one device, with an eventfd
//! that injects it. KVM takes the whole table at every change; a lock keeps table and kernel in step. The numbers of a
//! device that has gone are given to another.

use crate::pci::{MsiVectors, Platform};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Pins of the I/O APIC.
const PINS: u32 = 24;
/// Pins of the two old controllers.
const OLD_PINS: u32 = 16;
/// KVM's own bound on routes.
const MAX_GSI: u32 = 4096;

struct Table {
    next: u32,
    /// Below `next`, and nobody's.
    free: Vec<u32>,
    /// Address and data of each routed MSI.
    messages: BTreeMap<u32, (u64, u32)>,
}

/// The routing table of a machine, and the machine's [`Platform`] for its devices.
pub struct Routing {
    vm: Arc<VmFd>,
    table: Mutex<Table>,
}

impl Routing {
    pub(super) fn new(vm: Arc<VmFd>) -> Self {
        Self { vm, table: Mutex::new(Table { next: PINS, free: Vec::new(), messages: BTreeMap::new() }) }
    }

    /// Lets a signal of `event` pulse pin `line` of the I/O APIC.
    pub fn connect_line(&self, line: u32, event: &EventFd) -> io::Result<()> {
        self.vm.register_irqfd(event, line).map_err(io::Error::from)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for one MSI.
    fn take(&self) -> io::Result<u32> {
        let mut table = self.table();
        if let Some(gsi) = table.free.pop() {
            return Ok(gsi);
        }
        if table.next == MAX_GSI {
            return Err(io::Error::other("the machine has no interrupts left"));
        }
        table.next += 1;
        Ok(table.next - 1)
    }

    fn give_back(&self, gsi: u32) {
        self.table().free.push(gsi);
    }

    fn set(&self, gsi: u32, message: Option<(u64, u32)>) -> io::Result<()> {
        let mut table = self.table();
        let old = match message {
            Some(message) => table.messages.insert(gsi, message),
            None => table.messages.remove(&gsi),
        };
        if old == message {
            return Ok(());
        }
        let routing = KvmIrqRouting::from_entries(&entries(&table.messages)).map_err(io::Error::other)?;
        self.vm.set_gsi_routing(&routing).map_err(io::Error::from)
    }
}

/// The whole table as KVM wants it.
fn entries(messages: &BTreeMap<u32, (u64, u32)>) -> Vec<kvm_irq_routing_entry> {
    let pin = |gsi, chip, pin| {
        let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
        entry.u.irqchip.irqchip = chip;
        entry.u.irqchip.pin = pin;
        entry
    };
    let old = (0..OLD_PINS).map(|gsi| match gsi {
        0..=7 => pin(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        _ => pin(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
    });
    let pins = (0..PINS).map(|gsi| pin(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    let messages = messages.iter().map(|(&gsi, &(address, data))| {
        let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
        entry.u.msi.address_lo = address as u32;
        entry.u.msi.address_hi = (address >> 32) as u32;
        entry.u.msi.data = data;
        entry
    });
    old.chain(pins).chain(messages).collect()
}

/// What the machine offers to its devices.
#[derive(Clone)]
pub struct KvmPlatform(pub Arc<Routing>);

impl Platform for KvmPlatform {
    fn attach_doorbell(&self, address: u64, event: &EventFd) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        self.0.vm.register_ioevent(event, &address, NoDatamatch).map_err(io::Error::from)
    }

    fn detach_doorbell(&self, address: u64, event: &EventFd) -> io::Result<()> {
        let address = IoEventAddress::Mmio(address);
        self.0.vm.unregister_ioevent(event, &address, NoDatamatch).map_err(io::Error::from)
    }

    fn allocate_msi(&self, vectors: u16) -> io::Result<Arc<dyn MsiVectors>> {
        // Gives back what it has where it goes no further.
        let mut made = Vectors { events: Vec::new(), routing: Arc::clone(&self.0) };
        for _ in 0..vectors {
            let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
            let gsi = self.0.take()?;
            if let Err(error) = self.0.vm.register_irqfd(&event, gsi) {
                self.0.give_back(gsi);
                return Err(error.into());
            }
            made.events.push((gsi, event));
        }
        Ok(Arc::new(made))
    }
}

struct Vectors {
    events: Vec<(u32, EventFd)>,
    routing: Arc<Routing>,
}

impl Drop for Vectors {
    fn drop(&mut self) {
        for (gsi, event) in self.events.drain(..) {
            let gone = self.routing.vm.unregister_irqfd(&event, gsi).map_err(io::Error::from);
            match gone.and_then(|()| self.routing.set(gsi, None)) {
                Ok(()) => self.routing.give_back(gsi),
                // Then nobody else gets it.
                Err(error) => eprintln!("lq-vmm: interrupt {gsi} cannot be given back: {error}"),
            }
        }
    }
}

impl Vectors {
    fn gsi(&self, vector: u16) -> Option<u32> {
        self.events.get(usize::from(vector)).map(|(gsi, _)| *gsi)
    }
}

impl MsiVectors for Vectors {
    fn route(&self, vector: u16, address: u64, data: u32) -> io::Result<()> {
        self.gsi(vector).map_or(Ok(()), |gsi| self.routing.set(gsi, Some((address, data))))
    }

    fn unroute(&self, vector: u16) -> io::Result<()> {
        self.gsi(vector).map_or(Ok(()), |gsi| self.routing.set(gsi, None))
    }

    fn event(&self, vector: u16) -> Option<&EventFd> {
        self.events.get(usize::from(vector)).map(|(_, event)| event)
    }
}
