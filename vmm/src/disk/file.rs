//! Image files: opening, locking, and vectored I/O straight from and to guest memory.

use super::Error;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Seek, SeekFrom},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};
use vm_memory::VolatileSlice;

/// Most buffers of one vectored call.
const MAX_VECTORS: usize = 1024;

/// Opens and locks a file.
pub(super) fn open(path: &str, read_only: bool) -> Result<File, Error> {
    let failed = |what| move |source| Error::Io { what, path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)
        .map_err(failed("open"))?;
    match if read_only { file.try_lock_shared() } else { file.try_lock() } {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: path.to_owned(), read_only }),
        Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
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
pub(super) fn total(buffers: &[VolatileSlice<'_>]) -> u64 {
    buffers.iter().map(|buffer| buffer.len() as u64).sum()
}

/// Fills `buffers` from `offset`; what lies past the end of the file reads as zeros.
pub(super) fn read(file: &File, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    transfer(buffers, offset, |vectors, at| {
        // SAFETY: each vector is memory of a `VolatileSlice` that outlives the call and is valid for writes of its length.
        unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32, at) }
    })
    .map(|rest| rest.iter().for_each(zero))
}

/// Writes `buffers` at `offset`.
pub(super) fn write(file: &File, buffers: &[VolatileSlice<'_>], offset: u64) -> io::Result<()> {
    let rest = transfer(buffers, offset, |vectors, at| {
        // SAFETY: each vector is memory of a `VolatileSlice` that outlives the call and is valid for reads of its length.
        unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32, at) }
    })?;
    if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Calls `call` until all of `buffers` are transferred; returns what was not because `call` transferred nothing.
fn transfer<'a>(
    buffers: &[VolatileSlice<'a>],
    offset: u64,
    call: impl Fn(&[libc::iovec], i64) -> isize,
) -> io::Result<Vec<VolatileSlice<'a>>> {
    let mut rest: Vec<_> = buffers.iter().filter(|buffer| !buffer.is_empty()).copied().collect();
    let mut at = i64::try_from(offset).map_err(io::Error::other)?;
    while !rest.is_empty() {
        let guards: Vec<_> = rest.iter().take(MAX_VECTORS).map(VolatileSlice::ptr_guard_mut).collect();
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
pub(super) fn skip<'a>(buffers: &[VolatileSlice<'a>], count: usize) -> Vec<VolatileSlice<'a>> {
    slice(buffers, count, usize::MAX)
}

/// At most `length` bytes of `buffers` from byte `start`.
pub(super) fn slice<'a>(
    buffers: &[VolatileSlice<'a>],
    start: usize,
    length: usize,
) -> Vec<VolatileSlice<'a>> {
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
pub(super) fn zero(buffer: &VolatileSlice<'_>) {
    let guard = buffer.ptr_guard_mut();
    // SAFETY: the guard's pointer is valid for writes of its length; guest memory has no references that could be broken.
    unsafe { std::ptr::write_bytes(guard.as_ptr(), 0, guard.len()) };
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
pub(super) fn fallocate(file: &File, how: Fallocate, offset: u64, length: u64) -> io::Result<bool> {
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

/// Writes zeros byte for byte.
pub(super) fn write_zero_bytes(file: &File, mut offset: u64, mut length: u64) -> io::Result<()> {
    static ZEROS: [u8; 32768] = [0; 32768];
    while length > 0 {
        let now = length.min(ZEROS.len() as u64);
        std::os::unix::fs::FileExt::write_all_at(file, &ZEROS[..now as usize], offset)?;
        offset += now;
        length -= now;
    }
    Ok(())
}
