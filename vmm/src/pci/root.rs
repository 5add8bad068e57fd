//! The PCI Express root: bus 0, its configuration space by ECAM and by ports 0xcf8/0xcfc, and the decoding of BARs.
//!
//! Slot 0 is the host bridge; slots 1 to 31 hold one single-function device each. Invariants: a device is only ever
//! called under its own lock; the map of decoded BARs follows the registers the guest wrote (a BAR outside the two
//! windows, or on top of another, is decoded nowhere); locks are taken in the order device, then map.

use super::{
    BarRequest, ConfigEffect, PciDevice,
    bars::Allocator,
    config::{self, ConfigSpace, Identity},
};
use crate::{
    memory,
    state::{self, Saved, State, description::Device},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Mutex, PoisonError, RwLock},
};

/// Devices on the bus besides the host bridge.
pub const MAX_DEVICES: usize = 31;
/// First port of the configuration mechanism: the address.
pub const PORT_ADDRESS: u16 = 0xcf8;
/// First of the four data ports.
pub const PORT_DATA: u16 = 0xcfc;

/// A BAR that is decoded now.
#[derive(Clone, Copy)]
struct Decoded {
    size: u64,
    slot: usize,
    bar: u8,
}

struct Slot {
    device: Mutex<Box<dyn PciDevice>>,
    bars: Vec<BarRequest>,
}

/// Bus 0 and all on it.
pub struct PciRoot {
    bridge: Mutex<ConfigSpace>,
    slots: Vec<Slot>,
    decoded: RwLock<BTreeMap<u64, Decoded>>,
    address: Mutex<u32>,
    windows: [Range<u64>; 2],
}

/// The bus without its devices.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedRoot {
    /// The register at [`PORT_ADDRESS`].
    address: u32,
    /// The bridge's configuration space.
    bridge: Vec<u8>,
}

impl Saved for SavedRoot {
    const KIND: &'static str = "pci-root";
}

/// Why a device does not fit on the bus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All slots are taken.
    #[error("a machine has at most {MAX_DEVICES} devices")]
    Full,
    /// The address windows are exhausted.
    #[error("no address space left for a {0} byte BAR")]
    NoSpace(u64),
    /// The device refused its address.
    #[error("a device refused its BAR: {0}")]
    Device(#[from] io::Error),
}

impl PciRoot {
    /// An empty bus of a machine with `ram` bytes of memory.
    #[must_use]
    pub fn new(ram: u64) -> Self {
        let (base, end) = memory::pci64(ram);
        Self {
            bridge: Mutex::new(ConfigSpace::new(Identity {
                // The id of the bridge in Red Hat's generic PCIe host: drivers look at its class alone.
                vendor: 0x1b36,
                device: 0x0008,
                class: [6, 0, 0],
                ..Identity::default()
            })),
            slots: Vec::new(),
            decoded: RwLock::default(),
            address: Mutex::new(0),
            windows: [memory::PCI32..memory::PCI32_END, base..end],
        }
    }

    /// Puts a device into the next free slot.
    pub fn add(&mut self, device: Box<dyn PciDevice>) -> Result<(), Error> {
        if self.slots.len() == MAX_DEVICES {
            return Err(Error::Full);
        }
        let bars = device.bars();
        self.slots.push(Slot { device: Mutex::new(device), bars });
        Ok(())
    }

    /// Gives every BAR its address and switches decoding on, as firmware does after power-on.
    pub fn assign(&self) -> Result<(), Error> {
        let [low, high] = self.windows.clone();
        let mut allocator = Allocator::new(low, high);
        for (index, slot) in self.slots.iter().enumerate() {
            let mut device = lock(&slot.device);
            for &BarRequest { bar, size } in &slot.bars {
                let base = allocator.place(size).ok_or(Error::NoSpace(size))?;
                let register = config::BAR0 + 4 * u16::from(bar);
                let _ = device.config_write(register, &(base as u32).to_le_bytes());
                let _ = device.config_write(register + 4, &((base >> 32) as u32).to_le_bytes());
            }
            let command = config::COMMAND_MEMORY.to_le_bytes();
            if device.config_write(config::COMMAND, &command) == ConfigEffect::BarsChanged {
                self.decode(index, slot, device.as_mut())?;
            }
        }
        Ok(())
    }

