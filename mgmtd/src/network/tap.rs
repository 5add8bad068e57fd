//! Persistent tap devices: one per interface of a machine, made before its monitor gets it and removed after it let go of it.
//!
//! They are named by machine and address, not by place: an interface that comes or goes changes no other's name. All names begin
//! alike, so that one filter rule speaks of all of them ([`PREFIX`]).

use lq_api::{VmId, vm::Mac};
use sha2::{Digest as _, Sha256};
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
const IFF_MULTI_QUEUE: i16 = 0x0100;

/// `struct ifreq` as far as `TUNSETIFF` reads it.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// How the name of every tap begins, and of nothing else.
pub const PREFIX: &str = "lqv";
/// Characters after that, of five bits each: as many as a device name may have.
const DIGITS: usize = 12;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Name of the tap of a machine's interface: `lqv` and 60 bits of a hash of both, of which no two in a cluster are alike.
#[must_use]
pub fn name(vm: VmId, mac: Mac) -> String {
    let hash = Sha256::new().chain_update(vm.0.as_bytes()).chain_update(mac.0).finalize();
    let bits = hash.iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digit = |n: usize| ALPHABET.get((bits >> (5 * n)) as usize & 31).copied().unwrap_or(b'a');
    PREFIX.chars().chain((0..DIGITS).map(|n| char::from(digit(n)))).collect()
}

/// Whether a device name is one of [`name`], or of releases before it: `lq<8 hex digits>.<index>`.
#[must_use]
pub fn is_ours(device: &str) -> bool {
    if let Some(digits) = device.strip_prefix(PREFIX) {
        return digits.len() == DIGITS && digits.bytes().all(|b| ALPHABET.contains(&b));
    }
    let Some((digits, index)) = device.strip_prefix("lq").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    digits.len() == 8
        && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && index.parse::<u8>().is_ok()
}

/// Makes a persistent tap device that carries virtio-net headers, for several queues where wanted. One that exists already is kept.
///
/// # Errors
/// `/dev/net/tun` cannot be opened, the name is too long or taken by another kind of device, or we lack the privilege.
pub fn create(name: &str, several: bool) -> io::Result<()> {
    let file = queue(name, several)?;
    // SAFETY: TUNSETPERSIST takes an integer, no pointer.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETPERSIST, 1 as libc::c_ulong) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor for each queue of the tap device, which carries virtio-net headers; makes it where it does not exist.
///
/// # Errors
/// As of [`create`]; something else has it; or it was made for one queue, and several are wanted.
pub fn open(name: &str, queues: u8) -> io::Result<Vec<File>> {
    (0..queues.max(1)).map(|_| queue(name, queues > 1)).collect()
}

fn queue(name: &str, several: bool) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | if several { IFF_MULTI_QUEUE } else { 0 };
    let mut request = IfReq { name: [0; 16], flags, rest: [0; 22] };
    let room = request.name.get_mut(..15).and_then(|room| room.get_mut(..name.len()));
    room.ok_or_else(|| io::Error::other(format!("the device name {name} is too long")))?
        .copy_from_slice(name.as_bytes());
    let fd: RawFd = file.as_raw_fd();
    // SAFETY: `request` is a `struct ifreq` that lives through the call; the kernel reads and writes only inside it.
    if unsafe { libc::ioctl(fd, TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_known_again() {
        let vm = VmId::new();
        for n in 0..64 {
            let name = name(vm, Mac([2, 0, 0, 0, 0, n]));
            assert!(name.len() <= 15 && is_ours(&name), "{name}");
        }
        assert!(is_ours("lq01234567.0"), "of an earlier release");
        for other in [
            "lqbr0",
            "lq0123456.0",
            "lq0123456g.0",
            "lq01234567.x",
            "eth0",
            "lq01234567",
            "lqv",
            "lqvabcdefghijk1",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn interfaces_and_machines_differ() {
        let (one, mac) = (VmId::new(), Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(name(one, mac), name(one, mac));
        assert_ne!(name(one, mac), name(VmId::new(), mac));
        assert_ne!(name(one, mac), name(one, Mac([2, 0, 0, 0, 0, 2])));
    }
}
