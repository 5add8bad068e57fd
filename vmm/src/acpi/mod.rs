//! The ACPI tables: a hardware-reduced machine (ACPI 6.5, 4.1) without the fixed registers of a PC.
//!
//! ```text
//!  RSDP ─▶ XSDT ─┬▶ FADT ─▶ DSDT     sleep and reset registers, what a PC has and this machine has not
//!                ├▶ MADT             processors, I/O APIC
//!                └▶ MCFG             configuration space of bus 0
//! ```
//! All tables lie between [`memory::FIRMWARE`] and 1 MiB; the RSDP first, where an operating system looks for it.

mod dsdt;
pub mod generation;

use crate::{legacy::power, memory};
use acpi_tables::{
    Aml,
    fadt::{FADTBuilder, Flags},
    gas::{AccessSize, AddressSpace, GAS},
    madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic},
    mcfg::MCFG,
    rsdp::Rsdp,
    xsdt::XSDT,
};

const OEM: [u8; 6] = *b"LIMIQX";
const OEM_TABLE: [u8; 8] = *b"LQVMM   ";
const REVISION: u32 = 1;

/// There is nothing a VGA driver could probe.
const NO_VGA: u16 = 1 << 2;
/// The real-time clock is not to be used.
const NO_CMOS: u16 = 1 << 5;

/// Address of the RSDP.
pub const RSDP: u64 = memory::FIRMWARE;
/// Room for the RSDP.
const RSDP_ROOM: u64 = 64;

/// The tables of a machine with `vcpus` processors and `ram` bytes, to be written at [`RSDP`].
#[must_use]
pub fn tables(vcpus: u8, ram: u64) -> Vec<u8> {
    let mut bytes = vec![0; RSDP_ROOM as usize];
    let mut add = |table: Vec<u8>| {
        let address = RSDP + bytes.len() as u64;
        bytes.extend(table);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        address
    };
    let dsdt = add(dsdt::dsdt(vcpus, ram));
    let listed = [fadt(dsdt), madt(vcpus), mcfg()].map(&mut add);
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    listed.into_iter().for_each(|table| xsdt.add_entry(table));
    let xsdt = add(encode(&xsdt));
    let rsdp = encode(&Rsdp::new(OEM, xsdt));
    bytes[..rsdp.len()].copy_from_slice(&rsdp);
    bytes
}

fn encode(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let port = |offset| {
        let address = u64::from(power::BASE + offset);
        GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, address)
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ResetRegSup)
        .flag(Flags::HwReducedAcpi);
    // The bit for "there is an 8042" stays clear: nobody polls it.
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS).into();
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    encode(&fadt.finalize())
}

fn madt(vcpus: u8) -> Vec<u8> {
    let address = LocalInterruptController::Address(memory::LOCAL_APIC);
    let mut madt = MADT::new(OEM, OEM_TABLE, REVISION, address);
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, memory::IO_APIC, 0));
    encode(&madt)
}

fn mcfg() -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM, OEM_TABLE, REVISION);
    mcfg.add_ecam(memory::ECAM, 0, 0, 0);
    encode(&mcfg)
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

    #[test]
    fn every_table_is_reached_and_sums_to_zero() {
        let all = tables(64, 8 << 30);
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
        assert_eq!(names, [b"FACP", b"APIC", b"MCFG"]);
        let fadt = table(&all, pointer(&xsdt[36..44]));
        let dsdt = table(&all, pointer(&fadt[140..148]));
        assert_eq!((&dsdt[..4], sum(dsdt)), (&b"DSDT"[..], 0));
    }
}