    /// Runs `action` on every device, in slot order.
    pub fn for_each(&self, mut action: impl FnMut(&mut dyn PciDevice)) {
        self.slots.iter().for_each(|slot| action(lock(&slot.device).as_mut()));
    }

    /// Returns the bus and all devices to power-on, BARs assigned.
    pub fn reset(&self) -> Result<(), Error> {
        for (index, slot) in self.slots.iter().enumerate() {
            let mut device = lock(&slot.device);
            device.reset();
            self.decode(index, slot, device.as_mut())?;
        }
        lock(&self.bridge).reset();
        *lock(&self.address) = 0;
        self.assign()
    }

    /// What the devices are, by slot.
    #[must_use]
    pub fn describe(&self) -> Vec<Device> {
        self.slots.iter().map(|slot| lock(&slot.device).describe()).collect()
    }

    /// Adds the state of the bus and of all devices, which are paused.
    pub fn save(&self, state: &mut State) -> Result<(), state::Error> {
        let bridge = lock(&self.bridge).bytes().to_vec();
        state.put(0, &SavedRoot { address: *lock(&self.address), bridge })?;
        let mut slots = (1..).zip(&self.slots);
        slots.try_for_each(|(number, slot)| lock(&slot.device).save(number, state))
    }

    /// Takes up the state of the bus and of all devices, which never ran.
    pub fn load(&self, state: &mut State) -> Result<(), state::Error> {
        let SavedRoot { address, bridge } = state.take(0)?;
        let invalid = |id, problem| state::Error::Invalid { kind: SavedRoot::KIND.into(), id, problem };
        lock(&self.bridge).load(&bridge).map_err(|problem| invalid(0, problem))?;
        *lock(&self.address) = address;
        for (index, slot) in self.slots.iter().enumerate() {
            let number = index as u32 + 1;
            let mut device = lock(&slot.device);
            device.load(number, state)?;
            self.decode(index, slot, device.as_mut()).map_err(|e| invalid(number, e.to_string()))?;
        }
        Ok(())
    }

