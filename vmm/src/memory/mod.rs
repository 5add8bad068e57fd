//! Guest memory, as every part of the monitor sees it, and the map of the guest-physical address space.
//!
//! ```text
//!  0 ┬ low RAM (up to 2 GiB)          4 GiB ┬ high RAM (the rest)
//!    │ 0x9fc00..0x100000: firmware's         ├ memory that can be plugged, in blocks ([`presence`])
//!    │                                       ├ PCI memory window above all that (64-bit BARs)
//!  direct boot:   3 GiB PCI memory window (32-bit BARs), 3.5 GiB ECAM of bus 0
//!  by firmware:   2 GiB to 4032 MiB PCI memory window, with the ECAM wherever the firmware puts it
//!  4044 MiB ┬ I/O APIC, local APIC, KVM's own pages, flash (ends at 4 GiB)
//! ```
//! Invariant: the windows never meet RAM, whatever its size.

pub mod dirty;
mod large;
pub mod presence;
mod shared;

use dirty::{Dirty, DirtySlice};
use presence::Presence;
use std::{fs::File, io, ops::Range, sync::Arc};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    VolatileSlice, bitmap::Bitmap,
};

/// The guest's memory regions.
pub type Memory = GuestMemoryMmap<Dirty>;
/// A piece of it, or of a buffer that stands in for it.
pub type Slice<'a> = VolatileSlice<'a, DirtySlice<'a>>;
/// Shared handle to [`Memory`]; cheap to clone, replaced as a whole when regions change.
pub type SharedMemory = GuestMemoryAtomic<Memory>;

const GIB: u64 = 1 << 30;

/// Where the extended BIOS data area would begin: end of conventional RAM.
pub const CONVENTIONAL_END: u64 = 0x9_fc00;
/// Begin of what firmware owns below 1 MiB and where the ACPI tables are.
pub const FIRMWARE: u64 = 0xe_0000;
/// Begin of RAM above the first MiB.
pub const HIGH_RAM: u64 = 0x10_0000;
/// End of low RAM at most: what lies above is the PCI windows' or, from 4 GiB on, RAM again. Stock firmware for Q35
/// wants its ECAM at 2.75 GiB.
pub const LOW_RAM_END: u64 = 2 * GIB;
/// Begin of the 32-bit PCI memory window in a machine without firmware.
pub const PCI32: u64 = 3 * GIB;
/// End of the 32-bit PCI memory window.
pub const PCI32_END: u64 = ECAM;
/// Enhanced configuration access of bus 0.
pub const ECAM: u64 = 0xe000_0000;
/// Bytes of [`ECAM`]: one bus.
pub const ECAM_SIZE: u64 = 1 << 20;
/// Registers of the I/O APIC (KVM emulates it here).
pub const IO_APIC: u32 = 0xfec0_0000;
/// Registers of the local APIC.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// End of the 32-bit PCI memory window in a machine with firmware.
pub const FIRMWARE_PCI32_END: u64 = 0xfc00_0000;
/// Page KVM needs for real mode on old Intel hosts.
pub const KVM_IDENTITY_MAP: u64 = 0xfeff_c000;
/// Three pages KVM needs on Intel hosts.
pub const KVM_TSS: usize = 0xfeff_d000;
/// Bytes of both.
pub const KVM_PAGES: u64 = 0x4000;
/// Begin of high RAM, end of flash.
pub const ABOVE_4G: u64 = 4 * GIB;
/// Bytes of the 64-bit PCI memory window.
const PCI64_SIZE: u64 = 64 * GIB;

/// RAM of a machine with `size` bytes, as (base, bytes).
#[must_use]
pub fn ram(size: u64) -> Vec<(u64, u64)> {
    let low = size.min(LOW_RAM_END);
    let mut regions = vec![(0, low)];
    if size > low {
        regions.push((ABOVE_4G, size - low));
    }
    regions
}

/// Where memory that can be plugged is, of a machine with `size` bytes of RAM and at most `most` (0: none) that can be: a region
/// of its own, with a hole before it.
#[must_use]
pub fn pluggable(size: u64, most: u64) -> Range<u64> {
    let ram_end = ABOVE_4G + size.saturating_sub(LOW_RAM_END);
    let base = (ram_end + 1).next_multiple_of(GIB);
    base..base + most
}

/// The RAM of a machine that ends where one does with `size` bytes and at most `most` that can be plugged: what decides where the
/// PCI windows are.
#[must_use]
pub fn extent(size: u64, most: u64) -> u64 {
    if most == 0 { size } else { pluggable(size, most).end - ABOVE_4G + LOW_RAM_END }
}

