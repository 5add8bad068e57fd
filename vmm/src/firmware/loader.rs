//! How firmware is told to place ACPI tables and to tie them together: the linker script of `etc/table-loader`
//! (QEMU `hw/acpi/bios-linker-loader.c` describes it; commands of 128 bytes, little endian).

use crate::acpi::{Relocatable, generation};

/// The file with the RSDP.
pub const RSDP_FILE: &str = "etc/acpi/rsdp";
/// The file with all other tables.
pub const TABLES_FILE: &str = "etc/acpi/tables";
/// The file with the script.
pub const SCRIPT_FILE: &str = "etc/table-loader";
/// All three, in the order of [`files`].
pub const FILES: [&str; 3] = [RSDP_FILE, TABLES_FILE, SCRIPT_FILE];

/// The file with the generation id in its page.
pub const GENERATION_FILE: &str = "etc/vmgenid_guid";
/// The file firmware writes its address to, 8 bytes.
pub const GENERATION_ADDRESS_FILE: &str = "etc/vmgenid_addr";

const COMMAND: usize = 128;
const NAME: usize = 56;
const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
const WRITE_POINTER: u32 = 4;
/// Anywhere below 4 GiB.
const ZONE_HIGH: u8 = 1;
/// Where operating systems look for the RSDP.
const ZONE_FSEG: u8 = 2;

const TABLE_CHECKSUM: usize = 9;
const RSDP_CHECKSUM: usize = 8;
const RSDP_EXTENDED_CHECKSUM: usize = 32;
const RSDP_XSDT: usize = 24;
/// The bytes the first checksum covers.
const RSDP_FIRST_PART: usize = 20;

#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    fn command(&mut self, kind: u32, parts: &[&[u8]]) {
        let end = self.0.len() + COMMAND;
        self.0.extend(kind.to_le_bytes());
        parts.iter().for_each(|part| self.0.extend(*part));
        self.0.resize(end, 0);
    }

    fn allocate(&mut self, file: &str, alignment: u32, zone: u8) {
        self.command(ALLOCATE, &[&name(file), &alignment.to_le_bytes(), &[zone]]);
    }

    /// Adds the address of `target` to the `size` bytes at `offset` of `file`.
    fn add_pointer(&mut self, file: &str, target: &str, offset: usize, size: u8) {
        self.command(ADD_POINTER, &[&name(file), &name(target), &(offset as u32).to_le_bytes(), &[size]]);
    }

    /// Has the address of what is at `offset` of `target` written to the 8 bytes of `file`.
    fn write_pointer(&mut self, file: &str, target: &str, offset: u64) {
        let offsets = [0, offset as u32].map(u32::to_le_bytes);
        self.command(WRITE_POINTER, &[&name(file), &name(target), &offsets.concat(), &[8]]);
    }

    /// Makes `length` bytes from `start` sum to zero by the byte at `result`.
    fn add_checksum(&mut self, file: &str, result: usize, start: usize, length: usize) {
        let numbers = [result, start, length].map(|n| (n as u32).to_le_bytes());
        self.command(ADD_CHECKSUM, &[&name(file), &numbers.concat()]);
    }
}

fn name(file: &str) -> [u8; NAME] {
    let mut name = [0; NAME];
    name.iter_mut().zip(file.bytes()).for_each(|(to, from)| *to = from);
    name
}

