//! A packet socket that hears DHCP requests on one interface and sends whole frames.
//!
//! The kernel filters for us: what is not for UDP port 67 never wakes the daemon.

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};
use tokio::io::unix::AsyncFd;

/// The socket.
pub(super) struct PacketSocket(AsyncFd<OwnedFd>);

/// Classic BPF: IPv4, UDP, not a later fragment, destination port 67.
const FILTER: [libc::sock_filter; 11] = {
    const fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
    use libc::{
        BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
    };
    [
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 12),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 8, 0x0800),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 23),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, 17),
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 20),
        op(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 0x1fff),
        op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 14),
        op(BPF_LD | BPF_H | BPF_IND, 0, 0, 16),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 67),
        op(BPF_RET | BPF_K, 0, 0, 0xffff),
        op(BPF_RET | BPF_K, 0, 0, 0),
    ]
};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl PacketSocket {
    /// Listens on the interface with this index. Needs CAP_NET_RAW.
    pub(super) fn open(interface: u32) -> io::Result<Self> {
        let protocol = (libc::ETH_P_IP as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: hears nothing until it is bound, by when the filter is in place.
        // SAFETY: takes no pointers.
        let raw = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: `raw` is a descriptor just made and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let mut filter = FILTER;
        let program = libc::sock_fprog { len: FILTER.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: `program` and the instructions it points to live through the call; the kernel copies them.
        check(unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                mem::size_of_val(&program) as libc::socklen_t,
            )
        })?;
        // SAFETY: all-zero is a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
        // SAFETY: `address` is a `sockaddr_ll` of the length given.
        check(unsafe {
            let length = mem::size_of_val(&address) as libc::socklen_t;
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length)
        })?;
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, which happens after deregistration.
        Ok(Self(unsafe { AsyncFd::register(fd) }?))
    }

    /// The next frame; its length.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0
            .async_io(tokio::io::Interest::READABLE, |fd| {
                // SAFETY: `buffer` is writable for its whole length.
                let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
                usize::try_from(n).map_err(|_| io::Error::last_os_error())
            })
            .await
    }

    /// Sends a frame.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: `frame` is readable for its whole length.
        let n = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        usize::try_from(n).map(|_| ()).map_err(|_| io::Error::last_os_error())
    }

    /// A UDP socket at port 67 of the interface that is never read, for as long as it is kept. None where it cannot be had:
    /// guests then get an error for a renewal that is answered all the same.
    pub(super) fn swallow(interface: &str) -> Option<OwnedFd> {
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
        };
        let open = || -> nix::Result<OwnedFd> {
            let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
            setsockopt(&fd, sockopt::BindToDevice, &interface.into())?;
            setsockopt(&fd, sockopt::RcvBuf, &0)?;
            bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, super::frame::SERVER_PORT))?;
            Ok(fd)
        };
        open().inspect_err(|error| tracing::debug!(%error, "port 67 is not ours")).ok()
    }
}