/// The 64-bit PCI memory window of a machine with `size` bytes of RAM, as (base, end).
#[must_use]
pub fn pci64(size: u64) -> (u64, u64) {
    let ram_end = ABOVE_4G + size.saturating_sub(LOW_RAM_END);
    let base = ram_end.next_multiple_of(PCI64_SIZE);
    (base, base + PCI64_SIZE)
}

/// Where PCI is in the address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciMap {
    /// Enhanced configuration access, 1 MiB a bus. Empty: not decoded yet.
    pub ecam: Range<u64>,
    /// Windows for BARs below 4 GiB.
    pub below_4g: Vec<Range<u64>>,
    /// Window for BARs above RAM.
    pub above_4g: Range<u64>,
}

impl PciMap {
    /// Of a machine of `ram` bytes that boots without firmware: nothing moves.
    #[must_use]
    pub fn fixed(ram: u64) -> Self {
        let (base, end) = pci64(ram);
        let below_4g = Vec::from([Range { start: PCI32, end: PCI32_END }]);
        Self { ecam: ECAM..ECAM + ECAM_SIZE, below_4g, above_4g: base..end }
    }

    /// Of a machine whose firmware has put the ECAM there, on a processor with `bits` address bits. Always two windows
    /// below 4 GiB, so that tables describing them keep their length.
    #[must_use]
    pub fn by_firmware(ram: u64, ecam: Range<u64>, bits: u32) -> Self {
        let (base, end) = pci64(ram);
        let (low, high) = (LOW_RAM_END, FIRMWARE_PCI32_END);
        let below_4g = if ecam.start > low && ecam.end < high {
            vec![low..ecam.start, ecam.end..high]
        } else {
            let start = if ecam.contains(&low) { ecam.end.min(high - (2 << 20)) } else { low };
            let end = if (start + (2 << 20)..high).contains(&ecam.start) { ecam.start } else { high };
            let middle = start.midpoint(end) & !0xf_ffff;
            vec![start..middle, middle..end]
        };
        let top = 1_u64.checked_shl(bits).unwrap_or(u64::MAX);
        Self { ecam, below_4g, above_4g: base..top.max(end) }
    }

    /// Buses the ECAM reaches, at least one.
    #[must_use]
    pub fn last_bus(&self) -> u8 {
        ((self.ecam.end - self.ecam.start) / ECAM_SIZE).clamp(1, 256).wrapping_sub(1) as u8
    }
}

/// Why guest memory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host refused to map it.
    #[error("cannot reserve {size} bytes of guest memory")]
    Map {
        /// Bytes of the region.
        size: u64,
        /// Why.
        source: io::Error,
    },
    /// The regions do not fit together.
    #[error("cannot arrange guest memory: {0}")]
    Arrange(String),
}

/// A buffer of ours in the place of guest memory.
pub fn buffer(bytes: &mut [u8]) -> Slice<'_> {
    // SAFETY: the bytes are borrowed for as long as the slice lives, and by it alone.
    unsafe { VolatileSlice::with_bitmap(bytes.as_mut_ptr(), bytes.len(), DirtySlice::default(), None) }
}

/// Reserves `size` bytes of RAM. The host gives pages as the guest touches them.
pub fn create(size: u64) -> Result<Memory, Error> {
    create_with(size, 0)
}

/// As [`create`], with a region for `most` bytes that can be plugged.
pub fn create_with(size: u64, most: u64) -> Result<Memory, Error> {
    arrange(size, most, Backing::Private)
}

/// Whose a machine's memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// The monitor's alone. The host may give it large pages.
    #[default]
    Private,
    /// In files without a name, so that it can be handed to other programs ([`shared`]).
    Shared,
}

/// What memory a machine is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes of RAM.
    pub ram: u64,
    /// Bytes that can be plugged at most.
    pub pluggable: u64,
    /// Whose it is.
    pub backing: Backing,
    /// Functions of the host write to it: its pages stay where they are and are never given back.
    pub pinned: bool,
}

impl Wanted {
    /// Reserves it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn create(self) -> Result<Memory, Error> {
        let memory = arrange(self.ram, self.pluggable, self.backing)?;
        if self.pinned {
            memory.iter().for_each(|region| region.bitmap().pin());
        }
        Ok(memory)
    }
}

