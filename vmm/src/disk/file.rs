//! Image files: opening, locking, and vectored I/O straight from and to guest memory.
//!
//! Everything an open image does to its file goes through [`ImageFile`], which does nothing once the machine's lease is over. Once making something durable has failed, the
//! kernel may have dropped what was written; so from then on no flush succeeds any more.

use super::Error;
use crate::{lease::fence::Fence, memory::Slice};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Seek, SeekFrom},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    sync::{Arc, Mutex, PoisonError},
};
use vm_memory::bitmap::Bitmap;

/// Most buffers of one vectored call.
const MAX_VECTORS: usize = 1024;

/// Opens a file, which then is to be locked before anything in it is relied on.
pub(super) fn open(path: &str, read_only: bool) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)
        .map_err(|source| Error::Io { what: "open", path: path.to_owned(), source })
}

/// Locks a file: shared where it is only read.
pub(super) fn lock(file: &File, path: &str, read_only: bool) -> Result<(), Error> {
    match if read_only { file.try_lock_shared() } else { file.try_lock() } {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: path.to_owned(), read_only }),
        Err(TryLockError::Error(source)) => Err(Error::Io { what: "lock", path: path.to_owned(), source }),
    }
}

/// Size of a regular file or block device.
pub(super) fn size(mut file: &File, path: &str) -> Result<u64, Error> {
    file.seek(SeekFrom::End(0)).map_err(|source| Error::Io { what: "size", path: path.to_owned(), source })
}

/// Checks that a range lies within `size` and fits the host's file offsets.
pub(super) fn check_range(offset: u64, length: u64, size: u64) -> io::Result<()> {
    match offset.checked_add(length) {
        Some(end) if end <= size && i64::try_from(end).is_ok() => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{length} bytes at {offset} are outside of the disk of {size} bytes"),
        )),
    }
}

