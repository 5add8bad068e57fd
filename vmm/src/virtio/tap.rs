//! Tap devices: opening them, what they can offload, packets with a virtio-net header in front.

use crate::memory::Slice;
use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

// From linux/if_tun.h; all take an int or a pointer to one unless noted.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
const TUNSETQUEUE: libc::c_ulong = 0x4004_54d9;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;

const IFF_TAP: libc::c_short = 0x0002;
const IFF_MULTI_QUEUE: libc::c_short = 0x0100;
const IFF_ATTACH_QUEUE: libc::c_short = 0x0200;
const IFF_DETACH_QUEUE: libc::c_short = 0x0400;
const IFF_NO_PI: libc::c_short = 0x1000;
const IFF_VNET_HDR: libc::c_short = 0x4000;

/// Checksums may be left to the receiver.
pub(super) const OFFLOAD_CSUM: u32 = 0x01;
/// IPv4 segmentation may be left to the receiver.
pub(super) const OFFLOAD_TSO4: u32 = 0x02;
/// IPv6 segmentation may be left to the receiver.
pub(super) const OFFLOAD_TSO6: u32 = 0x04;
/// TCP ECN with segmentation.
pub(super) const OFFLOAD_ECN: u32 = 0x08;

/// Opens `queues` queues (at least one) of the existing tap device `name`, non-blocking, with a virtio-net header before each
/// packet. For more than one the device must have been made with `multi_queue`; for one it may.
///
/// # Errors
/// There is no such device, it is of another kind or in use, or it may not be opened.
pub fn open_taps(name: &str, queues: u8) -> io::Result<Vec<File>> {
    let invalid = |error: &io::Error| error.kind() == io::ErrorKind::InvalidInput;
    if queues <= 1 {
        let opened = open_tap(name);
        // The kernel takes the flag exactly where the device has it.
        let opened = opened.or_else(|e| if invalid(&e) { open_queue(name, IFF_MULTI_QUEUE) } else { Err(e) });
        return opened.map(|tap| vec![tap]);
    }
    let opened: io::Result<_> = (0..queues).map(|_| open_queue(name, IFF_MULTI_QUEUE)).collect();
    opened.map_err(|error| match invalid(&error) {
        true => io::Error::other(format!(
            "{queues} queues are wanted, but it was not made with multi_queue ({error})"
        )),
        false => error,
    })
}

/// Opens the existing tap device `name`, which has one queue.
///
/// # Errors
/// As of [`open_taps`].
pub fn open_tap(name: &str) -> io::Result<File> {
    open_queue(name, 0)
}

fn open_queue(name: &str, more: libc::c_short) -> io::Result<File> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` is not the name of an interface"),
        ));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    // SAFETY: an all-zero `ifreq` is valid: it holds numbers, addresses as numbers, and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more;
    // SAFETY: `request` is a valid ifreq that lives through the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// Makes a tap that was opened by someone else as [`open_taps`] gives it; `several`: it is one of several queues.
///
/// # Errors
/// It is no tap, or packets do not have the header a virtio interface needs.
pub(super) fn adopt(tap: &File, several: bool) -> io::Result<()> {
    // SAFETY: an all-zero `ifreq` is valid, as above.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: `request` is a valid ifreq that lives through the call.
    if unsafe { libc::ioctl(tap.as_raw_fd(), TUNGETIFF as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | if several { IFF_MULTI_QUEUE } else { 0 };
    if flags & wanted != wanted {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            if several {
                "it must be opened with IFF_TAP, IFF_NO_PI, IFF_VNET_HDR and IFF_MULTI_QUEUE"
            } else {
                "it must be opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR"
            },
        ));
    }
    let on: libc::c_int = 1;
    // SAFETY: the argument points to an int that lives through the call.
    if unsafe { libc::ioctl(tap.as_raw_fd(), libc::FIONBIO, &raw const on) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Has the kernel use a queue of a device with several, or not.
pub(super) fn attach(tap: &File, attach: bool) -> io::Result<()> {
    // SAFETY: an all-zero `ifreq` is valid, as above.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_flags = if attach { IFF_ATTACH_QUEUE } else { IFF_DETACH_QUEUE };
    // SAFETY: `request` is a valid ifreq that lives through the call.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETQUEUE as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the size of the header before each packet.
pub(super) fn set_header_size(tap: &File, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: the argument points to an int that lives through the call.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETVNETHDRSZ as _, &raw const bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets what the kernel may leave undone in packets it gives us.
pub(super) fn set_offload(tap: &File, offload: u32) -> io::Result<()> {
    // SAFETY: the argument is a number.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETOFFLOAD as _, libc::c_ulong::from(offload)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends one packet gathered from `buffers`.
pub(super) fn send(tap: &File, buffers: &[Slice<'_>]) -> io::Result<()> {
    let guards: Vec<_> = buffers.iter().map(Slice::ptr_guard).collect();
    let vectors: Vec<_> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast_mut().cast(), iov_len: guard.len() })
        .collect();
    loop {
        // SAFETY: each vector is memory of a `Slice` that outlives the call and is valid for reads of its length.
        if unsafe { libc::writev(tap.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
