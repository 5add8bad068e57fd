//! Which pages of guest memory were written by the monitor itself (devices): KVM's own log knows of vCPUs only.
//!
//! Costs a fence and a load per write while nobody asks; the bitmap exists from the first [`DirtySlice::start`] on. Invariant:
//! a page whose mark is not there when [`DirtySlice::take`] returns was not written since the mark was taken last, or will
//! be marked after: marks are set after the write, and taken before the page is read.

use super::presence::Presence;
use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Relaxed, SeqCst},
            fence,
        },
    },
};
use vm_memory::bitmap::{Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
const SHIFT: u32 = PAGE.trailing_zeros();

/// The log of one region.
#[derive(Default)]
pub struct Dirty {
    on: AtomicBool,
    words: OnceLock<Box<[AtomicU64]>>,
    pages: usize,
    /// What of the region there is: it has no other place of its own.
    presence: Presence,
    /// Pages stay where they are: functions of the host write to them.
    pinned: AtomicBool,
}

impl Dirty {
    fn mark(&self, offset: usize, length: usize) {
        // The write this follows must not be seen after the load: whoever switches the log on reads the page after that.
        fence(SeqCst);
        if length == 0 || !self.on.load(Relaxed) {
            return;
        }
        let Some(words) = self.words.get() else { return };
        let last = offset.saturating_add(length - 1) >> SHIFT;
        for page in (offset >> SHIFT)..=last.min(self.pages.saturating_sub(1)) {
            if let Some(word) = words.get(page / 64) {
                word.fetch_or(1 << (page % 64), AcqRel);
            }
        }
    }

    fn is_marked(&self, offset: usize) -> bool {
        let page = offset >> SHIFT;
        let word = self.words.get().and_then(|words| words.get(page / 64));
        word.is_some_and(|word| word.load(SeqCst) & 1 << (page % 64) != 0)
    }
}

impl fmt::Debug for Dirty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dirty({} pages)", self.pages)
    }
}

impl NewBitmap for Dirty {
    fn with_len(length: usize) -> Self {
        Self { pages: length.div_ceil(PAGE as usize), ..Self::default() }
    }
}

impl<'a> WithBitmapSlice<'a> for Dirty {
    type S = DirtySlice<'a>;
}

impl Bitmap for Dirty {
    fn mark_dirty(&self, offset: usize, length: usize) {
        self.mark(offset, length);
    }
    fn dirty_at(&self, offset: usize) -> bool {
        self.is_marked(offset)
    }
    fn slice_at(&self, offset: usize) -> DirtySlice<'_> {
        DirtySlice { log: Some(self), base: offset }
    }
}

/// Part of a region's log; of memory that is not the guest's: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirtySlice<'a> {
    log: Option<&'a Dirty>,
    base: usize,
}

impl<'a> DirtySlice<'a> {
    /// Which blocks of its region there are.
    #[must_use]
    pub fn presence(&self) -> Option<&'a Presence> {
        self.log.map(|log| &log.presence)
    }

    /// Whether pages of its region stay where they are.
    #[must_use]
    pub fn pinned(&self) -> bool {
        self.log.is_some_and(|log| log.pinned.load(Relaxed))
    }

    /// They do, from now on.
    pub fn pin(&self) {
        if let Some(log) = self.log {
            log.pinned.store(true, Relaxed);
        }
    }

    /// Begins to log, with nothing marked.
    pub fn start(&self) {
        if let Some(log) = self.log {
            let words =
                log.words.get_or_init(|| (0..log.pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect());
            words.iter().for_each(|word| word.store(0, SeqCst));
            log.on.store(true, SeqCst);
            fence(SeqCst);
        }
    }

    /// Ends logging.
    pub fn stop(&self) {
        if let Some(log) = self.log {
            log.on.store(false, SeqCst);
        }
    }

    /// Takes the marks: bit n of word m is page 64 m + n of the region.
    #[must_use]
    pub fn take(&self) -> Vec<u64> {
        let words = self.log.and_then(|log| log.words.get());
        words.map(|words| words.iter().map(|word| word.swap(0, SeqCst)).collect()).unwrap_or_default()
    }
}

impl WithBitmapSlice<'_> for DirtySlice<'_> {
    type S = Self;
}

impl BitmapSlice for DirtySlice<'_> {}

impl Bitmap for DirtySlice<'_> {
    fn mark_dirty(&self, offset: usize, length: usize) {
        if let Some(log) = self.log {
            log.mark(self.base.wrapping_add(offset), length);
        }
    }
    fn dirty_at(&self, offset: usize) -> bool {
        self.log.is_some_and(|log| log.is_marked(self.base.wrapping_add(offset)))
    }
    fn slice_at(&self, offset: usize) -> Self {
        Self { log: self.log, base: self.base.wrapping_add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

    #[test]
    fn every_way_to_write_marks_its_pages_once_logging() {
        let memory = memory::create(1 << 20).unwrap();
        let region = memory.iter().next().unwrap();
        memory.write_obj(1_u32, GuestAddress(0x3000)).unwrap();
        region.bitmap().start();
        assert!(region.bitmap().take().iter().all(|word| *word == 0));
        memory.write_obj(1_u64, GuestAddress(0x1ffc)).unwrap();
        memory.write_slice(&[1; 3], GuestAddress(0x5_0000)).unwrap();
        memory.store(7_u16, GuestAddress(0x6_0000), SeqCst).unwrap();
        for slice in memory.get_slices(GuestAddress(0x7_0000), 0x2000) {
            slice.unwrap().copy_from(&[5_u8; 0x1001]);
        }
        let taken = region.bitmap().take();
        let pages: Vec<_> = (0..256).filter(|page| taken[page / 64] & 1 << (page % 64) != 0).collect();
        assert_eq!(pages, [1, 2, 0x50, 0x60, 0x70, 0x71]);
        assert!(region.bitmap().take().iter().all(|word| *word == 0));
        region.bitmap().stop();
        memory.write_obj(1_u8, GuestAddress(0)).unwrap();
        assert!(region.bitmap().take().iter().all(|word| *word == 0));
    }
}
