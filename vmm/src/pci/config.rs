//! A function's configuration space: the type 0 header, memory BARs and the capability list.
//!
//! Owns the bytes and which of their bits a guest may write. Invariants: a read or write of any offset and length is
//! answered (beyond byte 256 there is nothing, not even a place for capabilities: ones, so that nobody looks for each); read-only bits never
//! change; the capability list is well formed and fits the first 256 bytes. PCI Local Bus 3.0 section 6.

use super::{BarRequest, ConfigEffect};

/// Bytes of the classic configuration space, all that is kept.
const SIZE: usize = 256;
/// First free byte for capabilities.
const FIRST_CAPABILITY: usize = 0x40;

/// Offset of the command register.
pub const COMMAND: u16 = 0x04;
/// Offset of BAR 0.
pub const BAR0: u16 = 0x10;
/// Command bit: memory BARs are decoded.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command bit: the function may write to memory (and send MSIs).
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command bit: no INTx.
const COMMAND_INTX_DISABLE: u16 = 1 << 10;
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const CAPABILITY_POINTER: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;

/// What a function says it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision id.
    pub revision: u8,
    /// Base class, sub-class, programming interface.
    pub class: [u8; 3],
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
}

/// Configuration space of one function.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    /// The bytes at power-on.
    initial: [u8; SIZE],
    bars: Vec<BarRequest>,
    next_capability: usize,
    /// Where the pointer to the next capability goes.
    link: usize,
}

/// Why a function cannot be described.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// The BAR is not 0, 2 or 4, is there already, or its size is not a power of two of at least 4096.
    #[error("BAR {0} is not a valid 64-bit memory BAR")]
    Bar(u8),
    /// The capabilities need more than the 192 bytes there are.
    #[error("no room for another PCI capability")]
    NoRoom,
}

