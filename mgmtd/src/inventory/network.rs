//! Whether the management network works, seen from the host: it has an address, the gateway answers on the link, the API
//! answers at the address.
//!
//! The gateway is asked by ARP, which every gateway answers, where many do not answer an echo request.

use crate::network::bridge::BRIDGE;
use lq_api::management::NetworkTest;
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where the API is served.
const API_PORT: u16 = 443;
/// A port nobody listens at ("discard"): what is sent there only makes the kernel ask for the neighbour.
const DISCARD: u16 = 9;
/// `ATF_COM` of the kernel's table: the neighbour has answered.
const COMPLETE: u32 = 2;

/// Tests it. Takes some seconds where something does not answer.
#[must_use]
pub fn test_network() -> NetworkTest {
    let address = address();
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let gateway = default_gateway(&routes, BRIDGE);
    let api_answers = address.is_some_and(|(ip, _)| {
        let api = SocketAddr::V4(SocketAddrV4::new(ip, API_PORT));
        TcpStream::connect_timeout(&api, PATIENCE).is_ok()
    });
    NetworkTest {
        address: address.map(|(ip, prefix)| format!("{ip}/{prefix}")),
        gateway,
        gateway_answers: gateway.map(answers),
        api_answers,
    }
}

/// The bridge's address and its prefix length.
fn address() -> Option<(Ipv4Addr, u32)> {
    let found = nix::ifaddrs::getifaddrs().ok()?.filter(|i| i.interface_name == BRIDGE);
    found.into_iter().find_map(|i| {
        let ip = i.address.as_ref()?.as_sockaddr_in()?.ip();
        let mask = i.netmask.as_ref()?.as_sockaddr_in()?.ip();
        Some((ip, u32::from(mask).count_ones()))
    })
}

/// The gateway of the default route over an interface, from the kernel's table (hexadecimal, as the bytes lie in memory).
fn default_gateway(routes: &str, interface: &str) -> Option<Ipv4Addr> {
    routes.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (name, to, via) = (words.next()?, words.next()?, words.next()?);
        let via = u32::from_str_radix(via, 16).ok().filter(|v| *v != 0)?;
        (name == interface && to == "00000000").then(|| Ipv4Addr::from(via.to_ne_bytes()))
    })
}

/// Whether a neighbour answers now: what the kernel knew of it is forgotten first.
fn answers(neighbour: Ipv4Addr) -> bool {
    let ask = || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        forget(&socket, neighbour);
        socket.send_to(b"", (neighbour, DISCARD))?;
        Ok(socket)
    };
    let end = Instant::now() + PATIENCE;
    if ask().is_err() {
        return false;
    }
    loop {
        let table = fs::read_to_string("/proc/net/arp").unwrap_or_default();
        if has_answered(&table, neighbour) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has_answered(table: &str, neighbour: Ipv4Addr) -> bool {
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        let ip: Option<Ipv4Addr> = words.next().and_then(|w| w.parse().ok());
        let flags = words.nth(1).and_then(|w| u32::from_str_radix(w.trim_start_matches("0x"), 16).ok());
        ip == Some(neighbour) && flags.is_some_and(|f| f & COMPLETE != 0)
    })
}

/// Forgets a neighbour's hardware address (arp(7)); that it is not known is no error.
fn forget(socket: &UdpSocket, neighbour: Ipv4Addr) {
    // SAFETY: all-zero is a valid arpreq.
    let mut request: libc::arpreq = unsafe { std::mem::zeroed() };
    request.arp_pa.sa_family = libc::AF_INET as libc::sa_family_t;
    for (slot, byte) in request.arp_pa.sa_data.iter_mut().skip(2).zip(neighbour.octets()) {
        *slot = byte as libc::c_char;
    }
    for (slot, byte) in request.arp_dev.iter_mut().zip(BRIDGE.bytes()) {
        *slot = byte as libc::c_char;
    }
    // SAFETY: SIOCDARP reads one arpreq; the descriptor is open.
    unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCDARP as _, &raw const request) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_that_of_the_default_route_over_the_bridge() {
        let routes = "Iface\tDestination\tGateway \tFlags\neth9\t00000000\t0102000A\t0003\n\
                      lqbr0\t0000000A\t00000000\t0001\nlqbr0\t00000000\t0101A8C0\t0003\n";
        assert_eq!(default_gateway(routes, "lqbr0"), Some([192, 168, 1, 1].into()));
        assert_eq!(default_gateway("lqbr0\t0000000A\t00000000\t0001\n", "lqbr0"), None);
        assert_eq!(default_gateway("", "lqbr0"), None);
    }

    #[test]
    fn a_neighbour_that_did_not_answer_is_not_taken_for_one_that_did() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.2.2         0x1         0x2         52:55:0a:00:02:02     *        lqbr0\n\
                     10.0.2.3         0x1         0x0         00:00:00:00:00:00     *        lqbr0\n";
        assert!(has_answered(table, [10, 0, 2, 2].into()));
        assert!(!has_answered(table, [10, 0, 2, 3].into()) && !has_answered(table, [10, 0, 2, 4].into()));
    }
}
