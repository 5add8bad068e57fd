//! Frames ([`lq_api::local::frame`]) as they are passed on: read whole, kept as they came.

use lq_api::local::frame::{Damaged, HEADER, Head, Kind, encode};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A frame.
#[derive(Debug, Default)]
pub struct Frame {
    /// Its kind.
    kind: u32,
    /// All of it, header included.
    bytes: Vec<u8>,
}

impl Frame {
    /// A frame with this payload.
    ///
    /// # Errors
    /// It is too long.
    pub fn new(kind: Kind, payload: &[u8]) -> Result<Self, Damaged> {
        Ok(Self { kind: kind as u32, bytes: encode(kind, payload)? })
    }

    /// Its kind; none where only newer monitors know it.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::try_from(self.kind).ok()
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

    /// Reads the next frame into this one; false at the end of the stream. Pages are checked by whoever takes them up, all else
    /// here: it is acted on.
    ///
    /// # Errors
    /// The stream broke, or what came is no frame.
    pub async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        let mut header = [0; HEADER];
        if from.read(&mut header[..1]).await? == 0 {
            return Ok(false);
        }
        from.read_exact(&mut header[1..]).await?;
        let head = Head::parse(&header).map_err(damaged)?;
        self.kind = head.kind;
        self.bytes.clear();
        self.bytes.extend(header);
        let read = (&mut *from).take(head.length as u64).read_to_end(&mut self.bytes).await?;
        if read != head.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.kind() != Some(Kind::Memory) {
            head.check(self.payload()).map_err(damaged)?;
        }
        Ok(true)
    }
}

fn damaged(why: Damaged) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the stream of the machine is damaged: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_whole_or_not_at_all() {
        let frame = Frame::new(Kind::Commit, b"last word").unwrap();
        let mut stream = frame.bytes().to_vec();
        stream.extend(Frame::new(Kind::Running, b"").unwrap().bytes());
        let mut from = &stream[..];
        let mut read = Frame::default();
        assert!(read.read(&mut from).await.unwrap());
        assert_eq!((read.kind(), read.payload()), (Some(Kind::Commit), &b"last word"[..]));
        assert!(read.read(&mut from).await.unwrap());
        assert_eq!((read.kind(), read.payload()), (Some(Kind::Running), &b""[..]));
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
