//! Headers of packets (virtio 1.2, 5.10.6). No I/O.

/// Bytes of a header.
pub(super) const HEADER: usize = 44;
/// Most payload of a packet either way.
pub(super) const MAX_PAYLOAD: usize = 64 << 10;
/// The host's address.
pub(super) const HOST: u64 = 2;
/// The only type there is: a stream.
const STREAM: u16 = 1;

/// Flag of [`Op::Shutdown`]: whoever sends it receives no more.
pub(super) const NO_RECEIVE: u32 = 1;
/// Flag of [`Op::Shutdown`]: whoever sends it sends no more.
pub(super) const NO_SEND: u32 = 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A connection is asked for.
    Request = 1,
    /// It is taken.
    Response = 2,
    /// There is none, or not any more.
    Reset = 3,
    /// One or both directions end.
    Shutdown = 4,
    /// Payload.
    Data = 5,
    /// How much room there is.
    CreditUpdate = 6,
    /// How much is there?
    CreditRequest = 7,
}

impl Op {
    fn from_word(word: u16) -> Option<Self> {
        Some(match word {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// Which connection: the ports of both ends. There is one guest and one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) guest: u32,
    pub(super) host: u32,
}

/// What an end says of the room it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes it holds at most.
    pub(super) buffer: u32,
    /// Bytes it has passed on since the begin, modulo 2^32.
    pub(super) forwarded: u32,
}

/// A packet of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FromGuest {
    pub(super) ports: Ports,
    /// None: one nobody knows, or of another type than streams.
    pub(super) op: Option<Op>,
    pub(super) length: u32,
    pub(super) flags: u32,
    pub(super) room: Room,
}

fn word<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut word = [0; N];
    word.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
    word
}

impl FromGuest {
    /// Reads a header that `cid` sent; none: it is not from there, or not to the host.
    pub(super) fn parse(header: &[u8; HEADER], cid: u64) -> Option<Self> {
        let number = |at| u32::from_le_bytes(word(header, at));
        if (u64::from_le_bytes(word(header, 0)), u64::from_le_bytes(word(header, 8))) != (cid, HOST) {
            return None;
        }
        let stream = u16::from_le_bytes(word(header, 28)) == STREAM;
        Some(Self {
            ports: Ports { guest: number(16), host: number(20) },
            length: number(24),
            op: Op::from_word(u16::from_le_bytes(word(header, 30))).filter(|_| stream),
            flags: number(32),
            room: Room { buffer: number(36), forwarded: number(40) },
        })
    }
}

/// The header of a packet to the guest.
pub(super) fn to_guest(cid: u64, ports: Ports, op: Op, length: u32, flags: u32, room: Room) -> [u8; HEADER] {
    let fields: [&[u8]; 10] = [
        &HOST.to_le_bytes(),
        &cid.to_le_bytes(),
        &ports.host.to_le_bytes(),
        &ports.guest.to_le_bytes(),
        &length.to_le_bytes(),
        &STREAM.to_le_bytes(),
        &(op as u16).to_le_bytes(),
        &flags.to_le_bytes(),
        &room.buffer.to_le_bytes(),
        &room.forwarded.to_le_bytes(),
    ];
    let mut header = [0; HEADER];
    header.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_the_guest_says_is_read_as_it_was_written(
            guest: u32, host: u32, length: u32, op in 1_u16..8, flags: u32, buffer: u32, forwarded: u32, cid in 3_u64..,
        ) {
            let op = Op::from_word(op).unwrap();
            let room = Room { buffer, forwarded };
            // Seen from the other side, both ends change places.
            let mut header = to_guest(cid, Ports { guest, host }, op, length, flags, room);
            header[..16].rotate_left(8);
            header[16..24].rotate_left(4);
            let parsed = FromGuest::parse(&header, cid).unwrap();
            prop_assert_eq!(parsed, FromGuest { ports: Ports { guest, host }, op: Some(op), length, flags, room });
            prop_assert_eq!(FromGuest::parse(&header, cid + 1), None);
        }

        #[test]
        fn any_bytes_are_a_packet_or_none(header: [u8; HEADER - 12], rest: [u8; 12]) {
            let mut bytes = [0; HEADER];
            bytes[..32].copy_from_slice(&header);
            bytes[32..].copy_from_slice(&rest);
            let _ = FromGuest::parse(&bytes, 3);
        }
    }
}
