//! Direct Linux boot: kernel, initial RAM disk, command line, tables and the structure that ties them together. A machine
//! with firmware needs nothing of this: its first CPU begins at the reset vector.
//!
//! Two protocols, chosen by the kernel file: bzImage by its 64-bit entry (Linux `Documentation/x86/boot.rst`), ELF by its
//! PVH entry (Xen `docs/misc/pvh.pandoc`). The files stay open, so that a reset loads them again after privileges are
//! gone. Guest memory below 1 MiB:
//!
//! | address | what |
//! |---|---|
//! | 0x6000 | PVH start info, modules, memory map |
//! | 0x7000 | zero page |
//! | 0x9000–0xefff | page tables: the first 4 GiB, one to one |
//! | 0x20000 | command line |
//! | 0xe0000 | ACPI tables |
//! | 0xf0000 | SMBIOS tables |

mod linux;
mod pvh;

use crate::{
    acpi, firmware,
    legacy::cpus::Cpus,
    memory::{self, Memory},
    smbios,
};
use linux_loader::loader::{Elf, KernelLoader, elf::PvhBootCapability};
use std::{
    fs::File,
    io::{self, Read, Seek},
    sync::Arc,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, ReadVolatile};

const COMMAND_LINE: u64 = 0x2_0000;
/// Longest command line Linux takes, with its final zero.
const COMMAND_LINE_ROOM: usize = 2048;
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
/// Kernels are loaded here, unless the file says otherwise.
const KERNEL: u64 = memory::HIGH_RAM;

/// What a machine boots.
#[derive(Debug)]
pub enum Boot {
    /// A kernel.
    Direct(BootSource),
    /// Firmware, which finds the rest.
    Firmware(firmware::Sources),
}

/// Opened boot files.
#[derive(Debug)]
pub struct BootSource {
    /// bzImage or ELF.
    pub kernel: File,
    /// Initial RAM disk.
    pub initrd: Option<File>,
    /// Command line.
    pub cmdline: String,
}

/// How the first virtual CPU begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Real mode at the reset vector, as every processor does at power-on.
    Reset,
    /// 64-bit mode, paging on.
    Linux64 {
        /// Entry point.
        rip: u64,
        /// The zero page.
        zero_page: u64,
        /// Top page table.
        page_tables: u64,
    },
    /// 32-bit protected mode, paging off.
    Pvh {
        /// Entry point.
        rip: u64,
        /// The start info.
        start_info: u64,
    },
}

/// Why a guest cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read the {what}")]
    Read {
        /// Which file.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel is not one we can start.
    #[error("the kernel is neither a 64-bit bzImage nor an ELF file with a PVH entry: {0}")]
    Kernel(String),
    /// The command line is too long or holds a zero byte.
    #[error(
        "the kernel's command line must be shorter than {COMMAND_LINE_ROOM} bytes and without zero bytes"
    )]
    CommandLine,
    /// Not enough memory.
    #[error("the guest's memory is too small for the {what} of {size} bytes; give the machine more memory")]
    TooSmall {
        /// Which file.
        what: &'static str,
        /// Its size.
        size: u64,
    },
    /// Guest memory was refused.
    #[error("cannot write the boot structures into guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// A range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    base: u64,
    size: u64,
}

/// What a machine has that others have not.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// A port for panics.
    pub panic: bool,
    /// Slots whose devices stay, one bit each, where others may come and go.
    pub fixed_slots: Option<u32>,
    /// Bytes of memory that can be plugged at most.
    pub pluggable: u64,
    /// Processors that come and go; none: those there are stay.
    pub cpus: Option<Arc<Cpus>>,
    /// There is a TPM.
    pub tpm: bool,
}

