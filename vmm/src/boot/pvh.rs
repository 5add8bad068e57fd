//! ELF kernels: the PVH boot structures.

use super::{COMMAND_LINE, Error, Range, map};
use crate::{acpi, memory::Memory};
use linux_loader::loader::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress};

const START_INFO: u64 = 0x6000;
const MODULES: u64 = 0x6100;
const MEMORY_MAP: u64 = 0x6200;
/// "xEn3", with the first bit of the E set.
const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Writes the start info and what it points at; returns its address.
pub(super) fn write(memory: &Memory, initrd: Option<Range>, ram: u64) -> Result<u64, Error> {
    let map = map(ram);
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        flags: 0,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: if initrd.is_some() { MODULES } else { 0 },
        cmdline_paddr: COMMAND_LINE,
        rsdp_paddr: acpi::RSDP,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: map.len() as u32,
        reserved: 0,
    };
    memory.write_obj(info, GuestAddress(START_INFO))?;
    if let Some(Range { base, size }) = initrd {
        let module = hvm_modlist_entry { paddr: base, size, cmdline_paddr: 0, reserved: 0 };
        memory.write_obj(module, GuestAddress(MODULES))?;
    }
    for (i, (Range { base, size }, is_ram)) in map.into_iter().enumerate() {
        let type_ = if is_ram { RAM } else { RESERVED };
        let entry = hvm_memmap_table_entry { addr: base, size, type_, reserved: 0 };
        let at = MEMORY_MAP + (i * size_of::<hvm_memmap_table_entry>()) as u64;
        memory.write_obj(entry, GuestAddress(at))?;
    }
    Ok(START_INFO)
}
