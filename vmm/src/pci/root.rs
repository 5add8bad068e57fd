//! The PCI Express root: bus 0, its configuration space by ECAM and by ports 0xcf8/0xcfc, and the decoding of BARs.
//!
//! Slot 0 is the host bridge; slots 1 to 31 hold one single-function device each. A bus that firmware sets up ([`Kind`])
//! has the bridges of Q35 ([`super::q35`]), the LPC bridge in slot 31, and nothing is assigned at power-on.
//!
//! ```text
//!  place ─▶ in its slot ── eject (by the guest, at once) ─▶ left ── take_left (by the operator, who ends its work)
//! ```
//! Invariants: a device is only ever called under its own lock; the map of decoded BARs follows the registers the guest
//! wrote (a BAR outside the windows, or on top of another, is decoded nowhere); a device that has left its slot is reached
//! by no access any more; locks are taken in the order device, then map.

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
    collections::{BTreeMap, BTreeSet},
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

/// A device in its slot.
struct Placed {
    device: Box<dyn PciDevice>,
    bars: Vec<BarRequest>,
    /// It may leave while the machine runs.
    removable: bool,
}

/// A place for a device.
type Slot = Mutex<Option<Placed>>;

/// How a device comes into a slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement {
    /// The slot, from 1; none: the next free one that is not kept empty.
    pub slot: Option<usize>,
    /// It may leave while the machine runs.
    pub removable: bool,
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
    /// All there are, from 1 on.
    slots: Vec<Slot>,
    /// Slots that are not given by themselves.
    kept: BTreeSet<usize>,
    /// Devices that have left, with their slots; their work is still to be ended.
    left: Mutex<Vec<(usize, Box<dyn PciDevice>)>>,
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
    /// The slot is taken, or there is none of this number.
    #[error("slot {0} of the bus is not free")]
    Taken(usize),
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
        let mut root = Self { lpc, ..Self::empty(Kind::ByFirmware, q35::host_bridge(), [below, above]) };
        root.slots.truncate(q35::LPC_SLOT - 1);
        root
    }

    fn empty(kind: Kind, bridge: ConfigSpace, windows: [Range<u64>; 2]) -> Self {
        Self {
            kind,
            bridge: Mutex::new(bridge),
            lpc: None,
            slots: (0..MAX_DEVICES).map(|_| Slot::default()).collect(),
            kept: BTreeSet::new(),
            left: Mutex::default(),
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

    /// From now on no device comes into one of `slots` but where it is said.
    pub fn keep_empty(&mut self, slots: BTreeSet<usize>) {
        self.kept = slots;
    }

    /// Puts a device into a slot; returns its number. Nothing of it is decoded until the guest says where.
    ///
    /// # Errors
    /// The slot is not free, or none is.
    pub fn place(&self, device: Box<dyn PciDevice>, placement: Placement) -> Result<usize, Error> {
        let Placement { slot, removable } = placement;
        let bars = device.bars();
        let mut placed = Some(Placed { device, bars, removable });
        for (index, slot) in self.numbered().filter(|(number, _)| match slot {
            Some(wanted) => *number == wanted,
            None => !self.kept.contains(number),
        }) {
            let mut place = lock(slot);
            if place.is_none() {
                *place = placed.take();
                return Ok(index);
            }
        }
        Err(slot.map_or(Error::Full, Error::Taken))
    }

    /// The lowest slot that is free, whether or not it is kept empty.
    #[must_use]
    pub fn free_slot(&self) -> Option<usize> {
        self.numbered().find(|(_, slot)| lock(slot).is_none()).map(|(number, _)| number)
    }

    /// Slots whose devices stay as long as the machine, one bit each; with firmware also that of the LPC bridge.
    #[must_use]
    pub fn fixed_slots(&self) -> u32 {
        let stays = |slot: &Slot| lock(slot).as_ref().is_some_and(|placed| !placed.removable);
        let fixed = self.numbered().filter(|(_, slot)| stays(slot)).map(|(number, _)| number);
        fixed.chain(self.lpc.is_some().then_some(q35::LPC_SLOT)).fold(0, |bits, number| bits | 1 << number)
    }

    /// A removable device leaves its slot, at once: the guest reaches it no more. False: there is none.
    pub fn eject(&self, number: usize) -> bool {
        let Some(slot) = number.checked_sub(1).and_then(|index| self.slots.get(index)) else { return false };
        let mut place = lock(slot);
        let Some(Placed { mut device, bars, .. }) = place.take_if(|placed| placed.removable) else {
            return false;
        };
        let mut map = self.decoded.write().unwrap_or_else(PoisonError::into_inner);
        map.retain(|_, decoded| decoded.slot != number - 1);
        drop(map);
        for BarRequest { bar, .. } in bars {
            if let Err(error) = device.bar_moved(bar, None) {
                eprintln!("lq-vmm: device in slot {number}: cannot take a BAR away: {error}");
            }
        }
        lock(&self.left).push((number, device));
        true
    }

    /// Devices that have left since the last call, with their slots. They may still have work under way.
    pub fn take_left(&self) -> Vec<(usize, Box<dyn PciDevice>)> {
        std::mem::take(&mut *lock(&self.left))
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &Slot)> {
        (1..).zip(&self.slots)
    }

    /// Gives every BAR its address and switches decoding on, unless firmware does.
    pub fn assign(&self) -> Result<(), Error> {
        if self.kind == Kind::ByFirmware {
            return Ok(());
        }
        let [low, high] = self.windows.clone();
        let mut allocator = Allocator::new(low, high);
        for (index, slot) in self.slots.iter().enumerate() {
            let mut place = lock(slot);
            let Some(placed) = place.as_mut() else { continue };
            for &BarRequest { bar, size, wide } in &placed.bars {
                let base = allocator.place(size, wide).ok_or(Error::NoSpace(size))?;
                let register = config::BAR0 + 4 * u16::from(bar);
                let _ = placed.device.config_write(register, &(base as u32).to_le_bytes());
                if wide {
                    let _ = placed.device.config_write(register + 4, &((base >> 32) as u32).to_le_bytes());
                }
            }
            let command = config::COMMAND_MEMORY.to_le_bytes();
            if placed.device.config_write(config::COMMAND, &command) == ConfigEffect::BarsChanged {
                self.decode(index, placed)?;
            }
        }
        Ok(())
    }

    /// Runs `action` on every device, in slot order.
    pub fn for_each(&self, mut action: impl FnMut(&mut dyn PciDevice)) {
        for slot in &self.slots {
            if let Some(placed) = lock(slot).as_mut() {
                action(placed.device.as_mut());
            }
        }
    }

    /// Runs `action` on the device in `slot`, from 1; none: there is none.
    pub fn with<T>(&self, slot: usize, action: impl FnOnce(&mut dyn PciDevice) -> T) -> Option<T> {
        lock(self.slots.get(slot.checked_sub(1)?)?).as_mut().map(|placed| action(placed.device.as_mut()))
    }

    /// Returns the bus and all devices to power-on, BARs assigned.
    pub fn reset(&self) -> Result<(), Error> {
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(placed) = lock(slot).as_mut() {
                placed.device.reset();
                self.decode(index, placed)?;
            }
        }
        lock(&self.bridge).reset();
        if let Some(lpc) = &self.lpc {
            lock(lpc).reset();
            self.ecam.set(&(0..0));
        }
        *lock(&self.address) = 0;
        self.assign()
    }

    /// What the devices are, by slot; each says its slot that is not in the one after the device before it.
    #[must_use]
    pub fn describe(&self) -> Vec<Device> {
        let mut next = 1;
        let describe = |(number, slot): (usize, &Slot)| {
            let device = lock(slot).as_ref()?.device.describe();
            let slot = (number != next).then_some(number as u32);
            next = number + 1;
            Some(Device { slot, ..device })
        };
        self.numbered().filter_map(describe).collect()
    }

    /// Adds the state of the bus and of all devices, which are paused.
    pub fn save(&self, state: &mut State) -> Result<(), state::Error> {
        let bridge = lock(&self.bridge).bytes().to_vec();
        let lpc = self.lpc.as_ref().map(|lpc| lock(lpc).bytes().to_vec());
        state.put(0, &SavedRoot { address: *lock(&self.address), bridge, lpc })?;
        (1..).zip(&self.slots).try_for_each(|(number, slot)| match lock(slot).as_mut() {
            Some(placed) => placed.device.save(number, state),
            None => Ok(()),
        })
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
            if let Some(placed) = lock(slot).as_mut() {
                placed.device.load(number, state)?;
                self.decode(index, placed).map_err(|e| invalid(number, e.to_string()))?;
            }
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
        // Between the look at the map and this it may have left.
        lock(slot).as_mut().is_some_and(|placed| {
            placed.device.bar_read(bar, offset, data);
            true
        })
    }

    /// A guest's write of memory that is not RAM. False: nothing is there.
    pub fn memory_write(&self, address: u64, data: &[u8]) -> bool {
        if let Some(offset) = self.ecam.offset(address) {
            self.config_write(offset >> 12, (offset & 0xfff) as u16, data);
            return true;
        }
        let Some((slot, bar, offset)) = self.find(address) else { return false };
        lock(slot).as_mut().is_some_and(|placed| {
            placed.device.bar_write(bar, offset, data);
            true
        })
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
            Target::Slot(_, slot) => match lock(slot).as_mut() {
                Some(placed) => placed.device.config_read(offset, data),
                None => data.fill(0xff),
            },
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
                if let Some(placed) = lock(slot).as_mut()
                    && placed.device.config_write(offset, data) == ConfigEffect::BarsChanged
                    && let Err(error) = self.decode(index, placed)
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
    fn decode(&self, index: usize, placed: &mut Placed) -> Result<(), Error> {
        let Placed { device, bars, .. } = placed;
        let mut register = [0; 4];
        device.config_read(config::COMMAND, &mut register[..2]);
        let enabled = u16::from_le_bytes([register[0], register[1]]) & config::COMMAND_MEMORY != 0;
        for &BarRequest { bar, size, wide } in bars.iter() {
            let at = config::BAR0 + 4 * u16::from(bar);
            device.config_read(at, &mut register);
            let low = u64::from(u32::from_le_bytes(register) & !0xf);
            let mut wanted = low;
            if wide {
                device.config_read(at + 4, &mut register);
                wanted |= u64::from(u32::from_le_bytes(register)) << 32;
            }
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
