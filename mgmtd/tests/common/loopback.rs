//! Addresses that only this test process uses.
//!
//! A port that was free a moment ago may be somebody else's when a daemon opens it, or opens it again after it was killed.
//! All of 127.0.0.0/8 is this machine: a process has an address of its own there by its id, so nobody else can be in the way.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
};

/// The loopback address of this process, never 127.0.0.1.
pub fn own_address() -> IpAddr {
    // Linux has no process ids above 2^22.
    let [_, a, b, c] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | a, b, c).into()
}

/// An address and port given to nobody else, also while nothing listens there.
pub fn own_port() -> SocketAddr {
    port_of(own_address())
}

/// A port of this address that this process gives out once: of one that is not its own, others might be in the way.
pub fn port_of(address: IpAddr) -> SocketAddr {
    // Below those the kernel gives out, where someone may listen on every address at once; each process begins elsewhere.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = std::process::id() % 20_000 + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::new(address, u16::try_from(10_000 + next % 20_000).unwrap());
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
