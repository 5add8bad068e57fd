//! What a guest sees of a function's configuration space, and which of its writes reach the function.
//!
//! ```text
//!  0x00  header          ours: identity, command, BARs; no ROM, no INTx, one function
//!  0x40  capabilities    power, MSI, MSI-X: ours     PCI Express: as one inside the root complex; control and status pass
//!                        vendor's: pass              subsystem, SATA: as found            all others: hidden
//!        between them    the function's own registers: pass
//!  0x100 extended        serial number, vendor's: can be read      all others: hidden
//! ```
//! Pure. Invariants: any access of any length is answered; a write reaches the function only where the table above says so; the
//! capability lists a guest finds are well formed whatever the function says. PCI Local Bus 3.0 section 6, PCI Express Base 4.0
//! section 7.

use std::{collections::BTreeSet, ops::Range};

/// Bytes of the classic configuration space.
const CLASSIC: usize = 0x100;
/// Where capabilities begin.
const CAPABILITIES: usize = 0x40;
/// Offset of the command register.
pub const COMMAND: u16 = 0x04;
/// Command: memory BARs are decoded.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: the function may write to memory.
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Command: no INTx.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const HEADER_TYPE: usize = 0x0e;
const BAR0: usize = 0x10;
const CAPABILITY_POINTER: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;

const POWER: u8 = 0x01;
const MSI: u8 = 0x05;
const VENDOR: u8 = 0x09;
const SUBSYSTEM: u8 = 0x0d;
const EXPRESS: u8 = 0x10;
const MSIX: u8 = 0x11;
const SATA: u8 = 0x12;

const EXTENDED_SERIAL: u16 = 0x03;
const EXTENDED_VENDOR: u16 = 0x0b;
const EXTENDED_DESIGNATED: u16 = 0x23;

/// MSI and MSI-X: offset of the control word in the capability.
pub const CONTROL: u16 = 2;
/// MSI control: enabled; how many vectors may be, and are (as powers of two); 64 address bits.
const MSI_ENABLE: u16 = 1;
const MSI_MOST: u16 = 7 << 1;
const MSI_CHOSEN: u16 = 7 << 4;
const MSI_WIDE: u16 = 1 << 7;
/// Vectors of MSI-X are counted in so many bits of its control word.
const MSIX_SIZE: u16 = 0x7ff;
const MSIX_WRITABLE: u16 = 0xc000;
const MSIX_ENTRY: u64 = 16;

/// Why a function cannot be shown to a guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its configuration space cannot be read.
    #[error("its configuration space cannot be read: {0}")]
    Unreadable(String),
    /// There is less of it than all functions have.
    #[error("its configuration space has {0} bytes")]
    Short(usize),
    /// It does not answer.
    #[error("it does not answer: it is switched off, or broken")]
    Silent,
    /// It is a bridge.
    #[error("its header is of type {0:#x}: only endpoints can be given to a machine")]
    Header(u8),
    /// A BAR cannot be.
    #[error("its BAR {bar} has {size} bytes, which no BAR can have")]
    Bar {
        /// Which one.
        bar: u8,
        /// Its bytes.
        size: u64,
    },
    /// MSI-X makes no sense.
    #[error("its MSI-X table or pending bits are outside of its BARs")]
    Msix,
    /// It only has an interrupt line.
    #[error("it has neither MSI nor MSI-X, and interrupt lines are not given to machines")]
    NoInterrupts,
}

/// A memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Index of its first register.
    pub bar: u8,
    /// Bytes.
    pub size: u64,
    /// It takes two registers, and may be above 4 GiB.
    pub wide: bool,
    /// The low four bits of its register.
    pub flags: u8,
}

/// What MSI-X of a function is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsixFacts {
    /// Offset of the capability.
    pub capability: u16,
    /// How many there are, 1 to 2048.
    pub vectors: u16,
    /// BAR with the table, and where in it.
    pub table_bar: u8,
    /// Its bytes.
    pub table: Range<u64>,
    /// BAR with the pending bits, and where in it.
    pub pending_bar: u8,
    /// Their bytes.
    pub pending: Range<u64>,
}