fn arrange(size: u64, most: u64, backing: Backing) -> Result<Memory, Error> {
    let mut regions = Vec::new();
    let pluggable = pluggable(size, most);
    let pluggable = (!pluggable.is_empty()).then_some((pluggable.start, most));
    for (base, bytes) in ram(size).into_iter().chain(pluggable) {
        let refused = |source| Error::Map { size: bytes, source };
        let length = usize::try_from(bytes).map_err(|e| refused(io::Error::other(e)))?;
        let file = match backing {
            Backing::Private => None,
            Backing::Shared => Some(FileOffset::new(shared::file(bytes).map_err(refused)?, 0)),
        };
        let mapping = large::map(length, file).map_err(|e| refused(io::Error::other(e)))?;
        // A crash of ours must not write the guest's memory to disk. Advice only: failing is harmless.
        // SAFETY: the range is exactly the mapping just made.
        unsafe { libc::madvise(mapping.as_ptr().cast(), length, libc::MADV_DONTDUMP) };
        let region = vm_memory::GuestRegionMmap::new(mapping, GuestAddress(base))
            .ok_or_else(|| Error::Arrange(format!("{bytes} bytes at {base:#x} overflow")))?;
        regions.push(region);
    }
    Memory::from_regions(regions).map_err(|e| Error::Arrange(e.to_string()))
}

/// The file a region of shared memory is in, from its first byte on.
#[must_use]
pub fn file_of(region: &vm_memory::GuestRegionMmap<Dirty>) -> Option<&Arc<File>> {
    region.file_offset().map(FileOffset::arc)
}

/// How pages of a region are given back to the host, so that whoever reads them next finds zeros: those of a file are to be taken
/// out of it, or they would come back as they were.
fn give_back(region: &vm_memory::GuestRegionMmap<Dirty>) -> libc::c_int {
    if file_of(region).is_some() { libc::MADV_REMOVE } else { libc::MADV_DONTNEED }
}

