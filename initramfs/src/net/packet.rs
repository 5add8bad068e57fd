//! IPv4/UDP packets of DHCP on the link itself, for the time before there is an address. Pure.

use std::net::Ipv4Addr;

/// Port of servers.
pub const SERVER_PORT: u16 = 67;
/// Port of clients.
pub const CLIENT_PORT: u16 = 68;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// The ones' complement sum over 16-bit words (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            let word = match pair {
                [a, b] => u16::from_be_bytes([*a, *b]),
                [a] => u16::from_be_bytes([*a, 0]),
                _ => 0,
            };
            sum += u32::from(word);
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !(sum as u16)
}

/// A DHCP message from `source` to everyone, with its IPv4 and UDP headers. At most 1400 bytes of payload are taken.
pub fn broadcast(source: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let payload = payload.get(..payload.len().min(1400)).unwrap_or(payload);
    let udp_length = (UDP_HEADER + payload.len()) as u16;
    let total = IP_HEADER as u16 + udp_length;
    let [s0, s1, s2, s3] = source.octets();
    let [t0, t1] = total.to_be_bytes();
    let mut ip = [0x45, 0, t0, t1, 0, 0, 0x40, 0, 64, 17, 0, 0, s0, s1, s2, s3, 255, 255, 255, 255];
    let [c0, c1] = checksum(&[&ip]).to_be_bytes();
    (ip[10], ip[11]) = (c0, c1);
    let [u0, u1] = udp_length.to_be_bytes();
    let mut udp = [0, CLIENT_PORT as u8, 0, SERVER_PORT as u8, u0, u1, 0, 0];
    let pseudo = [s0, s1, s2, s3, 255, 255, 255, 255, 0, 17, u0, u1];
    let sum = match checksum(&[&pseudo, &udp, payload]) {
        0 => 0xffff,
        sum => sum,
    };
    let [c0, c1] = sum.to_be_bytes();
    (udp[6], udp[7]) = (c0, c1);
    [ip.as_slice(), &udp, payload].concat()
}

/// The DHCP message in a packet for a client; `None` for everything else. The UDP checksum is not looked at: on virtual
/// links it is often left for hardware to fill in.
pub fn payload(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < IP_HEADER || *packet.get(9)? != 17 {
        return None;
    }
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    // Neither a later fragment nor one with more to come.
    if word(6)? & 0x3fff != 0 {
        return None;
    }
    let total = usize::from(word(2)?);
    if word(header)? != SERVER_PORT || word(header + 2)? != CLIENT_PORT {
        return None;
    }
    let udp_length = usize::from(word(header + 4)?);
    if udp_length < UDP_HEADER || header + udp_length > total {
        return None;
    }
    packet.get(header + UDP_HEADER..header + udp_length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_has_right_sums_and_comes_back() {
        let mut packet = broadcast(Ipv4Addr::UNSPECIFIED, b"hello");
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let udp = [&packet[12..20], &[0, 17], &packet[24..26], &packet[20..]].concat();
        assert_eq!(checksum(&[&udp]), 0);
        assert_eq!(payload(&packet), None, "to a server, not to a client");
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        assert_eq!(payload(&packet), Some(b"hello".as_slice()));
        packet[6] = 0x20;
        assert_eq!(payload(&packet), None, "a fragment");
    }

    proptest! {
        #[test]
        fn any_packet_is_survived(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = payload(&packet);
        }
    }
}