/// What MSI of a function is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiFacts {
    /// Offset of the capability.
    pub capability: u16,
    /// Vectors at most: 1, 2, 4 to 32.
    pub most: u16,
    /// Its address has 64 bits.
    pub wide: bool,
}

/// MSI as the guest has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where vectors go.
    pub address: u64,
    /// Of the first one.
    pub data: u32,
    /// How many there are: 1, 2, 4 to 32.
    pub vectors: u16,
}

/// Whose a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Ours: what a guest may write is in `writable`.
    Own,
    /// Read from the function, never written.
    Read,
    /// The function's.
    Pass,
}

/// What a write asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// BARs, or whether they are decoded.
    pub bars: bool,
    /// Whether the function may write to memory.
    pub bus_master: bool,
    /// MSI was written to.
    pub msi: bool,
    /// MSI-X was written to.
    pub msix: bool,
    /// The function is to be reset.
    pub reset: bool,
}

/// The configuration space.
#[derive(Clone, Debug)]
pub struct Space {
    bytes: Vec<u8>,
    initial: Vec<u8>,
    writable: Vec<u8>,
    access: Vec<Access>,
    bars: Vec<Bar>,
    msi: Option<MsiFacts>,
    msix: Option<MsixFacts>,
    /// The byte whose highest bit resets the function.
    reset: Option<usize>,
}

fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |word| u16::from_le_bytes([word[0], word[1]]))
}

fn dword(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) | u32::from(word(bytes, at + 2)) << 16
}

impl Space {
    /// Of a function whose configuration space reads `found`, and whose regions have `sizes` bytes, one for each BAR.
    ///
    /// # Errors
    /// It cannot be shown to a guest.
    pub fn new(found: &[u8], sizes: &[u64]) -> Result<Self, Unfit> {
        if found.len() < CLASSIC {
            return Err(Unfit::Short(found.len()));
        }
        if dword(found, 0) == u32::MAX {
            return Err(Unfit::Silent);
        }
        let header = found[HEADER_TYPE] & 0x7f;
        if header != 0 {
            return Err(Unfit::Header(header));
        }
        let size = found.len();
        let mut space = Self {
            bytes: vec![0; size],
            initial: Vec::new(),
            writable: vec![0; size],
            access: vec![Access::Own; size],
            bars: Vec::new(),
            msi: None,
            msix: None,
            reset: None,
        };
        space.header(found);
        space.find_bars(found, sizes);
        let mut sizes = [0; 6];
        space.bars.iter().for_each(|bar| sizes[usize::from(bar.bar)] = bar.size);
        space.capabilities(found, &sizes)?;
        space.extended(found);
        if space.msi.is_none() && space.msix.is_none() {
            return Err(Unfit::NoInterrupts);
        }
        space.initial = space.bytes.clone();
        Ok(space)
    }

    fn header(&mut self, found: &[u8]) {
        // Identity, revision and class; subsystem; how long it wants the bus.
        for range in [0..4, 8..0xc, 0x2c..0x30, 0x3e..0x40] {
            self.copy(found, range);
        }
        let command = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE;
        self.writable[4..6].copy_from_slice(&command.to_le_bytes());
        // Cache line and latency: of no effect.
        self.writable[0x0c..0x0e].fill(0xff);
        self.writable[INTERRUPT_LINE] = 0xff;
    }

    fn copy(&mut self, found: &[u8], range: Range<usize>) {
        if let (Some(to), Some(from)) = (self.bytes.get_mut(range.clone()), found.get(range)) {
            to.copy_from_slice(from);
        }
    }

    /// Ports are left out: drivers have not needed them for long.
    fn find_bars(&mut self, found: &[u8], sizes: &[u64]) {
        let mut next = 0;
        for bar in 0..6_u8 {
            let flags = found[BAR0 + 4 * usize::from(bar)] & 0xf;
            let size = sizes.get(usize::from(bar)).copied().unwrap_or(0);
            if bar < next || size == 0 || flags & 1 != 0 {
                continue;
            }
            let wide = flags & 0b110 == 0b100 && bar < 5;
            next = bar + 1 + u8::from(wide);
            self.bars.push(Bar { bar, size, wide, flags });
            let at = BAR0 + 4 * usize::from(bar);
            let bytes = if wide { 8 } else { 4 };
            self.writable[at..at + bytes].copy_from_slice(&(!(size.max(16) - 1)).to_le_bytes()[..bytes]);
            self.bytes[at] = flags;
        }
    }

