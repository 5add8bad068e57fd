//! Whatever arrives is read without a panic, what was changed is refused, and what was sealed comes back.

use super::{super::rakp::Suite, *};
use proptest::prelude::*;

const ASK: Command = Command { function: 0x00, number: 0x01 };

fn keys(three: bool) -> Keys {
    Keys::of(if three { Suite::Three } else { Suite::Seventeen }, b"a session key")
}

#[test]
fn the_question_for_the_capabilities_is_the_one_everybody_sends() {
    // As `ipmitool` sends it, but for the level.
    let capabilities = Command { function: 0x06, number: 0x38 };
    let datagram = plain(&request(capabilities, 0, &[0x8E, 0x04]));
    assert_eq!(hex::encode(datagram), "0600ff07000000000000000000092018c88100388e04b5");
}

#[test]
fn an_answer_belongs_to_its_question() {
    // Chassis status, on: request number 5, in the form of 13.8.
    let message = [0x81, 0x04, 0x7B, 0x20, 0x14, 0x01, 0x00, 0x01, 0x00, 0x00, 0xCA];
    assert_eq!(answer(ASK, &[5], &message), Ok((0, &[1, 0, 0][..])));
    assert_eq!(answer(ASK, &[4, 6], &message), Err(Malformed::Other));
    assert_eq!(answer(Command { number: 2, ..ASK }, &[5], &message), Err(Malformed::Other));
    assert_eq!(answer(Command { function: 6, ..ASK }, &[5], &message), Err(Malformed::Other));
    // A question of ours that comes back answers nothing.
    assert_eq!(answer(ASK, &[5], &request(ASK, 5, &[])), Err(Malformed::Other));
}

#[test]
fn of_a_setup_everything_fits() {
    let datagram = setup(Kind::Rakp2, b"body");
    assert_eq!(read_setup(Kind::Rakp2, &datagram), Ok(&b"body"[..]));
    assert_eq!(read_setup(Kind::Rakp4, &datagram), Err(Malformed::Kind));
    assert_eq!(read_setup(Kind::Rakp2, &[&datagram[..], b"x"].concat()), Err(Malformed::Length));
    assert_eq!(read_plain(&datagram), Err(Malformed::Kind));
}

proptest! {
    #[test]
    fn anything_is_read_without_a_panic(
        start in proptest::sample::select(vec![
            vec![], RMCP.to_vec(), [&RMCP[..], &[PLUS, SEALED, 7, 0, 0, 0]].concat(), plain(&[]), setup(Kind::Rakp2, &[]),
        ]),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
        three: bool,
    ) {
        let datagram = [start, rest.clone()].concat();
        prop_assert!(unseal(&keys(three), 7, 0, &datagram).is_err());
        let _ = (read_plain(&datagram), read_setup(Kind::Rakp2, &datagram), answer(ASK, &[0, 1, 2], &rest));
    }

    /// The code is right, what it covers is not: a BMC with faults.
    #[test]
    fn what_is_wrong_under_a_right_code_is_no_panic(
        covered in proptest::collection::vec(any::<u8>(), 0..120), length: u8, three: bool,
    ) {
        let keys = keys(three);
        for length in [length, (covered.len() as u8).saturating_sub(2)] {
            let covered = [&[PLUS, SEALED, 7, 0, 0, 0, 1, 0, 0, 0, length, 0], &covered[..]].concat();
            let mut code = keys.suite.hmac(&keys.integrity, &[&covered]);
            code.truncate(keys.suite.check());
            let _ = unseal(&keys, 7, 0, &[&RMCP, &covered[..], &code].concat());
        }
    }

    #[test]
    fn what_was_sealed_comes_back_once_and_unchanged(
        message in proptest::collection::vec(any::<u8>(), 0..100), iv: [u8; 16], sequence in 1u32.., three: bool,
        (at, bit) in (any::<prop::sample::Index>(), 0u8..8), cut: prop::sample::Index,
    ) {
        let keys = keys(three);
        let datagram = seal(&keys, 7, sequence, &message, iv);
        // The code covers a length that four divides (13.6).
        prop_assert_eq!((datagram.len() - RMCP.len() - keys.suite.check()) % 4, 0);
        prop_assert_eq!(unseal(&keys, 7, sequence - 1, &datagram), Ok((sequence, message)));
        prop_assert_eq!(unseal(&keys, 8, 0, &datagram), Err(Malformed::Session));
        prop_assert_eq!(unseal(&keys, 7, sequence, &datagram), Err(Malformed::Replayed));
        let other = Keys::of(keys.suite, b"another session key");
        prop_assert_eq!(unseal(&other, 7, 0, &datagram), Err(Malformed::Code));
        prop_assert!(unseal(&keys, 7, 0, &datagram[..cut.index(datagram.len())]).is_err());
        let mut changed = datagram;
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        prop_assert!(unseal(&keys, 7, 0, &changed).is_err());
    }

    #[test]
    fn a_message_that_was_changed_is_refused(
        data in proptest::collection::vec(any::<u8>(), 0..20), number in 0u8..64, at: prop::sample::Index, bit in 0u8..8,
    ) {
        let to = [CONSOLE, 0x04];
        let from = [&[BMC, number << 2, 0x01, 0x00], &data[..]].concat();
        let mut message = [&to[..], &[sum(&to)], &from, &[sum(&from)]].concat();
        prop_assert_eq!(answer(ASK, &[number], &message), Ok((0, &data[..])));
        let at = at.index(message.len());
        message[at] ^= 1 << bit;
        prop_assert!(answer(ASK, &[number], &message).is_err());
    }
}
