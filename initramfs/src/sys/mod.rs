//! The system calls the standard library and `nix` have no safe words for, each wrapped once.

pub mod dm;
pub mod loopdev;
pub mod spawn;

use crate::error::{Doing, Result};
use std::{
    ffi::CString,
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
};

/// Loads a kernel module from its file. A module that is loaded already is no error.
pub fn load_module(path: &Path) -> Result<()> {
    let file = File::open(path).doing(|| format!("open the module {}", path.display()))?;
    let params = CString::default();
    // SAFETY: the descriptor is open, the parameters are a NUL-terminated string; the kernel copies both.
    let rc = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), params.as_ptr(), 0) };
    match nix::errno::Errno::result(rc) {
        Ok(_) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(e) => Err(e).doing(|| format!("load the module {}", path.display())),
    }
}

/// Size of a block device in bytes.
pub fn block_size_bytes(file: &File) -> Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 writes one u64 to the address given.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) };
    nix::errno::Errno::result(rc).doing(|| "ask a block device for its size".into())?;
    Ok(bytes)
}

/// Bytes of a logical sector of a block device.
pub fn sector_bytes(file: &File) -> Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: BLKSSZGET writes one int to the address given.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), BLKSSZGET, &raw mut bytes) };
    nix::errno::Errno::result(rc).doing(|| "ask a block device for its sector size".into())?;
    Ok(u32::try_from(bytes).unwrap_or(512))
}

const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
const BLKSSZGET: libc::c_ulong = 0x1268;

/// `major:minor` of a device node, as device-mapper tables name it.
pub fn device_number(path: &Path) -> Result<String> {
    let rdev = fs::metadata(path).doing(|| format!("look at {}", path.display()))?.rdev();
    Ok(format!("{}:{}", nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev)))
}

/// Makes durable which names a directory has: a file that was made, renamed or removed in it.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Memory of the machine in bytes.
pub fn memory_bytes() -> u64 {
    // SAFETY: sysinfo fills the structure given, for which all-zero is a valid value.
    let info = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        libc::sysinfo(&raw mut info);
        info
    };
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}