    /// Takes over the capabilities that make sense for a guest.
    fn capabilities(&mut self, found: &[u8], sizes: &[u64; 6]) -> Result<(), Unfit> {
        self.access[CAPABILITIES..CLASSIC].fill(Access::Pass);
        if found[STATUS] & STATUS_CAPABILITIES == 0 {
            return Ok(());
        }
        let mut all = BTreeSet::new();
        let mut order = Vec::new();
        let mut at = usize::from(found[CAPABILITY_POINTER] & !3);
        while (CAPABILITIES..CLASSIC).contains(&at) && all.insert(at) {
            order.push(at);
            at = usize::from(found[at + 1] & !3);
        }
        let mut link = CAPABILITY_POINTER;
        for at in order {
            let id = found[at];
            let end = all.range(at + 1..).next().copied().unwrap_or(CLASSIC);
            let range = at..(at + length(found, at)).min(end);
            self.access[range.clone()].fill(Access::Own);
            let kept = match id {
                POWER if range.len() >= 8 => {
                    self.power(found, at);
                    true
                }
                MSI if range.len() >= 10 && self.msi.is_none() => self.message(found, range.clone()),
                MSIX if range.len() >= 12 && self.msix.is_none() => {
                    self.vectors(found, at, sizes)?;
                    true
                }
                EXPRESS if range.len() >= 0xc => {
                    self.express(found, range.clone());
                    true
                }
                VENDOR if range.len() > 2 => {
                    self.copy(found, at..at + 3);
                    self.access[at + 3..range.end].fill(Access::Pass);
                    true
                }
                SUBSYSTEM | SATA => {
                    self.copy(found, range.clone());
                    true
                }
                _ => false,
            };
            if kept {
                self.bytes[at] = id;
                self.bytes[at + 1] = 0;
                // Below 256.
                self.bytes[link] = at as u8;
                self.bytes[STATUS] |= STATUS_CAPABILITIES;
                link = at + 1;
            }
        }
        Ok(())
    }

    /// The function stays awake whatever the guest chooses, and nothing of it is lost by that.
    fn power(&mut self, found: &[u8], at: usize) {
        self.bytes[at + 2] = found[at + 2] & 7;
        self.bytes[at + 4] = 1 << 3;
        self.writable[at + 4] = 3;
    }

    fn message(&mut self, found: &[u8], range: Range<usize>) -> bool {
        let at = range.start;
        let control = word(found, at + 2) & (MSI_MOST | MSI_WIDE);
        let wide = control & MSI_WIDE != 0;
        let data = at + if wide { 0xc } else { 8 };
        if data + 2 > range.end {
            return false;
        }
        self.bytes[at + 2..at + 4].copy_from_slice(&control.to_le_bytes());
        self.writable[at + 2..at + 4].copy_from_slice(&(MSI_ENABLE | MSI_CHOSEN).to_le_bytes());
        self.writable[at + 4..data].fill(0xff);
        self.writable[at + 4] = 0xfc;
        self.writable[data..data + 2].fill(0xff);
        let most = 1 << (control >> 1 & 7).min(5);
        self.msi = Some(MsiFacts { capability: at as u16, most, wide });
        true
    }

    fn vectors(&mut self, found: &[u8], at: usize, sizes: &[u64; 6]) -> Result<(), Unfit> {
        let vectors = (word(found, at + 2) & MSIX_SIZE) + 1;
        let place = |register: u32, bytes: u64| {
            let (bar, start) = ((register & 7) as u8, u64::from(register & !7));
            let range = start..start + bytes;
            let inside = sizes.get(usize::from(bar)).is_some_and(|size| range.end <= *size);
            inside.then_some((bar, range)).ok_or(Unfit::Msix)
        };
        let (table_bar, table) = place(dword(found, at + 4), u64::from(vectors) * MSIX_ENTRY)?;
        let (pending_bar, pending) = place(dword(found, at + 8), u64::from(vectors).div_ceil(64) * 8)?;
        self.bytes[at + 2..at + 4].copy_from_slice(&(vectors - 1).to_le_bytes());
        self.copy(found, at + 4..at + 12);
        self.writable[at + 2..at + 4].copy_from_slice(&MSIX_WRITABLE.to_le_bytes());
        let capability = at as u16;
        self.msix = Some(MsixFacts { capability, vectors, table_bar, table, pending_bar, pending });
        Ok(())
    }

