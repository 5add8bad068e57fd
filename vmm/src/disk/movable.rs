//! A disk whose machine may move to another monitor: held, or given up with its files still open.
//!
//! ```text
//!  given up ── acquire: lock, read the tables ──▶ held
//!     ▲                                            │
//!     └──────── release: all durable, unlock ──────┘
//! ```
//! Invariant: without the locks nothing of the files is read that their writer may change, and nothing is written.

use super::{Disk, Error, Parallel, check_backing, file, open_chain};
use crate::{lease::fence::Fence, memory::Slice};
use lq_api::{image::ImageFormat, local::vmm::DiskImage};
use lq_qcow2::Limits;
use std::{fs::File, io, sync::Arc};

/// The disk.
pub struct Movable {
    image: DiskImage,
    read_only: bool,
    /// Of the chain, the top first.
    files: Vec<File>,
    size: u64,
    granularity: u32,
    lease: Arc<Fence>,
    held: Option<Box<dyn Disk>>,
}

/// Opens an image and what is under it, to be touched only while `lease` allows, and holds it, unless it is another monitor's until the machine has moved here.
///
/// # Errors
/// See [`Error`].
pub fn open(image: &DiskImage, read_only: bool, hold: bool, lease: Arc<Fence>) -> Result<Movable, Error> {
    let mut files = Vec::new();
    for image in image.chain() {
        files.push(file::open(&image.path, read_only || !files.is_empty())?);
    }
    Movable::new(image, files, read_only, hold, lease)
}

impl Movable {
    /// As [`open`], of files that are opened already, the top one first.
    ///
    /// # Errors
    /// As of [`open`].
    pub fn new(
        image: &DiskImage,
        files: Vec<File>,
        read_only: bool,
        hold: bool,
        lease: Arc<Fence>,
    ) -> Result<Self, Error> {
        let image = image.clone();
        let mut disk = Self { image, read_only, files, size: 0, granularity: 0, lease, held: None };
        if hold {
            disk.hold()?;
        } else {
            (disk.size, disk.granularity) = disk.shape()?;
        }
        Ok(disk)
    }

    /// The files, still locked, the top of the chain first: for another program that has them from now on. They stay locked for
    /// as long as anybody has them open.
    #[must_use]
    pub fn into_files(mut self) -> Vec<File> {
        self.held = None;
        std::mem::take(&mut self.files)
    }

    fn hold(&mut self) -> Result<(), Error> {
        let (mut image, mut read_only) = (&self.image, self.read_only);
        for file in &self.files {
            file::lock(file, &image.path, read_only)?;
            read_only = true;
            let Some(below) = image.backing.as_deref() else { break };
            image = below;
        }
        let mut files = self.files.iter();
        let mut next = |image: &DiskImage| {
            let failed = |source| Error::Io { what: "open", path: image.path.clone(), source };
            files.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?.try_clone().map_err(failed)
        };
        let disk = open_chain(&self.image, self.read_only, 0, &self.lease, &mut next)?;
        (self.size, self.granularity) = (disk.size(), disk.granularity());
        self.held = Some(disk);
        Ok(())
    }

    /// Size and granularity, from what does not change while another monitor writes.
    fn shape(&self) -> Result<(u64, u32), Error> {
        let path = || self.image.path.clone();
        let missing = || Error::Io { what: "open", path: path(), source: io::ErrorKind::NotFound.into() };
        let file = self.files.first().ok_or_else(missing)?;
        match self.image.format {
            ImageFormat::Raw => {
                Ok((file::size(file, &self.image.path)?.next_multiple_of(512), super::raw::GRANULARITY))
            }
            ImageFormat::Qcow2 => {
                let limits = Limits { allow_backing: true, ..Limits::default() };
                let info = lq_qcow2::check_header(file, &limits)
                    .map_err(|source| Error::Format { path: path(), source })?;
                check_backing(&info, &self.image)?;
                Ok((info.virtual_size, 1 << info.cluster_bits))
            }
        }
    }

    fn held(&mut self) -> io::Result<&mut Box<dyn Disk>> {
        let missing =
            || io::Error::other(format!("disk image {} belongs to another monitor", self.image.path));
        match &mut self.held {
            Some(disk) => Ok(disk),
            None => Err(missing()),
        }
    }
}

impl Drop for Movable {
    fn drop(&mut self) {
        self.held = None;
        for file in &self.files {
            // Whoever sent an opened file may still have it: then closing ours does not unlock it. What fails is closed.
            let _ = file.unlock();
        }
    }
}

/// Makes a file longer; a block device must be long enough already.
fn grow_raw(file: &File, path: &str, size: u64) -> io::Result<()> {
    let length = file::size(file, path).map_err(|error| io::Error::other(crate::exit::chain(&error)))?;
    if file.metadata()?.is_file() && length < size {
        file.set_len(size)?;
        return file.sync_data();
    }
    if length < size {
        let problem = format!("the block device {path} has {length} bytes: make it larger first");
        return Err(io::Error::other(problem));
    }
    Ok(())
}

impl Disk for Movable {
    fn size(&self) -> u64 {
        self.size
    }
    fn granularity(&self) -> u32 {
        self.granularity
    }
    fn parallel(&self) -> Option<&dyn Parallel> {
        self.held.as_ref()?.parallel()
    }
    fn read(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.held()?.read(buffers, offset)
    }
    fn write(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.held()?.write(buffers, offset)
    }
    fn flush(&mut self) -> io::Result<()> {
        // What was given up is durable already.
        if self.held.is_some() && !self.read_only { self.held()?.flush() } else { Ok(()) }
    }
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.held()?.discard(offset, length)
    }
    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        self.held()?.write_zeroes(offset, length, unmap)
    }
    fn resize(&mut self, size: u64) -> io::Result<()> {
        if self.read_only || size < self.size || !size.is_multiple_of(512) {
            return Err(io::Error::other(format!(
                "disk image {} of {} bytes cannot have {size}: it must be writable, and the size a multiple of 512 bytes, not smaller",
                self.image.path, self.size
            )));
        }
        self.held()?.flush()?;
        self.lease.check()?;
        let file = self.files.first().ok_or(io::ErrorKind::NotFound)?;
        // Its tables are read anew when it is large enough.
        self.held = None;
        let grown = match self.image.format {
            ImageFormat::Raw => grow_raw(file, &self.image.path, size),
            ImageFormat::Qcow2 => lq_qcow2::grow(file, size)
                .map_err(|error| io::Error::other(format!("disk image {}: {error}", self.image.path))),
        };
        self.hold().map_err(|error| io::Error::other(crate::exit::chain(&error)))?;
        grown
    }
    fn written(&self) -> Option<File> {
        self.files.first().filter(|_| !self.read_only)?.try_clone().ok()
    }
    fn release(&mut self) -> io::Result<()> {
        self.flush()?;
        self.held = None;
        self.files.iter().try_for_each(File::unlock)
    }
    fn acquire(&mut self) -> io::Result<()> {
        if self.held.is_some() {
            return Ok(());
        }
        let size = self.size;
        self.hold().map_err(|error| io::Error::other(crate::exit::chain(&error)))?;
        if self.size == size {
            Ok(())
        } else {
            Err(io::Error::other(format!("disk image {} has another size than before", self.image.path)))
        }
    }
}