impl ConfigSpace {
    /// A function without BARs and capabilities.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let mut bytes = [0; SIZE];
        bytes[0..2].copy_from_slice(&identity.vendor.to_le_bytes());
        bytes[2..4].copy_from_slice(&identity.device.to_le_bytes());
        bytes[8] = identity.revision;
        bytes[9] = identity.class[2];
        bytes[10] = identity.class[1];
        bytes[11] = identity.class[0];
        bytes[0x2c..0x2e].copy_from_slice(&identity.subsystem_vendor.to_le_bytes());
        bytes[0x2e..0x30].copy_from_slice(&identity.subsystem.to_le_bytes());
        let mut writable = [0; SIZE];
        let command = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE;
        writable[4..6].copy_from_slice(&command.to_le_bytes());
        writable[INTERRUPT_LINE] = 0xff;
        Self {
            bytes,
            writable,
            initial: bytes,
            bars: Vec::new(),
            next_capability: FIRST_CAPABILITY,
            link: CAPABILITY_POINTER,
        }
    }

    /// Marks the bits the guest may write from `offset` on. Beyond the end: ignored.
    pub fn set_writable(&mut self, offset: u16, bits: &[u8]) {
        for (mask, bits) in self.writable.iter_mut().skip(usize::from(offset)).zip(bits) {
            *mask = *bits;
        }
    }

    /// Sets bytes as they are at power-on. Beyond the end: ignored.
    pub fn set_initial(&mut self, offset: u16, data: &[u8]) {
        self.set(offset, data);
        for (initial, byte) in self.initial.iter_mut().skip(usize::from(offset)).zip(data) {
            *initial = *byte;
        }
    }

    /// Adds a 64-bit, non-prefetchable memory BAR.
    pub fn add_bar(&mut self, request: BarRequest) -> Result<(), LayoutError> {
        let BarRequest { bar, size, wide } = request;
        let taken = self.bars.iter().any(|b| b.bar == bar);
        if !wide || !matches!(bar, 0 | 2 | 4) || taken || !size.is_power_of_two() || size < 4096 {
            return Err(LayoutError::Bar(bar));
        }
        let at = usize::from(BAR0) + 4 * usize::from(bar);
        self.writable[at..at + 8].copy_from_slice(&(!(size - 1)).to_le_bytes());
        self.bytes[at] = 0b100; // memory, 64 bits
        self.initial[at] = 0b100;
        self.bars.push(request);
        Ok(())
    }

    /// Appends a capability: `body` is what follows its id and link; `writable` marks the bits of the body the guest may
    /// write (missing bytes: none). Returns the offset of the capability (of its id byte).
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> Result<u16, LayoutError> {
        let at = self.next_capability;
        let end = at + 2 + body.len();
        if end > SIZE {
            return Err(LayoutError::NoRoom);
        }
        self.bytes[at] = id;
        self.bytes[at + 1] = 0;
        self.bytes[at + 2..end].copy_from_slice(body);
        for (mask, &bits) in self.writable[at + 2..end].iter_mut().zip(writable) {
            *mask = bits;
        }
        // `at` < 256 by the check above.
        self.bytes[self.link] = at as u8;
        self.bytes[STATUS] |= STATUS_CAPABILITIES;
        self.link = at + 1;
        self.next_capability = (end + 3) & !3;
        self.initial = self.bytes;
        Ok(at as u16)
    }

    /// Reads `data.len()` bytes at `offset`.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = self.bytes.get(usize::from(offset) + i).copied().unwrap_or(0xff);
        }
    }

    /// Writes `data` at `offset`; bits that are read only keep their value.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> ConfigEffect {
        let (command, bars) = (self.command(), self.bar_bytes());
        for (i, &byte) in data.iter().enumerate() {
            let at = usize::from(offset) + i;
            if let (Some(old), Some(&mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *old = (*old & !mask) | (byte & mask);
            }
        }
        if (command ^ self.command()) & COMMAND_MEMORY != 0 || bars != self.bar_bytes() {
            ConfigEffect::BarsChanged
        } else {
            ConfigEffect::None
        }
    }

    /// The 16-bit register at `offset` (ones beyond the end).
    #[must_use]
    pub fn read_u16(&self, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    /// The 32-bit register at `offset` (ones beyond the end).
    #[must_use]
    pub fn read_u32(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Sets bytes as the device itself does, without regard to what the guest may write. Beyond the end: ignored.
    pub fn set(&mut self, offset: u16, data: &[u8]) {
        for (i, &byte) in data.iter().enumerate() {
            if let Some(old) = self.bytes.get_mut(usize::from(offset) + i) {
                *old = byte;
            }
        }
    }

    /// The BARs that were added.
    #[must_use]
    pub fn bars(&self) -> &[BarRequest] {
        &self.bars
    }

    /// The guest lets the function write to memory.
    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.command() & COMMAND_BUS_MASTER != 0
    }

    /// All bytes, to be given to [`ConfigSpace::load`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes up saved bytes.
    ///
    /// # Errors
    /// They are not those of such a function: a bit differs that no guest could have written.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), String> {
        let bytes: [u8; SIZE] =
            bytes.try_into().map_err(|_| format!("{} bytes of configuration", bytes.len()))?;
        let fixed = bytes.iter().zip(&self.initial).zip(&self.writable);
        match fixed.into_iter().position(|((new, initial), writable)| (new ^ initial) & !writable != 0) {
            Some(at) => Err(format!("byte {at:#x} of its configuration is not that of such a device")),
            None => {
                self.bytes = bytes;
                Ok(())
            }
        }
    }

    /// Returns to the state at power-on: decoding off, BARs unassigned, capabilities as they were added.
    pub fn reset(&mut self) {
        self.bytes = self.initial;
    }

    fn command(&self) -> u16 {
        self.read_u16(COMMAND)
    }

    fn bar_bytes(&self) -> [u8; 24] {
        let mut bars = [0; 24];
        self.read(BAR0, &mut bars);
        bars
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space() -> ConfigSpace {
        let mut space = ConfigSpace::new(Identity {
            vendor: 0x1af4,
            device: 0x1042,
            revision: 1,
            class: [1, 0x80, 0],
            subsystem_vendor: 0x1af4,
            subsystem: 2,
        });
        space.add_bar(BarRequest::wide(0, 0x8000)).unwrap();
        space.add_capability(0x11, &[3, 0, 0, 0, 0, 0, 0, 8, 0, 0], &[0, 0xc0]).unwrap();
        space.add_capability(9, &[16, 1, 0], &[]).unwrap();
        space
    }

    #[test]
    fn header_and_capability_list_are_well_formed() {
        let space = space();
        assert_eq!(space.read_u32(0), 0x1042_1af4);
        assert_eq!(space.read_u32(8), 0x0180_0001);
        assert_eq!(
            space.read_u32(0x100),
            0xffff_ffff,
            "no extended space: Linux asks once, not for each capability"
        );
        assert_eq!(space.read_u16(6) & 0x10, 0x10);
        let mut at = space.read_u16(0x34) & 0xff;
        let mut ids = Vec::new();
        while at != 0 {
            ids.push(space.read_u16(at) & 0xff);
            at = space.read_u16(at) >> 8;
        }
        assert_eq!(ids, [0x11, 9]);
    }

    #[test]
    fn a_bar_is_sized_moved_and_forgotten_at_reset() {
        let mut space = space();
        assert_eq!(space.write(0x10, &[0xff; 4]), ConfigEffect::BarsChanged);
        assert_eq!(space.read_u32(0x10), 0xffff_8004);
        space.write(0x14, &[0xff; 4]);
        assert_eq!(space.read_u32(0x14), 0xffff_ffff);
        space.write(0x10, &0xc000_1234_u32.to_le_bytes());
        assert_eq!(space.read_u32(0x10), 0xc000_0004);
        assert_eq!(space.write(4, &[6, 0]), ConfigEffect::BarsChanged);
        assert!(space.bus_master());
        assert_eq!(space.write(4, &[2, 0]), ConfigEffect::None);
        space.reset();
        assert_eq!(space.read_u32(0x10), 4);
        assert_eq!(space.read_u16(4), 0);
    }

    #[test]
    fn only_marked_bits_of_a_capability_change() {
        let mut space = space();
        space.write(0x40, &[0xff; 12]);
        assert_eq!(space.read_u32(0x40), 0xc003_4c11);
        assert_eq!(space.read_u32(0x44), 0x0000_0000);
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let mut space = space();
        assert_eq!(space.add_bar(BarRequest::wide(0, 4096)), Err(LayoutError::Bar(0)));
        assert_eq!(space.add_bar(BarRequest::wide(1, 4096)), Err(LayoutError::Bar(1)));
        assert_eq!(space.add_bar(BarRequest::wide(2, 5000)), Err(LayoutError::Bar(2)));
        assert_eq!(space.add_capability(9, &[0; 200], &[]), Err(LayoutError::NoRoom));
    }

    proptest! {
        #[test]
        fn no_guest_access_changes_what_is_read_only(
            writes in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..5)), 0..50),
        ) {
            let mut touched = space();
            let fresh = space();
            for (offset, data) in writes {
                touched.write(offset, &data);
                let mut answer = data;
                touched.read(offset, &mut answer);
            }
            for at in 0..SIZE {
                let fixed = !fresh.writable[at];
                prop_assert_eq!(touched.bytes[at] & fixed, fresh.bytes[at] & fixed);
            }
        }
    }
}