/// Bytes in `buffers`.
pub(super) fn total(buffers: &[Slice<'_>]) -> u64 {
    buffers.iter().map(|buffer| buffer.len() as u64).sum()
}

/// The file of an open image.
pub(super) struct ImageFile {
    file: File,
    /// Looked at before each call.
    lease: Arc<Fence>,
    /// An earlier sync failed. Held while one is under way: the kernel tells a failure to one of them only.
    sync_failed: Mutex<bool>,
    /// What was done to the file, for tests that imagine a power cut.
    #[cfg(test)]
    pub(super) log: Option<std::sync::Arc<std::sync::Mutex<Vec<super::tests::Change>>>>,
}

impl ImageFile {
    pub(super) fn new(file: File, lease: Arc<Fence>) -> Self {
        Self {
            file,
            lease,
            sync_failed: Mutex::new(false),
            #[cfg(test)]
            log: None,
        }
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buffers` from `offset`; what lies past the end of the file reads as zeros.
    pub(super) fn read(&self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.lease.check()?;
        read(&self.file, buffers, offset)
    }

    /// Writes `buffers` at `offset`.
    pub(super) fn write(&self, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.lease.check()?;
        #[cfg(test)]
        self.note(|| super::tests::Change::Write(offset, super::tests::bytes(buffers)));
        write(&self.file, buffers, offset)
    }

    /// Fills `buffer` from `offset`.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.lease.check()?;
        self.file.read_exact_at(buffer, offset)
    }

    /// Reads until `buffer` is full or the file ends; returns how many bytes.
    pub(super) fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.lease.check()?;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes all of `buffer` at `offset`.
    pub(super) fn write_all_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.lease.check()?;
        #[cfg(test)]
        self.note(|| super::tests::Change::Write(offset, buffer.to_vec()));
        self.file.write_all_at(buffer, offset)
    }

    /// Writes zeros byte for byte.
    pub(super) fn write_zero_bytes(&self, mut offset: u64, mut length: u64) -> io::Result<()> {
        static ZEROS: [u8; 32768] = [0; 32768];
        while length > 0 {
            let now = length.min(ZEROS.len() as u64);
            self.write_all_at(&ZEROS[..now as usize], offset)?;
            offset += now;
            length -= now;
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.lease.check()?;
        let mut failed = self.sync_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(io::Error::other("an earlier write could not be made durable"));
        }
        #[cfg(test)]
        self.note(|| super::tests::Change::Sync);
        self.file.sync_data().map_err(|error| {
            *failed = true;
            // Also where it is for want of room: what is lost is not tried again.
            io::Error::other(format!("what was written could not be made durable: {error}"))
        })
    }

    /// Changes what is allocated. `false`: the file system cannot do this.
    pub(super) fn fallocate(&self, how: Fallocate, offset: u64, length: u64) -> io::Result<bool> {
        self.lease.check()?;
        #[cfg(test)]
        self.note(|| super::tests::Change::Punch(offset, length));
        fallocate(&self.file, how, offset, length)
    }

    #[cfg(test)]
    fn note(&self, change: impl FnOnce() -> super::tests::Change) {
        if let Some(log) = &self.log {
            log.lock().unwrap().push(change());
        }
    }
}

/// Fills `buffers` from `offset`; what lies past the end of the file reads as zeros.
fn read(file: &File, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
    let read = transfer(buffers, offset, |vectors, at| {
        // SAFETY: each vector is memory of a `Slice` that outlives the call and is valid for writes of its length.
        unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32, at) }
    });
    // The kernel wrote past the bitmap, perhaps also where it failed.
    buffers.iter().for_each(|buffer| buffer.bitmap().mark_dirty(0, buffer.len()));
    read.map(|rest| rest.iter().for_each(zero))
}

/// Writes `buffers` at `offset`.
fn write(file: &File, buffers: &[Slice<'_>], offset: u64) -> io::Result<()> {
    let rest = transfer(buffers, offset, |vectors, at| {
        // SAFETY: each vector is memory of a `Slice` that outlives the call and is valid for reads of its length.
        unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32, at) }
    })?;
    if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Calls `call` until all of `buffers` are transferred; returns what was not because `call` transferred nothing.
fn transfer<'a>(
    buffers: &[Slice<'a>],
    offset: u64,
    call: impl Fn(&[libc::iovec], i64) -> isize,
) -> io::Result<Vec<Slice<'a>>> {
    let mut rest: Vec<_> = buffers.iter().filter(|buffer| !buffer.is_empty()).copied().collect();
    let mut at = i64::try_from(offset).map_err(io::Error::other)?;
    while !rest.is_empty() {
        let guards: Vec<_> = rest.iter().take(MAX_VECTORS).map(Slice::ptr_guard_mut).collect();
        let vectors: Vec<_> = guards
            .iter()
            .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
            .collect();
        match usize::try_from(call(&vectors, at)) {
            Ok(0) => break,
            Ok(done) => {
                rest = skip(&rest, done);
                at = at
                    .checked_add_unsigned(done as u64)
                    .ok_or_else(|| io::Error::other("offset overflow"))?;
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(rest)
}

/// `buffers` without their first `count` bytes.
pub(super) fn skip<'a>(buffers: &[Slice<'a>], count: usize) -> Vec<Slice<'a>> {
    slice(buffers, count, usize::MAX)
}

/// At most `length` bytes of `buffers` from byte `start`.
pub(super) fn slice<'a>(buffers: &[Slice<'a>], start: usize, length: usize) -> Vec<Slice<'a>> {
    let (mut skip, mut want) = (start, length);
    let mut slices = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let from = skip.min(buffer.len());
        skip -= from;
        let count = (buffer.len() - from).min(want);
        if let (1.., Ok(part)) = (count, buffer.subslice(from, count)) {
            slices.push(part);
            want -= count;
        }
    }
    slices
}

/// Fills a buffer with zeros.
pub(super) fn zero(buffer: &Slice<'_>) {
    let guard = buffer.ptr_guard_mut();
    // SAFETY: the guard's pointer is valid for writes of its length; guest memory has no references that could be broken.
    unsafe { std::ptr::write_bytes(guard.as_ptr(), 0, guard.len()) };
    buffer.bitmap().mark_dirty(0, buffer.len());
}

/// Ways to change what is allocated in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallocate {
    /// Gives the room back; reads as zeros.
    Punch,
    /// Reads as zeros, room stays.
    Zero,
}

/// Calls `fallocate`. `false`: the file system cannot do this.
fn fallocate(file: &File, how: Fallocate, offset: u64, length: u64) -> io::Result<bool> {
    let mode = libc::FALLOC_FL_KEEP_SIZE
        | match how {
            Fallocate::Punch => libc::FALLOC_FL_PUNCH_HOLE,
            Fallocate::Zero => libc::FALLOC_FL_ZERO_RANGE,
        };
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    loop {
        // SAFETY: plain numbers and an open descriptor.
        if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV | libc::EINVAL) => return Ok(false),
            _ => return Err(error),
        }
    }
}
