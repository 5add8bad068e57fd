//! The ACPI tables: a hardware-reduced machine (ACPI 6.5, 4.1) without the fixed registers of a PC.
//!
//! ```text
//!  RSDP ─▶ XSDT ─┬▶ FADT ─▶ DSDT     sleep and reset registers, what a PC has and this machine has not
//!                ├▶ MADT             processors, I/O APIC
//!                ├▶ MCFG             configuration space of bus 0
//!                └▶ TPM2             where the TPM is, where the machine has one
//! ```
//! Booting a kernel directly, all tables lie between [`memory::FIRMWARE`] and 1 MiB; the RSDP first, where an operating
//! system looks for it. Firmware gets them as [`Relocatable`] and puts them where it likes.

mod dsdt;
pub mod generation;

use crate::{
    legacy::power,
    memory::{self, PciMap},
    tpm::crb,
};
use acpi_tables::{
    Aml,
    fadt::{FADTBuilder, Flags},
    gas::{AccessSize, AddressSpace, GAS},
    madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic},
    mcfg::MCFG,
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};
use std::ops::Range;

const OEM: [u8; 6] = *b"LIMIQX";
const OEM_TABLE: [u8; 8] = *b"LQVMM   ";
const REVISION: u32 = 1;

/// There is a keyboard controller.
const HAS_8042: u16 = 1 << 1;
/// There is nothing a VGA driver could probe.
const NO_VGA: u16 = 1 << 2;
/// The real-time clock is not to be used.
const NO_CMOS: u16 = 1 << 5;

/// Address of the RSDP.
pub const RSDP: u64 = memory::FIRMWARE;
/// Room for the RSDP.
const RSDP_ROOM: u64 = 64;

/// Offset of the DSDT's 64-bit address in the FADT.
const FADT_X_DSDT: usize = 140;
/// Bytes of a table's header.
const HEADER: usize = 36;

/// What the tables tell of.
#[derive(Clone, Debug)]
pub struct Board {
    /// Processors, at most.
    pub vcpus: u8,
    /// Those there are, a bit each, where others may come and go; none: all are there and stay.
    pub present: Option<u64>,
    /// Where PCI is.
    pub pci: PciMap,
    /// There is a keyboard controller.
    pub keyboard: bool,
    /// There is the port for panics.
    pub panic: bool,
    /// Slots whose devices stay, one bit each, where others may come and go.
    pub fixed_slots: Option<u32>,
    /// There is a TPM.
    pub tpm: bool,
    /// Where the generation id is; in tables to be relocated: where in its page.
    pub generation: u64,
}

/// Tables whose addresses are still to be found.
#[derive(Debug)]
pub struct Relocatable {
    /// All but the RSDP, each at a multiple of 16.
    pub bytes: Vec<u8>,
    /// Where each table lies in `bytes`.
    pub tables: Vec<Range<usize>>,
    /// Where in `bytes` there are 64-bit addresses, counted from the begin of `bytes`.
    pub pointers: Vec<usize>,
    /// Where in `bytes` the low half of the generation id's address is, counted from the begin of its page.
    pub generation: Option<usize>,
    /// The RSDP, its address of the XSDT counted likewise.
    pub rsdp: Vec<u8>,
}

/// The tables of a machine, to be written at [`RSDP`].
#[must_use]
pub fn tables(board: &Board) -> Vec<u8> {
    let built = build(board, RSDP + RSDP_ROOM);
    let mut bytes = built.rsdp;
    bytes.resize(RSDP_ROOM as usize, 0);
    bytes.extend(built.bytes);
    bytes
}

/// The tables as they are from address 0 on.
#[must_use]
pub fn relocatable(board: &Board) -> Relocatable {
    build(board, 0)
}

fn build(board: &Board, base: u64) -> Relocatable {
    let mut bytes = Vec::new();
    let mut tables = Vec::new();
    let mut add = |table: Vec<u8>| {
        let start = bytes.len();
        bytes.extend(table);
        tables.push(start..bytes.len());
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        start
    };
    let address = |offset: usize| base + offset as u64;
    let dsdt = dsdt::dsdt(board);
    let generation_in_dsdt = dsdt::generation_address(&dsdt);
    let dsdt_at = add(dsdt);
    let generation = generation_in_dsdt.map(|at| dsdt_at + at);
    let dsdt = address(dsdt_at);
    let fadt = add(fadt(dsdt, board.keyboard));
    let mut listed = vec![fadt, add(madt(board.vcpus, board.present)), add(mcfg(&board.pci))];
    if board.tpm {
        listed.push(add(tpm2()));
    }
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    listed.iter().for_each(|table| xsdt.add_entry(address(*table)));
    let xsdt = add(encode(&xsdt));
    let mut pointers = vec![fadt + FADT_X_DSDT];
    pointers.extend((0..listed.len()).map(|n| xsdt + HEADER + 8 * n));
    let rsdp = encode(&Rsdp::new(OEM, address(xsdt)));
    Relocatable { bytes, tables, pointers, generation, rsdp }
}

