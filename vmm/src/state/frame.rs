//! Frames ([`lq_api::local::frame`]), written and read. A frame is written by one call, so that it is sent whole or not at all as
//! far as the sender's own kernel is concerned. A reader never reserves more than has come.

pub use lq_api::local::frame::Kind;

use lq_api::local::frame::{Damaged, HEADER, Head, encode};
use std::io::{self, Read, Write};

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source failed or ended.
    #[error("the stream broke off")]
    Io(#[from] io::Error),
    /// It is not a frame, or not as it was written.
    #[error("the stream is damaged: {0}")]
    Damaged(#[from] Damaged),
}

/// Writes one frame.
///
/// # Errors
/// The sink failed, or the payload is too long.
pub fn write(out: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    out.write_all(&encode(kind, payload).map_err(io::Error::other)?)
}

/// Reads one frame.
///
/// # Errors
/// See [`Error`].
pub fn read(source: &mut impl Read) -> Result<(Kind, Vec<u8>), Error> {
    let mut header = [0; HEADER];
    source.read_exact(&mut header)?;
    let head = Head::parse(&header)?;
    let mut payload = Vec::new();
    source.take(head.length as u64).read_to_end(&mut payload)?;
    if payload.len() != head.length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    head.check(&payload)?;
    Ok((Kind::try_from(head.kind)?, payload))
}
