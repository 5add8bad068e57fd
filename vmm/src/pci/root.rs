//! The PCI Express root: bus 0, its configuration space by ECAM and by ports 0xcf8/0xcfc, and the decoding of BARs.
//!
//! Slot 0 is the host bridge; slots 1 to 31 hold one single-function device each. A bus that firmware sets up ([`Kind`])
//! has the bridges of Q35 ([`super::q35`]), the LPC bridge in slot 31, and nothing is assigned at power-on.
//!
//! Invariants: a device is only ever called under its own lock; the map of decoded BARs follows the registers the guest
//! wrote (a BAR outside the windows, or on top of another, is decoded nowhere); locks are taken in the order device, then
//! map.

use super::{
    BarRequest, ConfigEffect, PciDevice,
    bars::Allocator,
    config::{self, ConfigSpace, Identity},
    q35,
};
use crate::{
    memory::{self, PciMap},
    state::{self, Saved, State, description::Device},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
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

/// Who sets the bus up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The monitor, before the guest starts.
    Assigned,
    /// The guest's firmware.
    ByFirmware,
}

/// Where the ECAM is now. Read at each access to memory that is not RAM, so without a lock.
#[derive(Debug, Default)]
pub struct Ecam {
    base: AtomicU64,
    size: AtomicU64,
}

impl Ecam {
    fn set(&self, range: &Range<u64>) {
        // An access from another CPU while the guest moves it may find it nowhere, as on a real bus.
        self.size.store(0, Ordering::SeqCst);
        self.base.store(range.start, Ordering::SeqCst);
        self.size.store(range.end - range.start, Ordering::SeqCst);
    }

    /// Its addresses; empty: nowhere.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        let base = self.base.load(Ordering::SeqCst);
        base..base + self.size.load(Ordering::SeqCst)
    }

    fn offset(&self, address: u64) -> Option<u64> {
        let offset = address.wrapping_sub(self.base.load(Ordering::Relaxed));
        (offset < self.size.load(Ordering::Relaxed)).then_some(offset)
    }
}

/// Bus 0 and all on it.
pub struct PciRoot {
    kind: Kind,
    bridge: Mutex<ConfigSpace>,
    lpc: Option<Mutex<ConfigSpace>>,
    slots: Vec<Slot>,
    decoded: RwLock<BTreeMap<u64, Decoded>>,
    address: Mutex<u32>,
    ecam: Arc<Ecam>,
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
    /// That of the LPC bridge, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lpc: Option<Vec<u8>>,
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
    /// An empty bus of a machine with `ram` bytes of memory, which the monitor sets up.
    #[must_use]
    pub fn new(ram: u64) -> Self {
        let map = PciMap::fixed(ram);
        let bridge = ConfigSpace::new(Identity {
            // The id of the bridge in Red Hat's generic PCIe host: drivers look at its class alone.
            vendor: 0x1b36,
            device: 0x0008,
            class: [6, 0, 0],
            ..Identity::default()
        });
        let root = Self::empty(Kind::Assigned, bridge, [memory::PCI32..memory::PCI32_END, map.above_4g]);
        root.ecam.set(&map.ecam);
        root
    }

    /// An empty bus which firmware sets up, on processors with `bits` address bits.
    #[must_use]
    pub fn by_firmware(ram: u64, bits: u32) -> Self {
        let above = PciMap::by_firmware(ram, 0..0, bits).above_4g;
        let below = memory::LOW_RAM_END..memory::FIRMWARE_PCI32_END;
        let lpc = Some(Mutex::new(q35::lpc_bridge()));
        Self { lpc, ..Self::empty(Kind::ByFirmware, q35::host_bridge(), [below, above]) }
    }

    fn empty(kind: Kind, bridge: ConfigSpace, windows: [Range<u64>; 2]) -> Self {
        Self {
            kind,
            bridge: Mutex::new(bridge),
            lpc: None,
            slots: Vec::new(),
            decoded: RwLock::default(),
            address: Mutex::new(0),
            ecam: Arc::default(),
            windows,
        }
    }

    /// Where the ECAM is.
    #[must_use]
    pub fn ecam(&self) -> &Arc<Ecam> {
        &self.ecam
    }

