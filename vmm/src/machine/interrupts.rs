//! Interrupt routing: fixed lines to the I/O APIC, and message-signalled interrupts on numbers of their own.
//!
//! Numbers (GSIs) 0 to 23 are the pins of the I/O APIC; from 24 on each is one MSI vector of one device, with an eventfd
//! that injects it. KVM takes the whole table at every change; a lock keeps table and kernel in step. Numbers are never
//! given back: devices live as long as the machine.

use crate::pci::{MsiVectors, Platform};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
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
        Self { vm, table: Mutex::new(Table { next: PINS, messages: BTreeMap::new() }) }
    }

    /// Lets a signal of `event` pulse pin `line` of the I/O APIC.
    pub fn connect_line(&self, line: u32, event: &EventFd) -> io::Result<()> {
        self.vm.register_irqfd(event, line).map_err(io::Error::from)
    }

    fn set(&self, gsi: u32, message: Option<(u64, u32)>) -> io::Result<()> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
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
        let first = {
            let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
            let first = table.next;
            table.next = first + u32::from(vectors);
            if table.next > MAX_GSI {
                return Err(io::Error::other("the machine has no interrupts left"));
            }
            first
        };
        let mut events = Vec::new();
        for gsi in first..first + u32::from(vectors) {
            let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
            self.0.vm.register_irqfd(&event, gsi)?;
            events.push(event);
        }
        Ok(Arc::new(Vectors { first, events, routing: Arc::clone(&self.0) }))
    }
}

struct Vectors {
    first: u32,
    events: Vec<EventFd>,
    routing: Arc<Routing>,
}

impl Vectors {
    fn gsi(&self, vector: u16) -> Option<u32> {
        (usize::from(vector) < self.events.len()).then(|| self.first + u32::from(vector))
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
        self.events.get(usize::from(vector))
    }
}
