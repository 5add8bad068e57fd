//! What an interface has carried, by the host's count at its tap: QEMU itself does not count.
//!
//! The counters' files are opened before the jail and stay readable in it.

use lq_api::local::vmm::IoStats;
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Where the kernel tells of interfaces.
const NETWORK: &str = "/sys/class/net";
/// What the guest receives is what the host sends, and the other way round.
const NAMES: [&str; 6] = ["tx_bytes", "rx_bytes", "tx_packets", "rx_packets", "tx_dropped", "rx_dropped"];

/// The counters of one tap.
#[derive(Debug)]
pub struct Traffic([Option<File>; NAMES.len()]);

impl Traffic {
    /// Of the interface `tap`; what cannot be opened counts as zero.
    #[must_use]
    pub fn open(tap: &str) -> Self {
        let at = Path::new(NETWORK).join(tap).join("statistics");
        Self(NAMES.map(|name| File::open(at.join(name)).ok()))
    }

    /// As they are now, from the guest's view.
    #[must_use]
    pub fn read(&self) -> IoStats {
        let [read_bytes, written_bytes, reads, writes, lost, refused] =
            [0, 1, 2, 3, 4, 5].map(|n: usize| self.0.get(n).and_then(Option::as_ref).map_or(0, number));
        IoStats { read_bytes, written_bytes, reads, writes, errors: lost.saturating_add(refused) }
    }
}

fn number(file: &File) -> u64 {
    let read = || -> io::Result<u64> {
        let mut text = [0; 24];
        let length = file.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(text.get(..length).unwrap_or_default()).map_err(io::Error::other)?;
        text.trim().parse().map_err(io::Error::other)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_counted() {
        let traffic = Traffic::open("lo");
        let before = traffic.read();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        let after = traffic.read();
        assert!(
            after.read_bytes >= before.read_bytes + 1000 && after.writes > before.writes,
            "{before:?} {after:?}"
        );
        assert_eq!(Traffic::open("no/such").read(), IoStats::default());
    }
}
