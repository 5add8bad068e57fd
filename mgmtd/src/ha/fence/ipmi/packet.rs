//! The datagrams of IPMI 2.0 over LAN, made and read without any I/O.
//!
//! ```text
//!   RMCP (13.1.3) │ session header (13.6) │ payload                                  │ pad, next header, code
//!   06 00 ff 07   │ 00 …  none, IPMI 1.5  │ message (13.8): Get Channel Authentication Capabilities
//!                 │ 06 …  RMCP+           │ Open Session, RAKP 1 – 4
//!                 │ 06 …  RMCP+, sealed   │ IV, AES-CBC-128 of message, pad (13.29)  │ HMAC over all from the session header
//! ```
//! Invariants
//! - Whatever arrives is read without a panic, and refused unless every length, sum and code fits.
//! - Nothing is decrypted whose code is not right.

use super::rakp::Keys;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, generic_array::GenericArray};

/// Version 1.0, no acknowledgement, class IPMI (13.1.3).
const RMCP: [u8; 4] = [0x06, 0x00, 0xFF, 0x07];
/// Authentication type of an IPMI 1.5 packet outside a session (13.6).
const NONE: u8 = 0x00;
/// Format of RMCP+.
const PLUS: u8 = 0x06;
/// Flags of a payload type: encrypted, authenticated (13.6).
const SEALED: u8 = 0xC0;
/// What stands before the code (13.6).
const NEXT_HEADER: u8 = 0x07;
/// Block and IV of AES, in bytes.
const BLOCK: usize = 16;
/// Address of the BMC, and of the console's software (5.5).
const BMC: u8 = 0x20;
const CONSOLE: u8 = 0x81;
/// Largest datagram that is read, in bytes. What is asked for here has less than a tenth.
pub(super) const MAX_DATAGRAM: usize = 1024;

/// Why a datagram does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a datagram is cut off or has the wrong length")]
    Length,
    #[error("a datagram is of another kind")]
    Kind,
    #[error("a checksum is wrong")]
    Sum,
    #[error("a datagram is of another session")]
    Session,
    #[error("a datagram was seen already")]
    Replayed,
    #[error("the code of a datagram is wrong")]
    Code,
    #[error("the padding of a datagram is wrong")]
    Padding,
    #[error("an answer is to another question")]
    Other,
}

/// What a payload is (13.27.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    OpenRequest = 0x10,
    OpenResponse = 0x11,
    Rakp1 = 0x12,
    Rakp2 = 0x13,
    Rakp3 = 0x14,
    Rakp4 = 0x15,
}

/// Little-endian numbers and fields, read from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Malformed::Length)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::Length)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn expect(&mut self, wanted: &[u8]) -> Result<(), Malformed> {
        if self.take(wanted.len())? == wanted { Ok(()) } else { Err(Malformed::Kind) }
    }
}

/// A message outside any session, in the form of IPMI 1.5: the only one that is sent in it.
pub(super) fn plain(message: &[u8]) -> Vec<u8> {
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    [&RMCP, &[NONE][..], &[0; 8], &[length], message].concat()
}

/// The message in such a datagram.
pub(super) fn read_plain(datagram: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader(datagram);
    reader.expect(&RMCP)?;
    reader.expect(&[NONE])?;
    if reader.array::<8>()? != [0; 8] {
        return Err(Malformed::Session);
    }
    let length = reader.byte()?;
    // Some add a byte of padding, as 13.6 allows.
    let message = reader.take(length.into())?;
    if reader.0.len() > 1 { Err(Malformed::Length) } else { Ok(message) }
}

