//! Memory that other programs can be given: a file without a name for each region.
//!
//! Invariant: whoever gets such a file cannot change its length. One that could shrink it would end the monitor, which touches
//! pages that are not there any more.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd},
};

/// A file of `bytes` zeros, whose pages the host gives as they are touched.
///
/// # Errors
/// The host refused.
pub(super) fn file(bytes: u64) -> io::Result<File> {
    // SAFETY: the name ends in zero; the descriptor is checked and then owned here alone.
    let file = unsafe {
        let fd = libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.set_len(bytes)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: adds seals to a file of ours.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_changes_its_length() {
        let file = file(1 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(2 << 20).is_err());
    }
}
