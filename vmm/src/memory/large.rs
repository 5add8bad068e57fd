//! Guest memory where the host can give it large pages.
//!
//! KVM maps 2 MiB at a time only where an address of ours and the guest's are the same distance from a multiple of that; otherwise
//! each page that the guest touches first is an exit of its own: ten times as many until user space as all others together.
//! Kernels before 6.7 align nothing of themselves. vm-memory takes no address, but the kernel takes the highest gap that is large
//! enough: so we make one that fits exactly, and keep what is around it occupied meanwhile.

use super::dirty::{Dirty, PAGE};
use std::{io, ptr::null_mut};
use vm_memory::{FileOffset, MmapRegion};

/// Bytes of a large page.
const LARGE: usize = 2 << 20;

/// Gaps that may be passed over.
const TRIES: usize = 8;

/// Maps `length` bytes, of `file` where there is one (which has them all), which begin at a large page where they fill one. Where
/// another thread maps something meanwhile they may begin elsewhere, and are slower.
///
/// # Errors
/// The host refused.
pub(super) fn map(length: usize, file: Option<FileOffset>) -> io::Result<MmapRegion<Dirty>> {
    let mut mapping = place(length, file.clone())?;
    // A gap above ours that is only just large enough was taken instead: it stays so until we have what we want.
    let mut passed_over = Vec::new();
    while !fits(&mapping)
        && passed_over.len() < TRIES
        && let Ok(next) = place(length, file.clone())
    {
        passed_over.push(std::mem::replace(&mut mapping, next));
    }
    Ok(mapping)
}

/// There is nothing to be gained by another place.
fn fits(mapping: &MmapRegion<Dirty>) -> bool {
    mapping.size() < LARGE
        || !mapping.size().is_multiple_of(PAGE as usize)
        || (mapping.as_ptr() as usize).is_multiple_of(LARGE)
}

/// Maps `length` bytes into the highest gap there is for them, which we have made unless there is one above.
fn place(length: usize, file: Option<FileOffset>) -> io::Result<MmapRegion<Dirty>> {
    let margins = Margins::around(length);
    let mapping = match file {
        None => MmapRegion::new(length),
        Some(file) => MmapRegion::from_file(file, length),
    };
    let mapping = mapping.map_err(io::Error::other);
    drop(margins);
    mapping
}

/// What is occupied on both sides of a gap, until dropped: addresses and lengths.
struct Margins([(usize, usize); 2]);

impl Margins {
    /// Around a gap of `length` bytes that begins at a large page. None: there is nothing to be gained, or no room.
    fn around(length: usize) -> Option<Self> {
        let whole = length.checked_add(LARGE)?;
        if length < LARGE || !length.is_multiple_of(PAGE as usize) {
            return None;
        }
        let (flags, access) =
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, libc::PROT_NONE);
        // SAFETY: a new mapping, where the kernel likes; nothing of ours is there.
        let reserved = unsafe { libc::mmap(null_mut(), whole, access, flags, -1, 0) };
        if reserved == libc::MAP_FAILED {
            return None;
        }
        let begin = reserved as usize;
        let gap = begin.next_multiple_of(LARGE);
        let margins = Self([(begin, gap - begin), (gap + length, begin + LARGE - gap)]);
        unmap(gap, length);
        Some(margins)
    }
}

impl Drop for Margins {
    fn drop(&mut self) {
        self.0.iter().filter(|(_, length)| *length > 0).for_each(|(begin, length)| unmap(*begin, *length));
    }
}

/// Frees a part of a reservation of [`Margins::around`].
fn unmap(begin: usize, length: usize) {
    // SAFETY: a range of pages of a mapping that only this module knows of, that nothing refers to and that is unmapped once.
    // Failing leaves it occupied, which is harmless.
    unsafe { libc::munmap(begin as *mut libc::c_void, length) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fills_large_pages_begins_at_one() {
        for length in [LARGE, 3 << 20, 128 << 20, 1 << 30] {
            // Another test's thread may be quicker now and then.
            let aligned = || (map(length, None).unwrap().as_ptr() as usize).is_multiple_of(LARGE);
            assert!((0..20).any(|_| aligned()), "{length:#x}");
        }
        assert_eq!(map(1 << 20, None).unwrap().size(), 1 << 20);
    }

    #[test]
    fn a_gap_that_is_only_just_large_enough_is_passed_over() {
        const GAP: usize = (3 << 20) + 4096;
        for _ in 0..20 {
            let (flags, access) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_NONE);
            // SAFETY: a new mapping, where the kernel likes.
            let around = unsafe { libc::mmap(null_mut(), GAP + 2 * 4096, access, flags, -1, 0) };
            assert_ne!(around, libc::MAP_FAILED);
            unmap(around as usize + 4096, GAP);
            let mapping = map(3 << 20, None).unwrap();
            let aligned = (mapping.as_ptr() as usize).is_multiple_of(LARGE);
            unmap(around as usize, 4096);
            unmap(around as usize + 4096 + GAP, 4096);
            if aligned {
                return;
            }
            // Another test's thread was quicker.
        }
        panic!("never at a large page");
    }

    #[test]
    fn margins_do_not_stay() {
        let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("---p").count();
        let before = mapped();
        let kept: Vec<_> = (0..50).map(|_| map(4 << 20, None).unwrap()).collect();
        assert!(mapped() < before + 25, "those of other threads aside");
        assert_eq!(kept.len(), 50);
    }
}
