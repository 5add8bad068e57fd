//! Writing a file to a removable drive.
//!
//! The file system is mounted at no place (fsmount(2)): nobody but who holds the descriptor sees it, and it is unmounted when
//! that is closed, however this ends. A file is written under another name, made durable, and renamed; what is half written
//! is removed. A drive that is pulled out cannot be tidied: what it has is named as unfinished, and the next file written to it
//! takes its place.

use super::{Error, signs::FileSystem};
use lq_api::Bytes;
use rustix::{
    fs::syncfs,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    },
};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// What is not whole is named so; with [`PREFIX`] it is ours to remove.
const UNFINISHED: &str = ".unfinished";
/// What the names of files written to drives begin with.
pub const PREFIX: &str = "limiquantix-";
/// For the file's entry in its directory and the like.
const SLACK: u64 = 64 << 10;
/// Bytes written at once.
const PIECE: usize = 1 << 20;

/// Mounts, writes, makes durable, unmounts.
pub(super) fn to_drive(
    device: &str,
    node: &Path,
    system: FileSystem,
    name: &str,
    content: &[u8],
) -> Result<(), Error> {
    let mounted = mount(node, system).map_err(|e| {
        let hint = match e.raw_os_error() {
            Some(libc::ENODEV) => "the kernel of this host does not know this file system",
            Some(libc::EBUSY) => "it is in use",
            Some(libc::EPERM) => "the management service may not mount",
            Some(libc::EROFS | libc::EACCES) => "it is write-protected",
            Some(libc::ENXIO | libc::ENOENT | libc::ENOMEDIUM) => "it was pulled out",
            _ => "it is damaged or was pulled out; check it on another computer, or format it anew",
        };
        Error::Failed { device: device.to_owned(), doing: "opening the file system", hint, source: e }
    })?;
    // There is no other way to it than by its descriptor.
    let root = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
    // That descriptor is only a path (O_PATH), which cannot be synced.
    let sync = || Ok(syncfs(File::open(&root)?.as_fd())?);
    deliver(device, &root, name, content, sync)
}

/// Mounted at no place.
fn mount(node: &Path, system: FileSystem) -> io::Result<OwnedFd> {
    let context = fsopen(system.kernel_name(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", node)?;
    // Whatever the file system itself asks for: a damaged one must not panic the host.
    fsconfig_set_string(context.as_fd(), "errors", "remount-ro")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Puts a file into the directory, whole or not at all; `sync` makes everything below it durable.
fn deliver(
    device: &str,
    root: &Path,
    name: &str,
    content: &[u8],
    sync: impl Fn() -> io::Result<()>,
) -> Result<(), Error> {
    let needed = content.len() as u64;
    let failed = |doing, e: io::Error| match e.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            full(device, needed, free(root).unwrap_or(0).min(needed.saturating_sub(1)))
        }
        code => {
            let hint = match code {
                Some(libc::EROFS) => "it can only be read: it is write-protected or damaged",
                Some(libc::EFBIG) => "its file system cannot hold so large a file",
                Some(libc::EEXIST) => "there is such a file already; try again",
                _ => {
                    "it was pulled out, or it is broken. Nothing that is whole was written: take another drive"
                }
            };
            Error::Failed { device: device.to_owned(), doing, hint, source: e }
        }
    };
    tidy(root);
    let free = free(root).map_err(|e| failed("looking for room", e))?;
    if free < needed.saturating_add(SLACK) {
        return Err(full(device, needed, free));
    }
    let path = root.join(name);
    if path.symlink_metadata().is_ok() {
        return Err(failed("making the file", io::Error::from_raw_os_error(libc::EEXIST)));
    }
    let half = root.join(format!("{name}{UNFINISHED}"));
    let written = (|| {
        let mut options = File::options();
        // Made anew: what is there under this name is never followed.
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&half)
            .map_err(|e| failed("making the file", e))?;
        for piece in content.chunks(PIECE) {
            file.write_all(piece).map_err(|e| failed("writing", e))?;
        }
        file.sync_all().map_err(|e| failed("writing", e))?;
        drop(file);
        fs::rename(&half, &path).map_err(|e| failed("naming the file", e))?;
        sync().map_err(|e| failed("writing", e))
    })();
    if written.is_err() {
        for left in [&half, &path] {
            let _ = fs::remove_file(left);
        }
        let _ = sync();
    }
    written
}

fn full(device: &str, needed: u64, free: u64) -> Error {
    Error::Full { device: device.to_owned(), needed: Bytes(needed), free: Bytes(free) }
}

/// Room in bytes.
fn free(root: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(root)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Removes what an earlier attempt left when the drive was pulled out.
fn tidy(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(UNFINISHED));
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
