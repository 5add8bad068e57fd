//! Disks: image files behind block devices.
//!
//! Owns: opened image files, for as long as the monitor runs. One writer per file: every file is locked (shared where it is
//! only read), so that a second monitor or a tool that grows it is refused instead of destroying it.
//!
//! Formats are told, never guessed; a backing file is only what [`DiskImage`] names. All calls block; a disk is used by one
//! thread at a time, unless it is [`Parallel`].

mod file;
pub mod movable;
mod qcow2;
mod raw;
pub mod room;
#[cfg(test)]
mod tests;

use self::{file::ImageFile, qcow2::Qcow2};
use crate::{lease::fence::Fence, memory::Slice};
use lq_api::{image::ImageFormat, local::vmm::DiskImage};
use lq_qcow2::{Info, Limits};
use std::{fs::File, io, sync::Arc};

pub use raw::Raw;

/// Most images in a chain.
const MAX_CHAIN: usize = 16;

/// A disk that several threads may use at once: what they do to the same bytes at the same time comes out in any order.
/// Otherwise as of [`Disk`].
#[allow(clippy::missing_errors_doc, reason = "as of Disk")]
pub trait Parallel: Sync {
    /// As [`Disk::read`].
    fn read(&self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()>;
    /// As [`Disk::write`].
    fn write(&self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()>;
    /// As [`Disk::flush`].
    fn flush(&self) -> io::Result<()>;
    /// As [`Disk::discard`].
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;
    /// As [`Disk::write_zeroes`].
    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()>;
}

/// A disk. Offsets and lengths are bytes inside its size; callers check against [`Disk::size`] and implementations refuse the
/// rest with an error.
pub trait Disk: Send + Sync {
    /// Size in bytes, a multiple of 512.
    fn size(&self) -> u64;
    /// Bytes that are best written and discarded together, a power of two of at least 512.
    fn granularity(&self) -> u32;
    /// The way in for several threads at once, where there is one: it is the same disk.
    fn parallel(&self) -> Option<&dyn Parallel> {
        None
    }
    /// Fills `buffers` from `offset`.
    ///
    /// # Errors
    /// The range is outside of the disk or the host failed; the buffers then hold anything.
    fn read(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()>;
    /// Writes `buffers` at `offset`. Durable after [`Disk::flush`].
    ///
    /// # Errors
    /// The range is outside of the disk or the host failed; the range then holds old or new bytes.
    fn write(&mut self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()>;
    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// The host failed; nothing is known about what was written since the last success.
    fn flush(&mut self) -> io::Result<()>;
    /// The range is not needed any more; what it reads as afterwards is undefined.
    ///
    /// # Errors
    /// The range is outside of the disk or the host failed.
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()>;
    /// The range reads as zeros afterwards; with `unmap` its room may be given back.
    ///
    /// # Errors
    /// The range is outside of the disk or the host failed.
    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()>;
    /// Makes everything durable and lets another monitor have the disk. On one that cannot move: as [`Disk::flush`].
    ///
    /// # Errors
    /// The host failed.
    fn release(&mut self) -> io::Result<()> {
        self.flush()
    }
    /// Makes it larger; what is added reads as zeros. Durable afterwards.
    ///
    /// # Errors
    /// It cannot be made so large, or would be smaller; it is as it was unless the host failed.
    fn resize(&mut self, size: u64) -> io::Result<()> {
        let _ = size;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The file that is written, so that others can make durable what is in the host's cache while the disk is in use.
    fn written(&self) -> Option<File> {
        None
    }
    /// Takes the disk back, or over from another monitor.
    ///
    /// # Errors
    /// Someone else has it, or it is not as it was.
    fn acquire(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, locked or sized.
    #[error("cannot {what} disk image {path}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: String,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("disk image {path} is in use by another process{}", if *.read_only { " that writes it" } else { "" })]
    Busy {
        /// The file.
        path: String,
        /// It was only to be read.
        read_only: bool,
    },
    /// The content is not a usable image.
    #[error("disk image {path} cannot be used")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: lq_qcow2::Error,
    },
    /// The configuration and the image disagree, or the configuration asks for what there is not.
    #[error("disk image {path}: {problem}")]
    Config {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// Opens an image and what is under it.
///
/// # Errors
/// See [`Error`].
pub fn open(image: &DiskImage, read_only: bool) -> Result<Box<dyn Disk>, Error> {
    Ok(Box::new(movable::open(image, read_only, true, Arc::default())?))
}

/// Builds the disk on files that are opened and locked; `next` gives them, the top of the chain first.
fn open_chain(
    image: &DiskImage,
    read_only: bool,
    depth: usize,
    lease: &Arc<Fence>,
    next: &mut dyn FnMut(&DiskImage) -> Result<File, Error>,
) -> Result<Box<dyn Disk>, Error> {
    let config = |problem: String| Error::Config { path: image.path.clone(), problem };
    if depth >= MAX_CHAIN {
        return Err(config(format!("more than {MAX_CHAIN} images in a chain")));
    }
    let file = next(image)?;
    match (image.format, &image.backing) {
        (ImageFormat::Raw, Some(backing)) => {
            Err(config(format!("a raw image cannot have a backing file, but {} is configured", backing.path)))
        }
        (ImageFormat::Raw, None) => {
            let size = file::size(&file, &image.path)?;
            // Under another image any length will do: what it lacks to a sector reads as zeros.
            if depth == 0 && (size == 0 || !size.is_multiple_of(512)) {
                return Err(config(format!("its size of {size} bytes is not a positive multiple of 512")));
            }
            Ok(Box::new(Raw::leased(file, size, Arc::clone(lease))))
        }
        (ImageFormat::Qcow2, backing) => {
            let format = |source| Error::Format { path: image.path.clone(), source };
            let limits = Limits { allow_backing: true, ..Limits::default() };
            // Before anything is written: does the file agree with the configuration?
            check_backing(&lq_qcow2::check_header(&file, &limits).map_err(format)?, image)?;
            let backing = backing
                .as_ref()
                .map(|backing| open_chain(backing, true, depth + 1, lease, next))
                .transpose()?;
            let opened = if read_only {
                lq_qcow2::layout(&file, &limits)
            } else {
                lq_qcow2::prepare_for_writing(&file, &limits)
            };
            let (info, layout) = opened.map_err(format)?;
            let failed = |source| Error::Io { what: "read the tables of", path: image.path.clone(), source };
            let file = ImageFile::new(file, Arc::clone(lease));
            Ok(Box::new(Qcow2::new(file, info, &layout, backing, read_only).map_err(failed)?))
        }
    }
}

/// The header must name a backing file exactly if the configuration does, and not contradict its format. Which file it
/// names is not looked at: only the configuration decides.
fn check_backing(info: &Info, image: &DiskImage) -> Result<(), Error> {
    let problem = match (&info.backing_file, &image.backing) {
        (Some(named), None) => format!("its header names the backing file {named:?}, the configuration none"),
        (None, Some(backing)) => {
            format!("the configuration names the backing file {:?}, its header none", backing.path)
        }
        (Some(_), Some(backing)) => {
            let configured = match backing.format {
                ImageFormat::Raw => "raw",
                ImageFormat::Qcow2 => "qcow2",
            };
            match &info.backing_format {
                Some(format) if format != configured => {
                    format!(
                        "its header says the backing file is {format:?}, the configuration says {configured:?}"
                    )
                }
                _ => return Ok(()),
            }
        }
        (None, None) => return Ok(()),
    };
    Err(Error::Config { path: image.path.clone(), problem })
}
