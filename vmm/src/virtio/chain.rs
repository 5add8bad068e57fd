//! A descriptor chain, read once and checked whole before any of its bytes are touched.
//!
//! Invariants of a [`Chain`] that [`Chain::read`] accepted: all segments lie in guest memory; what the device may read comes
//! before what it may write (virtio 1.2, 2.7.4.2); at most [`MAX_SEGMENTS`] segments; no loop.

use crate::memory::{self, Memory, Slice};
use std::ops::Range;
use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// Most segments of a chain: what one vectored system call takes.
pub const MAX_SEGMENTS: usize = 1024;

/// A chain that breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No descriptor could be read.
    #[error("the chain is empty")]
    Empty,
    /// A descriptor points to a next one that does not exist, in a circle, or over 2^32 bytes.
    #[error("the chain breaks off")]
    Broken,
    /// More segments than are taken.
    #[error("the chain has more than {MAX_SEGMENTS} segments")]
    TooLong,
    /// Readable after writable.
    #[error("the chain has readable segments after writable ones")]
    Order,
    /// A segment is not in guest memory.
    #[error("the chain has a segment outside of memory")]
    OutOfMemory,
    /// Too few bytes for this kind of request.
    #[error("the chain is too short for its request")]
    TooShort,
}

/// One direction of a chain.
#[derive(Debug, Default)]
pub struct Segments {
    list: Vec<(u64, u32)>,
    bytes: u64,
}

/// A chain; reused from request to request.
#[derive(Debug, Default)]
pub struct Chain {
    /// Index of its first descriptor, by which it is answered.
    pub head: u16,
    /// What the device may read.
    pub readable: Segments,
    /// What the device may write.
    pub writable: Segments,
}

impl Chain {
    /// Takes over what `descriptors` describe.
    pub(crate) fn read(
        &mut self,
        memory: &Memory,
        mut descriptors: DescriptorChain<&Memory>,
    ) -> Result<(), Malformed> {
        self.head = descriptors.head_index();
        self.readable.clear();
        self.writable.clear();
        let mut more = None;
        for descriptor in &mut descriptors {
            more = Some(descriptor.has_next());
            if self.readable.list.len() + self.writable.list.len() >= MAX_SEGMENTS {
                return Err(Malformed::TooLong);
            }
            let (address, length) = (descriptor.addr(), descriptor.len());
            if !descriptor.is_write_only() && !self.writable.list.is_empty() {
                return Err(Malformed::Order);
            }
            if !memory::usable(memory, address, length as usize) {
                return Err(Malformed::OutOfMemory);
            }
            let side = if descriptor.is_write_only() { &mut self.writable } else { &mut self.readable };
            side.list.push((address.0, length));
            side.bytes += u64::from(length);
        }
        // The iterator ends silently where it cannot go on; then the last descriptor said that there is more.
        match more {
            None => Err(Malformed::Empty),
            Some(true) => Err(Malformed::Broken),
            Some(false) => Ok(()),
        }
    }
}

impl Segments {
    fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
    }

    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Calls `action` with address and bytes of each segment.
    pub fn each(&self, mut action: impl FnMut(u64, u32)) {
        self.list.iter().for_each(|(address, length)| action(*address, *length));
    }

    /// The memory of the bytes in `range`.
    ///
    /// # Errors
    /// The range is not within, or memory was taken away since the chain was read.
    pub fn slices<'m>(&self, memory: &'m Memory, range: Range<u64>) -> Result<Vec<Slice<'m>>, Malformed> {
        if range.start > range.end || range.end > self.bytes {
            return Err(Malformed::TooShort);
        }
        let mut slices = Vec::with_capacity(self.list.len());
        let mut at = 0;
        for (address, length) in &self.list {
            let length = u64::from(*length);
            let (from, to) = (range.start.max(at), range.end.min(at + length));
            if from < to {
                // Both below 2^32, checked against memory by `Chain::read`.
                let start = GuestAddress(address.wrapping_add(from - at));
                for slice in memory.get_slices(start, (to - from) as usize) {
                    slices.push(slice.map_err(|_| Malformed::OutOfMemory)?);
                }
            }
            at += length;
        }
        Ok(slices)
    }

    /// Copies `data.len()` bytes from `offset` out of guest memory.
    ///
    /// # Errors
    /// There are not that many.
    pub fn copy_out(&self, memory: &Memory, offset: u64, data: &mut [u8]) -> Result<(), Malformed> {
        let mut rest = data;
        for slice in self.slices(memory, offset..offset.saturating_add(rest.len() as u64))? {
            let (now, later) = rest.split_at_mut(slice.len().min(rest.len()));
            slice.copy_to(now);
            rest = later;
        }
        Ok(())
    }

    /// Copies `data` to `offset` in guest memory.
    ///
    /// # Errors
    /// There is not that much room.
    pub fn copy_in(&self, memory: &Memory, offset: u64, data: &[u8]) -> Result<(), Malformed> {
        let mut rest = data;
        for slice in self.slices(memory, offset..offset.saturating_add(rest.len() as u64))? {
            let (now, later) = rest.split_at(slice.len().min(rest.len()));
            slice.copy_from(now);
            rest = later;
        }
        Ok(())
    }
}

/// Reads one little-endian number from guest memory.
pub(crate) fn load_u16(memory: &Memory, address: u64) -> Option<u16> {
    memory.read_obj::<u16>(GuestAddress(address)).ok().map(u16::from_le)
}
