//! Registers: ports and memory that is not RAM, of all a machine may have.

use super::{
    super::reader::Reader,
    queues::{disk, function},
};
use lq_vmm::{
    console::Console,
    firmware::fw_cfg::FwCfg,
    guest::Notifier,
    legacy::{
        Devices, Optional,
        cpus::{Cpus, Step},
        i8042::I8042,
        power::Power,
        serial::Serial,
    },
    memory::{Memory, SharedMemory},
    pci::root::{PciRoot, Placement},
    state::State,
    tpm::crb::{BUFFER_BYTES, Crb, Effect, HEADER, LENGTH, stated_length},
    virtio::{balloon::Balloon, blk::Block, rng::Rng},
    watchdog,
};
use std::sync::{Arc, OnceLock};
use vm_memory::{Bytes, GuestAddress};

/// Memory that the devices of a target share; kept, because making it costs more than all the rest.
fn memory() -> &'static Memory {
    static MEMORY: OnceLock<Memory> = OnceLock::new();
    MEMORY.get_or_init(|| Memory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap())
}

/// A bus with devices, and the old devices beside it. Of an input the first byte decides who sets the bus up.
pub fn registers(input: &[u8]) {
    let mut reader = Reader(input);
    let bus = if reader.u8() & 1 == 0 { PciRoot::new(2 << 20) } else { PciRoot::by_firmware(2 << 20, 40) };
    let shared = || SharedMemory::new(memory().clone());
    let stays = Placement::default();
    let goes = Placement { slot: None, removable: true };
    bus.place(Box::new(function(Block::new(disk(false), "fuzzed", false), shared())), goes).unwrap();
    bus.place(Box::new(function(Rng::new(), shared())), stays).unwrap();
    bus.place(Box::new(function(Balloon::new(2 << 20, 0).0, shared())), goes).unwrap();
    bus.place(Box::new(watchdog::Device::new().unwrap().0), stays).unwrap();
    bus.assign().unwrap();
    let console = Console::new().unwrap();
    let (serial, power) = (Serial::new(console.output()).unwrap(), Arc::new(Power::new().unwrap()));
    let cpus = Some(Arc::new(Cpus::new(2, 40, Arc::clone(&power))));
    let optional = Optional { panic: true, hotplug: true, cpus, tpm: None };
    let notifier = Arc::new(Notifier::new().unwrap());
    let devices = Devices::new(bus, serial, power, None, 2 << 20, optional, notifier);
    while !reader.is_empty() {
        let op = reader.u8();
        let length = [1, 2, 4, 8][usize::from(op >> 6)];
        let mut data = [0; 8];
        match op & 7 {
            0 | 1 => {
                let port = reader.u16();
                if op & 1 == 0 {
                    devices.port_read(port, &mut data[..length.min(4)]);
                } else {
                    let _ = devices.port_write(port, reader.take(length.min(4)));
                }
            }
            // Configuration space by ports.
            2 | 3 => {
                let _ = devices.port_write(0xcf8, &(reader.u32() | 0x8000_0000).to_le_bytes());
                let port = 0xcfc + u16::from(op >> 3 & 3);
                if op & 1 == 0 {
                    devices.port_read(port, &mut data[..length.min(4)]);
                } else {
                    let _ = devices.port_write(port, reader.take(length.min(4)));
                }
            }
            4 | 5 => {
                // Most of what is anywhere is in the window of small BARs and in the ECAM.
                let near = u64::from(reader.u32());
                let address = match op >> 3 & 3 {
                    0 => 0xc000_0000 + (near & 0x3_ffff),
                    1 => 0xe000_0000 + (near & 0xf_ffff),
                    2 => near,
                    _ => reader.u64(),
                };
                if op & 1 == 0 {
                    devices.memory_read(address, &mut data[..length]);
                } else {
                    devices.memory_write(address, reader.take(length));
                }
            }
            6 => {
                if let Some(hotplug) = &devices.hotplug {
                    hotplug.ask(usize::from(op >> 3));
                }
                if let Some(cpus) = &devices.cpus
                    && let Step::Come(all) = cpus.aim(op >> 3 | 1)
                {
                    all.into_iter().for_each(|cpu| cpus.came(cpu));
                }
            }
            _ => {
                devices.pci.for_each(|device| device.pause());
                for (_, mut gone) in devices.pci.take_left() {
                    gone.pause();
                    gone.release().unwrap();
                }
                let mut state = State::default();
                devices.save(&mut state).unwrap();
                if op & 8 == 0 {
                    devices.pci.for_each(|device| device.resume());
                } else {
                    devices.pci.reset().unwrap();
                    devices.reset_legacy();
                }
            }
        }
    }
    devices.pci.for_each(|device| device.pause());
}

/// The TPM's registers, and what the TPM answers.
pub fn tpm(input: &[u8]) {
    let mut device = Crb::default();
    let mut reader = Reader(input);
    while !reader.is_empty() {
        let op = reader.u8();
        let length = [1, 2, 4, 8][usize::from(op >> 6)];
        let offset = u64::from(reader.u16()) % LENGTH;
        match op & 7 {
            0 => device.read(offset, &mut [0; 8][..length]),
            1..=4 => {
                if let Some(Effect::Execute(command)) = device.write(offset, reader.take(length)) {
                    assert_eq!(stated_length(&command), Some(command.len()));
                    assert!((HEADER..=BUFFER_BYTES).contains(&command.len()) && device.executing());
                }
            }
            5 => device.answer(reader.take(usize::from(offset as u16) * 2)),
            6 if op & 8 == 0 => device.reset(),
            6 => device.fail(),
            _ if device.executing() => {}
            _ => {
                let saved = device.save();
                device.load(&saved).unwrap();
                assert_eq!(device.save(), saved);
            }
        }
    }
}

/// What firmware is told, by ports and by requests in memory.
pub fn fw_cfg(input: &[u8]) {
    let mut device = FwCfg::new(memory().clone());
    device.add_file("etc/short", vec![1; 3]).unwrap();
    device.add_writable("etc/written", vec![0; 64]).unwrap();
    device.with_late(&["etc/late"], Box::new(|| vec![vec![9; 5000]])).unwrap();
    let mut reader = Reader(input);
    while !reader.is_empty() {
        match reader.u8() % 4 {
            0 => {
                let (port, length) = (0x510 + reader.u16() % 12, usize::from(reader.u8()));
                device.read(port, &mut [0; 256][..length]);
            }
            1 => {
                let (port, length) = (0x510 + reader.u16() % 12, usize::from(reader.u8() % 9));
                device.write(port, reader.take(length));
            }
            2 => {
                let (address, length) = (u64::from(reader.u16()), usize::from(reader.u8()));
                let _ = memory().write(reader.take(length), GuestAddress(address));
            }
            // A request at an address, as drivers make it.
            _ => {
                let address = reader.u64();
                device.write(0x514, &((address >> 32) as u32).to_be_bytes());
                device.write(0x518, &(address as u32).to_be_bytes());
            }
        }
    }
    let saved = device.save();
    device.load(saved).unwrap();
    device.reset();
}

/// The keyboard controller.
pub fn keyboard(input: &[u8]) {
    let mut device = I8042::new().unwrap();
    let mut reader = Reader(input);
    while !reader.is_empty() {
        match reader.u8() % 5 {
            0 => drop(device.command(reader.u8())),
            1 => drop(device.write(reader.u8())),
            2 => drop(device.read()),
            3 => drop(device.status()),
            _ => device.key(reader.u8(), reader.u8() & 1 == 0),
        }
    }
    let saved = device.save();
    device.load(saved).unwrap();
}
