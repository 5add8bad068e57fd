//! fw_cfg: numbered items and named files the firmware reads by port or by DMA (QEMU `docs/specs/fw_cfg.rst`).
//!
//! | port | register |
//! |---|---|
//! | 0x510 | selector, 16 bits, write: begins an item |
//! | 0x511 | data, 8 bits, read |
//! | 0x514–0x51b | address of a DMA request, big endian; writing the low half starts it |
//!
//! Reads past the end of an item give zeros. Only items marked so can be written, and only by DMA; they keep their length.
//! Invariants: a request that names memory that is not RAM ends with the error bit and changes nothing more; whatever the
//! guest selects, items made late ([`FwCfg::with_late`]) keep their length.

use crate::{
    memory::Memory,
    state::{self, Saved},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use vm_memory::{Bytes, GuestAddress};

/// First port.
pub const FIRST: u16 = 0x510;
/// Last port.
pub const LAST: u16 = 0x51b;
const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const DMA_HIGH: u16 = 0x514;
const DMA_LOW: u16 = 0x518;

/// Item: "QEMU", by which firmware knows the device.
pub const SIGNATURE: u16 = 0;
/// Item: what the device can do.
pub const FEATURES: u16 = 1;
/// Item: the machine's UUID.
pub const UUID: u16 = 2;
/// Item: bytes of RAM.
pub const RAM: u16 = 3;
/// Item: processors at start.
pub const VCPUS: u16 = 5;
/// Item: most processors.
pub const MAX_VCPUS: u16 = 15;
/// Item: the directory of files.
const DIRECTORY: u16 = 0x19;
const FIRST_FILE: u16 = 0x20;
/// Files there may be.
const MAX_FILES: usize = 64;
/// Bytes of a file's name, with its final zero.
const NAME: usize = 56;

/// Reading by port and by DMA.
const TRADITIONAL_AND_DMA: u32 = 3;
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

const CONTROL_ERROR: u32 = 1;
const CONTROL_READ: u32 = 2;
const CONTROL_SKIP: u32 = 4;
const CONTROL_SELECT: u32 = 8;
const CONTROL_WRITE: u32 = 16;
/// Bytes copied at once.
const CHUNK: usize = 64 << 10;

/// Why the items cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No room in the directory.
    #[error("more than {MAX_FILES} files")]
    TooMany,
    /// The name does not fit or is there already.
    #[error("the file name {0:?} is longer than 55 bytes, or used twice")]
    Name(String),
}

#[derive(Debug)]
struct Item {
    data: Vec<u8>,
    writable: bool,
}

/// Makes the contents of the late files, in their order.
pub type Late = Box<dyn Fn() -> Vec<Vec<u8>> + Send>;

/// Is told the contents of a watched file: when the guest wrote it, at a reset, and after a restore.
pub type Watch = Box<dyn Fn(&[u8]) + Send>;

/// What of the device changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    selected: u16,
    offset: u64,
    dma_high: u32,
    /// Late files were made since power-on.
    made: bool,
    /// Contents of late and of written items.
    contents: BTreeMap<u16, Vec<u8>>,
}

impl Saved for State {
    const KIND: &'static str = "fw-cfg";
}

/// The device.
pub struct FwCfg {
    items: BTreeMap<u16, Item>,
    names: BTreeMap<String, u16>,
    late: Option<(Vec<u16>, Late)>,
    watch: Option<(u16, Watch)>,
    memory: Memory,
    state: State,
}

