//! Frames: how parts of a stream are told apart and checked.
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | "LQF1" |
//! | 4–7 | kind |
//! | 8–11 | bytes of the payload, at most [`LARGEST`] |
//! | 12–15 | CRC-32 of kind, length and payload |
//!
//! All numbers are little-endian. A frame is written by one call, so that it is sent whole or not at all as far as the
//! sender's own kernel is concerned. A reader never reserves more than has come.

use std::io::{self, Read, Write};

const MAGIC: [u8; 4] = *b"LQF1";
const HEADER: usize = 16;
/// Most bytes of a payload.
pub const LARGEST: usize = 16 << 20;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source failed or ended.
    #[error("the stream broke off")]
    Io(#[from] io::Error),
    /// It is not a frame, or not as it was written.
    #[error("the stream is damaged: {0}")]
    Damaged(&'static str),
}

/// Kinds of frame. Numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// What the machine is; first. Payload: a description.
    Hello = 1,
    /// Pages.
    Memory = 2,
    /// All components; last of a file.
    State = 3,
    /// Migration, from the target: the description suits.
    Accept = 16,
    /// Migration, from either: it ends here. Payload: why.
    Refuse = 17,
    /// Migration, from the target: everything is taken up, the guest can run at once.
    Ready = 18,
    /// Migration, from the source: the machine is the target's now.
    Commit = 19,
    /// Migration, from the target: the guest runs.
    Running = 20,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Hello,
        Self::Memory,
        Self::State,
        Self::Accept,
        Self::Refuse,
        Self::Ready,
        Self::Commit,
        Self::Running,
    ];
}

fn checksum(kind: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Writes one frame.
///
/// # Errors
/// The sink failed, or the payload is too long.
pub fn write(out: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    if payload.len() > LARGEST {
        return Err(io::Error::other(format!("a frame of {} bytes (at most {LARGEST})", payload.len())));
    }
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(MAGIC);
    bytes.extend((kind as u32).to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(checksum(kind as u32, payload).to_le_bytes());
    bytes.extend(payload);
    out.write_all(&bytes)
}

/// Reads one frame.
///
/// # Errors
/// See [`Error`].
pub fn read(source: &mut impl Read) -> Result<(Kind, Vec<u8>), Error> {
    let mut words = [[0; 4]; HEADER / 4];
    source.read_exact(words.as_flattened_mut())?;
    let [magic, kind, length, sum] = words;
    let (number, length) = (u32::from_le_bytes(kind), u32::from_le_bytes(length));
    if magic != MAGIC {
        return Err(Error::Damaged("something else stands where a part should begin"));
    }
    if length as usize > LARGEST {
        return Err(Error::Damaged("a part is longer than any can be"));
    }
    let mut payload = Vec::new();
    source.take(length.into()).read_to_end(&mut payload)?;
    if payload.len() != length as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if checksum(number, &payload) != u32::from_le_bytes(sum) {
        return Err(Error::Damaged("a checksum is wrong"));
    }
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u32 == number);
    Ok((kind.ok_or(Error::Damaged("a part of an unknown kind; a newer lq-vmm wrote it"))?, payload))
}
