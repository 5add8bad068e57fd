//! Raw images: the file is the disk.

use super::{
    Disk,
    file::{self, Fallocate},
};
use std::{fs::File, io};
use vm_memory::VolatileSlice;

/// A raw image or block device.
pub struct Raw {
    file: File,
    /// Rounded up to sectors.
    size: u64,
}

impl Raw {
    /// The disk in `file`, which has `length` bytes.
    #[must_use]
    pub fn new(file: File, length: u64) -> Self {
        Self { file, size: length.next_multiple_of(512) }
    }
}

impl Disk for Raw {
    fn size(&self) -> u64 {
        self.size
    }

    fn granularity(&self) -> u32 {
        4096
    }

    fn read(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        file::check_range(offset, file::total(buffers), self.size)?;
        file::read(&self.file, buffers, offset)
    }

    fn write(&mut self, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
        file::check_range(offset, file::total(buffers), self.size)?;
        file::write(&self.file, buffers, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        file::check_range(offset, length, self.size)?;
        if length != 0 {
            // A file system that cannot give room back keeps it: discarding is a hint.
            file::fallocate(&self.file, Fallocate::Punch, offset, length)?;
        }
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        file::check_range(offset, length, self.size)?;
        if length == 0 {
            return Ok(());
        }
        let how = if unmap { Fallocate::Punch } else { Fallocate::Zero };
        if file::fallocate(&self.file, how, offset, length)? {
            return Ok(());
        }
        file::write_zero_bytes(&self.file, offset, length)
    }
}
