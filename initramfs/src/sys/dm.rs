//! Device mapper by its ioctls: just what opens a dm-verity device.
//!
//! The message is `struct dm_ioctl` (312 bytes) followed, for a table, by one `struct dm_target_spec` (40 bytes) and the
//! target's parameters (linux/dm-ioctl.h). Encoding is pure and tested; [`create_verity`] sends it.

use crate::{
    cmdline::RootParams,
    error::{Doing, Error, Result},
};
use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const HEADER: usize = 312;
const SPEC: usize = 40;
const DM_READONLY_FLAG: u32 = 1;
const DM_DEV_CREATE: u8 = 3;
const DM_DEV_REMOVE: u8 = 4;
const DM_DEV_SUSPEND: u8 = 6;
const DM_TABLE_LOAD: u8 = 9;

/// `_IOWR(0xfd, command, struct dm_ioctl)`.
const fn request(command: u8) -> libc::c_ulong {
    (3 << 30) | ((HEADER as libc::c_ulong) << 16) | (0xfd << 8) | command as libc::c_ulong
}

/// Parameters of a `verity` target: format 1, 4096-byte blocks, SHA-256, hash tree with its superblock right after the data.
pub fn verity_params(device: &str, root: &RootParams) -> String {
    let blocks = root.data_bytes / 4096;
    let tree = blocks + 1;
    format!("1 {device} {device} 4096 4096 {blocks} {tree} sha256 {} {}", root.root_hash, root.salt)
}

/// A message with the fixed header and, where given, a table of one target.
fn message(name: &str, flags: u32, target: Option<(&str, u64, &str)>) -> Vec<u8> {
    let mut bytes = vec![0u8; HEADER];
    let put = |bytes: &mut Vec<u8>, at: usize, data: &[u8]| {
        for (slot, byte) in bytes.iter_mut().skip(at).zip(data) {
            *slot = *byte;
        }
    };
    if let Some((kind, sectors, params)) = target {
        let mut spec = vec![0u8; SPEC];
        put(&mut spec, 8, &sectors.to_le_bytes());
        put(&mut spec, 24, kind.as_bytes().get(..kind.len().min(15)).unwrap_or_default());
        spec.extend_from_slice(params.as_bytes());
        spec.push(0);
        spec.resize(spec.len().next_multiple_of(8), 0);
        let next = u32::try_from(spec.len()).unwrap_or(0);
        put(&mut spec, 20, &next.to_le_bytes());
        bytes.extend_from_slice(&spec);
    }
    let size = u32::try_from(bytes.len()).unwrap_or(0);
    put(&mut bytes, 0, &4u32.to_le_bytes());
    put(&mut bytes, 12, &size.to_le_bytes());
    put(&mut bytes, 16, &(HEADER as u32).to_le_bytes());
    put(&mut bytes, 20, &u32::from(target.is_some()).to_le_bytes());
    put(&mut bytes, 28, &flags.to_le_bytes());
    put(&mut bytes, 48, name.as_bytes().get(..name.len().min(127)).unwrap_or_default());
    bytes
}

fn send(control: &File, command: u8, mut bytes: Vec<u8>) -> nix::Result<Vec<u8>> {
    // SAFETY: the buffer is at least one header long and says its own length in `data_size`; the kernel reads and writes
    // no more than that.
    let rc = unsafe { libc::ioctl(control.as_raw_fd(), request(command), bytes.as_mut_ptr()) };
    nix::errno::Errno::result(rc).map(|_| bytes)
}

/// Opens `device` (data followed by its hash tree) as a verified read-only device and returns its node.
pub fn create_verity(name: &str, device: &Path, root: &RootParams) -> Result<PathBuf> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/mapper/control")
        .doing(|| "open /dev/mapper/control (is the module dm-mod loaded?)".into())?;
    let number = super::device_number(device)?;
    let answer = send(&control, DM_DEV_CREATE, message(name, 0, None))
        .doing(|| format!("create the device-mapper device {name}"))?;
    let table = Some(("verity", root.data_bytes / 512, verity_params(&number, root)));
    let table = table.as_ref().map(|(k, s, p)| (*k, *s, p.as_str()));
    let loaded = send(&control, DM_TABLE_LOAD, message(name, DM_READONLY_FLAG, table))
        .and_then(|_| send(&control, DM_DEV_SUSPEND, message(name, 0, None)));
    if let Err(e) = loaded {
        let _ = send(&control, DM_DEV_REMOVE, message(name, 0, None));
        return Err(e).doing(|| {
            format!(
                "open {} with dm-verity (wrong lq.root=, or the image is cut short or damaged)",
                device.display()
            )
        });
    }
    let minor = minor_of(&answer)?;
    let path = PathBuf::from(format!("/dev/dm-{minor}"));
    // The kernel makes the node in its own time.
    let start = Instant::now();
    while !path.exists() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(Error::wrong(format!("{} did not appear", path.display())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(path)
}

/// Ends a device nothing uses any more.
pub fn remove(name: &str) -> Result<()> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/mapper/control")
        .doing(|| "open /dev/mapper/control".into())?;
    send(&control, DM_DEV_REMOVE, message(name, 0, None))
        .doing(|| format!("end the device-mapper device {name}"))?;
    Ok(())
}

/// The minor number in an answer (`dev`, in the kernel's "huge" encoding).
fn minor_of(answer: &[u8]) -> Result<u64> {
    let dev = answer
        .get(40..48)
        .and_then(|b| b.try_into().ok())
        .map(u64::from_le_bytes)
        .ok_or_else(|| Error::wrong("short answer of device mapper"))?;
    Ok(nix::sys::stat::minor(dev))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> RootParams {
        RootParams { data_bytes: 8 * 4096, root_hash: "ab".repeat(32), salt: "01".into() }
    }

    #[test]
    fn parameters_place_the_tree_after_the_superblock() {
        let text = verity_params("254:3", &root());
        assert_eq!(text, format!("1 254:3 254:3 4096 4096 8 9 sha256 {} 01", "ab".repeat(32)));
    }

    #[test]
    fn a_table_is_one_aligned_target() {
        let bytes = message("root", DM_READONLY_FLAG, Some(("verity", 64, "x")));
        assert_eq!(bytes.len(), HEADER + 48);
        assert_eq!(bytes[12..16], 360u32.to_le_bytes());
        assert_eq!(bytes[20], 1);
        assert_eq!(&bytes[48..53], b"root\0");
        assert_eq!(bytes[HEADER + 8..HEADER + 16], 64u64.to_le_bytes());
        assert_eq!(bytes[HEADER + 20..HEADER + 24], 48u32.to_le_bytes());
        assert_eq!(&bytes[HEADER + 24..HEADER + 31], b"verity\0");
        assert_eq!(bytes[HEADER + SPEC], b'x');
    }

    #[test]
    fn request_numbers_are_the_kernels() {
        assert_eq!(request(DM_DEV_CREATE), 0xc138_fd03);
    }
}
