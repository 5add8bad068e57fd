//! bzImage: the 64-bit boot protocol.

use super::{BootSource, COMMAND_LINE, COMMAND_LINE_ROOM, Entry, Error, KERNEL, load_initrd, map};
use crate::{acpi, memory::Memory};
use linux_loader::{
    configurator::{BootConfigurator, BootParams, linux::LinuxBootConfigurator},
    loader::{
        BzImage, KernelLoader,
        bootparam::{boot_e820_entry, boot_params, setup_header},
    },
};
use vm_memory::{Bytes, GuestAddress};

const ZERO_PAGE: u64 = 0x7000;
const PAGE_TABLES: u64 = 0x9000;
const PAGE: u64 = 0x1000;
/// The 64-bit entry point lies this far into the kernel.
const ENTRY_64: u64 = 0x200;
/// First protocol version that has the fields used here.
const PROTOCOL: u16 = 0x020c;
/// The kernel has a 64-bit entry point.
const XLF_KERNEL_64: u16 = 1;
/// "Some other boot loader".
const LOADER_UNKNOWN: u8 = 0xff;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// Present and writable.
const TABLE: u64 = 3;
/// Present, writable, a 2 MiB page.
const LARGE: u64 = 0x83;

/// Loads a bzImage and all it needs.
pub(super) fn load(source: &mut BootSource, memory: &Memory, ram: u64) -> Result<Entry, Error> {
    let at = Some(GuestAddress(KERNEL));
    let loaded =
        BzImage::load(memory, at, &mut source.kernel, at).map_err(|e| Error::Kernel(e.to_string()))?;
    let header = loaded.setup_header.ok_or_else(|| Error::Kernel("it has no setup header".to_owned()))?;
    let (version, flags) = (header.version, header.xloadflags);
    if version < PROTOCOL || flags & XLF_KERNEL_64 == 0 {
        return Err(Error::Kernel(format!("boot protocol {version:#x} without a 64-bit entry")));
    }
    // The kernel unpacks itself in place: it needs `init_size` from where it is loaded.
    let end = loaded.kernel_end.max(KERNEL + u64::from(header.init_size));
    if end > ram {
        return Err(Error::TooSmall { what: "kernel", size: end - KERNEL });
    }
    let initrd = load_initrd(source, memory, end, u64::from(header.initrd_addr_max), ram)?;

    let mut params = boot_params { hdr: header, ..boot_params::default() };
    params.hdr = setup_header {
        type_of_loader: LOADER_UNKNOWN,
        cmd_line_ptr: COMMAND_LINE as u32,
        // Below 4 GiB, as `load_initrd` places it.
        ramdisk_image: initrd.map_or(0, |r| r.base as u32),
        ramdisk_size: initrd.map_or(0, |r| r.size as u32),
        ..params.hdr
    };
    let room = params.hdr.cmdline_size as usize;
    if source.cmdline.len() > room.min(COMMAND_LINE_ROOM) {
        return Err(Error::CommandLine);
    }
    params.acpi_rsdp_addr = acpi::RSDP;
    let map = map(ram);
    params.e820_entries = map.len() as u8;
    let mut table = params.e820_table;
    for (entry, (range, is_ram)) in table.iter_mut().zip(map) {
        let kind = if is_ram { E820_RAM } else { E820_RESERVED };
        *entry = boot_e820_entry { addr: range.base, size: range.size, r#type: kind };
    }
    params.e820_table = table;
    LinuxBootConfigurator::write_bootparams(&BootParams::new(&params, GuestAddress(ZERO_PAGE)), memory)
        .map_err(|e| Error::Kernel(e.to_string()))?;
    page_tables(memory)?;
    Ok(Entry::Linux64 { rip: KERNEL + ENTRY_64, zero_page: ZERO_PAGE, page_tables: PAGE_TABLES })
}

/// Maps the first 4 GiB one to one, with 2 MiB pages.
fn page_tables(memory: &Memory) -> Result<(), Error> {
    let directory_pointers = PAGE_TABLES + PAGE;
    let directories = directory_pointers + PAGE;
    memory.write_obj(directory_pointers | TABLE, GuestAddress(PAGE_TABLES))?;
    for gib in 0..4 {
        let directory = directories + gib * PAGE;
        memory.write_obj(directory | TABLE, GuestAddress(directory_pointers + gib * 8))?;
        for page in 0..512 {
            let target = (gib << 30) | (page << 21);
            memory.write_obj(target | LARGE, GuestAddress(directory + page * 8))?;
        }
    }
    Ok(())
}