impl FwCfg {
    /// Only what every device has; DMA goes to `memory`.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        let mut device = Self {
            items: BTreeMap::new(),
            names: BTreeMap::new(),
            late: None,
            watch: None,
            memory,
            state: State::default(),
        };
        device.add(SIGNATURE, b"QEMU".to_vec());
        device.add(FEATURES, TRADITIONAL_AND_DMA.to_le_bytes().to_vec());
        device.list();
        device
    }

    /// Adds a numbered item.
    pub fn add(&mut self, key: u16, data: Vec<u8>) {
        self.items.insert(key, Item { data, writable: false });
    }

    /// Adds a file.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn add_file(&mut self, name: &str, data: Vec<u8>) -> Result<u16, Error> {
        self.insert(name, Item { data, writable: false })
    }

    /// Adds a file that the guest may write.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn add_writable(&mut self, name: &str, data: Vec<u8>) -> Result<u16, Error> {
        self.insert(name, Item { data, writable: true })
    }

    /// Adds files whose contents are made when the guest first selects one of them after power-on. Their lengths are those
    /// of a first making now.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn with_late(&mut self, names: &[&str], late: Late) -> Result<(), Error> {
        let contents = late();
        let keys: Result<Vec<_>, _> =
            names.iter().zip(contents).map(|(name, data)| self.add_file(name, data)).collect();
        self.late = Some((keys?, late));
        Ok(())
    }

    /// Adds a file of zeros that the guest may write, and that is watched. There is one such file.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn add_watched(&mut self, name: &str, size: usize, watch: Watch) -> Result<(), Error> {
        self.watch = Some((self.add_writable(name, vec![0; size])?, watch));
        Ok(())
    }

    fn tell(&self) {
        if let Some((key, watch)) = &self.watch {
            watch(self.contents(*key).unwrap_or_default());
        }
    }

    fn insert(&mut self, name: &str, item: Item) -> Result<u16, Error> {
        if self.names.len() == MAX_FILES {
            return Err(Error::TooMany);
        }
        if name.len() >= NAME || self.names.contains_key(name) {
            return Err(Error::Name(name.to_owned()));
        }
        let key = FIRST_FILE + self.names.len() as u16;
        self.names.insert(name.to_owned(), key);
        self.items.insert(key, item);
        self.list();
        Ok(key)
    }

    /// Writes the directory anew: a count, then size, key and name of each file, sorted by name.
    fn list(&mut self) {
        let mut directory = (self.names.len() as u32).to_be_bytes().to_vec();
        for (name, key) in &self.names {
            let size = self.items.get(key).map_or(0, |item| item.data.len());
            directory.extend((size as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            directory.extend(name.as_bytes());
            directory.resize(directory.len() + NAME - name.len(), 0);
        }
        self.add(DIRECTORY, directory);
    }

    /// Contents of an item as the guest sees them.
    #[must_use]
    pub fn contents(&self, key: u16) -> Option<&[u8]> {
        let own = self.state.contents.get(&key);
        own.map(Vec::as_slice).or_else(|| self.items.get(&key).map(|item| item.data.as_slice()))
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        self.state = State::default();
        self.tell();
    }

    /// What changes of it.
    #[must_use]
    pub fn save(&self) -> State {
        self.state.clone()
    }

    /// Takes up a saved state. The guest goes on with the contents it had, though a newer monitor would have made others of
    /// another length.
    ///
    /// # Errors
    /// There are contents of an item that does not exist here.
    pub fn load(&mut self, state: State) -> Result<(), state::Error> {
        if let Some(key) = state.contents.keys().find(|key| !self.items.contains_key(key)) {
            let problem = format!("there is no item {key:#x}");
            return Err(state::Error::Invalid { kind: State::KIND.into(), id: 0, problem });
        }
        self.state = state;
        self.tell();
        Ok(())
    }

    fn select(&mut self, key: u16) {
        self.state.selected = key;
        self.state.offset = 0;
        let Some((keys, late)) = &self.late else { return };
        if !self.state.made && keys.contains(&key) {
            for (key, data) in keys.iter().zip(late()) {
                // The directory was read long ago: a length cannot change any more.
                if self.items.get(key).is_some_and(|item| item.data.len() == data.len()) {
                    self.state.contents.insert(*key, data);
                }
            }
            self.state.made = true;
        }
    }

    /// Takes the next bytes of the item; zeros past its end.
    fn take(&mut self, data: &mut [u8]) {
        data.fill(0);
        let start = usize::try_from(self.state.offset).unwrap_or(usize::MAX);
        let rest = self.contents(self.state.selected).and_then(|c| c.get(start..)).unwrap_or_default();
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
        self.state.offset = self.state.offset.saturating_add(data.len() as u64);
    }

    /// A port is read.
    pub fn read(&mut self, port: u16, data: &mut [u8]) {
        match port {
            // A string instruction brings many bytes of the same register.
            DATA => self.take(data),
            DMA_HIGH..=LAST => {
                for (at, byte) in (usize::from(port - DMA_HIGH)..).zip(data) {
                    *byte = DMA_SIGNATURE.get(at).copied().unwrap_or(0);
                }
            }
            _ => data.fill(0),
        }
    }

    /// A port is written.
    pub fn write(&mut self, port: u16, data: &[u8]) {
        match (port, data) {
            (SELECTOR, &[low, high]) => self.select(u16::from_le_bytes([low, high])),
            (DMA_HIGH, &[a, b, c, d]) => self.state.dma_high = u32::from_be_bytes([a, b, c, d]),
            (DMA_LOW, &[a, b, c, d]) => {
                let low = u32::from_be_bytes([a, b, c, d]);
                let high = std::mem::take(&mut self.state.dma_high);
                self.dma(u64::from(high) << 32 | u64::from(low));
            }
            _ => {}
        }
    }

    /// Carries out the request at `address`: control, length, address of the buffer; the answer goes into control.
    fn dma(&mut self, address: u64) {
        let mut request = [0; 16];
        if self.memory.read_slice(&mut request, GuestAddress(address)).is_err() {
            // Nowhere to put an answer either.
            return;
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3, target @ ..] = request;
        let control = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let answer =
            if self.transfer(control, length, u64::from_be_bytes(target)) { 0 } else { CONTROL_ERROR };
        // The first word was just read, so it is RAM.
        let _ = self.memory.write_slice(&answer.to_be_bytes(), GuestAddress(address));
    }

    /// False: an error.
    fn transfer(&mut self, control: u32, length: u32, target: u64) -> bool {
        if control & CONTROL_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        if control & CONTROL_READ != 0 {
            return self.copy_out(length, target);
        }
        if control & CONTROL_WRITE != 0 {
            return self.copy_in(length, target);
        }
        if control & CONTROL_SKIP != 0 {
            self.state.offset = self.state.offset.saturating_add(u64::from(length));
        }
        true
    }

    fn copy_out(&mut self, length: u32, target: u64) -> bool {
        let mut left = length as usize;
        let mut at = target;
        let mut chunk = vec![0; left.min(CHUNK)];
        while left > 0 {
            let now = left.min(CHUNK);
            let Some(part) = chunk.get_mut(..now) else { return false };
            self.take(part);
            if self.memory.write_slice(part, GuestAddress(at)).is_err() {
                return false;
            }
            at = at.wrapping_add(now as u64);
            left -= now;
        }
        true
    }

    fn copy_in(&mut self, length: u32, target: u64) -> bool {
        let key = self.state.selected;
        let Some(item) = self.items.get(&key).filter(|item| item.writable) else { return false };
        let start = usize::try_from(self.state.offset).unwrap_or(usize::MAX);
        let end = start.checked_add(length as usize).filter(|end| *end <= item.data.len());
        let Some(end) = end else { return false };
        let mut contents = self.contents(key).unwrap_or_default().to_vec();
        let Some(part) = contents.get_mut(start..end) else { return false };
        if self.memory.read_slice(part, GuestAddress(target)).is_err() {
            return false;
        }
        self.state.contents.insert(key, contents);
        self.state.offset = end as u64;
        if self.watch.as_ref().is_some_and(|(watched, _)| *watched == key) {
            self.tell();
        }
        true
    }
}

#[cfg(test)]
#[path = "fw_cfg_tests.rs"]
mod tests;
