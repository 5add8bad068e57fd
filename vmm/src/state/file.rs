//! A machine in a file: hello, all memory that is not zero, state, each checked by its frame.

use super::{
    State,
    description::Description,
    frame::{self, Kind},
    pages::{self, Encoder, RUN},
};
use crate::memory::{Memory, dirty::PAGE};
use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// Payload at which a memory frame is written.
const FULL: usize = 1 << 20;

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be written.
    #[error("cannot write the machine's state")]
    Write(#[from] io::Error),
    /// It cannot be read as a stream.
    #[error("the saved machine cannot be read")]
    Frame(#[from] frame::Error),
    /// Its pages make no sense.
    #[error("the saved machine's memory cannot be read")]
    Pages(#[from] pages::Error),
    /// A part makes no sense.
    #[error("the saved machine's {what} is not valid")]
    Parse {
        /// Which part.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// It holds something in the wrong place.
    #[error("the saved machine holds a part of kind {found:?} where {wanted} belongs")]
    Order {
        /// What is there.
        found: Kind,
        /// What should be.
        wanted: &'static str,
    },
    /// This machine cannot become that one.
    #[error("the saved machine cannot run here: {}", .0.join("; "))]
    Unsuitable(Vec<String>),
}

/// Writes all of a machine that stands still, and makes it durable.
///
/// # Errors
/// The file takes no more, or is none.
pub fn write(
    file: &mut File,
    description: &Description,
    memory: &Memory,
    state: &State,
) -> Result<(), Error> {
    frame::write(file, Kind::Hello, &encode("description", description)?)?;
    let mut encoder = Encoder::new(true);
    let mut payload = Vec::with_capacity(FULL + RUN * PAGE as usize);
    for region in memory.iter() {
        let (start, pages) = (region.start_addr().raw_value(), region.len() / PAGE);
        for first in (0..pages).step_by(RUN) {
            let count = (pages - first).min(RUN as u64) as usize;
            encoder.add(memory, start + first * PAGE, count, &mut payload)?;
            if payload.len() >= FULL {
                frame::write(file, Kind::Memory, &payload)?;
                payload.clear();
            }
        }
    }
    if !payload.is_empty() {
        frame::write(file, Kind::Memory, &payload)?;
    }
    frame::write(file, Kind::State, &encode("state", state)?)?;
    file.flush()?;
    file.sync_all()?;
    Ok(())
}

/// JSON of a part.
///
/// # Errors
/// It cannot be written down.
pub fn encode(what: &'static str, part: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(part).map_err(|source| Error::Parse { what, source })
}

/// A part from JSON.
///
/// # Errors
/// It is none.
pub fn decode<T: serde::de::DeserializeOwned>(what: &'static str, payload: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|source| Error::Parse { what, source })
}

/// A saved machine being read.
pub struct Reader<R> {
    source: R,
}

impl<R: Read> Reader<BufReader<R>> {
    /// Over an opened file.
    pub fn new(file: R) -> Self {
        Self { source: BufReader::with_capacity(64 << 10, file) }
    }
}

impl<R: Read> Reader<R> {
    /// Reads what the machine is; first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn description(&mut self) -> Result<Description, Error> {
        match frame::read(&mut self.source)? {
            (Kind::Hello, payload) => decode("description", &payload),
            (found, _) => Err(Error::Order { found, wanted: "its description" }),
        }
    }

    /// Reads its memory and then its state.
    ///
    /// # Errors
    /// See [`Error`]; memory then holds anything.
    pub fn rest(&mut self, memory: &Memory) -> Result<State, Error> {
        let mut scratch = Vec::new();
        loop {
            match frame::read(&mut self.source)? {
                (Kind::Memory, payload) => pages::apply(memory, &payload, &mut scratch)?,
                (Kind::State, payload) => return decode("state", &payload),
                (found, _) => return Err(Error::Order { found, wanted: "its memory or state" }),
            }
        }
    }
}
