//! One-time codes (RFC 6238 over RFC 4226): HMAC-SHA-1, 30 seconds, six digits, which is what every authenticator does.
//! Pure: the time comes from the caller. That a code counts once is the state's to see to.

use lq_api::Timestamp;
use ring::hmac;

/// Seconds a code is shown.
const STEP: i64 = 30;
/// Steps a clock may be off, either way.
const DRIFT: u64 = 1;
/// Bytes of a secret: as long as the hash.
pub(super) const SECRET: usize = 20;

/// The code of a step.
fn code(secret: &[u8], step: u64) -> u32 {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    // Dynamic truncation, RFC 4226 section 5.3; SHA-1 has 20 bytes, the offset is at most 15.
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
    let word = tag.get(offset..offset + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
    (word & 0x7fff_ffff) % 1_000_000
}

/// The step whose code this is: the present one or one beside it; `None` where it is none of them.
pub(super) fn step_of(secret: &[u8], typed: &str, now: Timestamp) -> Option<u64> {
    let digits: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
    if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let present = u64::try_from(now.as_second() / STEP).ok()?;
    let steps = present.saturating_sub(DRIFT)..=present + DRIFT;
    // All are computed: which one fits takes no measurable time.
    let fitting: Vec<u64> = steps
        .filter(|s| super::secret::same(format!("{:06}", code(secret, *s)).as_bytes(), digits.as_bytes()))
        .collect();
    fitting.last().copied()
}

/// What the authenticator reads from a QR code.
pub(super) fn url(secret: &[u8], user: &str, issuer: &str) -> String {
    // `@` is the only character of a name that does not stand for itself everywhere.
    let plain = |text: &str| {
        let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        text.chars().map(|c| if keep(c) { c.to_string() } else { escaped(c) }).collect::<String>()
    };
    let (user, issuer) = (plain(user), plain(issuer));
    format!(
        "otpauth://totp/{issuer}:{user}?secret={}&issuer={issuer}&algorithm=SHA1&digits=6&period=30",
        base32(secret)
    )
}

fn escaped(c: char) -> String {
    let mut bytes = [0; 4];
    c.encode_utf8(&mut bytes).bytes().map(|b| format!("%{b:02X}")).collect()
}

/// Base 32 without padding (RFC 4648): what authenticators want typed.
pub(super) fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |five: u32| char::from(LETTERS.get((five & 31) as usize).copied().unwrap_or(b'A'));
    let mut text = String::new();
    let (mut held, mut bits) = (0u32, 0u32);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"12345678901234567890";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// RFC 6238, appendix B (the last six of its eight digits).
    #[test]
    fn the_codes_of_the_rfc() {
        for (second, expected) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_111_111_111, 50_471),
            (1_234_567_890, 5_924),
            (2_000_000_000, 279_037),
            (20_000_000_000, 353_130),
        ] {
            assert_eq!(code(SECRET, second / 30), expected, "{second}");
        }
    }

    #[test]
    fn a_clock_may_be_a_little_off() {
        assert_eq!(step_of(SECRET, "287082", at(59)), Some(1));
        assert_eq!(step_of(SECRET, "287 082", at(89)), Some(1));
        assert_eq!(step_of(SECRET, "287082", at(29)), Some(1));
        assert_eq!(step_of(SECRET, "287082", at(90)), None);
        for wrong in ["287083", "28708", "2870822", "28708a", ""] {
            assert_eq!(step_of(SECRET, wrong, at(59)), None, "{wrong}");
        }
    }

    /// RFC 4648, section 10.
    #[test]
    fn base_32() {
        for (plain, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(plain.as_bytes()), text);
        }
    }

    #[test]
    fn the_url() {
        let url = url(SECRET, "eve@example.org", "LimiQuantix");
        assert!(
            url.starts_with("otpauth://totp/LimiQuantix:eve%40example.org?secret=GEZDGNBVGY3TQOJQ"),
            "{url}"
        );
    }
}
