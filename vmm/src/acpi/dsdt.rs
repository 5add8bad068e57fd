//! The DSDT: processors, PCI host bridge, TPM, COM1, power button, generation id and hot plug by the Generic Event Device, S5.

use super::{Board, OEM, OEM_TABLE, REVISION};
use crate::{
    legacy::{COM1, COM1_IRQ, cpus, hotplug, i8042, power, pvpanic},
    memory::PciMap,
    tpm::crb,
};
use acpi_tables::{
    Aml, AmlSink,
    aml::{
        AddressSpace, AddressSpaceCacheable, And, BufferData, Device, EISAName, Field, FieldAccessType,
        FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed, Method,
        MethodCall, Name, Notify, ONE, OpRegion, OpRegionSpace, Package, Path, ResourceTemplate, Return,
        Scope, Store, ZERO,
    },
    madt::{EnabledStatus, ProcessorLocalApic},
    sdt::Sdt,
};

const DWORD_PREFIX: u8 = 0x0c;

/// The table of a machine.
pub(super) fn dsdt(board: &Board) -> Vec<u8> {
    let mut body = Vec::new();
    match board.present {
        None => processors(board.vcpus).iter().for_each(|p| body.extend(p)),
        Some(_) => body.extend(processors_that_come_and_go(board.vcpus)),
    }
    if board.keyboard {
        body.extend(keyboard());
    }
    if board.panic {
        body.extend(panic_port());
    }
    if board.tpm {
        body.extend(tpm());
    }
    let parts = [
        host_bridge(&board.pci),
        reserved(&board.pci),
        serial(),
        power_button(),
        generation_id(board.generation),
        board.fixed_slots.map(slots).unwrap_or_default(),
        events(board.fixed_slots.is_some(), board.present.is_some()),
        sleep(),
    ];
    for part in parts {
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

/// What is encoded already.
struct Bytes<'a>(&'a [u8]);

impl Aml for Bytes<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        self.0.iter().for_each(|byte| sink.byte(*byte));
    }
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

/// Notifies of all processors that something became of.
const LOOK_AT_PROCESSORS: &str = "\\_SB_.CCNT";

