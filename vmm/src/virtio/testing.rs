//! The other side of a virtio device, for tests: a platform that only remembers, and a driver that finds its device through
//! configuration space, negotiates, and owns rings in guest memory.

use super::{F_COMMON, VirtioDevice, VirtioPci};
use crate::{
    memory::{Memory, SharedMemory},
    pci::{MsiVectors, PciDevice, Platform},
};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub(crate) const MEMORY_SIZE: u64 = 16 << 20;
pub(crate) const BAR_BASE: u64 = 0xc000_0000;
/// Rings are put here, 64 KiB for each queue; tests may use what follows 1 MiB.
const RINGS: u64 = 0x10000;
pub(crate) const BUFFERS: u64 = 1 << 20;

pub(crate) const F_NEXT: u16 = 1;
pub(crate) const F_WRITE: u16 = 2;
pub(crate) const F_INDIRECT: u16 = 4;

pub(crate) fn memory() -> SharedMemory {
    // Two regions with a hole between, so that slices cross a border.
    let half = MEMORY_SIZE as usize / 2;
    let ranges = [(GuestAddress(0), half), (GuestAddress(half as u64), half)];
    SharedMemory::new(Memory::from_ranges(&ranges).unwrap())
}

#[derive(Default)]
pub(crate) struct FakePlatform {
    pub(crate) doorbells: Mutex<BTreeMap<u64, EventFd>>,
    pub(crate) vectors: Mutex<Vec<Arc<FakeVectors>>>,
}

pub(crate) struct FakeVectors(Vec<EventFd>);

impl Platform for FakePlatform {
    fn attach_doorbell(&self, address: u64, event: &EventFd) -> io::Result<()> {
        self.doorbells.lock().unwrap().insert(address, event.try_clone()?);
        Ok(())
    }
    fn detach_doorbell(&self, address: u64, _event: &EventFd) -> io::Result<()> {
        self.doorbells
            .lock()
            .unwrap()
            .remove(&address)
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn allocate_msi(&self, vectors: u16) -> io::Result<Arc<dyn MsiVectors>> {
        let events: io::Result<_> = (0..vectors).map(|_| EventFd::new(EFD_NONBLOCK)).collect();
        let vectors = Arc::new(FakeVectors(events?));
        self.vectors.lock().unwrap().push(Arc::clone(&vectors));
        Ok(vectors)
    }
}

impl MsiVectors for FakeVectors {
    fn route(&self, _: u16, _: u64, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn unroute(&self, _: u16) -> io::Result<()> {
        Ok(())
    }
    fn event(&self, vector: u16) -> Option<&EventFd> {
        self.0.get(usize::from(vector))
    }
}

/// One ring as the driver sees it.
pub(crate) struct Ring {
    pub(crate) size: u16,
    pub(crate) base: u64,
    next_descriptor: u16,
    avail: u16,
    used: u16,
}

impl Ring {
    fn new(index: u16, size: u16) -> Self {
        Self { size, base: RINGS + u64::from(index) * 0x10000, next_descriptor: 0, avail: 0, used: 0 }
    }
    pub(crate) fn descriptors(&self) -> u64 {
        self.base
    }
    pub(crate) fn avail(&self) -> u64 {
        self.base + 0x8000
    }
    pub(crate) fn used(&self) -> u64 {
        self.base + 0xc000
    }
}

/// A driver and its device.
pub(crate) struct Driver {
    pub(crate) pci: VirtioPci,
    pub(crate) memory: SharedMemory,
    pub(crate) platform: Arc<FakePlatform>,
    pub(crate) rings: Vec<Ring>,
    /// Offsets of common, ISR, device, notify structures in BAR 0, as the capabilities say.
    structures: [u64; 5],
    event_idx: bool,
}

impl Driver {
    pub(crate) fn new(device: impl VirtioDevice + 'static) -> Self {
        Self::with_memory(device, memory())
    }

    /// As [`Driver::new`], of a machine with this memory, of at least [`MEMORY_SIZE`].
    pub(crate) fn with_memory(device: impl VirtioDevice + 'static, memory: SharedMemory) -> Self {
        let platform = Arc::new(FakePlatform::default());
        let pci = VirtioPci::new(Box::new(device), memory.clone(), Arc::clone(&platform) as _).unwrap();
        let mut driver =
            Self { pci, memory, platform, rings: Vec::new(), structures: [u64::MAX; 5], event_idx: false };
        driver.find_structures();
        driver.pci.bar_moved(0, Some(BAR_BASE)).unwrap();
        driver
    }

