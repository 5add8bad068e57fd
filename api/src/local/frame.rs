//! Frames: how the parts of a saved or moving machine are told apart and checked. Written by monitors, to files and streams; passed
//! on by the daemons between two hosts.
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | "LQF1" |
//! | 4–7 | kind |
//! | 8–11 | bytes of the payload, at most [`LARGEST`] |
//! | 12–15 | CRC-32 of kind, length and payload |
//!
//! All numbers are little-endian. Here is only the layout: whoever reads must not reserve more than has come, whoever writes
//! writes a frame by one call.

const MAGIC: [u8; 4] = *b"LQF1";
/// Bytes before the payload.
pub const HEADER: usize = 16;
/// Most bytes of a payload.
pub const LARGEST: usize = 16 << 20;

/// Why bytes are no frame, or not the one that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// Its begin is missing.
    #[error("something else stands where a part should begin")]
    Begin,
    /// More than [`LARGEST`] bytes.
    #[error("a part is longer than any can be")]
    Length,
    /// It was changed on its way.
    #[error("a checksum is wrong")]
    Checksum,
    /// See [`Kind`].
    #[error("a part of an unknown kind; a newer lq-vmm wrote it")]
    Kind,
}

/// Kinds of frame. Numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// What the machine is; first. Payload: a description.
    Hello = 1,
    /// Pages.
    Memory = 2,
    /// All components; last of a file.
    State = 3,
    /// Migration, from the target: the description suits.
    Accept = 16,
    /// Migration, from either: it ends here. Payload: why.
    Refuse = 17,
    /// Migration, from the target: everything is taken up, the guest can run at once.
    Ready = 18,
    /// Migration, from the source: the machine is the target's now.
    Commit = 19,
    /// Migration, from the target: the guest runs.
    Running = 20,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Hello,
        Self::Memory,
        Self::State,
        Self::Accept,
        Self::Refuse,
        Self::Ready,
        Self::Commit,
        Self::Running,
    ];
}

impl TryFrom<u32> for Kind {
    type Error = Damaged;

    fn try_from(number: u32) -> Result<Self, Damaged> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number).ok_or(Damaged::Kind)
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The kind; not necessarily one of [`Kind`]: whoever passes a frame on need not know it.
    pub kind: u32,
    /// Bytes of the payload, at most [`LARGEST`].
    pub length: usize,
    sum: u32,
}

impl Head {
    /// # Errors
    /// It is none, or of too long a frame.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, Damaged> {
        let [magic, kind, length, sum] = words(bytes);
        let (kind, length, sum) =
            (u32::from_le_bytes(kind), u32::from_le_bytes(length) as usize, u32::from_le_bytes(sum));
        if magic != MAGIC {
            return Err(Damaged::Begin);
        }
        if length > LARGEST {
            return Err(Damaged::Length);
        }
        Ok(Self { kind, length, sum })
    }

    /// Whether the payload is the one that was written.
    ///
    /// # Errors
    /// [`Damaged::Checksum`].
    pub fn check(&self, payload: &[u8]) -> Result<(), Damaged> {
        let whole = payload.len() == self.length && checksum(self.kind, payload) == self.sum;
        if whole { Ok(()) } else { Err(Damaged::Checksum) }
    }
}

/// All of a frame, as it is written.
///
/// # Errors
/// [`Damaged::Length`].
pub fn encode(kind: Kind, payload: &[u8]) -> Result<Vec<u8>, Damaged> {
    if payload.len() > LARGEST {
        return Err(Damaged::Length);
    }
    let kind = kind as u32;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(MAGIC);
    bytes.extend(kind.to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(checksum(kind, payload).to_le_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

fn words(bytes: &[u8; HEADER]) -> [[u8; 4]; HEADER / 4] {
    let mut words = [[0; 4]; HEADER / 4];
    words.as_flattened_mut().copy_from_slice(bytes);
    words
}

fn checksum(kind: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(bytes: &[u8]) -> (&[u8; HEADER], &[u8]) {
        bytes.split_first_chunk().unwrap()
    }

    proptest! {
        #[test]
        fn one_that_was_changed_is_known(
            payload in prop::collection::vec(any::<u8>(), 0..300), kind in 0..Kind::ALL.len(), bit in any::<usize>(),
        ) {
            let kind = Kind::ALL[kind];
            let mut bytes = encode(kind, &payload).unwrap();
            let (head, rest) = split(&bytes);
            let head = Head::parse(head).unwrap();
            prop_assert_eq!(Kind::try_from(head.kind), Ok(kind));
            prop_assert_eq!(head.check(rest), Ok(()));
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (head, rest) = split(&bytes);
            prop_assert!(Head::parse(head).and_then(|head| head.check(rest)).is_err());
        }
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_read() {
        assert_eq!(encode(Kind::Memory, &vec![0; LARGEST + 1]), Err(Damaged::Length));
        let mut bytes = encode(Kind::State, b"a").unwrap();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Head::parse(split(&bytes).0), Err(Damaged::Length));
        assert_eq!(Head::parse(&[0; HEADER]), Err(Damaged::Begin));
        assert_eq!(Kind::try_from(4), Err(Damaged::Kind));
    }
}
