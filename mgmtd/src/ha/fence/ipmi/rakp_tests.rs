//! Codes that are known from elsewhere, and that every part of what was agreed on counts.

use super::*;
use proptest::prelude::*;

#[test]
fn codes_are_those_of_the_standards() {
    // RFC 2202 and RFC 4231, test case 2.
    let code = |suite: Suite| hex::encode(suite.hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]));
    assert_eq!(code(Suite::Three), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    let long = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(code(Suite::Seventeen), long);
}

fn exchange(suite: Suite) -> Exchange<'static> {
    Exchange {
        suite,
        sid_m: 0x0102_0304,
        sid_c: 0x0506_0708,
        random_m: [3; 16],
        random_c: [4; 16],
        guid_c: [5; 16],
        role: 0x13,
        user: b"lq",
        password: b"sesame",
    }
}

#[test]
fn only_who_knows_the_password_has_the_keys() {
    for suite in [Suite::Seventeen, Suite::Three] {
        let known = exchange(suite);
        let who = [&[0x13, 2][..], b"lq"].concat();
        let (m, c) = (known.sid_m.to_le_bytes(), known.sid_c.to_le_bytes());
        let code = suite.hmac(b"sesame", &[&m, &c, &[3; 16], &[4; 16], &[5; 16], &who]);
        assert!(known.knows_password(&code));
        assert!(!known.knows_password(&[]) && !known.knows_password(&code[..4]));
        let session_key = suite.hmac(b"sesame", &[&[3; 16], &[4; 16], &who]);
        let mut last = suite.hmac(&session_key, &[&[3; 16], &c, &[5; 16]]);
        last.truncate(suite.check());
        let keys = known.keys(&last).unwrap();
        assert_eq!(keys.integrity, suite.hmac(&session_key, &[&[1; 20]]));
        assert_eq!(keys.secrecy, suite.hmac(&session_key, &[&[2; 20]])[..16]);
        assert!(known.keys(&[]).is_none() && known.keys(&last[..4]).is_none());
        for wrong in [
            Exchange { password: b"sesamf", ..known.clone() },
            Exchange { user: b"root", ..known.clone() },
            Exchange { role: 0x14, ..known.clone() },
            Exchange { random_m: [9; 16], ..known.clone() },
            Exchange { random_c: [9; 16], ..known.clone() },
        ] {
            assert!(!wrong.knows_password(&code) && wrong.keys(&last).is_none());
        }
        assert!(!Exchange { guid_c: [9; 16], ..known.clone() }.knows_password(&code));
        assert!(!Exchange { sid_m: 9, ..known.clone() }.knows_password(&code));
        assert!(!Exchange { sid_c: 9, ..known }.knows_password(&code));
    }
}

proptest! {
    #[test]
    fn a_code_that_was_changed_proves_nothing(at in 0usize..20, bit in 0u8..8, three: bool) {
        let suite = if three { Suite::Three } else { Suite::Seventeen };
        let mut code = suite.hmac(b"k", &[b"x"]);
        prop_assert!(suite.proves(b"k", &[b"x"], &code, suite.code()));
        code[at] ^= 1 << bit;
        prop_assert!(!suite.proves(b"k", &[b"x"], &code, suite.code()));
    }
}