    /// Puts a device into the next free slot; returns its number.
    pub fn add(&mut self, device: Box<dyn PciDevice>) -> Result<usize, Error> {
        if self.slots.len() == MAX_DEVICES - usize::from(self.lpc.is_some()) {
            return Err(Error::Full);
        }
        let bars = device.bars();
        self.slots.push(Slot { device: Mutex::new(device), bars });
        Ok(self.slots.len())
    }

    /// Gives every BAR its address and switches decoding on, unless firmware does.
    pub fn assign(&self) -> Result<(), Error> {
        if self.kind == Kind::ByFirmware {
            return Ok(());
        }
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

    /// Runs `action` on the device in `slot`, from 1; none: there is none.
    pub fn with<T>(&self, slot: usize, action: impl FnOnce(&mut dyn PciDevice) -> T) -> Option<T> {
        self.slots.get(slot.checked_sub(1)?).map(|slot| action(lock(&slot.device).as_mut()))
    }

    /// Returns the bus and all devices to power-on, BARs assigned.
    pub fn reset(&self) -> Result<(), Error> {
        for (index, slot) in self.slots.iter().enumerate() {
            let mut device = lock(&slot.device);
            device.reset();
            self.decode(index, slot, device.as_mut())?;
        }
        lock(&self.bridge).reset();
        if let Some(lpc) = &self.lpc {
            lock(lpc).reset();
            self.ecam.set(&(0..0));
        }
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
        let lpc = self.lpc.as_ref().map(|lpc| lock(lpc).bytes().to_vec());
        state.put(0, &SavedRoot { address: *lock(&self.address), bridge, lpc })?;
        let mut slots = (1..).zip(&self.slots);
        slots.try_for_each(|(number, slot)| lock(&slot.device).save(number, state))
    }

    /// Takes up the state of the bus and of all devices, which never ran.
    pub fn load(&self, state: &mut State) -> Result<(), state::Error> {
        let SavedRoot { address, bridge, lpc } = state.take(0)?;
        let invalid = |id, problem| state::Error::Invalid { kind: SavedRoot::KIND.into(), id, problem };
        lock(&self.bridge).load(&bridge).map_err(|problem| invalid(0, problem))?;
        match (&self.lpc, lpc) {
            (Some(ours), Some(saved)) => lock(ours).load(&saved).map_err(|problem| invalid(0, problem))?,
            (None, None) => {}
            _ => return Err(invalid(0, "only one of both has an LPC bridge".to_owned())),
        }
        self.follow_ecam(&lock(&self.bridge));
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
        if let Some(offset) = self.ecam.offset(address) {
            self.config_read(offset >> 12, (offset & 0xfff) as u16, data);
            return true;
        }
        let Some((slot, bar, offset)) = self.find(address) else { return false };
        lock(&slot.device).bar_read(bar, offset, data);
        true
    }

    /// A guest's write of memory that is not RAM. False: nothing is there.
    pub fn memory_write(&self, address: u64, data: &[u8]) -> bool {
        if let Some(offset) = self.ecam.offset(address) {
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
            Target::Lpc(lpc) => lock(lpc).read(offset, data),
            Target::Slot(_, slot) => lock(&slot.device).config_read(offset, data),
            Target::None => data.fill(0xff),
        }
    }

    fn config_write(&self, function: u64, offset: u16, data: &[u8]) {
        match self.target(function, offset, data.len()) {
            Target::Bridge => {
                let mut bridge = lock(&self.bridge);
                let _ = bridge.write(offset, data);
                self.follow_ecam(&bridge);
            }
            Target::Lpc(lpc) => {
                let _ = lock(lpc).write(offset, data);
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

    /// The ECAM is where the bridge's registers put it, unless it never moves.
    fn follow_ecam(&self, bridge: &ConfigSpace) {
        if self.kind == Kind::ByFirmware {
            self.ecam.set(&q35::ecam(bridge));
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
            q35::LPC_SLOT if self.lpc.is_some() => self.lpc.as_ref().map_or(Target::None, Target::Lpc),
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
    Lpc(&'a Mutex<ConfigSpace>),
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

fn port_target(address: u32, port: u16) -> Option<(u64, u16)> {
    let enabled = address & 0x8000_0000 != 0;
    let function = u64::from(address >> 8 & 0xffff);
    let offset = (address & 0xfc) as u16 + (port - PORT_DATA);
    enabled.then_some((function, offset))
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
