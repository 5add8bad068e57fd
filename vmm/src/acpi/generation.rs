//! The machine's generation id (Microsoft's "Virtual Machine Generation ID"): 16 random bytes in memory that are others when
//! the machine goes on as a copy, so that the guest makes new keys and random numbers instead of repeating them.

use crate::memory::Memory;
use std::io;
use vm_memory::{Bytes, GuestAddress};

/// Where it lies: between the tables and what follows them, in memory the guest does not use.
pub const ADDRESS: u64 = super::RSDP + 0xf000;

/// Writes a new one.
///
/// # Errors
/// The host gave no random bytes.
pub fn renew(memory: &Memory) -> io::Result<()> {
    let mut id = [0_u8; 16];
    // SAFETY: the buffer is valid for writes of its length.
    let got = unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) };
    if usize::try_from(got) != Ok(id.len()) {
        return Err(io::Error::last_os_error());
    }
    memory.write_slice(&id, GuestAddress(ADDRESS)).map_err(io::Error::other)
}
