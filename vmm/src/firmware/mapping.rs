//! Host memory that a flash shows to the guest.

use std::{fs::File, io, os::fd::AsRawFd, ptr::null_mut};

/// A mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    address: *mut libc::c_void,
    length: usize,
    writable: bool,
}

// SAFETY: the mapping belongs to this value alone, is plain memory, and is written only through `&mut self`.
unsafe impl Send for Mapping {}
// SAFETY: as above; through `&self` it is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The first `length` bytes of a file, read only; the page cache is shared with everyone who maps it.
    ///
    /// # Errors
    /// The host refused.
    pub fn of_file(file: &File, length: u64) -> io::Result<Self> {
        Self::map(length, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd())
    }

    /// `length` zero bytes.
    ///
    /// # Errors
    /// The host refused.
    pub fn zeroed(length: u64) -> io::Result<Self> {
        Self::map(length, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn map(length: u64, protection: i32, flags: i32, fd: i32) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: makes a new mapping somewhere; nothing that exists is touched.
        let address = unsafe { libc::mmap(null_mut(), length, protection, flags, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address, length, writable: protection & libc::PROT_WRITE != 0 })
    }

    /// Where it is in this process.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address as u64
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped readable for `length` bytes for as long as `self` lives. A guest only reads it, and so does a
        // file behind it: firmware code on the read-only root.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.length) }
    }

    /// Its bytes, where they may be written; else none.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let length = if self.writable { self.length } else { 0 };
        // SAFETY: mapped writable for `length` bytes, and borrowed exclusively here. A guest that reads at the same time
        // does so outside of this program, by the processor.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast(), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; nobody can hold a reference any more.
        unsafe { libc::munmap(self.address, self.length) };
    }
}
