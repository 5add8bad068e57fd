//! Pages of guest memory as the payload of memory frames: a sequence of runs.
//!
//! | bytes | field of a run |
//! |---|---|
//! | 0–7 | guest-physical address of its first page |
//! | 8–11 | pages, 1 to [`RUN`] |
//! | 12–15 | 0: zeros; 1: as they are; 2: one LZ4 block |
//! | 16–19 | bytes that follow |

use crate::memory::{self, Memory, dirty::PAGE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

/// Most pages of one run: 256 KiB.
pub const RUN: usize = 64;
const HEADER: usize = 20;
const ZEROS: u32 = 0;
const PLAIN: u32 = 1;
const LZ4: u32 = 2;

/// Why pages cannot be taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The run is not one.
    #[error("a run of pages is malformed: {0}")]
    Malformed(&'static str),
    /// It lies outside of the machine's memory.
    #[error("pages at {0:#x} are outside of the machine's memory")]
    Outside(u64),
}

/// Turns pages into runs.
pub struct Encoder {
    pages: Vec<u8>,
    packed: Vec<u8>,
    /// Zeros need not be said: whoever takes the pages up begins with zeros.
    fresh: bool,
}

impl Encoder {
    /// `fresh`: these are the first pages the taker gets.
    #[must_use]
    pub fn new(fresh: bool) -> Self {
        let size = RUN * PAGE as usize;
        let room = lz4_flex::block::get_maximum_output_size(size);
        Self { pages: vec![0; size], packed: vec![0; room], fresh }
    }

    /// From now on zeros are said or not.
    pub fn set_fresh(&mut self, fresh: bool) {
        self.fresh = fresh;
    }

    /// Appends `count` (1 to [`RUN`]) pages from `address` to `out`. A vCPU may be writing them: what is read may be torn,
    /// and then the log names the page for the next time.
    ///
    /// # Errors
    /// There is no such memory.
    pub fn add(
        &mut self,
        memory: &Memory,
        address: u64,
        count: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let count = count.min(RUN);
        if !memory::is_there(memory, address, count as u64 * PAGE) {
            // What is not there has no content; nothing is touched to find that out.
            return Ok(());
        }
        let pages = self.pages.get_mut(..count * PAGE as usize).unwrap_or_default();
        memory.read_slice(pages, GuestAddress(address)).map_err(|_| Error::Outside(address))?;
        let zero: Vec<bool> = pages.chunks_exact(PAGE as usize).map(is_zero).collect();
        let mut first = 0;
        while let Some(&zeros) = zero.get(first) {
            let length = zero.iter().skip(first).take_while(|z| **z == zeros).count();
            let at = address + first as u64 * PAGE;
            let bytes = first * PAGE as usize..(first + length) * PAGE as usize;
            let data = pages.get(bytes).unwrap_or_default();
            match (zeros, self.fresh) {
                (true, true) => {}
                (true, false) => run(out, at, length, ZEROS, &[]),
                (false, _) => match lz4_flex::block::compress_into(data, &mut self.packed) {
                    Ok(size) if size < data.len() => {
                        run(out, at, length, LZ4, self.packed.get(..size).unwrap_or_default());
                    }
                    _ => run(out, at, length, PLAIN, data),
                },
            }
            first += length;
        }
        Ok(())
    }
}

fn run(out: &mut Vec<u8>, address: u64, pages: usize, kind: u32, data: &[u8]) {
    out.extend(address.to_le_bytes());
    out.extend((pages as u32).to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
}

fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Writes the runs of `payload` into memory.
///
/// # Errors
/// See [`Error`]; the runs before the one at fault are written.
pub fn apply(memory: &Memory, mut payload: &[u8], scratch: &mut Vec<u8>) -> Result<(), Error> {
    while !payload.is_empty() {
        let (header, rest) = payload.split_at_checked(HEADER).ok_or(Error::Malformed("it breaks off"))?;
        let field =
            |at: usize| header.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let address = u64::from(field(4)) << 32 | u64::from(field(0));
        let (pages, kind, length) = (field(8) as usize, field(12), field(16) as usize);
        let (data, rest) = rest.split_at_checked(length).ok_or(Error::Malformed("it breaks off"))?;
        if !(1..=RUN).contains(&pages) || !address.is_multiple_of(PAGE) {
            return Err(Error::Malformed("its address or length is none of pages"));
        }
        let size = pages * PAGE as usize;
        if !memory.check_range(GuestAddress(address), size) {
            return Err(Error::Outside(address));
        }
        scratch.resize(size, 0);
        let write = |bytes: &[u8]| {
            memory.write_slice(bytes, GuestAddress(address)).map_err(|_| Error::Outside(address))
        };
        match kind {
            ZEROS if length == 0 => zero(memory, address, size, scratch)?,
            PLAIN if length == size => write(data)?,
            LZ4 => match lz4_flex::block::decompress_into(data, scratch) {
                Ok(unpacked) if unpacked == size => write(scratch)?,
                _ => return Err(Error::Malformed("it does not unpack")),
            },
            _ => return Err(Error::Malformed("its kind or length is unknown")),
        }
        payload = rest;
    }
    Ok(())
}

/// Makes pages zero; those that are stay untouched, so that the host need not give them.
fn zero(memory: &Memory, address: u64, size: usize, scratch: &mut [u8]) -> Result<(), Error> {
    let outside = |_| Error::Outside(address);
    memory.read_slice(scratch, GuestAddress(address)).map_err(outside)?;
    if !is_zero(scratch) {
        scratch.fill(0);
        debug_assert_eq!(scratch.len(), size);
        memory.write_slice(scratch, GuestAddress(address)).map_err(outside)?;
    }
    Ok(())
}