/// Gives all pages back to the host, but for pinned ones; the guest finds zeros. No vCPU and no device may be running.
pub fn clear(memory: &Memory) -> io::Result<()> {
    for region in memory.iter() {
        let length = usize::try_from(region.len()).map_err(io::Error::other)?;
        let start = region.get_host_address(vm_memory::MemoryRegionAddress(0)).map_err(io::Error::other)?;
        if region.bitmap().pinned() {
            // SAFETY: the range is a mapping that we own whole; nobody holds references into guest memory.
            unsafe { std::ptr::write_bytes(start, 0, length) };
            continue;
        }
        // SAFETY: the range is a mapping that we own whole and that nobody of ours uses now; dropping its pages leaves it
        // mapped and zero.
        if unsafe { libc::madvise(start.cast(), length, give_back(region)) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives the whole pages inside `length` bytes at `address` back to the host; whoever reads them next finds zeros. Pinned ones stay as
/// they are.
///
/// # Errors
/// Part of it is not the guest's: what came before is given back. Or the host refused.
pub fn discard(memory: &Memory, address: u64, length: u64) -> io::Result<()> {
    let first = address.checked_next_multiple_of(dirty::PAGE).ok_or(io::ErrorKind::InvalidInput)?;
    let end = address.checked_add(length).ok_or(io::ErrorKind::InvalidInput)? & !(dirty::PAGE - 1);
    let Some(bytes) = end.checked_sub(first).filter(|bytes| *bytes > 0) else { return Ok(()) };
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    // All regions of a machine are of one kind.
    let region = memory.find_region(GuestAddress(first));
    let pinned = region.is_some_and(|region| region.bitmap().pinned());
    let advice = region.map_or(libc::MADV_DONTNEED, give_back);
    for slice in memory.get_slices(GuestAddress(first), bytes) {
        let slice = slice.map_err(io::Error::other)?;
        if pinned {
            continue;
        }
        let guard = slice.ptr_guard_mut();
        // SAFETY: the range is inside a mapping of ours, in whole pages: regions begin and end with one. Memory stays mapped
        // and reads as zeros; nobody holds references into guest memory.
        if unsafe { libc::madvise(guard.as_ptr().cast(), guard.len(), advice) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Which blocks of the region that begins at `base` are there; none: there is no such region.
#[must_use]
pub fn presence(memory: &Memory, base: u64) -> Option<&Presence> {
    let region = memory.find_region(GuestAddress(base)).filter(|region| region.start_addr().0 == base)?;
    region.bitmap().presence()
}

/// `length` bytes from `address` on may be touched for the guest: they are its memory, and plugged where that matters.
#[must_use]
pub fn usable(memory: &Memory, address: GuestAddress, length: usize) -> bool {
    let plugged = |region: &vm_memory::GuestRegionMmap<Dirty>| {
        let offset = address.0.saturating_sub(region.start_addr().0);
        region.bitmap().presence().is_none_or(|presence| presence.all(offset, length as u64))
    };
    // A region of blocks has a hole before it: nothing reaches into it from the one before.
    length == 0 || (memory.check_range(address, length) && memory.find_region(address).is_some_and(plugged))
}

/// Some of `length` bytes from `address` on are plugged, or of memory that always is.
#[must_use]
pub fn is_there(memory: &Memory, address: u64, length: u64) -> bool {
    let plugged = |region: &vm_memory::GuestRegionMmap<Dirty>| {
        let offset = address.saturating_sub(region.start_addr().0);
        region.bitmap().presence().is_none_or(|presence| presence.any(offset, length))
    };
    memory.find_region(GuestAddress(address)).is_none_or(plugged)
}

/// Marks everything as written, where writes are logged.
pub fn mark_all(memory: &Memory) {
    memory.iter().for_each(|region| region.bitmap().mark_dirty(0, region.len() as usize));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vm_memory::Bytes;

    proptest! {
        #[test]
        fn windows_never_meet_ram(mib in 1_u64..16 << 20, plugs in 0_u64..10_000) {
            let size = mib << 20;
            let most = plugs << 27;
            let (low, high) = pci64(extent(size, most));
            let pluggable = pluggable(size, most);
            prop_assert!(pluggable.end <= low && pluggable.end - pluggable.start == most);
            prop_assert!(ram(size).iter().all(|(base, bytes)| base + bytes < pluggable.start));
            let regions = ram(size);
            prop_assert_eq!(regions.iter().map(|r| r.1).sum::<u64>(), size);
            for (base, bytes) in regions {
                prop_assert!(base + bytes <= low || base >= high);
                prop_assert!(base + bytes <= LOW_RAM_END || base >= ABOVE_4G);
            }
        }

        #[test]
        fn windows_around_a_moved_ecam_are_two_and_apart(mib in 1_u64..16 << 20, at in 0_u64..12) {
            let ecam = (at << 28) + (1 << 30)..(at << 28) + (1 << 30) + (256 << 20);
            let map = PciMap::by_firmware(mib << 20, ecam.clone(), 46);
            prop_assert_eq!(map.below_4g.len(), 2);
            for window in &map.below_4g {
                prop_assert!(window.start < window.end);
                prop_assert!(window.start >= LOW_RAM_END && window.end <= FIRMWARE_PCI32_END);
                prop_assert!(window.end <= ecam.start || window.start >= ecam.end);
            }
            prop_assert!(map.below_4g[0].end <= map.below_4g[1].start);
            prop_assert_eq!(map.last_bus(), 255);
        }
    }

    #[test]
    fn what_is_given_back_reads_zero() {
        for backing in [Backing::Private, Backing::Shared] {
            let memory = Wanted { ram: 4 << 20, backing, ..Wanted::default() }.create().unwrap();
            let read = |address| memory.read_obj::<u64>(GuestAddress(address)).unwrap();
            for address in [0x1234, 0x3000, 0x4ff8, 0x5000] {
                memory.write_obj(7_u64, GuestAddress(address)).unwrap();
            }
            discard(&memory, 0x2fff, 0x2001).unwrap();
            assert_eq!([0x1234, 0x3000, 0x4ff8, 0x5000].map(read), [7, 0, 0, 7], "{backing:?}");
            clear(&memory).unwrap();
            assert_eq!([0x1234, 0x5000].map(read), [0, 0], "{backing:?}");
        }
    }

    #[test]
    fn what_is_pinned_stays_where_it_is() {
        let memory = Wanted { ram: 4 << 20, pinned: true, ..Wanted::default() }.create().unwrap();
        let page = || memory.get_host_address(GuestAddress(0x3000)).unwrap() as u64 / dirty::PAGE;
        let frame = || {
            let mut entry = [0; 8];
            let map = File::open("/proc/self/pagemap").unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&map, &mut entry, page() * 8).unwrap();
            u64::from_le_bytes(entry) & !(1 << 55)
        };
        memory.write_obj(7_u64, GuestAddress(0x3000)).unwrap();
        let before = frame();
        discard(&memory, 0x2000, 0x3000).unwrap();
        assert_eq!(memory.read_obj::<u64>(GuestAddress(0x3000)).unwrap(), 7);
        clear(&memory).unwrap();
        assert_eq!(frame(), before, "a function of the host would write to the old page");
        assert_eq!(memory.read_obj::<u64>(GuestAddress(0x3000)).unwrap(), 0);
    }
}
