//! The KVM virtual machine: what the host must offer, memory, interrupt controllers.

use super::interrupts::Routing;
use crate::{
    firmware::{ReadWindow, mapping::Mapping},
    memory::{self, Memory},
};
use kvm_bindings::{
    KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_PIT_SPEAKER_DUMMY,
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_VFIO, kvm_irqchip, kvm_pit_config,
    kvm_pit_state2, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, DeviceFd, Kvm, VmFd};
use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

/// What the monitor cannot do without.
const NEEDED: [(Cap, &str); 12] = [
    (Cap::Irqchip, "in-kernel interrupt controllers"),
    (Cap::UserMemory, "user memory regions"),
    (Cap::SetTssAddr, "KVM_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "extended CPUID"),
    (Cap::MpState, "multiprocessor states"),
    (Cap::Irqfd, "irqfd"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::IoeventfdNoLength, "ioeventfd for any length"),
    (Cap::IrqRouting, "interrupt routing"),
    (Cap::ImmediateExit, "immediate exit"),
    (Cap::VcpuEvents, "vCPU events"),
    (Cap::Xcrs, "extended control registers"),
];

/// Why a machine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No /dev/kvm, or not for us.
    #[error(
        "cannot open /dev/kvm: {0}; switch on hardware virtualization in the firmware and load kvm-intel or kvm-amd"
    )]
    Open(kvm_ioctls::Error),
    /// Another KVM.
    #[error("this host's KVM speaks API version {0}, 12 is needed")]
    Version(i32),
    /// Something is missing.
    #[error("this host's KVM lacks {0}; a newer kernel is needed")]
    Missing(String),
    /// More processors than the host does.
    #[error("this host's KVM runs at most {most} virtual CPUs per machine, {wanted} were asked for")]
    TooManyVcpus {
        /// What was asked for.
        wanted: u8,
        /// What is possible.
        most: usize,
    },
    /// An ioctl failed.
    #[error("KVM refused to {what}: {source}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: kvm_ioctls::Error,
    },
}

/// Names an ioctl in its error.
pub(crate) fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |source| Error::Refused { what, source }
}

/// Opens /dev/kvm and checks what it offers.
pub fn open(vcpus: u8) -> Result<Kvm, Error> {
    let kvm = Kvm::new().map_err(Error::Open)?;
    let version = kvm.get_api_version();
    if version != 12 {
        return Err(Error::Version(version));
    }
    let missing: Vec<_> = NEEDED.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|n| n.1).collect();
    if !missing.is_empty() {
        return Err(Error::Missing(missing.join(", ")));
    }
    let most = kvm.get_max_vcpus();
    if usize::from(vcpus) > most {
        return Err(Error::TooManyVcpus { wanted: vcpus, most });
    }
    Ok(kvm)
}

/// Slot of the firmware's code. Guest memory counts up from 0.
const CODE_SLOT: u32 = 30;
/// Slot of the firmware's variables.
const VARS_SLOT: u32 = 31;

/// A memory slot the guest only reads.
struct ReadSlot {
    vm: Arc<VmFd>,
    slot: u32,
}

impl ReadSlot {
    fn set(&self, base: u64, size: u64, address: u64) -> io::Result<()> {
        let region = kvm_userspace_memory_region {
            slot: self.slot,
            guest_phys_addr: base,
            memory_size: size,
            userspace_addr: address,
            flags: KVM_MEM_READONLY,
        };
        // SAFETY: the flash that owns the mapping keeps it for as long as the machine; the guest cannot write to it.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(io::Error::from)
    }
}

impl ReadWindow for ReadSlot {
    fn map(&self, base: u64, mapping: &Mapping) -> io::Result<()> {
        self.set(base, mapping.bytes().len() as u64, mapping.address())
    }

    fn unmap(&self) -> io::Result<()> {
        self.set(0, 0, 0)
    }
}

/// First slot of devices' own memory.
const DEVICE_SLOT: u32 = 32;

/// Where memory of the host's own devices becomes the guest's.
#[derive(Clone)]
pub struct DeviceMemory {
    vm: Arc<VmFd>,
    next: Arc<AtomicU32>,
}

