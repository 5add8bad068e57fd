//! Finding hosts that wait to be paired: multicast DNS (RFC 6762) and service discovery (RFC 6763) on the network of the
//! management address, for the one service `_limiquantix._tcp`.
//!
//! ```text
//!  waiting host: respond ◀── question by multicast, answer to the asker ──▶ browse: a host whose page is looked at
//! ```
//! Nobody asks all the time and nothing is remembered: a look lasts a second. Invariants: what is found adds nothing to trust
//! (whoever is there proves it by the code, [`crate::cluster::pairing`]); only askers of the same network are answered, and no
//! more often than [`respond`] says, so that nobody is flooded through us.

mod browse;
mod message;
mod respond;
mod wait;

pub(crate) use browse::browse;
use respond::{Announced, respond};
pub(crate) use wait::{own_address, run};

use message::Name;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};
use tokio::net::UdpSocket;

/// The group of multicast DNS.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// Its port.
pub(crate) const PORT: u16 = 5353;
/// The service.
const SERVICE: &str = "_limiquantix._tcp.local";

fn service() -> Name {
    Name::new(SERVICE)
}

/// A socket that sends to the group by the interface with the address `from`; with `listen`, it hears the group there too.
fn socket(from: Ipv4Addr, listen: Option<u16>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_multicast_if_v4(&from)?;
    socket.set_multicast_ttl_v4(255)?;
    socket.set_multicast_loop_v4(true)?;
    // Only of the group it joins, not what other programs of this host joined elsewhere.
    socket.set_multicast_all_v4(false)?;
    match listen {
        Some(port) => {
            // Others on this host may hear the group as well.
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            socket.join_multicast_v4(&GROUP, &from)?;
        }
        None => socket.bind(&SocketAddr::from((from, 0)).into())?,
    }
    UdpSocket::from_std(socket.into())
}

fn group(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(GROUP, port)
}

/// Whether `other` is on the network of `own`; the netmask is this host's.
fn on_link(own: Ipv4Addr, mask: Ipv4Addr, other: Ipv4Addr) -> bool {
    let net = |a: Ipv4Addr| u32::from(a) & u32::from(mask);
    net(own) == net(other)
}

/// The netmask of one of this host's addresses.
fn mask_of(own: Ipv4Addr) -> Option<Ipv4Addr> {
    let v4 = |a: Option<nix::sys::socket::SockaddrStorage>| {
        a.as_ref().and_then(|a| a.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip))
    };
    nix::ifaddrs::getifaddrs().ok()?.find(|i| v4(i.address) == Some(own)).and_then(|i| v4(i.netmask))
}

#[cfg(test)]
mod tests;