/// The processors there can be, and the method that looks at the registers.
fn processors_that_come_and_go(vcpus: u8) -> Vec<u8> {
    let (mut parts, mut looks) = (Vec::new(), Vec::new());
    OpRegion::new(path("CPHR"), OpRegionSpace::SystemIO, &cpus::BASE, &cpus::LENGTH).to_aml_bytes(&mut parts);
    // Present, came, asked for, ejected; each for the first 32 and the others.
    let names = [*b"CPRL", *b"CPRH", *b"CCML", *b"CCMH", *b"CASL", *b"CASH", *b"CEJL", *b"CEJH"];
    Field::new(
        path("CPHR"),
        FieldAccessType::DWord,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        names.map(|name| FieldEntry::Named(name, 32)).to_vec(),
    )
    .to_aml_bytes(&mut parts);
    for (local, register) in [(0, "CCML"), (1, "CCMH"), (2, "CASL"), (3, "CASH")] {
        let register = path(register);
        Store::new(&Local(local), &register).to_aml_bytes(&mut looks);
    }
    for id in 0..vcpus {
        let (name, bit, high) = (format!("C{id:03}"), 1_u32 << (id % 32), id >= 32);
        let present = path(if high { "CPRH" } else { "CPRL" });
        let there = And::new(&ZERO, &present, &bit);
        let whole = Return::new(&0x0f_u8);
        let status = If::new(&there, vec![&whole]);
        let none = Return::new(&ZERO);
        let apic = bytes(&ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
        let ejected = path(if high { "CEJH" } else { "CEJL" });
        let eject = bytes(&Store::new(&ejected, &bit));
        let children: Vec<Box<dyn Aml>> = vec![
            Box::new(Name::new(path("_HID"), &"ACPI0007")),
            Box::new(Name::new(path("_UID"), &id)),
            // Of a processor that is not there this is looked at when it has come.
            Box::new(Name::new(path("_MAT"), &BufferData::new(apic))),
        ];
        let status = Method::new(path("_STA"), 0, true, vec![&status, &none]);
        let eject = Bytes(&eject);
        let eject = Method::new(path("_EJ0"), 1, true, vec![&eject]);
        let mut all: Vec<&dyn Aml> = children.iter().map(|child| &**child).collect();
        all.push(&status);
        if id != 0 {
            all.push(&eject);
        }
        Device::new(path(&name), all).to_aml_bytes(&mut parts);
        let name = path(&name);
        for (local, what) in [(u8::from(high), DEVICE_CHECK), (2 + u8::from(high), EJECT_REQUEST)] {
            let read = Local(local);
            let told = And::new(&ZERO, &read, &bit);
            If::new(&told, vec![&Notify::new(&name, &what)]).to_aml_bytes(&mut looks);
        }
    }
    Method::new(path("CCNT"), 0, true, vec![&Bytes(&looks)]).to_aml_bytes(&mut parts);
    bytes(&Scope::new(path("\\_SB_"), vec![&Bytes(&parts)]))
}

fn host_bridge(pci: &PciMap) -> Vec<u8> {
    let buses = AddressSpace::new_bus_number(0_u16, u16::from(pci.last_bus()));
    let config_ports = IO::new(0xcf8, 0xcf8, 1, 8);
    let ports_low = AddressSpace::new_io(0_u16, 0x0cf7, None);
    let ports_high = AddressSpace::new_io(0x0d00_u16, 0xffff, None);
    let uncached = AddressSpaceCacheable::NotCacheable;
    let below: Vec<_> = pci
        .below_4g
        .iter()
        .map(|w| AddressSpace::new_memory(uncached, true, w.start as u32, (w.end - 1) as u32, None))
        .collect();
    let above = &pci.above_4g;
    let above = AddressSpace::new_memory(uncached, true, above.start, above.end - 1, None);
    let mut resources: Vec<&dyn Aml> = vec![&buses, &config_ports, &ports_low, &ports_high];
    resources.extend(below.iter().map(|window| window as &dyn Aml));
    resources.push(&above);
    let resources = ResourceTemplate::new(resources);
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

/// Notifies of all slots that something became of.
const LOOK_AT_SLOTS: &str = "\\_SB_.PCI0.PCNT";
/// To a slot: look whether there is another device. To a device: let go of it.
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;

/// The slots devices can come to and go from, and the method that looks at the registers. Without `_STA`: a guest looks into
/// configuration space then.
fn slots(fixed: u32) -> Vec<u8> {
    let registers = Field::new(
        path("PHPR"),
        FieldAccessType::DWord,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        vec![
            FieldEntry::Named(*b"PCIU", 32),
            FieldEntry::Named(*b"PCID", 32),
            FieldEntry::Named(*b"PCIE", 32),
        ],
    );
    let (mut parts, mut looks) = (Vec::new(), Vec::new());
    OpRegion::new(path("PHPR"), OpRegionSpace::SystemIO, &hotplug::BASE, &hotplug::SLOTS_LENGTH)
        .to_aml_bytes(&mut parts);
    registers.to_aml_bytes(&mut parts);
    Store::new(&Local(0), &path("PCIU")).to_aml_bytes(&mut looks);
    Store::new(&Local(1), &path("PCID")).to_aml_bytes(&mut looks);
    for slot in (1..32_u32).filter(|slot| fixed & 1 << slot == 0) {
        let (name, bit) = (path(&format!("S{slot:03}")), 1_u32 << slot);
        let eject = bytes(&Store::new(&path("PCIE"), &bit));
        Device::new(
            path(&format!("S{slot:03}")),
            vec![
                &Name::new(path("_ADR"), &(slot << 16)),
                &Name::new(path("_SUN"), &slot),
                &Method::new(path("_EJ0"), 1, true, vec![&Bytes(&eject)]),
            ],
        )
        .to_aml_bytes(&mut parts);
        for (local, what) in [(0, DEVICE_CHECK), (1, EJECT_REQUEST)] {
            let read = Local(local);
            let told = And::new(&ZERO, &read, &bit);
            If::new(&told, vec![&Notify::new(&name, &what)]).to_aml_bytes(&mut looks);
        }
    }
    Method::new(path("PCNT"), 0, true, vec![&Bytes(&looks)]).to_aml_bytes(&mut parts);
    bytes(&Scope::new(path("\\_SB_.PCI0"), vec![&Bytes(&parts)]))
}

/// Reserves the configuration window: without it Linux does not trust the MCFG.
fn reserved(pci: &PciMap) -> Vec<u8> {
    let ecam = &pci.ecam;
    let window = Memory32Fixed::new(true, ecam.start as u32, (ecam.end - ecam.start) as u32);
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

fn keyboard() -> Vec<u8> {
    let interrupt = Interrupt::new(true, true, false, false, i8042::IRQ);
    let (data, status) = (IO::new(0x60, 0x60, 1, 1), IO::new(0x64, 0x64, 1, 1));
    device(
        "KBD_",
        vec![
            &Name::new(path("_HID"), &EISAName::new("PNP0303")),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_CRS"), &ResourceTemplate::new(vec![&data, &status, &interrupt])),
        ],
    )
}

fn panic_port() -> Vec<u8> {
    let port = IO::new(pvpanic::PORT, pvpanic::PORT, 1, 1);
    device(
        "PEVT",
        vec![
            &Name::new(path("_HID"), &"QEMU0001"),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_STA"), &0x0f_u8),
            &Name::new(path("_CRS"), &ResourceTemplate::new(vec![&port])),
        ],
    )
}

fn tpm() -> Vec<u8> {
    let registers = Memory32Fixed::new(true, crb::BASE as u32, crb::LENGTH as u32);
    device(
        "TPM_",
        vec![
            &Name::new(path("_HID"), &"MSFT0101"),
            &Name::new(path("_UID"), &ONE),
            &Name::new(path("_STA"), &0x0f_u8),
            &Name::new(path("_CRS"), &ResourceTemplate::new(vec![&registers])),
        ],
    )
}

fn power_button() -> Vec<u8> {
    device("PWRB", vec![&Name::new(path("_HID"), &EISAName::new("PNP0C0C")), &Name::new(path("_UID"), &ZERO)])
}

/// A number that always takes four bytes, whatever its value: firmware adds an address to it.
struct Dword(u32);

impl Aml for Dword {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(DWORD_PREFIX);
        sink.dword(self.0);
    }
}

/// Where in the table the low half of the generation id's address is.
pub(super) fn generation_address(dsdt: &[u8]) -> Option<usize> {
    const PACKAGE: u8 = 0x12;
    let begins = |w: &[u8]| matches!(w, [b'A', b'D', b'D', b'R', PACKAGE, _, 2, DWORD_PREFIX]);
    Some(dsdt.windows(8).position(begins)? + 8)
}

/// Where the generation id lies; drivers know the device by its compatible id.
fn generation_id(address: u64) -> Vec<u8> {
    let (low, high) = (Dword(address as u32), (address >> 32) as u32);
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
fn events(hotplug: bool, cpus: bool) -> Vec<u8> {
    let interrupt = Interrupt::new(true, true, false, false, power::IRQ);
    let event = path("EVTS");
    let (button, generation) = (path("\\_SB_.PWRB"), path("\\_SB_.VGEN"));
    let (notify_button, notify_generation) =
        (Notify::new(&button, &0x80_u8), Notify::new(&generation, &0x80_u8));
    let pressed = And::new(&ZERO, &Local(0), &power::POWER_BUTTON);
    let renewed = And::new(&ZERO, &Local(0), &power::GENERATION);
    let changed = And::new(&ZERO, &Local(0), &power::HOTPLUG);
    let look = MethodCall::new(path(LOOK_AT_SLOTS), Vec::new());
    let look_at_slots = If::new(&changed, vec![&look]);
    let changed = And::new(&ZERO, &Local(0), &power::CPUS);
    let look = MethodCall::new(path(LOOK_AT_PROCESSORS), Vec::new());
    let look_at_processors = If::new(&changed, vec![&look]);
    let (pressed, renewed) =
        (If::new(&pressed, vec![&notify_button]), If::new(&renewed, vec![&notify_generation]));
    let from = Store::new(&Local(0), &event);
    let mut steps: Vec<&dyn Aml> = vec![&from, &pressed, &renewed];
    if hotplug {
        steps.push(&look_at_slots);
    }
    if cpus {
        steps.push(&look_at_processors);
    }
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
            &Method::new(path("_EVT"), 1, true, steps),
        ],
    )
}

fn sleep() -> Vec<u8> {
    bytes(&Name::new(path("_S5_"), &Package::new(vec![&power::S5, &ZERO, &ZERO, &ZERO])))
}
