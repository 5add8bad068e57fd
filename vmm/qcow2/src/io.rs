//! Positioned reads and writes with the context of errors.

use crate::Error;
use std::{fs::File, os::unix::fs::FileExt};

/// Length of a regular file.
pub(crate) fn length(file: &File) -> Result<u64, Error> {
    let facts = file.metadata().map_err(|source| Error::Io { what: "stat the file", source })?;
    if facts.is_file() { Ok(facts.len()) } else { Err(Error::NotRegular) }
}

/// Fills `buffer` from `offset`.
pub(crate) fn read(file: &File, what: &'static str, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
    file.read_exact_at(buffer, offset).map_err(|source| Error::Io { what, source })
}

/// Writes all of `buffer` at `offset`.
pub(crate) fn write(file: &File, what: &'static str, buffer: &[u8], offset: u64) -> Result<(), Error> {
    file.write_all_at(buffer, offset).map_err(|source| Error::Io { what, source })
}

/// Makes everything written so far durable.
pub(crate) fn sync(file: &File) -> Result<(), Error> {
    file.sync_all().map_err(|source| Error::Io { what: "make the image durable", source })
}

/// Big-endian 32 bits at `at`; 0 where `bytes` is too short (callers check lengths before).
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_be_bytes(*b))
}

/// Big-endian 64 bits at `at`; 0 where `bytes` is too short (callers check lengths before).
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_be_bytes(*b))
}

/// The big-endian 64-bit entries of a table.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|w| u64::from_be_bytes(*w))
}
