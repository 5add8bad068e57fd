//! Ethernet frames that carry DHCP: taken apart and put together. Pure.

use lq_api::vm::Mac;
use std::net::Ipv4Addr;

/// The port servers listen at.
pub(super) const SERVER_PORT: u16 = 67;
/// The port clients listen at.
pub(super) const CLIENT_PORT: u16 = 68;
/// To everyone.
pub(super) const BROADCAST: Mac = Mac([0xff; 6]);
/// Clients may ignore a shorter message: RFC 1542, section 2.1.
const SHORTEST: usize = 300;

/// The sender and the UDP payload of a frame sent to a DHCP server; none for anything else.
///
/// Checksums are not looked at: a guest's frame that never left the host need not have one.
pub(super) fn to_server(frame: &[u8]) -> Option<(Mac, &[u8])> {
    let sender = frame.get(6..12)?.try_into().ok()?;
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let packet = frame.get(14..)?;
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let fragment = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?) & 0x3fff;
    if first >> 4 != 4 || header < 20 || fragment != 0 || *packet.get(9)? != 17 {
        return None;
    }
    let datagram = packet.get(header..total)?;
    if datagram.get(2..4)? != SERVER_PORT.to_be_bytes() {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(datagram.get(4..6)?.try_into().ok()?));
    Some((Mac(sender), datagram.get(8..length)?))
}

/// One end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Hardware address.
    pub(super) mac: Mac,
    /// Address.
    pub(super) ip: Ipv4Addr,
}

/// A frame from a DHCP server to a client; none where the payload is too long for one.
pub(super) fn to_client(from: End, to: End, payload: &[u8]) -> Option<Vec<u8>> {
    let mut payload = payload.to_vec();
    payload.resize(payload.len().max(SHORTEST), 0);
    let udp_length = u16::try_from(payload.len() + 8).ok().filter(|length| *length <= 1480)?;

    let mut udp = Vec::with_capacity(usize::from(udp_length));
    for field in [SERVER_PORT, CLIENT_PORT, udp_length, 0] {
        udp.extend(field.to_be_bytes());
    }
    udp.extend(&payload);
    let mut pseudo = Vec::with_capacity(udp.len() + 12);
    pseudo.extend(from.ip.octets());
    pseudo.extend(to.ip.octets());
    pseudo.extend([0, 17]);
    pseudo.extend(udp_length.to_be_bytes());
    pseudo.extend(&udp);
    // Zero would mean that there is no checksum.
    let checksum = Some(sum(&pseudo)).filter(|sum| *sum != 0).unwrap_or(0xffff);
    udp.get_mut(6..8)?.copy_from_slice(&checksum.to_be_bytes());

    let mut ip = vec![0x45, 0x10];
    ip.extend((udp_length + 20).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    ip.extend(from.ip.octets());
    ip.extend(to.ip.octets());
    let checksum = sum(&ip);
    ip.get_mut(10..12)?.copy_from_slice(&checksum.to_be_bytes());

    let ethernet = [to.mac.0.as_slice(), &from.mac.0, &[0x08, 0x00]];
    Some([ethernet.concat(), ip, udp].concat())
}

/// Internet checksum: RFC 1071.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
        u32::from(u16::from_be_bytes([high, low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: End = End { mac: Mac([2, 0, 0, 0, 0, 1]), ip: Ipv4Addr::new(10, 0, 0, 1) };
    const TO: End = End { mac: BROADCAST, ip: Ipv4Addr::BROADCAST };

    #[test]
    fn checksums_come_out() {
        let frame = to_client(FROM, TO, &[7; 301]).unwrap();
        assert_eq!(sum(&frame[14..34]), 0);
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, 17]);
        pseudo.extend(&frame[38..40]);
        pseudo.extend(&frame[34..]);
        assert_eq!(sum(&pseudo), 0);
        assert_eq!(to_client(FROM, TO, &[0; 2000]), None);
    }

    /// What a client would send: the ports the other way round.
    fn request(payload: &[u8]) -> Vec<u8> {
        let mut frame = to_client(FROM, TO, payload).unwrap();
        frame[34..38].rotate_left(2);
        frame
    }

    #[test]
    fn a_request_is_taken_apart() {
        let frame = request(&[9; 320]);
        assert_eq!(to_server(&frame), Some((FROM.mac, [9u8; 320].as_slice())));
        assert_eq!(to_server(&to_client(FROM, TO, &[9; 320]).unwrap()), None, "an answer is no request");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_frame_breaks_it(mut frame in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..60, byte: u8) {
            let _ = to_server(&frame);
            frame.splice(0..0, request(&[1; 300]));
            let cut = frame.len().min(at * 8);
            let _ = to_server(&frame[..cut]);
            frame[at] = byte;
            let _ = to_server(&frame);
        }
    }
}
