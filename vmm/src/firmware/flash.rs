//! The variable flash: NOR flash with Intel's command set (JEDEC CFI command set 1), one byte wide, on a file.
//!
//! ```text
//!                          ┌──────────────── 0xff ────────────────┐
//!              0x10, 0x40  ▼              data                    │
//!   ARRAY ─────────────▶ PROGRAM ─────────────────▶ STATUS ───────┤   reads: ARRAY the contents (without leaving the
//!     ├── 0x20 ────────▶ ERASE ──────── 0xd0 ─────▶ STATUS        │   guest), ID and CFI their tables, all others the
//!     ├── 0xe8 ─────▶ COUNT ─▶ BUFFER ── 0xd0 ────▶ STATUS        │   status register
//!     ├── 0x60 ────────▶ LOCK ───────── any ──────▶ STATUS        │
//!     ├── 0x70 ───────────────────────────────────▶ STATUS ───────┤
//!     └── 0x90, 0x98 ──▶ ID, CFI ─────────────────────────────────┘
//! ```
//! Any command is taken in ARRAY, STATUS, ID and CFI. As in the emulation that stock firmware is made for, programming
//! replaces a byte (real flash only clears bits), a command is over at once, and the status reads 0 after it was cleared.
//!
//! Durable: a byte written goes into the mapping at once and into the file, followed by a barrier, before the guest goes on
//! from the command that returns to ARRAY; firmware ends each write with it. A byte the file does not take keeps the
//! programming-failed bit set, is tried again at the next barrier, and is reported.

use super::{ReadWindow, mapping::Mapping};
use crate::state::{self, Saved};
use serde::{Deserialize, Serialize};
use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

/// Bytes erased at once.
pub const BLOCK: u64 = 4096;
/// Most bytes of one buffered write.
const BUFFER: usize = 256;

const STATUS_READY: u8 = 1 << 7;
const STATUS_ERASE_FAILED: u8 = 1 << 5;
const STATUS_PROGRAM_FAILED: u8 = 1 << 4;

const MANUFACTURER: u8 = 0x89;
const DEVICE: u8 = 0x18;
const ERASED: u8 = 0xff;

/// What the next write means and what a read gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Reads give the contents.
    #[default]
    Array,
    /// Reads give the status register.
    Status,
    /// Reads give manufacturer and device.
    Id,
    /// Reads give the CFI table.
    Cfi,
    /// The next write is data.
    Program,
    /// The next write confirms.
    Erase,
    /// The next write is the count of a buffered write.
    Count,
    /// So many data writes are to come, then a confirmation.
    Buffer(u16),
    /// The next write says lock or unlock.
    Lock,
}

/// What of the device changes besides its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    mode: Mode,
    status: u8,
    /// Of a buffered write: where and what.
    buffered: Vec<(u32, u8)>,
}

/// The flash, saved: the file may have other contents by the time it is taken up, or be another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedFlash {
    state: State,
    /// All contents as one LZ4 block.
    contents: Vec<u8>,
}

impl Saved for SavedFlash {
    const KIND: &'static str = "variable-flash";
}

/// The device.
pub struct Flash {
    contents: Mapping,
    file: File,
    base: u64,
    window: Box<dyn ReadWindow>,
    mapped: bool,
    /// What differs from the file.
    dirty: Option<Range<usize>>,
    state: State,
}

impl Flash {
    /// A flash of the `size` bytes of `file`, which the guest finds at `base`.
    ///
    /// # Errors
    /// The file cannot be read or the memory not be had.
    pub fn new(file: File, size: u64, base: u64, window: Box<dyn ReadWindow>) -> io::Result<Self> {
        let mut contents = Mapping::zeroed(size)?;
        file.read_exact_at(contents.bytes_mut(), 0)?;
        window.map(base, &contents)?;
        Ok(Self { contents, file, base, window, mapped: true, dirty: None, state: State::default() })
    }