    fn find_structures(&mut self) {
        let byte = |pci: &mut VirtioPci, at: u16| {
            let mut data = [0];
            pci.config_read(at, &mut data);
            data[0]
        };
        let mut at = u16::from(byte(&mut self.pci, 0x34));
        while at != 0 {
            if byte(&mut self.pci, at) == 9 {
                let kind = byte(&mut self.pci, at + 3);
                let mut offset = [0; 4];
                self.pci.config_read(at + 8, &mut offset);
                if let Some(slot) = self.structures.get_mut(usize::from(kind)) {
                    *slot = u64::from(u32::from_le_bytes(offset));
                }
            }
            at = u16::from(byte(&mut self.pci, at + 1));
        }
    }

    pub(crate) fn common_read(&mut self, offset: u64, bytes: usize) -> u64 {
        let mut data = [0; 8];
        self.pci.bar_read(0, self.structures[1] + offset, &mut data[..bytes]);
        u64::from_le_bytes(data)
    }

    pub(crate) fn common_write(&mut self, offset: u64, bytes: usize, value: u64) {
        self.pci.bar_write(0, self.structures[1] + offset, &value.to_le_bytes()[..bytes]);
    }

    pub(crate) fn config(&mut self, offset: u64, bytes: usize) -> u64 {
        let mut data = [0; 8];
        self.pci.bar_read(0, self.structures[4] + offset, &mut data[..bytes]);
        u64::from_le_bytes(data)
    }

    pub(crate) fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.pci.bar_write(0, self.structures[4] + offset, data);
    }

    pub(crate) fn status(&mut self) -> u8 {
        self.common_read(0x14, 1) as u8
    }

    pub(crate) fn set_status(&mut self, status: u8) {
        self.common_write(0x14, 1, u64::from(status));
    }

    pub(crate) fn device_features(&mut self) -> u64 {
        self.common_write(0, 4, 0);
        let low = self.common_read(4, 4);
        self.common_write(0, 4, 1);
        low | self.common_read(4, 4) << 32
    }

    pub(crate) fn accept_features(&mut self, features: u64) {
        self.common_write(8, 4, 0);
        self.common_write(0xc, 4, features & 0xffff_ffff);
        self.common_write(8, 4, 1);
        self.common_write(0xc, 4, features >> 32);
    }

    /// Negotiates all features but those in `without`, and starts all queues with `size` entries.
    pub(crate) fn start(&mut self, without: u64, size: u16) {
        self.begin(without, size);
        assert_eq!(self.status(), 15);
    }

    /// As [`Driver::start`], whatever becomes of the device.
    pub(crate) fn begin(&mut self, without: u64, size: u16) {
        self.enable_msix();
        self.set_status(0);
        assert_eq!(self.status(), 0);
        self.set_status(1);
        self.set_status(3);
        let features = self.device_features() & !without;
        assert_eq!(features & F_COMMON & !without, F_COMMON & !without);
        self.accept_features(features);
        self.set_status(11);
        assert_eq!(self.status(), 11, "features accepted");
        self.event_idx = features & super::F_EVENT_IDX != 0;
        self.rings.clear();
        let queues = self.common_read(0x12, 2) as u16;
        let memory = self.memory();
        for index in 0..queues {
            let ring = Ring::new(index, size);
            memory.write_slice(&vec![0; 0x10000], GuestAddress(ring.base)).unwrap();
            self.common_write(0x16, 2, u64::from(index));
            self.common_write(0x18, 2, u64::from(size));
            self.common_write(0x1a, 2, u64::from(index) + 1);
            self.common_write(0x20, 4, ring.descriptors());
            self.common_write(0x28, 4, ring.avail());
            self.common_write(0x30, 4, ring.used());
            self.common_write(0x1c, 2, 1);
            self.rings.push(ring);
        }
        self.common_write(0x10, 2, 0);
        self.set_status(15);
    }

    fn enable_msix(&mut self) {
        for vector in 0..16 {
            for (offset, value) in [(0, 0xfee0_0000_u32), (4, 0), (8, 0x30 + vector), (12, 0)] {
                self.pci.bar_write(0, 0x4000 + u64::from(vector) * 16 + offset, &value.to_le_bytes());
            }
        }
        let mut at = [0];
        self.pci.config_read(0x34, &mut at);
        while at[0] != 0 {
            let mut id = [0; 2];
            self.pci.config_read(u16::from(at[0]), &mut id);
            if id[0] == 0x11 {
                self.pci.config_write(u16::from(at[0]) + 2, &0x8000_u16.to_le_bytes());
            }
            at[0] = id[1];
        }
    }

