//! The DSDT: processors, PCI host bridge, COM1, power button and generation id by the Generic Event Device, S5.

use super::{OEM, OEM_TABLE, REVISION, generation};
use crate::{
    legacy::{COM1, COM1_IRQ, power},
    memory,
};
use acpi_tables::{
    Aml,
    aml::{
        AddressSpace, AddressSpaceCacheable, And, Device, EISAName, Field, FieldAccessType, FieldEntry,
        FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed, Method, Name, Notify, ONE,
        OpRegion, OpRegionSpace, Package, Path, ResourceTemplate, Scope, Store, ZERO,
    },
    sdt::Sdt,
};

/// The table for a machine with `vcpus` processors and `ram` bytes.
pub(super) fn dsdt(vcpus: u8, ram: u64) -> Vec<u8> {
    let mut body = Vec::new();
    processors(vcpus).iter().for_each(|p| body.extend(p));
    for part in [host_bridge(ram), board(), serial(), power_button(), generation_id(), events(), sleep()] {
        body.extend(part);
    }
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    table.append_slice(&body);
    table.as_slice().to_vec()
}

fn bytes(part: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    part.to_aml_bytes(&mut bytes);
    bytes
}

/// A device in the system bus scope.
fn device(name: &str, children: Vec<&dyn Aml>) -> Vec<u8> {
    bytes(&Scope::new(path("_SB_"), vec![&Device::new(path(name), children)]))
}

fn path(name: &str) -> Path {
    Path::new(name)
}

fn processors(vcpus: u8) -> Vec<Vec<u8>> {
    let processor = |id: u8| {
        device(
            &format!("C{id:03}"),
            vec![&Name::new(path("_HID"), &"ACPI0007"), &Name::new(path("_UID"), &id)],
        )
    };
    (0..vcpus).map(processor).collect()
}

fn host_bridge(ram: u64) -> Vec<u8> {
    let (base, end) = memory::pci64(ram);
    let buses = AddressSpace::new_bus_number(0_u16, 0);
    let config_ports = IO::new(0xcf8, 0xcf8, 1, 8);
    let ports_low = AddressSpace::new_io(0_u16, 0x0cf7, None);
    let ports_high = AddressSpace::new_io(0x0d00_u16, 0xffff, None);
    let below = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        memory::PCI32 as u32,
        (memory::PCI32_END - 1) as u32,
        None,
    );
    let above = AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, base, end - 1, None);
    let resources =
        ResourceTemplate::new(vec![&buses, &config_ports, &ports_low, &ports_high, &below, &above]);
    device(
        "PCI0",
        vec![
            &Name::new(path("_HID"), &EISAName::new("PNP0A08")),
            &Name::new(path("_CID"), &EISAName::new("PNP0A03")),
            &Name::new(path("_SEG"), &ZERO),
            &Name::new(path("_BBN"), &ZERO),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_CRS"), &resources),
        ],
    )
}

/// Reserves the configuration window: without it Linux does not trust the MCFG.
fn board() -> Vec<u8> {
    let window = Memory32Fixed::new(true, memory::ECAM as u32, memory::ECAM_SIZE as u32);
    device(
        "MBRD",
        vec![
            &Name::new(path("_HID"), &EISAName::new("PNP0C02")),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_CRS"), &ResourceTemplate::new(vec![&window])),
        ],
    )
}

fn serial() -> Vec<u8> {
    let interrupt = Interrupt::new(true, true, false, false, COM1_IRQ);
    let ports = IO::new(COM1, COM1, 1, 8);
    device(
        "COM1",
        vec![
            &Name::new(path("_HID"), &EISAName::new("PNP0501")),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_DDN"), &"COM1"),
            &Name::new(path("_CRS"), &ResourceTemplate::new(vec![&interrupt, &ports])),
        ],
    )
}

fn power_button() -> Vec<u8> {
    device("PWRB", vec![&Name::new(path("_HID"), &EISAName::new("PNP0C0C")), &Name::new(path("_UID"), &ZERO)])
}

/// Where the generation id lies; drivers know the device by its compatible id.
fn generation_id() -> Vec<u8> {
    let (low, high) = (generation::ADDRESS as u32, (generation::ADDRESS >> 32) as u32);
    device(
        "VGEN",
        vec![
            &Name::new(path("_HID"), &"LIMQ0001"),
            &Name::new(path("_CID"), &"VM_Gen_Counter"),
            &Name::new(path("_DDN"), &"VM_Gen_Counter"),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("ADDR"), &Package::new(vec![&low, &high])),
        ],
    )
}

/// The device that tells of events: `_EVT` reads the event register, which clears it, and notifies whom it concerns.
fn events() -> Vec<u8> {
    let interrupt = Interrupt::new(true, true, false, false, power::IRQ);
    let event = path("EVTS");
    let (button, generation) = (path("\\_SB_.PWRB"), path("\\_SB_.VGEN"));
    let (notify_button, notify_generation) =
        (Notify::new(&button, &0x80_u8), Notify::new(&generation, &0x80_u8));
    let pressed = And::new(&ZERO, &Local(0), &power::POWER_BUTTON);
    let renewed = And::new(&ZERO, &Local(0), &power::GENERATION);
    device(
        "GED_",
        vec![
            &Name::new(path("_HID"), &"ACPI0013"),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_CRS"), &ResourceTemplate::new(vec![&interrupt])),
            &OpRegion::new(path("EREG"), OpRegionSpace::SystemIO, &(power::BASE + power::EVENTS), &ONE),
            &Field::new(
                path("EREG"),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::WriteAsZeroes,
                vec![FieldEntry::Named(*b"EVTS", 8)],
            ),
            &Method::new(
                path("_EVT"),
                1,
                true,
                vec![
                    &Store::new(&Local(0), &event),
                    &If::new(&pressed, vec![&notify_button]),
                    &If::new(&renewed, vec![&notify_generation]),
                ],
            ),
        ],
    )
}

fn sleep() -> Vec<u8> {
    bytes(&Name::new(path("_S5_"), &Package::new(vec![&power::S5, &ZERO, &ZERO, &ZERO])))
}