impl DeviceMemory {
    /// A slot that nobody else has.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Shows `size` bytes at `address` of this process to the guest at `base`; 0 bytes: no more.
    ///
    /// # Safety
    /// The range stays mapped until it is shown no more, and a guest may read and write it.
    ///
    /// # Errors
    /// KVM refused.
    pub unsafe fn set(&self, slot: u32, base: u64, size: u64, address: u64) -> io::Result<()> {
        let region = kvm_userspace_memory_region {
            slot,
            guest_phys_addr: base,
            memory_size: size,
            userspace_addr: address,
            flags: 0,
        };
        // SAFETY: the caller's word.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(io::Error::from)
    }

    /// Tells KVM of IOMMU groups that are the machine's, for as long as what is returned is open.
    ///
    /// # Errors
    /// KVM refused.
    pub fn know_groups<'a>(&self, groups: impl IntoIterator<Item = &'a File>) -> io::Result<DeviceFd> {
        let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_VFIO, ..Default::default() };
        let device = self.vm.create_device(&mut device)?;
        for group in groups {
            let descriptor = group.as_raw_fd();
            let attribute = kvm_device_attr {
                group: KVM_DEV_VFIO_GROUP,
                attr: u64::from(KVM_DEV_VFIO_GROUP_ADD),
                addr: std::ptr::from_ref(&descriptor) as u64,
                ..Default::default()
            };
            // The attribute's address is that of a descriptor, as it takes one.
            device.set_device_attr(&attribute)?;
        }
        Ok(device)
    }
}

/// A virtual machine without processors, and the state its interrupt controllers had at power-on.
pub struct Vm {
    fd: Arc<VmFd>,
    slots: Vec<kvm_userspace_memory_region>,
    routing: Arc<Routing>,
    next_device_slot: Arc<AtomicU32>,
    initial_chips: Vec<kvm_irqchip>,
    initial_timer: Option<kvm_pit_state2>,
}

impl Vm {
    /// Makes it, with `memory` as its RAM.
    pub fn new(kvm: &Kvm, memory: &Memory) -> Result<Self, Error> {
        let fd = kvm.create_vm().map_err(refused("create a virtual machine"))?;
        let mut slots = Vec::new();
        for (slot, region) in memory.iter().enumerate() {
            let host = region.get_host_address(MemoryRegionAddress(0));
            let host = host.map_err(|e| Error::Missing(format!("a mapping of guest memory: {e}")))?;
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host as u64,
                flags: 0,
            };
            // SAFETY: the mapping is as long as `memory`, which the machine keeps for as long as the descriptor.
            unsafe { fd.set_user_memory_region(region) }.map_err(refused("map guest memory"))?;
            slots.push(region);
        }
        fd.set_identity_map_address(memory::KVM_IDENTITY_MAP).map_err(refused("place its identity map"))?;
        fd.set_tss_address(memory::KVM_TSS).map_err(refused("place its task state"))?;
        fd.create_irq_chip().map_err(refused("create interrupt controllers"))?;
        let mut initial_timer = None;
        if fd.check_extension(Cap::Pit2) {
            let config = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
            fd.create_pit2(config).map_err(refused("create the interval timer"))?;
            initial_timer = Some(fd.get_pit2().map_err(refused("read the interval timer"))?);
        }
        let initial_chips = chips(&fd)?;
        let fd = Arc::new(fd);
        let routing = Arc::new(Routing::new(Arc::clone(&fd)));
        let next_device_slot = Arc::new(AtomicU32::new(DEVICE_SLOT));
        Ok(Self { fd, slots, routing, next_device_slot, initial_chips, initial_timer })
    }

    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// The log of what is written to `memory`, which is this machine's.
    #[must_use]
    pub fn dirty_log(&self, memory: &Memory) -> DirtyLog {
        DirtyLog { fd: Arc::clone(&self.fd), slots: self.slots.clone(), memory: memory.clone() }
    }

    /// Where flash becomes readable: code and variables.
    #[must_use]
    pub fn flash_windows(&self) -> (Box<dyn ReadWindow + Sync>, Box<dyn ReadWindow>) {
        let slot = |slot| Box::new(ReadSlot { vm: Arc::clone(&self.fd), slot });
        (slot(CODE_SLOT), slot(VARS_SLOT))
    }

    /// Where devices' own memory is shown.
    #[must_use]
    pub fn device_memory(&self) -> DeviceMemory {
        DeviceMemory { vm: Arc::clone(&self.fd), next: Arc::clone(&self.next_device_slot) }
    }

    /// Its interrupts.
    #[must_use]
    pub fn routing(&self) -> &Arc<Routing> {
        &self.routing
    }

    /// Returns the interrupt controllers and the timer to power-on. No vCPU may run.
    pub fn reset(&self) -> Result<(), Error> {
        self.set_controllers(&self.initial_chips, self.initial_timer.as_ref())
    }

    /// The state of the interrupt controllers and of the timer, where there is one. No vCPU may run.
    pub fn controllers(&self) -> Result<(Vec<kvm_irqchip>, Option<kvm_pit_state2>), Error> {
        let timer = self.initial_timer.map(|_| self.fd.get_pit2()).transpose();
        Ok((chips(&self.fd)?, timer.map_err(refused("read the interval timer"))?))
    }

    /// Sets the state of the interrupt controllers and of the timer. No vCPU may run.
    pub fn set_controllers(
        &self,
        chips: &[kvm_irqchip],
        timer: Option<&kvm_pit_state2>,
    ) -> Result<(), Error> {
        for chip in chips {
            self.fd.set_irqchip(chip).map_err(refused("set an interrupt controller"))?;
        }
        match (timer, &self.initial_timer) {
            (Some(timer), Some(_)) => self.fd.set_pit2(timer).map_err(refused("set the interval timer")),
            (None, None) => Ok(()),
            _ => Err(Error::Missing("an interval timer, or has one too many".to_owned())),
        }
    }
}