    pub(crate) fn memory(&self) -> Arc<Memory> {
        use vm_memory::GuestAddressSpace;
        self.memory.memory().into_inner()
    }

    /// Writes one descriptor.
    pub(crate) fn descriptor(&self, queue: usize, at: u16, address: u64, length: u32, flags: u16, next: u16) {
        write_descriptor(&self.memory(), self.rings[queue].descriptors(), at, (address, length, flags, next));
    }

    /// Offers a chain of (address, length, device-writable) and returns its head. Does not ring.
    pub(crate) fn offer(&mut self, queue: usize, segments: &[(u64, u32, bool)]) -> u16 {
        let size = self.rings[queue].size;
        let head = self.rings[queue].next_descriptor;
        for (n, (address, length, writable)) in segments.iter().enumerate() {
            let at = (head + n as u16) % size;
            let more = n + 1 < segments.len();
            let flags = if *writable { F_WRITE } else { 0 } | if more { F_NEXT } else { 0 };
            self.descriptor(queue, at, *address, *length, flags, (at + 1) % size);
        }
        self.rings[queue].next_descriptor = (head + segments.len() as u16) % size;
        self.publish(queue, head);
        head
    }

    /// The head [`Driver::offer`] uses next.
    pub(crate) fn next_head(&self, queue: usize) -> u16 {
        self.rings[queue].next_descriptor
    }

    /// Puts a head into the available ring.
    pub(crate) fn publish(&mut self, queue: usize, head: u16) {
        let memory = self.memory();
        let ring = &mut self.rings[queue];
        let slot = ring.avail() + 4 + u64::from(ring.avail % ring.size) * 2;
        memory.write_obj(head, GuestAddress(slot)).unwrap();
        ring.avail = ring.avail.wrapping_add(1);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        memory.write_obj(ring.avail, GuestAddress(ring.avail() + 2)).unwrap();
        // used_event: an interrupt for the very next answer.
        let event = ring.avail() + 4 + u64::from(ring.size) * 2;
        memory.write_obj(ring.used, GuestAddress(event)).unwrap();
    }

    pub(crate) fn ring(&self, queue: usize) {
        let address = BAR_BASE + 0x3000 + 4 * queue as u64;
        self.platform.doorbells.lock().unwrap()[&address].write(1).unwrap();
    }

    /// Waits for the next answer: head and length.
    pub(crate) fn wait_used(&mut self, queue: usize) -> (u16, u32) {
        self.try_wait_used(queue, Duration::from_secs(20)).expect("the device answers")
    }

    pub(crate) fn try_wait_used(&mut self, queue: usize, limit: Duration) -> Option<(u16, u32)> {
        let memory = self.memory();
        let deadline = Instant::now() + limit;
        let ring = &mut self.rings[queue];
        loop {
            let index: u16 = memory.read_obj(GuestAddress(ring.used() + 2)).unwrap();
            if index != ring.used {
                let slot = ring.used() + 4 + u64::from(ring.used % ring.size) * 8;
                let (head, length): (u32, u32) = (
                    memory.read_obj(GuestAddress(slot)).unwrap(),
                    memory.read_obj(GuestAddress(slot + 4)).unwrap(),
                );
                ring.used = ring.used.wrapping_add(1);
                return Some((head as u16, length));
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Offers a chain, rings, and waits for its answer.
    pub(crate) fn request(&mut self, queue: usize, segments: &[(u64, u32, bool)]) -> u32 {
        let head = self.offer(queue, segments);
        self.ring(queue);
        let (answered, length) = self.wait_used(queue);
        assert_eq!(answered, head);
        length
    }

    /// Waits until `vector` has been signalled.
    pub(crate) fn interrupted(&self, vector: u16, limit: Duration) -> bool {
        let vectors = Arc::clone(&self.platform.vectors.lock().unwrap()[0]);
        let deadline = Instant::now() + limit;
        loop {
            if vectors.event(vector).unwrap().read().is_ok() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Waits until the device says that it needs a reset.
    pub(crate) fn wait_needs_reset(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.status() & 0x40 == 0 {
            assert!(Instant::now() < deadline, "the device asks for a reset");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        self.memory().write_slice(data, GuestAddress(address)).unwrap();
    }

    pub(crate) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.memory().read_slice(&mut data, GuestAddress(address)).unwrap();
        data
    }
}

pub(crate) fn write_descriptor(
    memory: &Memory,
    table: u64,
    at: u16,
    (address, length, flags, next): (u64, u32, u16, u16),
) {
    let at = GuestAddress(table + 16 * u64::from(at));
    let bytes =
        [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()]
            .concat();
    memory.write_slice(&bytes, at).unwrap();
}
