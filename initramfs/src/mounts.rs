//! Mounting, in the few ways a boot needs.

use crate::error::{Doing, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{fs, path::Path};

/// Flags of a file system that holds neither programs nor devices.
pub const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Mounts `source` at `target`; the directory is made where it can be.
pub fn mount_at(source: &Path, target: &str, kind: &str, flags: MsFlags, data: &str) -> Result<()> {
    if !Path::new(target).exists() {
        let _ = fs::create_dir_all(target);
    }
    mount(Some(source), target, Some(kind), flags, Some(data))
        .doing(|| format!("mount {} at {target} as {kind}", source.display()))
}

/// Mounts a kernel file system, named as its type.
pub fn mount_kernel(kind: &str, target: &str, flags: MsFlags, data: &str) -> Result<()> {
    mount_at(Path::new(kind), target, kind, flags, data)
}

/// Takes a mount away; where it is busy, as soon as it no longer is.
pub fn unmount(target: &str) -> Result<()> {
    match umount2(target, MntFlags::empty()) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EBUSY) => {
            umount2(target, MntFlags::MNT_DETACH).doing(|| format!("detach {target}"))
        }
        Err(e) => Err(e).doing(|| format!("unmount {target}")),
    }
}

/// Takes a mount away for good, or at least lets nothing be written to it any more.
pub fn unmount_or_read_only(target: &str) -> Result<()> {
    if umount2(target, MntFlags::empty()).is_ok() {
        return Ok(());
    }
    mount(None::<&str>, target, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)
        .doing(|| format!("make {target} read-only"))
}

/// Whether something is mounted at `target`.
pub fn is_mounted(target: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|l| l.split(' ').nth(1) == Some(target))
}

/// Whether what is at `path` is on an ext4 file system, and not on memory that stands in for one.
pub fn is_ext4(path: &str) -> bool {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, statfs};
    statfs(path).is_ok_and(|s| s.filesystem_type() == EXT4_SUPER_MAGIC)
}

/// The file systems every stage needs first. `/proc` and `/sys` may be there already.
pub fn mount_basics() -> Result<()> {
    for (kind, target, flags, data) in [
        ("proc", "/proc", PLAIN, ""),
        ("sysfs", "/sys", PLAIN, ""),
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=0755,size=20%"),
    ] {
        mount_kernel(kind, target, flags, data)?;
    }
    Ok(())
}

/// The program the kernel asks for modules: ourselves, in both stages.
pub fn answer_module_requests(program: &str) {
    let _ = fs::write("/proc/sys/kernel/modprobe", program);
}
