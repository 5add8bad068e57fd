//! A bounded cache of metadata in slices of 4 KiB (less where clusters are smaller), keyed by offset in the file.
//!
//! Invariants: a dirty slice is never dropped; the cache never grows beyond its capacity. Who uses it decides when dirty
//! slices may be written, and makes room before it needs some.

use super::super::file::ImageFile;
use std::{collections::HashMap, io};

/// L2 slices kept: 512 KiB, which map 4 GiB at 64 KiB clusters.
pub(super) const L2_SLICES: usize = 128;
/// Refcount slices kept: 128 KiB.
pub(super) const REFCOUNT_SLICES: usize = 32;
/// Dirty slices one operation may add.
const RESERVE: usize = 8;

struct Slot {
    data: Box<[u8]>,
    dirty: bool,
    used: u64,
}

pub(super) struct Cache {
    slice: usize,
    capacity: usize,
    slots: HashMap<u64, Slot>,
    dirty: usize,
    clock: u64,
}

impl Cache {
    pub(super) fn new(cluster_size: usize, capacity: usize) -> Self {
        Self { slice: cluster_size.min(4096), capacity, slots: HashMap::new(), dirty: 0, clock: 0 }
    }

    /// Bytes of a slice.
    pub(super) fn slice(&self) -> usize {
        self.slice
    }

    /// Dirty slices must be written before more are made.
    pub(super) fn is_full(&self) -> bool {
        self.dirty + RESERVE >= self.capacity
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty != 0
    }

    /// The slice at `offset` (a multiple of its size).
    pub(super) fn get(&mut self, file: &ImageFile, offset: u64) -> io::Result<&[u8]> {
        self.slot(file, offset).map(|slot| &*slot.data)
    }

    /// The slice at `offset` to be changed.
    pub(super) fn get_mut(&mut self, file: &ImageFile, offset: u64) -> io::Result<&mut [u8]> {
        self.slot(file, offset)?;
        let Some(slot) = self.slots.get_mut(&offset) else { return Err(io::ErrorKind::NotFound.into()) };
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty += 1;
        }
        Ok(&mut slot.data)
    }

    fn slot(&mut self, file: &ImageFile, offset: u64) -> io::Result<&mut Slot> {
        self.clock += 1;
        if !self.slots.contains_key(&offset) {
            let mut data = self.free_buffer()?;
            file.read_exact_at(&mut data, offset)?;
            self.slots.insert(offset, Slot { data, dirty: false, used: 0 });
        }
        let clock = self.clock;
        let slot = self.slots.get_mut(&offset).ok_or(io::ErrorKind::NotFound)?;
        slot.used = clock;
        Ok(slot)
    }

    /// A buffer for a slice: new while there is room, else of the clean slice not used for longest.
    fn free_buffer(&mut self) -> io::Result<Box<[u8]>> {
        if self.slots.len() < self.capacity {
            return Ok(vec![0; self.slice].into_boxed_slice());
        }
        let oldest = self.slots.iter().filter(|(_, slot)| !slot.dirty).min_by_key(|(_, slot)| slot.used);
        let victim = oldest.map(|(offset, _)| *offset);
        victim
            .and_then(|offset| self.slots.remove(&offset))
            .map(|slot| slot.data)
            .ok_or_else(|| io::Error::other("no room in the metadata cache"))
    }

    /// Writes all dirty slices. After an error those not written are still dirty.
    pub(super) fn write(&mut self, file: &ImageFile) -> io::Result<()> {
        if self.dirty == 0 {
            return Ok(());
        }
        for (offset, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.dirty) {
            file.write_all_at(&slot.data, *offset)?;
            slot.dirty = false;
            self.dirty -= 1;
        }
        Ok(())
    }
}

/// The big-endian 64-bit entries of a table.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_be_bytes(*entry))
}

/// The `index`-th entry; 0 outside.
pub(super) fn entry(bytes: &[u8], index: usize) -> u64 {
    bytes.as_chunks::<8>().0.get(index).map_or(0, |entry| u64::from_be_bytes(*entry))
}

/// Sets the `index`-th entry; nothing outside.
pub(super) fn set_entry(bytes: &mut [u8], index: usize, value: u64) {
    if let Some(entry) = bytes.as_chunks_mut::<8>().0.get_mut(index) {
        *entry = value.to_be_bytes();
    }
}
