//! The machine's generation id (Microsoft's "Virtual Machine Generation ID"): 16 random bytes in memory that are others when
//! the machine goes on as a copy, so that the guest makes new keys and random numbers instead of repeating them.
//!
//! Booting a kernel directly it lies at [`ADDRESS`]. Firmware is given a [`page`] with it and says where it has put it.

use crate::memory::Memory;
use std::io;
use vm_memory::{Bytes, GuestAddress};

/// Where it lies without firmware: between the tables and what follows them, in memory the guest does not use.
pub const ADDRESS: u64 = super::RSDP + 0xf000;
/// Bytes of the page firmware gets.
pub const PAGE: usize = 4096;
/// Where in the page it is. Firmware looks whether an ACPI table begins where it is pointed to; with zeros in front of it, and
/// a length no table has here, nothing looks like one.
pub const OFFSET: u64 = 40;

fn random() -> io::Result<[u8; 16]> {
    let mut id = [0_u8; 16];
    // SAFETY: the buffer is valid for writes of its length.
    let got = unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) };
    if usize::try_from(got) != Ok(id.len()) {
        return Err(io::Error::last_os_error());
    }
    Ok(id)
}

/// Writes a new one at `address`.
///
/// # Errors
/// The host gave no random bytes, or there is no such memory.
pub fn renew(memory: &Memory, address: u64) -> io::Result<()> {
    memory.write_slice(&random()?, GuestAddress(address)).map_err(io::Error::other)
}

/// A page with a new one.
///
/// # Errors
/// The host gave no random bytes.
pub fn page() -> io::Result<Vec<u8>> {
    let mut id = random()?;
    // Where the length of a table would be.
    id[7] |= 0x80;
    let mut page = vec![0; OFFSET as usize];
    page.extend(id);
    page.resize(PAGE, 0);
    Ok(page)
}