/// Loads everything into `memory` of the machine `identity` with `vcpus` processors and `ram` bytes; `told` goes into the ACPI
/// tables besides.
pub fn load(
    source: &mut BootSource,
    identity: &smbios::Identity,
    memory: &Memory,
    vcpus: u8,
    ram: u64,
    told: Told,
) -> Result<Entry, Error> {
    let pci = memory::PciMap::fixed(memory::extent(ram, told.pluggable));
    let generation = acpi::generation::ADDRESS;
    let Told { panic, fixed_slots, cpus, tpm, .. } = told;
    let present = cpus.map(|cpus| cpus.present());
    let board = acpi::Board { vcpus, pci, keyboard: false, panic, fixed_slots, present, tpm, generation };
    let tables = acpi::tables(&board);
    memory.write_slice(&tables, GuestAddress(acpi::RSDP))?;
    acpi::generation::renew(memory, acpi::generation::ADDRESS)
        .map_err(|source| Error::Read { what: "host's random numbers", source })?;
    let described = smbios::Tables::new(identity, vcpus, ram);
    memory.write_slice(&described.entry_point(smbios::TABLE), GuestAddress(smbios::ENTRY_POINT))?;
    memory.write_slice(&described.table, GuestAddress(smbios::TABLE))?;
    let cmdline = source.cmdline.as_bytes();
    if cmdline.len() >= COMMAND_LINE_ROOM || cmdline.contains(&0) {
        return Err(Error::CommandLine);
    }
    memory.write_slice(cmdline, GuestAddress(COMMAND_LINE))?;
    memory.write_obj(0_u8, GuestAddress(COMMAND_LINE + cmdline.len() as u64))?;

    let mut magic = [0; 4];
    let read = |source| Error::Read { what: "kernel", source };
    source.kernel.rewind().and_then(|()| source.kernel.read_exact(&mut magic)).map_err(read)?;
    if magic != ELF_MAGIC {
        return linux::load(source, memory, ram);
    }
    let elf = Elf::load(memory, None, &mut source.kernel, Some(GuestAddress(KERNEL)))
        .map_err(|e| Error::Kernel(e.to_string()))?;
    let PvhBootCapability::PvhEntryPresent(rip) = elf.pvh_boot_cap else {
        return Err(Error::Kernel("the ELF file has no PVH entry".to_owned()));
    };
    let initrd = load_initrd(source, memory, elf.kernel_end, u64::from(u32::MAX), ram)?;
    let start_info = pvh::write(memory, initrd, ram)?;
    Ok(Entry::Pvh { rip: rip.0, start_info })
}

/// Puts the initial RAM disk as high as it may lie: not above `limit`, not into the kernel that ends at `kernel_end`.
fn load_initrd(
    source: &mut BootSource,
    memory: &Memory,
    kernel_end: u64,
    limit: u64,
    ram: u64,
) -> Result<Option<Range>, Error> {
    let Some(file) = &mut source.initrd else { return Ok(None) };
    let read = |source| Error::Read { what: "initial RAM disk", source };
    let size = file.seek(io::SeekFrom::End(0)).map_err(read)?;
    file.rewind().map_err(read)?;
    let end = ram.min(memory::LOW_RAM_END).min(limit.saturating_add(1));
    let base = end.checked_sub(size).map(|base| base & !0xfff).filter(|base| *base >= kernel_end);
    let base = base.ok_or(Error::TooSmall { what: "initial RAM disk", size })?;
    copy(file, memory, base, size).map_err(read)?;
    Ok(Some(Range { base, size }))
}

/// Reads `size` bytes straight into guest memory.
fn copy(file: &mut File, memory: &Memory, base: u64, size: u64) -> io::Result<()> {
    let length = usize::try_from(size).map_err(io::Error::other)?;
    let target = memory.get_slice(GuestAddress(base), length).map_err(io::Error::other)?;
    file.read_exact_volatile(&mut { target }).map_err(io::Error::other)
}

/// What a guest may use, and what not, in address order: (range, is RAM).
fn map(ram: u64) -> Vec<(Range, bool)> {
    let mut map = vec![
        (Range { base: 0, size: memory::CONVENTIONAL_END }, true),
        (Range { base: memory::FIRMWARE, size: memory::HIGH_RAM - memory::FIRMWARE }, false),
    ];
    for (base, size) in memory::ram(ram) {
        let start = base.max(memory::HIGH_RAM);
        map.push((Range { base: start, size: (base + size).saturating_sub(start) }, true));
    }
    map.insert(3, (Range { base: memory::ECAM, size: memory::ECAM_SIZE }, false));
    map
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