fn chips(fd: &VmFd) -> Result<Vec<kvm_irqchip>, Error> {
    let chips = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];
    let read = |chip_id| {
        let mut chip = kvm_irqchip { chip_id, ..Default::default() };
        fd.get_irqchip(&mut chip).map(|()| chip)
    };
    chips.into_iter().map(read).collect::<Result<_, _>>().map_err(refused("read the interrupt controllers"))
}

/// Which pages are written, by vCPUs (KVM's log) and by devices (ours).
pub struct DirtyLog {
    fd: Arc<VmFd>,
    slots: Vec<kvm_userspace_memory_region>,
    memory: Memory,
}

impl DirtyLog {
    /// Begins, with nothing written.
    pub fn start(&self) -> Result<(), Error> {
        self.memory.iter().for_each(|region| region.bitmap().start());
        self.set_flags(KVM_MEM_LOG_DIRTY_PAGES)
    }

    /// Ends.
    pub fn stop(&self) -> Result<(), Error> {
        self.memory.iter().for_each(|region| region.bitmap().stop());
        self.set_flags(0)
    }

    fn set_flags(&self, flags: u32) -> Result<(), Error> {
        self.slots.iter().try_for_each(|slot| {
            let region = kvm_userspace_memory_region { flags, ..*slot };
            // SAFETY: the slot stays where it is, in the mapping that `self.memory` keeps; only logging changes.
            unsafe { self.fd.set_user_memory_region(region) }.map_err(refused("log writes to guest memory"))
        })
    }

    /// Takes what was written since the start or the last call: (first address of a region, one bit a page).
    pub fn take(&self) -> Result<Vec<(u64, Vec<u64>)>, Error> {
        let mut all = Vec::new();
        for (slot, region) in self.slots.iter().zip(self.memory.iter()) {
            let size = usize::try_from(slot.memory_size).unwrap_or(usize::MAX);
            let log = self.fd.get_dirty_log(slot.slot, size);
            let mut pages = log.map_err(refused("read the log of writes to guest memory"))?;
            for (page, ours) in pages.iter_mut().zip(region.bitmap().take()) {
                *page |= ours;
            }
            all.push((slot.guest_phys_addr, pages));
        }
        Ok(all)
    }
}
