//! Raw images: the file is the disk.

use super::{
    Disk, Parallel,
    file::{self, Fallocate, ImageFile},
};
use crate::{lease::fence::Fence, memory::Slice};
use std::{fs::File, io, sync::Arc};

/// Bytes that are best written together.
pub(super) const GRANULARITY: u32 = 4096;

/// A raw image or block device.
pub struct Raw {
    file: ImageFile,
    /// Rounded up to sectors.
    size: u64,
}

impl Raw {
    /// The disk in `file`, which has `length` bytes.
    #[must_use]
    pub fn new(file: File, length: u64) -> Self {
        Self::leased(file, length, Arc::default())
    }

    /// As [`Raw::new`], for as long as the lease allows.
    #[must_use]
    pub fn leased(file: File, length: u64, lease: Arc<Fence>) -> Self {
        Self { file: ImageFile::new(file, lease), size: length.next_multiple_of(512) }
    }
}

impl Disk for Raw {
    fn size(&self) -> u64 {
        self.size
    }

    fn granularity(&self) -> u32 {
        GRANULARITY
    }

    fn parallel(&self) -> Option<&dyn Parallel> {
        Some(self)
    }

    fn read(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        Parallel::read(self, buffers, offset)
    }

    fn write(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        Parallel::write(self, buffers, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        Parallel::flush(self)
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        Parallel::discard(self, offset, length)
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        Parallel::write_zeroes(self, offset, length, unmap)
    }
}

/// The host's kernel orders what is done to a file at once.
impl Parallel for Raw {
    fn read(&self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        file::check_range(offset, file::total(buffers), self.size)?;
        self.file.read(buffers, offset)
    }

    fn write(&self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        file::check_range(offset, file::total(buffers), self.size)?;
        self.file.write(buffers, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        file::check_range(offset, length, self.size)?;
        if length != 0 {
            // A file system that cannot give room back keeps it: discarding is a hint.
            self.file.fallocate(Fallocate::Punch, offset, length)?;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        file::check_range(offset, length, self.size)?;
        if length == 0 {
            return Ok(());
        }
        let how = if unmap { Fallocate::Punch } else { Fallocate::Zero };
        if self.file.fallocate(how, offset, length)? {
            return Ok(());
        }
        self.file.write_zero_bytes(offset, length)
    }
}
