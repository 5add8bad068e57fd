//! Frames of the stream a machine moves by, as monitors write them: what whoever passes them on has to know of them.
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | "LQF1" |
//! | 4–7 | kind |
//! | 8–11 | bytes of the payload, at most [`LARGEST`] |
//! | 12–15 | CRC-32 of kind, length and payload |
//!
//! All numbers are little-endian. Kinds that are not named here are passed on as they are.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

const MAGIC: [u8; 4] = *b"LQF1";
const HEADER: usize = 16;
/// Most bytes of a payload.
pub const LARGEST: usize = 16 << 20;

/// What the machine is; first.
pub const HELLO: u32 = 1;
/// Pages of memory.
pub const MEMORY: u32 = 2;
/// Everything else.
pub const STATE: u32 = 3;
/// From the target: the description suits.
pub const ACCEPT: u32 = 16;
/// From either: it ends here. Payload: why.
pub const REFUSE: u32 = 17;
/// From the target: everything is taken up.
pub const READY: u32 = 18;
/// From the source: the machine is the target's now.
pub const COMMIT: u32 = 19;
/// From the target: the guest runs.
pub const RUNNING: u32 = 20;

/// A frame.
#[derive(Debug, Default)]
pub struct Frame {
    /// Its kind.
    pub kind: u32,
    /// All of it, header included.
    bytes: Vec<u8>,
}

impl Frame {
    /// A frame with this payload.
    #[must_use]
    pub fn new(kind: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend(MAGIC);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(checksum(kind, length, payload).to_le_bytes());
        bytes.extend(payload);
        Self { kind, bytes }
    }

    /// All of it, as it goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// Its payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.payload()).into_owned()
    }

    /// Reads the next frame into this one; false at the end of the stream. Pages are checked by whoever takes them up, all else
    /// here: it is acted on.
    pub async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        let mut header = [0; HEADER];
        if from.read(&mut header[..1]).await? == 0 {
            return Ok(false);
        }
        from.read_exact(&mut header[1..]).await?;
        let (words, _) = header.as_chunks::<4>();
        let [magic, kind, length, sum] = words else { return Err(damaged("a part has no head")) };
        let (number, length) = (u32::from_le_bytes(*kind), u32::from_le_bytes(*length));
        if *magic != MAGIC {
            return Err(damaged("something else stands where a part should begin"));
        }
        if length as usize > LARGEST {
            return Err(damaged("a part is longer than any can be"));
        }
        self.kind = number;
        self.bytes.clear();
        self.bytes.extend(header);
        let read = (&mut *from).take(length.into()).read_to_end(&mut self.bytes).await?;
        if read != length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if number != MEMORY && checksum(number, length, self.payload()) != u32::from_le_bytes(*sum) {
            return Err(damaged("a checksum is wrong"));
        }
        Ok(true)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the stream of the machine is damaged: {what}"))
}

fn checksum(kind: u32, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_whole_or_not_at_all() {
        let frame = Frame::new(COMMIT, b"last word");
        // As lq-vmm writes it.
        assert_eq!(frame.bytes()[..12], *b"LQF1\x13\0\0\0\x09\0\0\0");
        let mut stream = frame.bytes().to_vec();
        stream.extend(Frame::new(RUNNING, b"").bytes());
        let mut from = &stream[..];
        let mut read = Frame::default();
        assert!(read.read(&mut from).await.unwrap());
        assert_eq!((read.kind, read.payload()), (COMMIT, &b"last word"[..]));
        assert!(read.read(&mut from).await.unwrap());
        assert_eq!((read.kind, read.payload()), (RUNNING, &b""[..]));
        assert!(!read.read(&mut from).await.unwrap());
        for end in 1..frame.bytes().len() {
            assert!(read.read(&mut &frame.bytes()[..end]).await.is_err(), "cut at {end}");
        }
        for at in 0..frame.bytes().len() {
            let mut bad = frame.bytes().to_vec();
            bad[at] ^= 0x40;
            assert!(read.read(&mut &bad[..]).await.is_err(), "damaged at {at}");
        }
    }
}