/// Contents of [`FILES`].
#[must_use]
pub fn files(tables: &Relocatable) -> Vec<Vec<u8>> {
    let (mut rsdp, mut bytes) = (tables.rsdp.clone(), tables.bytes.clone());
    let mut script = Script::default();
    script.allocate(TABLES_FILE, 64, ZONE_HIGH);
    script.allocate(RSDP_FILE, 16, ZONE_FSEG);
    script.allocate(GENERATION_FILE, generation::PAGE as u32, ZONE_HIGH);
    for offset in &tables.pointers {
        script.add_pointer(TABLES_FILE, TABLES_FILE, *offset, 8);
    }
    if let Some(offset) = tables.generation {
        script.add_pointer(TABLES_FILE, GENERATION_FILE, offset, 4);
    }
    script.write_pointer(GENERATION_ADDRESS_FILE, GENERATION_FILE, generation::OFFSET);
    script.add_pointer(RSDP_FILE, TABLES_FILE, RSDP_XSDT, 8);
    let clear = |bytes: &mut Vec<u8>, at: usize| {
        if let Some(byte) = bytes.get_mut(at) {
            *byte = 0;
        }
    };
    for table in &tables.tables {
        let at = table.start + TABLE_CHECKSUM;
        clear(&mut bytes, at);
        script.add_checksum(TABLES_FILE, at, table.start, table.len());
    }
    clear(&mut rsdp, RSDP_CHECKSUM);
    clear(&mut rsdp, RSDP_EXTENDED_CHECKSUM);
    script.add_checksum(RSDP_FILE, RSDP_CHECKSUM, 0, RSDP_FIRST_PART);
    script.add_checksum(RSDP_FILE, RSDP_EXTENDED_CHECKSUM, 0, rsdp.len());
    vec![rsdp, bytes, script.0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        acpi::{self, Board},
        memory::PciMap,
    };
    use std::collections::BTreeMap;

    /// Does what firmware does; returns where each file went, and memory.
    fn carry_out(files: &[Vec<u8>]) -> (BTreeMap<String, usize>, Vec<u8>) {
        let mut memory = vec![0; 0x8000];
        let mut places = BTreeMap::new();
        let page = generation::page().unwrap();
        let names = FILES.into_iter().chain([GENERATION_FILE]);
        let sizes: BTreeMap<_, _> = names.zip(files.iter().chain([&page])).collect();
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().trim_end_matches('\0').to_owned();
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
        for command in files[2].chunks(COMMAND) {
            let file = text(&command[4..60]);
            match number(&command[..4]) as u32 {
                ALLOCATE => {
                    let contents = sizes[file.as_str()];
                    let place = 0x100 + places.len() * 0x2000;
                    memory[place..place + contents.len()].copy_from_slice(contents);
                    places.insert(file, place);
                }
                ADD_POINTER => {
                    let target = places[&text(&command[60..116])];
                    let at = places[&file] + number(&command[116..120]);
                    let field = &mut memory[at..at + usize::from(command[120])];
                    let mut value = [0; 8];
                    value[..field.len()].copy_from_slice(field);
                    let value = u64::from_le_bytes(value) + target as u64;
                    field.copy_from_slice(&value.to_le_bytes()[..field.len()]);
                }
                WRITE_POINTER => {
                    let target = places[&text(&command[60..116])] + number(&command[120..124]);
                    assert_eq!((number(&command[116..120]), command[124]), (0, 8));
                    places.insert(file, target);
                }
                ADD_CHECKSUM => {
                    let base = places[&file];
                    let (result, start) = (base + number(&command[60..64]), base + number(&command[64..68]));
                    let bytes = &memory[start..start + number(&command[68..72])];
                    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
                    memory[result] = memory[result].wrapping_sub(sum);
                }
                other => panic!("command {other}"),
            }
        }
        (places, memory)
    }

    #[test]
    fn firmware_that_carries_the_script_out_gets_tables_that_hang_together() {
        let pci = PciMap::by_firmware(1 << 30, 0xb000_0000..0xc000_0000, 40);
        let tables = acpi::relocatable(&Board {
            vcpus: 4,
            pci,
            keyboard: true,
            panic: true,
            fixed_slots: Some(1 << 31),
            present: Some(5),
            tpm: true,
            generation: generation::OFFSET,
        });
        let (places, memory) = carry_out(&files(&tables));
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let pointer = |at: usize| u64::from_le_bytes(memory[at..at + 8].try_into().unwrap()) as usize;
        let table = |at: usize| {
            let length = u32::from_le_bytes(memory[at + 4..at + 8].try_into().unwrap()) as usize;
            assert_eq!(sum(&memory[at..at + length]), 0);
            (&memory[at..at + 4], length)
        };
        let rsdp = places[RSDP_FILE];
        assert_eq!((sum(&memory[rsdp..rsdp + 20]), sum(&memory[rsdp..rsdp + 36])), (0, 0));
        let xsdt = pointer(rsdp + RSDP_XSDT);
        let (name, length) = table(xsdt);
        assert_eq!(name, b"XSDT");
        let listed: Vec<_> = (36..length).step_by(8).map(|at| pointer(xsdt + at)).collect();
        let names: Vec<_> = listed.iter().map(|at| table(*at).0).collect();
        assert_eq!(names, [b"FACP", b"APIC", b"MCFG", b"TPM2"]);
        assert_eq!(table(pointer(listed[0] + 140)).0, b"DSDT");
        let ecam = pointer(listed[2] + 44);
        assert_eq!(ecam, 0xb000_0000);
        let at = places[TABLES_FILE] + tables.generation.unwrap();
        let told = u32::from_le_bytes(memory[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(told, places[GENERATION_ADDRESS_FILE], "the guest and we are told the same");
        assert_ne!(memory[told..told + 16], [0; 16]);
    }
}
