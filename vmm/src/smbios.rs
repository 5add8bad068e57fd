//! The SMBIOS tables (DMTF DSP0134, 3.3): what operating systems and their tools show as the maker, the product, the
//! machine's id and its memory.
//!
//! Bytes only: [`Tables::table`] is position-independent, [`Tables::entry_point`] says where it was put. Direct boot puts
//! both where a kernel scans for them ([`ENTRY_POINT`]); firmware takes them over and places them itself.

use crate::memory;
use lq_api::VmId;

/// Where direct boot puts the entry point; a kernel looks at every 16th byte from 0xf0000 to 1 MiB.
pub const ENTRY_POINT: u64 = 0xf_0000;
/// Where direct boot puts the table.
pub const TABLE: u64 = ENTRY_POINT + 0x20;
const _: () = assert!(crate::acpi::generation::ADDRESS + 16 <= ENTRY_POINT);

const MAKER: &str = "LimiQuantix";
const PRODUCT: &str = "LimiQuantix Virtual Machine";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Longest string put into a table.
const LONGEST: usize = 64;
/// "Not given" as a handle of an error report.
const NO_ERROR_HANDLE: u16 = 0xfffe;
const NO_HANDLE: u16 = 0xffff;
const MEMORY_ARRAY: u16 = 0x1000;

/// Which machine the tables describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub vm: VmId,
    /// Its name.
    pub name: String,
}

/// The tables of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// All structures, one after another.
    pub table: Vec<u8>,
}

impl Tables {
    /// Of a machine with `vcpus` processors and `ram` bytes.
    #[must_use]
    pub fn new(identity: &Identity, vcpus: u8, ram: u64) -> Self {
        let mut table = Vec::new();
        let id = identity.vm.to_string();
        table.extend(bios());
        table.extend(system(identity.vm, &id));
        table.extend(chassis(&id, &identity.name));
        table.extend(processor(vcpus));
        table.extend(memory_array(ram));
        table.extend(memory_device(ram));
        for (n, (base, bytes)) in (0..).zip(memory::ram(ram)) {
            table.extend(mapped_range(n, base, bytes));
        }
        table.extend(Structure::new(32, 0x2000).bytes(&[0; 7]).end());
        table.extend(Structure::new(127, 0x7f00).end());
        Self { table }
    }

    /// The 64-bit entry point for a table at `address` (0: whoever places it fills it in).
    #[must_use]
    pub fn entry_point(&self, address: u64) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..5].copy_from_slice(b"_SM3_");
        bytes[6] = 24;
        // Version 3.3, docrev 0, entry point revision 1.
        bytes[7..12].copy_from_slice(&[3, 3, 0, 1, 0]);
        bytes[12..16].copy_from_slice(&(self.table.len() as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&address.to_le_bytes());
        bytes[5] = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        bytes
    }
}

