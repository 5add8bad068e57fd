//! Guest memory, as every part of the monitor sees it, and the map of the guest-physical address space.
//!
//! ```text
//!  0 ┬ low RAM (up to 3 GiB)          4 GiB ┬ high RAM (the rest)
//!    │ 0x9fc00..0x100000: firmware's         ├ PCI memory window above RAM (64-bit BARs)
//!  3 GiB ┬ PCI memory window (32-bit BARs)
//!  3.5 GiB ┬ ECAM of bus 0, I/O APIC, local APIC, KVM's own pages
//! ```
//! Invariant: the windows never meet RAM, whatever its size.

pub mod dirty;

use dirty::{Dirty, DirtySlice};
use std::io;
use vm_memory::{
    GuestAddress, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MmapRegion,
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
/// Begin of the 32-bit PCI memory window, end of low RAM at most.
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
/// Page KVM needs for real mode on old Intel hosts.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages KVM needs on Intel hosts.
pub const KVM_TSS: usize = 0xfffb_d000;
/// Begin of high RAM.
const ABOVE_4G: u64 = 4 * GIB;
/// Bytes of the 64-bit PCI memory window.
const PCI64_SIZE: u64 = 64 * GIB;

/// RAM of a machine with `size` bytes, as (base, bytes).
#[must_use]
pub fn ram(size: u64) -> Vec<(u64, u64)> {
    let low = size.min(PCI32);
    let mut regions = vec![(0, low)];
    if size > low {
        regions.push((ABOVE_4G, size - low));
    }
    regions
}

/// The 64-bit PCI memory window of a machine with `size` bytes of RAM, as (base, end).
#[must_use]
pub fn pci64(size: u64) -> (u64, u64) {
    let ram_end = ABOVE_4G + size.saturating_sub(PCI32);
    let base = ram_end.next_multiple_of(PCI64_SIZE);
    (base, base + PCI64_SIZE)
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
    let mut regions = Vec::new();
    for (base, bytes) in ram(size) {
        let refused = |source| Error::Map { size: bytes, source };
        let length = usize::try_from(bytes).map_err(|e| refused(io::Error::other(e)))?;
        let mapping = MmapRegion::new(length).map_err(|e| refused(io::Error::other(e)))?;
        // A crash of ours must not write the guest's memory to disk. Advice only: failing is harmless.
        // SAFETY: the range is exactly the mapping just made.
        unsafe { libc::madvise(mapping.as_ptr().cast(), length, libc::MADV_DONTDUMP) };
        let region = vm_memory::GuestRegionMmap::new(mapping, GuestAddress(base))
            .ok_or_else(|| Error::Arrange(format!("{bytes} bytes at {base:#x} overflow")))?;
        regions.push(region);
    }
    Memory::from_regions(regions).map_err(|e| Error::Arrange(e.to_string()))
}

/// Gives all pages back to the host; the guest finds zeros. No vCPU and no device may be running.
pub fn clear(memory: &Memory) -> io::Result<()> {
    for region in memory.iter() {
        let length = usize::try_from(region.len()).map_err(io::Error::other)?;
        let start = region.get_host_address(vm_memory::MemoryRegionAddress(0)).map_err(io::Error::other)?;
        // SAFETY: the range is a private anonymous mapping that we own whole and that nobody uses now; dropping its
        // pages leaves it mapped and zero.
        if unsafe { libc::madvise(start.cast(), length, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
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
        fn windows_never_meet_ram(mib in 1_u64..16 << 20) {
            let size = mib << 20;
            let (low, high) = pci64(size);
            let regions = ram(size);
            prop_assert_eq!(regions.iter().map(|r| r.1).sum::<u64>(), size);
            for (base, bytes) in regions {
                prop_assert!(base + bytes <= low || base >= high);
                prop_assert!(base + bytes <= PCI32 || base >= ABOVE_4G);
            }
        }
    }

    #[test]
    fn cleared_memory_reads_zero() {
        let memory = create(4 << 20).unwrap();
        memory.write_obj(7_u64, GuestAddress(0x1234)).unwrap();
        clear(&memory).unwrap();
        assert_eq!(memory.read_obj::<u64>(GuestAddress(0x1234)).unwrap(), 0);
    }
}
