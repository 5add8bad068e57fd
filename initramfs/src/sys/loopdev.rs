//! Loop devices: a window of a file or disk as a block device of its own.

use crate::error::{Doing, Error, Result};
use std::{
    fs::{File, OpenOptions},
    os::fd::{AsRawFd, RawFd},
    path::PathBuf,
};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const LO_FLAGS_READ_ONLY: u32 = 1;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device. Dropping it lets go of the device, which stays while it is mounted; use [`LoopDevice::detach`] to end it.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    device: File,
}

impl LoopDevice {
    /// Puts `bytes` bytes of `backing` from `offset` (0 bytes: to its end) behind a free loop device.
    pub fn attach(backing: &File, offset: u64, bytes: u64, read_only: bool) -> Result<Self> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control")
            .doing(|| "open /dev/loop-control (is the module loop loaded?)".into())?;
        for _ in 0..16 {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            let number = nix::errno::Errno::result(number).doing(|| "look for a free loop device".into())?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new()
                .read(true)
                .write(!read_only)
                .open(&path)
                .doing(|| format!("open {}", path.display()))?;
            match configure(device.as_raw_fd(), backing.as_raw_fd(), offset, bytes, read_only) {
                Ok(()) => return Ok(Self { path, device }),
                // Someone was quicker: ask for the next.
                Err(nix::errno::Errno::EBUSY) => {}
                Err(e) => return Err(e).doing(|| format!("set up {}", path.display())),
            }
        }
        Err(Error::wrong("no free loop device was found in 16 attempts"))
    }

    /// Its device node.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Ends it; what was written is on the disk under it after that one is synced.
    pub fn detach(self) -> Result<()> {
        self.device.sync_all().doing(|| format!("write back {}", self.path.display()))?;
        // SAFETY: LOOP_CLR_FD takes no argument.
        let rc = unsafe { libc::ioctl(self.device.as_raw_fd(), LOOP_CLR_FD) };
        nix::errno::Errno::result(rc).doing(|| format!("end {}", self.path.display()))?;
        Ok(())
    }
}

fn configure(device: RawFd, backing: RawFd, offset: u64, bytes: u64, read_only: bool) -> nix::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(backing).map_err(|_| nix::errno::Errno::EBADF)?,
        block_size: 0,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset,
            sizelimit: bytes,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: if read_only { LO_FLAGS_READ_ONLY } else { 0 },
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `loop_config` from the address given; the layout above is the kernel's.
    let rc = unsafe { libc::ioctl(device, LOOP_CONFIGURE, &raw const config) };
    nix::errno::Errno::result(rc).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