    /// As a function inside the root complex, which has no link: the guest's bus has no ports.
    fn express(&mut self, found: &[u8], range: Range<usize>) {
        const INSIDE_ROOT_COMPLEX: u8 = 9 << 4;
        const RESETS: u8 = 1 << 4;
        let at = range.start;
        self.bytes[at + 2] = found[at + 2] & 0xf | INSIDE_ROOT_COMPLEX;
        self.copy(found, at + 4..at + 8);
        if found[at + 7] & RESETS != 0 {
            self.reset = Some(at + 9);
        }
        self.access[at + 8..at + 0xc].fill(Access::Pass);
        if range.len() >= 0x2c {
            // Which completion timeouts there are; all else is the business of links and ports.
            self.bytes[at + 0x24] = found[at + 0x24] & 0x1f;
            self.writable[at + 0x28] = 0x1f;
        }
    }

    fn extended(&mut self, found: &[u8]) {
        let mut all = BTreeSet::new();
        let mut order = Vec::new();
        let mut at = CLASSIC;
        while (CLASSIC..found.len().saturating_sub(3)).contains(&at)
            && !matches!(dword(found, at), 0 | u32::MAX)
            && all.insert(at)
        {
            order.push(at);
            at = usize::from((word(found, at + 2) >> 4) & !3);
        }
        let mut link = None;
        for at in order {
            let id = word(found, at);
            let size = match id {
                EXTENDED_SERIAL => 12,
                EXTENDED_VENDOR | EXTENDED_DESIGNATED => usize::from(word(found, at + 6) >> 4),
                _ => continue,
            };
            let end = all.range(at + 1..).next().copied().unwrap_or(found.len());
            let range = at..(at + size).min(end);
            if range.len() < 12 {
                continue;
            }
            self.access[at + 4..range.end].fill(Access::Read);
            let version = word(found, at + 2) & 0xf;
            self.bytes[at..at + 2].copy_from_slice(&id.to_le_bytes());
            self.bytes[at + 2..at + 4].copy_from_slice(&version.to_le_bytes());
            // The list begins at its fixed place, where need be by a capability that is none.
            let link = link.replace(at).unwrap_or(CLASSIC);
            if link != at {
                let pointer = word(&self.bytes, link + 2) & 0xf | (at as u16) << 4;
                self.bytes[link + 2..link + 4].copy_from_slice(&pointer.to_le_bytes());
            }
        }
        if link.is_none() {
            // Ones, so that nobody looks for each.
            for part in [&mut self.bytes, &mut self.writable] {
                part.truncate(CLASSIC);
            }
            self.access.truncate(CLASSIC);
        }
    }

    /// Its memory BARs.
    #[must_use]
    pub fn bars(&self) -> &[Bar] {
        &self.bars
    }

    /// Its MSI.
    #[must_use]
    pub fn msi(&self) -> Option<&MsiFacts> {
        self.msi.as_ref()
    }

    /// Its MSI-X.
    #[must_use]
    pub fn msix(&self) -> Option<&MsixFacts> {
        self.msix.as_ref()
    }

    /// The function itself has to be asked for some of these bytes.
    #[must_use]
    pub fn asks(&self, offset: u16, length: usize) -> bool {
        let start = usize::from(offset);
        self.access.iter().skip(start).take(length).any(|access| *access != Access::Own)
    }