fn header(kind: u8, session: u32, sequence: u32, length: usize) -> Vec<u8> {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    [&[PLUS, kind][..], &session.to_le_bytes(), &sequence.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// A payload that sets up a session: it belongs to none yet.
pub(super) fn setup(kind: Kind, body: &[u8]) -> Vec<u8> {
    [&RMCP, &*header(kind as u8, 0, 0, body.len()), body].concat()
}

/// The payload of this kind in such a datagram.
pub(super) fn read_setup(kind: Kind, datagram: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader(datagram);
    reader.expect(&RMCP)?;
    reader.expect(&[PLUS, kind as u8])?;
    if reader.array::<8>()? != [0; 8] {
        return Err(Malformed::Session);
    }
    let length = reader.u16()?;
    if reader.0.len() == usize::from(length) { Ok(reader.0) } else { Err(Malformed::Length) }
}

/// A message in a session, encrypted with a fresh `iv` and with its code.
pub(super) fn seal(keys: &Keys, session: u32, sequence: u32, message: &[u8], iv: [u8; BLOCK]) -> Vec<u8> {
    let mut clear = message.to_vec();
    let pad = (BLOCK - (message.len() + 1) % BLOCK) % BLOCK;
    clear.extend((1..=BLOCK as u8).take(pad));
    clear.push(pad as u8);
    let mut cipher = cbc::Encryptor::<aes::Aes128>::new(&keys.secrecy.into(), &iv.into());
    for block in clear.chunks_exact_mut(BLOCK) {
        cipher.encrypt_block_mut(GenericArray::from_mut_slice(block));
    }
    let mut covered = header(SEALED, session, sequence, BLOCK + clear.len());
    covered.extend(iv);
    covered.extend(clear);
    // What the code covers has a length that four divides, with the two bytes after the pad.
    let pad = (4 - (covered.len() + 2) % 4) % 4;
    covered.extend(std::iter::repeat_n(0xFF, pad));
    covered.extend([pad as u8, NEXT_HEADER]);
    let mut code = keys.suite.hmac(&keys.integrity, &[&covered]);
    code.truncate(keys.suite.check());
    [&RMCP, &*covered, &*code].concat()
}

/// The sequence number and the message of a datagram of this session, where it is newer than `last`.
pub(super) fn unseal(
    keys: &Keys,
    session: u32,
    last: u32,
    datagram: &[u8],
) -> Result<(u32, Vec<u8>), Malformed> {
    let covered = datagram.strip_prefix(&RMCP).ok_or(Malformed::Kind)?;
    let split = covered.len().checked_sub(keys.suite.check()).ok_or(Malformed::Length)?;
    let (covered, code) = covered.split_at_checked(split).ok_or(Malformed::Length)?;
    let mut reader = Reader(covered);
    reader.expect(&[PLUS, SEALED])?;
    if reader.u32()? != session {
        return Err(Malformed::Session);
    }
    let sequence = reader.u32()?;
    let length = reader.u16()?;
    let sealed = reader.take(length.into())?;
    // The rest is the pad, its length and the next header.
    let [pad @ .., padded, next] = reader.0 else { return Err(Malformed::Length) };
    if usize::from(*padded) != pad.len() || *next != NEXT_HEADER {
        return Err(Malformed::Padding);
    }
    if !keys.suite.proves(&keys.integrity, &[covered], code, keys.suite.check()) {
        return Err(Malformed::Code);
    }
    if sequence <= last {
        return Err(Malformed::Replayed);
    }
    let mut reader = Reader(sealed);
    let iv: [u8; BLOCK] = reader.array()?;
    let mut clear = reader.0.to_vec();
    if clear.is_empty() || clear.len() % BLOCK != 0 {
        return Err(Malformed::Length);
    }
    let mut cipher = cbc::Decryptor::<aes::Aes128>::new(&keys.secrecy.into(), &iv.into());
    for block in clear.chunks_exact_mut(BLOCK) {
        cipher.decrypt_block_mut(GenericArray::from_mut_slice(block));
    }
    let pad = usize::from(clear.pop().unwrap_or_default());
    let length = clear.len().checked_sub(pad).ok_or(Malformed::Padding)?;
    let right = clear.iter().skip(length).zip(1u8..).all(|(is, should)| *is == should);
    if pad >= BLOCK || !right {
        return Err(Malformed::Padding);
    }
    clear.truncate(length);
    Ok((sequence, clear))
}

/// A command (appendix G).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Network function of the request: even, at most 0x3E.
    pub(super) function: u8,
    pub(super) number: u8,
}

/// The sum that makes a block come to nothing (13.8).
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// The message that asks for it; `number` (6 bits) comes back in the answer.
pub(super) fn request(command: Command, number: u8, data: &[u8]) -> Vec<u8> {
    let to = [BMC, command.function << 2];
    let from = [&[CONSOLE, number << 2, command.number], data].concat();
    [&to, &[sum(&to)][..], &from, &[sum(&from)]].concat()
}

/// The completion code and the data in the answer to one of the tries `numbers`.
pub(super) fn answer<'a>(
    command: Command,
    numbers: &[u8],
    message: &'a [u8],
) -> Result<(u8, &'a [u8]), Malformed> {
    let (to, from) = message.split_at_checked(3).ok_or(Malformed::Length)?;
    // The sum over a block and its sum is zero.
    if sum(to) != 0 || sum(from) != 0 {
        return Err(Malformed::Sum);
    }
    let [CONSOLE, function, _] = to else { return Err(Malformed::Other) };
    let [BMC, number, asked, code, data @ .., _] = from else { return Err(Malformed::Other) };
    let fits = *function == (command.function | 1) << 2
        && *asked == command.number
        // Its own unit number is zero (13.8).
        && number & 3 == 0
        && numbers.contains(&(number >> 2));
    if fits { Ok((*code, data)) } else { Err(Malformed::Other) }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