fn encode(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64, keyboard: bool) -> Vec<u8> {
    let port = |offset| {
        let address = u64::from(power::BASE + offset);
        GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address)
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ResetRegSup)
        .flag(Flags::HwReducedAcpi);
    // Without the bit nobody polls for a keyboard controller.
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS | if keyboard { HAS_8042 } else { 0 }).into();
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    encode(&fadt.finalize())
}

fn madt(vcpus: u8, present: Option<u64>) -> Vec<u8> {
    let address = LocalInterruptController::Address(memory::LOCAL_APIC);
    let mut madt = MADT::new(OEM, OEM_TABLE, REVISION, address);
    for id in 0..vcpus {
        let there = present.is_none_or(|present| present >> id & 1 == 1);
        let status = if there { EnabledStatus::Enabled } else { EnabledStatus::DisabledOnlineCapable };
        madt.add_structure(ProcessorLocalApic::new(id, id, status));
    }
    madt.add_structure(IoApic::new(0, memory::IO_APIC, 0));
    encode(&madt)
}

fn mcfg(pci: &PciMap) -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM, OEM_TABLE, REVISION);
    mcfg.add_ecam(pci.ecam.start, 0, 0, pci.last_bus());
    encode(&mcfg)
}

/// The table of a TPM 2.0 (TCG ACPI Specification 1.3, 8). Without a place for the log of measurements: firmware hands that on
/// itself, and a system that found an empty one here would not ask it.
fn tpm2() -> Vec<u8> {
    const REVISION_OF_TABLE: u8 = 4;
    /// By the command response buffer, and no method of ACPI.
    const START: u32 = 7;
    let mut table = Sdt::new(*b"TPM2", HEADER as u32, REVISION_OF_TABLE, OEM, OEM_TABLE, REVISION);
    // A client; reserved.
    table.append_slice(&[0; 4]);
    table.append_slice(&crb::CONTROL_AREA.to_le_bytes());
    table.append_slice(&START.to_le_bytes());
    // Parameters of other methods.
    table.append_slice(&[0; 12]);
    table.as_slice().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(all: &[u8], address: u64) -> &[u8] {
        let at = (address - RSDP) as usize;
        let length = u32::from_le_bytes(all[at + 4..at + 8].try_into().unwrap()) as usize;
        &all[at..at + length]
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn board(vcpus: u8) -> Board {
        Board {
            vcpus,
            present: Some(3),
            pci: PciMap::fixed(8 << 30),
            keyboard: false,
            panic: false,
            fixed_slots: Some(0),
            tpm: true,
            generation: generation::ADDRESS,
        }
    }

    #[test]
    fn every_table_is_reached_and_sums_to_zero() {
        let all = tables(&board(64));
        assert!(RSDP + all.len() as u64 <= generation::ADDRESS);
        assert_eq!(&all[..8], b"RSD PTR ");
        assert_eq!(sum(&all[..20]), 0);
        assert_eq!(sum(&all[..36]), 0);
        let pointer = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let xsdt = table(&all, pointer(&all[24..32]));
        assert_eq!((&xsdt[..4], sum(xsdt)), (&b"XSDT"[..], 0));
        let mut names = Vec::new();
        for entry in xsdt[36..].chunks(8) {
            let table = table(&all, pointer(entry));
            assert_eq!(sum(table), 0);
            names.push(&table[..4]);
        }
        assert_eq!(names, [b"FACP", b"APIC", b"MCFG", b"TPM2"]);
        let tpm = table(&all, pointer(&xsdt[60..68]));
        assert_eq!((tpm.len(), tpm[8]), (64, 4));
        assert_eq!((pointer(&tpm[40..48]), tpm[48]), (0xfed4_0040, 7));
        let fadt = table(&all, pointer(&xsdt[36..44]));
        let dsdt = table(&all, pointer(&fadt[140..148]));
        assert_eq!((&dsdt[..4], sum(dsdt)), (&b"DSDT"[..], 0));
    }

    #[test]
    fn relocatable_tables_keep_their_length_and_name_every_address() {
        let board = |ecam: u64| Board {
            vcpus: 3,
            present: None,
            pci: PciMap::by_firmware(8 << 30, ecam..ecam + (256 << 20), 46),
            keyboard: true,
            panic: true,
            fixed_slots: Some(0x8000_0008),
            tpm: true,
            generation: generation::OFFSET,
        };
        let [one, other] = [0xb000_0000, 0xe000_0000].map(|ecam| relocatable(&board(ecam)));
        assert_eq!((one.bytes.len(), &one.pointers), (other.bytes.len(), &other.pointers));
        let pointed = |at: &usize| u64::from_le_bytes(one.bytes[*at..*at + 8].try_into().unwrap()) as usize;
        let mut found: Vec<_> = one.pointers.iter().map(pointed).collect();
        found.push(u64::from_le_bytes(one.rsdp[24..32].try_into().unwrap()) as usize);
        found.sort_unstable();
        assert_eq!(found, one.tables.iter().map(|t| t.start).collect::<Vec<_>>(), "each table once");
        assert_ne!(one.bytes, other.bytes, "the ECAM is told");
        let at = one.generation.unwrap();
        assert_eq!(one.bytes[at..at + 6], [40, 0, 0, 0, 0, 0x10], "the low half, a zero, the next scope");
    }
}