/// A structure being written: its formatted part, then its strings.
struct Structure {
    formatted: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Self { formatted: vec![kind, 0, low, high], strings: Vec::new(), count: 0 }
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.formatted.extend(bytes);
        self
    }

    fn word(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn double(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn quad(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A reference to a string; an empty one has none. What is not printable ASCII becomes a question mark.
    fn string(mut self, text: &str) -> Self {
        if text.is_empty() {
            return self.bytes(&[0]);
        }
        let printable = |c: char| if matches!(c, ' '..='~') { c as u8 } else { b'?' };
        self.strings.extend(text.chars().take(LONGEST).map(printable));
        self.strings.push(0);
        self.count += 1;
        let number = self.count;
        self.bytes(&[number])
    }

    fn end(self) -> Vec<u8> {
        let mut bytes = self.formatted;
        bytes[1] = bytes.len() as u8;
        bytes.extend(self.strings);
        if self.count == 0 {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }
}

/// Type 0 (7.1): firmware.
fn bios() -> Vec<u8> {
    // No characteristics are told, but that this is a virtual machine.
    const UNSUPPORTED: u64 = 1 << 3;
    const VIRTUAL_MACHINE: u8 = 1 << 4;
    Structure::new(0, 0)
        .string(MAKER)
        .string(VERSION)
        .word(0xe800)
        .string("01/01/2026")
        .bytes(&[0])
        .quad(UNSUPPORTED)
        .bytes(&[0, VIRTUAL_MACHINE])
        .bytes(&[0xff; 4])
        .word(0)
        .end()
}

/// Type 1 (7.2): the machine.
fn system(vm: VmId, id: &str) -> Vec<u8> {
    const POWER_SWITCH: u8 = 6;
    Structure::new(1, 0x0100)
        .string(MAKER)
        .string(PRODUCT)
        .string(VERSION)
        .string(id)
        // The first three fields are little-endian (7.2.1).
        .bytes(&vm.0.to_bytes_le())
        .bytes(&[POWER_SWITCH])
        .string("")
        .string("Virtual Machine")
        .end()
}

/// Type 3 (7.4): the case. Its asset tag is the machine's name.
fn chassis(id: &str, name: &str) -> Vec<u8> {
    const OTHER: u8 = 1;
    const SAFE: u8 = 3;
    const UNKNOWN: u8 = 2;
    Structure::new(3, 0x0300)
        .string(MAKER)
        .bytes(&[OTHER])
        .string(VERSION)
        .string(id)
        .string(name)
        .bytes(&[SAFE, SAFE, SAFE, UNKNOWN])
        .double(0)
        .bytes(&[0, 1, 0, 0])
        .string("")
        .end()
}

/// Type 4 (7.5): one socket with all processors as cores.
fn processor(vcpus: u8) -> Vec<u8> {
    const CENTRAL: u8 = 3;
    const UNKNOWN_FAMILY: u8 = 2;
    const POPULATED_AND_ENABLED: u8 = 0x41;
    const OTHER_UPGRADE: u8 = 1;
    const BITS_64: u16 = 1 << 2;
    Structure::new(4, 0x0400)
        .string("CPU 0")
        .bytes(&[CENTRAL, UNKNOWN_FAMILY])
        .string(MAKER)
        .quad(0)
        .string("virtual")
        .bytes(&[0])
        .word(0)
        .word(0)
        .word(0)
        .bytes(&[POPULATED_AND_ENABLED, OTHER_UPGRADE])
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .word(NO_HANDLE)
        .string("")
        .string("")
        .string("")
        .bytes(&[vcpus, vcpus, vcpus])
        .word(BITS_64)
        .word(u16::from(UNKNOWN_FAMILY))
        .word(u16::from(vcpus))
        .word(u16::from(vcpus))
        .word(u16::from(vcpus))
        .end()
}

/// Type 16 (7.17): the board's memory.
fn memory_array(ram: u64) -> Vec<u8> {
    const SYSTEM_BOARD: u8 = 3;
    const SYSTEM_MEMORY: u8 = 3;
    const NO_CORRECTION: u8 = 3;
    /// The size is in the extended field.
    const EXTENDED: u32 = 0x8000_0000;
    let kib = u32::try_from(ram >> 10).ok().filter(|kib| *kib < EXTENDED);
    Structure::new(16, MEMORY_ARRAY)
        .bytes(&[SYSTEM_BOARD, SYSTEM_MEMORY, NO_CORRECTION])
        .double(kib.unwrap_or(EXTENDED))
        .word(NO_ERROR_HANDLE)
        .word(1)
        .quad(if kib.is_some() { 0 } else { ram })
        .end()
}

/// Type 17 (7.18): one module with all of it.
fn memory_device(ram: u64) -> Vec<u8> {
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    const OTHER: u16 = 1 << 1;
    /// The size is in the extended field.
    const EXTENDED: u16 = 0x7fff;
    let mib = ram >> 20;
    let small = u16::try_from(mib).ok().filter(|mib| *mib < EXTENDED);
    Structure::new(17, 0x1100)
        .word(MEMORY_ARRAY)
        .word(NO_ERROR_HANDLE)
        .word(0xffff)
        .word(0xffff)
        .word(small.unwrap_or(EXTENDED))
        .bytes(&[DIMM, 0])
        .string("DIMM 0")
        .string("")
        .bytes(&[RAM])
        .word(OTHER)
        .word(0)
        .string(MAKER)
        .string("")
        .string("")
        .string("")
        .bytes(&[0])
        .double(if small.is_some() { 0 } else { mib as u32 })
        .word(0)
        .word(0)
        .word(0)
        .word(0)
        .end()
}

/// Type 19 (7.20): where memory lies.
fn mapped_range(n: u16, base: u64, bytes: u64) -> Vec<u8> {
    /// The range is in the extended fields.
    const EXTENDED: u32 = 0xffff_ffff;
    let last = base + bytes - 1;
    let small = last >> 10 < u64::from(EXTENDED);
    let short = |address: u64| if small { (address >> 10) as u32 } else { EXTENDED };
    let long = |address: u64| if small { 0 } else { address };
    Structure::new(19, 0x1300 + n)
        .double(short(base))
        .double(short(last))
        .word(MEMORY_ARRAY)
        .bytes(&[1])
        .quad(long(base))
        .quad(long(last))
        .end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018f3a5e-1122-7344-8566-010203040506";

    fn tables(vcpus: u8, ram: u64) -> Tables {
        Tables::new(&Identity { vm: ID.parse().unwrap(), name: "web-1 ü".to_owned() }, vcpus, ram)
    }

    /// (type, formatted part, strings) of each structure, read as a kernel reads them.
    fn structures(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let (formatted, rest) = bytes.split_at(usize::from(bytes[1]));
            let end = rest.windows(2).position(|two| two == [0, 0]).unwrap();
            let strings = rest[..end].split(|byte| *byte == 0).filter(|part| !part.is_empty());
            let strings = strings.map(|part| String::from_utf8(part.to_vec()).unwrap()).collect();
            found.push((formatted[0], formatted.to_vec(), strings));
            bytes = &rest[end + 2..];
        }
        found
    }

    #[test]
    fn every_structure_is_found_and_says_which_machine_it_is() {
        let tables = tables(4, 5 << 30);
        let found = structures(&tables.table);
        let kinds: Vec<_> = found.iter().map(|s| s.0).collect();
        assert_eq!(kinds, [0, 1, 3, 4, 16, 17, 19, 19, 32, 127]);
        // Lengths of the specification's tables.
        let lengths: Vec<_> = found.iter().map(|s| s.1.len()).collect();
        assert_eq!(lengths, [0x1a, 0x1b, 0x16, 0x30, 0x17, 0x28, 0x1f, 0x1f, 0x0b, 4]);
        let (_, system, strings) = &found[1];
        assert_eq!(strings[..2], ["LimiQuantix", "LimiQuantix Virtual Machine"]);
        assert_eq!(strings[3], ID);
        assert_eq!(
            system[8..24],
            [0x5e, 0x3a, 0x8f, 0x01, 0x22, 0x11, 0x44, 0x73, 0x85, 0x66, 1, 2, 3, 4, 5, 6]
        );
        assert_eq!(found[2].2.last().unwrap(), "web-1 ?");
        assert_eq!(found[3].1[0x23], 4, "cores");
        assert_eq!(found[5].1[0x0c..0x0e], (5_u16 << 10).to_le_bytes(), "MiB");
        assert_eq!(found[7].1[4..8], (4_u32 << 20).to_le_bytes(), "KiB where high memory begins");
    }

    #[test]
    fn sizes_beyond_the_short_fields_are_in_the_long_ones() {
        let found = structures(&tables(64, 5 << 40).table);
        assert_eq!(found[4].1[7..11], 0x8000_0000_u32.to_le_bytes());
        assert_eq!(found[4].1[15..23], (5_u64 << 40).to_le_bytes());
        assert_eq!(found[5].1[0x1c..0x20], (5_u32 << 20).to_le_bytes());
        assert_eq!(found[7].1[0x0f..0x17], (4_u64 << 30).to_le_bytes());
    }

    #[test]
    fn the_entry_point_sums_to_zero_and_fits_before_the_first_mebibyte_ends() {
        let tables = tables(64, 32 << 40);
        let entry = tables.entry_point(TABLE);
        assert_eq!(entry.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert_eq!(u64::from_le_bytes(entry[16..24].try_into().unwrap()), TABLE);
        assert!(TABLE + tables.table.len() as u64 <= memory::HIGH_RAM);
    }
}