    /// Puts what is ours over what the function answered.
    pub fn overlay(&self, offset: u16, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            let at = usize::from(offset) + i;
            match (self.access.get(at), self.bytes.get(at)) {
                (Some(Access::Own), Some(own)) => *byte = *own,
                (Some(_), _) => {}
                _ => *byte = 0xff,
            }
        }
    }

    /// Takes a write of the guest; `pass` is given what reaches the function.
    pub fn write(&mut self, offset: u16, data: &[u8], mut pass: impl FnMut(u16, &[u8])) -> Effect {
        let mut effect = Effect::default();
        let before = (self.command(), self.bar_bytes());
        let mut passing = Vec::new();
        for (i, &value) in data.iter().enumerate() {
            let at = usize::from(offset) + i;
            match self.access.get(at) {
                Some(Access::Own) => {
                    let mask = self.writable[at];
                    self.bytes[at] = self.bytes[at] & !mask | value & mask;
                }
                Some(Access::Pass) => {
                    let resets = self.reset == Some(at) && value & 0x80 != 0;
                    effect.reset |= resets;
                    passing.push((at as u16, if resets { value & 0x7f } else { value }));
                }
                Some(Access::Read) | None => {}
            }
        }
        // A reset makes the rest of what was written void.
        if !effect.reset {
            if passing.len() == data.len() {
                let bytes: Vec<u8> = passing.iter().map(|(_, byte)| *byte).collect();
                pass(offset, &bytes);
            } else {
                passing.iter().for_each(|(at, byte)| pass(*at, &[*byte]));
            }
        }
        let touches = |capability: Option<u16>, bytes: u16| {
            capability
                .is_some_and(|at| offset < at + bytes && usize::from(offset) + data.len() > usize::from(at))
        };
        effect.msi = touches(self.msi.map(|msi| msi.capability), 0xe);
        effect.msix = touches(self.msix.as_ref().map(|msix| msix.capability), 4);
        let changed = before.0 ^ self.command();
        effect.bars = changed & COMMAND_MEMORY != 0 || before.1 != self.bar_bytes();
        effect.bus_master = changed & COMMAND_BUS_MASTER != 0;
        effect
    }

    /// The guest lets the function write to memory.
    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.command() & COMMAND_BUS_MASTER != 0
    }

    /// MSI-X's control word; 0: there is none.
    #[must_use]
    pub fn msix_control(&self) -> u16 {
        self.msix.as_ref().map_or(0, |msix| word(&self.bytes, usize::from(msix.capability + CONTROL)))
    }

    /// MSI, where the guest has it enabled.
    #[must_use]
    pub fn message_set(&self) -> Option<Message> {
        let MsiFacts { capability, most, wide } = self.msi?;
        let at = usize::from(capability);
        let control = word(&self.bytes, at + 2);
        let vectors = (1 << (control >> 4 & 7).min(5)).min(most);
        let high = if wide { dword(&self.bytes, at + 8) } else { 0 };
        let data = word(&self.bytes, at + if wide { 0xc } else { 8 });
        let address = u64::from(high) << 32 | u64::from(dword(&self.bytes, at + 4));
        (control & MSI_ENABLE != 0).then_some(Message { address, data: data.into(), vectors })
    }

    /// Returns to power-on.
    pub fn reset(&mut self) {
        self.bytes.clone_from(&self.initial);
    }

    fn command(&self) -> u16 {
        word(&self.bytes, usize::from(COMMAND))
    }

    fn bar_bytes(&self) -> [u8; 24] {
        let mut bars = [0; 24];
        bars.copy_from_slice(&self.bytes[BAR0..BAR0 + 24]);
        bars
    }
}

/// Bytes of the capability at `at`; of one that is not known, all there can be.
fn length(found: &[u8], at: usize) -> usize {
    match found[at] {
        POWER | SUBSYSTEM | SATA | 0x03 | 0x0c => 8,
        0x04 | 0x06 | 0x0a | 0x0b => 4,
        MSIX | 0x02 | 0x0e => 12,
        0x13 => 6,
        MSI => match (word(found, at + 2) & MSI_WIDE != 0, word(found, at + 2) & 1 << 8 != 0) {
            (false, false) => 0xa,
            (true, false) => 0xe,
            (false, true) => 0x14,
            (true, true) => 0x18,
        },
        VENDOR => usize::from(found.get(at + 2).copied().unwrap_or(0)),
        EXPRESS if word(found, at + 2) & 0xf < 2 => 0x14,
        EXPRESS => 0x3c,
        _ => CLASSIC,
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
pub(crate) mod tests;