    fn size(&self) -> usize {
        self.contents.bytes().len()
    }

    /// Reads at `offset`. False: beyond the end.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> bool {
        let Some(start) = usize::try_from(offset).ok().filter(|start| *start < self.size()) else {
            return false;
        };
        for (at, byte) in (start..).zip(data) {
            *byte = match self.state.mode {
                Mode::Array => self.contents.bytes().get(at).copied().unwrap_or(ERASED),
                Mode::Id => match at & 0xff {
                    0 => MANUFACTURER,
                    1 => DEVICE,
                    _ => 0,
                },
                Mode::Cfi => self.cfi(at & 0xff),
                _ => self.state.status,
            };
        }
        true
    }

    /// Writes at `offset`. False: beyond the end.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        let Some(start) = usize::try_from(offset).ok().filter(|start| *start < self.size()) else {
            return false;
        };
        match self.state.mode {
            Mode::Array | Mode::Status | Mode::Id | Mode::Cfi => {
                if let Some(command) = data.first() {
                    self.command(*command);
                }
            }
            Mode::Program => {
                for (at, byte) in (start..).zip(data) {
                    self.program(at, *byte);
                }
                self.finish(0);
            }
            Mode::Erase => self.erase(start, data.first() == Some(&0xd0)),
            Mode::Count => {
                // The count is one less than the bytes to come.
                let count = data.first().map_or(0, |count| u16::from(*count) + 1);
                self.state.buffered.clear();
                self.enter(Mode::Buffer(count));
            }
            Mode::Buffer(0) => {
                let buffered = std::mem::take(&mut self.state.buffered);
                if data.first() == Some(&0xd0) {
                    buffered.into_iter().for_each(|(at, byte)| self.program(at as usize, byte));
                    self.finish(0);
                } else {
                    self.finish(STATUS_PROGRAM_FAILED | STATUS_ERASE_FAILED);
                }
            }
            Mode::Buffer(left) => {
                for (at, byte) in (start..).zip(data).take(usize::from(left)) {
                    if self.state.buffered.len() < BUFFER {
                        self.state.buffered.push((at as u32, *byte));
                    }
                }
                self.enter(Mode::Buffer(left.saturating_sub(data.len() as u16)));
            }
            // Blocks have no locks: both words are taken.
            Mode::Lock => self.finish(0),
        }
        true
    }

    fn command(&mut self, command: u8) {
        match command {
            0x10 | 0x40 => self.enter(Mode::Program),
            0x20 => self.enter(Mode::Erase),
            0xe8 => {
                self.state.status |= STATUS_READY;
                self.enter(Mode::Count);
            }
            0x50 => {
                self.state.status = 0;
                self.enter(Mode::Status);
            }
            0x60 => self.enter(Mode::Lock),
            0x70 => self.enter(Mode::Status),
            0x90 => self.enter(Mode::Id),
            0x98 => self.enter(Mode::Cfi),
            // 0xff and 0xf0; what is no command leads to the same.
            _ => self.enter(Mode::Array),
        }
    }

    fn program(&mut self, at: usize, byte: u8) {
        let Some(old) = self.contents.bytes_mut().get_mut(at) else { return };
        *old = byte;
        self.touch(at..at + 1);
    }

    fn erase(&mut self, at: usize, confirmed: bool) {
        if !confirmed {
            return self.finish(STATUS_PROGRAM_FAILED | STATUS_ERASE_FAILED);
        }
        let start = at - at % BLOCK as usize;
        let end = (start + BLOCK as usize).min(self.size());
        if let Some(block) = self.contents.bytes_mut().get_mut(start..end) {
            block.fill(ERASED);
        }
        self.touch(start..end);
        self.finish(0);
    }

    fn touch(&mut self, range: Range<usize>) {
        self.dirty = Some(match self.dirty.take() {
            Some(dirty) => dirty.start.min(range.start)..dirty.end.max(range.end),
            None => range,
        });
    }

    /// A command is over.
    fn finish(&mut self, failed: u8) {
        self.state.status |= STATUS_READY | failed;
        self.enter(Mode::Status);
    }

    fn enter(&mut self, mode: Mode) {
        self.state.mode = mode;
        if mode == Mode::Array {
            self.settle();
        }
        self.show();
    }

    /// Has reads leave the guest, or not, as the mode wants it.
    fn show(&mut self) {
        let mode = self.state.mode;
        let result = match (mode == Mode::Array, self.mapped) {
            (true, false) => self.window.map(self.base, &self.contents),
            (false, true) => self.window.unmap(),
            _ => return,
        };
        match result {
            Ok(()) => self.mapped = mode == Mode::Array,
            // Mapped no more: reads come here and are answered. Still mapped: reads give contents instead of status.
            Err(error) => eprintln!("lq-vmm: variable flash: cannot change how it is read: {error}"),
        }
    }

    /// Brings the file in line with the contents, durably.
    pub fn settle(&mut self) {
        let Some(range) = self.dirty.clone() else { return };
        let bytes = self.contents.bytes().get(range.clone()).unwrap_or_default();
        match self.file.write_all_at(bytes, range.start as u64).and_then(|()| self.file.sync_data()) {
            Ok(()) => self.dirty = None,
            Err(error) => {
                self.state.status |= STATUS_PROGRAM_FAILED;
                eprintln!("lq-vmm: cannot store firmware variables: {error}");
            }
        }
    }

    /// Back to power-on; the contents stay.
    pub fn reset(&mut self) {
        self.enter(Mode::Array);
        self.state = State::default();
    }

    /// The contents and what is under way.
    #[must_use]
    pub fn save(&self) -> SavedFlash {
        let contents = lz4_flex::block::compress(self.contents.bytes());
        SavedFlash { state: self.state.clone(), contents }
    }

    /// Takes up a saved flash. Its file is left alone until [`Flash::settle`]: it may still be another monitor's.
    ///
    /// # Errors
    /// It is of another size, or makes no sense.
    pub fn load(&mut self, saved: &SavedFlash) -> Result<(), state::Error> {
        let invalid =
            |problem: String| state::Error::Invalid { kind: SavedFlash::KIND.into(), id: 0, problem };
        let size = self.size();
        let mut contents = vec![0; size];
        let got = lz4_flex::block::decompress_into(&saved.contents, &mut contents)
            .map_err(|error| invalid(format!("its contents: {error}")))?;
        if got != size {
            return Err(invalid(format!("{got} bytes of contents, not {size}")));
        }
        if saved.state.buffered.len() > BUFFER {
            return Err(invalid(format!("{} bytes of one write", saved.state.buffered.len())));
        }
        self.contents.bytes_mut().copy_from_slice(&contents);
        self.touch(0..size);
        self.state = saved.state.clone();
        self.show();
        Ok(())
    }

    /// The CFI table (JESD68.01, 4.3): command set 1, sizes, one region of equal blocks.
    fn cfi(&self, at: usize) -> u8 {
        let size = self.size();
        let blocks = size / BLOCK as usize - 1;
        match at {
            0x10 => b'Q',
            0x11 => b'R',
            0x12 => b'Y',
            0x13 => 1,
            0x15 => 0x31,
            0x27 => size.next_power_of_two().trailing_zeros() as u8,
            // Buffered writes of 2^8 bytes.
            0x2a => BUFFER.trailing_zeros() as u8,
            0x2c => 1,
            0x2d => blocks as u8,
            0x2e => (blocks >> 8) as u8,
            // In units of 256 bytes.
            0x2f => (BLOCK >> 8) as u8,
            0x30 => (BLOCK >> 16) as u8,
            _ => 0,
        }
    }
}

#[cfg(test)]
#[path = "flash_tests.rs"]
mod tests;
