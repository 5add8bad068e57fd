//! Persistent tap devices: one per interface of a machine, made before its monitor starts and removed after it ended.

use lq_api::VmId;
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;

/// `struct ifreq` as far as `TUNSETIFF` reads it.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Name of the tap of a machine's interface: `lq<8 hex digits>.<index>`. The digits are the last of the machine's id, its
/// random part (the first ones are a time, alike for machines made together).
#[must_use]
pub fn name(vm: VmId, index: u8) -> String {
    let random = vm.0.as_u128() as u32;
    format!("lq{random:08x}.{index}")
}

/// Whether a device name is one of [`name`].
#[must_use]
pub fn is_ours(device: &str) -> bool {
    let Some((digits, index)) = device.strip_prefix("lq").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    digits.len() == 8
        && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && index.parse::<u8>().is_ok()
}

/// Makes a persistent tap device that carries virtio-net headers. One that exists already is kept.
///
/// # Errors
/// `/dev/net/tun` cannot be opened, the name is too long or taken by another kind of device, or we lack the privilege.
pub fn create(name: &str) -> io::Result<()> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = IfReq { name: [0; 16], flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, rest: [0; 22] };
    let room = request.name.get_mut(..15).and_then(|room| room.get_mut(..name.len()));
    room.ok_or_else(|| io::Error::other(format!("the device name {name} is too long")))?
        .copy_from_slice(name.as_bytes());
    let fd: RawFd = file.as_raw_fd();
    // SAFETY: `request` is a `struct ifreq` that lives through the call; the kernel reads and writes only inside it.
    if unsafe { libc::ioctl(fd, TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: TUNSETPERSIST takes an integer, no pointer.
    if unsafe { libc::ioctl(fd, TUNSETPERSIST, 1 as libc::c_ulong) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_known_again() {
        for index in [0, 7] {
            let name = name(VmId::new(), index);
            assert!(name.len() <= 15 && is_ours(&name), "{name}");
        }
        for other in ["lqbr0", "lq0123456.0", "lq0123456g.0", "lq01234567.x", "eth0", "lq01234567"] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn machines_made_together_differ() {
        assert_ne!(name(VmId::new(), 0), name(VmId::new(), 0));
    }
}