    /// A guest's read of memory that is not RAM. False: nothing is there.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) -> bool {
        if let Some(offset) = ecam_offset(address) {
            self.config_read(offset >> 12, (offset & 0xfff) as u16, data);
            return true;
        }
        let Some((slot, bar, offset)) = self.find(address) else { return false };
        lock(&slot.device).bar_read(bar, offset, data);
        true
    }

    /// A guest's write of memory that is not RAM. False: nothing is there.
    pub fn memory_write(&self, address: u64, data: &[u8]) -> bool {
        if let Some(offset) = ecam_offset(address) {
            self.config_write(offset >> 12, (offset & 0xfff) as u16, data);
            return true;
        }
        let Some((slot, bar, offset)) = self.find(address) else { return false };
        lock(&slot.device).bar_write(bar, offset, data);
        true
    }

    /// A read of one of the ports 0xcf8 to 0xcff.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        let address = *lock(&self.address);
        data.fill(0xff);
        if port >= PORT_DATA {
            if let Some((function, offset)) = port_target(address, port) {
                self.config_read(function, offset, data);
            }
        } else if port == PORT_ADDRESS && data.len() == 4 {
            data.copy_from_slice(&address.to_le_bytes());
        }
    }

    /// A write of one of the ports 0xcf8 to 0xcff.
    pub fn port_write(&self, port: u16, data: &[u8]) {
        if port >= PORT_DATA {
            let address = *lock(&self.address);
            if let Some((function, offset)) = port_target(address, port) {
                self.config_write(function, offset, data);
            }
        } else if let (PORT_ADDRESS, Ok(bytes)) = (port, <[u8; 4]>::try_from(data)) {
            *lock(&self.address) = u32::from_le_bytes(bytes);
        }
    }

    /// `function` counts bus, device and function as ECAM does: bus << 8 | device << 3 | function.
    fn config_read(&self, function: u64, offset: u16, data: &mut [u8]) {
        match self.target(function, offset, data.len()) {
            Target::Bridge => lock(&self.bridge).read(offset, data),
            Target::Slot(_, slot) => lock(&slot.device).config_read(offset, data),
            Target::None => data.fill(0xff),
        }
    }

    fn config_write(&self, function: u64, offset: u16, data: &[u8]) {
        match self.target(function, offset, data.len()) {
            Target::Bridge => {
                let _ = lock(&self.bridge).write(offset, data);
            }
            Target::Slot(index, slot) => {
                let mut device = lock(&slot.device);
                if device.config_write(offset, data) == ConfigEffect::BarsChanged
                    && let Err(error) = self.decode(index, slot, device.as_mut())
                {
                    eprintln!("lq-vmm: device in slot {}: cannot move a BAR: {error}", index + 1);
                }
            }
            Target::None => {}
        }
    }

    fn target(&self, function: u64, offset: u16, length: usize) -> Target<'_> {
        let aligned = matches!(length, 1 | 2 | 4) && usize::from(offset).is_multiple_of(length);
        // Function 0 of bus 0 only.
        if !aligned || function & !0xf8 != 0 {
            return Target::None;
        }
        match (function >> 3) as usize {
            0 => Target::Bridge,
            device => self.slots.get(device - 1).map_or(Target::None, |s| Target::Slot(device - 1, s)),
        }
    }

    /// Brings the map and the device in line with what its registers say. Unchanged BARs are left alone.
    fn decode(&self, index: usize, slot: &Slot, device: &mut dyn PciDevice) -> Result<(), Error> {
        let mut register = [0; 4];
        device.config_read(config::COMMAND, &mut register[..2]);
        let enabled = u16::from_le_bytes([register[0], register[1]]) & config::COMMAND_MEMORY != 0;
        for &BarRequest { bar, size } in &slot.bars {
            let at = config::BAR0 + 4 * u16::from(bar);
            device.config_read(at, &mut register);
            let low = u64::from(u32::from_le_bytes(register) & !0xf);
            device.config_read(at + 4, &mut register);
            let wanted = u64::from(u32::from_le_bytes(register)) << 32 | low;
            let wanted = Some(wanted).filter(|base| enabled && self.allowed(*base, size));

            let mut map = self.decoded.write().unwrap_or_else(PoisonError::into_inner);
            let current = map.iter().find(|(_, d)| (d.slot, d.bar) == (index, bar)).map(|(base, _)| *base);
            if let Some(base) = current {
                if wanted == current {
                    continue;
                }
                map.remove(&base);
            }
            let free = |base: &u64| !overlaps(&map, *base, size);
            let now = wanted.filter(free);
            if let Some(base) = now {
                map.insert(base, Decoded { size, slot: index, bar });
            }
            drop(map);
            if now != current {
                device.bar_moved(bar, now)?;
            }
        }
        Ok(())
    }

    fn allowed(&self, base: u64, size: u64) -> bool {
        let end = base.checked_add(size);
        self.windows.iter().any(|w| w.start <= base && end.is_some_and(|end| end <= w.end))
    }

    fn find(&self, address: u64) -> Option<(&Slot, u8, u64)> {
        let map = self.decoded.read().unwrap_or_else(PoisonError::into_inner);
        let (base, decoded) = map.range(..=address).next_back()?;
        let offset = address - base;
        let slot = self.slots.get(decoded.slot)?;
        (offset < decoded.size).then_some((slot, decoded.bar, offset))
    }
}

enum Target<'a> {
    Bridge,
    Slot(usize, &'a Slot),
    None,
}

/// A device that panicked has ended the process already: the lock's poison says nothing.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn overlaps(map: &BTreeMap<u64, Decoded>, base: u64, size: u64) -> bool {
    let end = base.saturating_add(size);
    map.range(..end).next_back().is_some_and(|(other, d)| other.saturating_add(d.size) > base)
}

fn ecam_offset(address: u64) -> Option<u64> {
    address.checked_sub(memory::ECAM).filter(|offset| *offset < memory::ECAM_SIZE)
}

fn port_target(address: u32, port: u16) -> Option<(u64, u16)> {
    let enabled = address & 0x8000_0000 != 0;
    let function = u64::from(address >> 8 & 0xffff);
    let offset = (address & 0xfc) as u16 + (port - PORT_DATA);
    enabled.then_some((function, offset))
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
