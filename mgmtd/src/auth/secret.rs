//! Opaque secrets: 256 random bits in text form, stored only as SHA-256.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};

/// What an API token begins with: known at sight, also to programs that look for leaked secrets.
const TOKEN: &str = "lqt_";
/// Letters that are not mistaken for each other when read from a screen; 32 of them, so that no modulo bias arises.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/// A fresh API token.
pub(super) fn token() -> String {
    let mut bytes = [0u8; 32];
    fill(&mut bytes);
    format!("{TOKEN}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether this claims to be an API token.
pub(super) fn is_token(text: &str) -> bool {
    text.starts_with(TOKEN)
}

/// A code to be read and typed: groups of four letters, five bits each.
pub(super) fn code(groups: usize) -> String {
    let mut bytes = vec![0u8; groups * 4];
    fill(&mut bytes);
    let mut code = String::new();
    for (n, byte) in bytes.iter().enumerate() {
        if n > 0 && n % 4 == 0 {
            code.push('-');
        }
        code.push(char::from(ALPHABET.get(usize::from(byte % 32)).copied().unwrap_or(b'2')));
    }
    code
}

/// A typed code without what does not matter: case, dashes, blanks.
pub(super) fn plain(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

/// Fills with random bits from the operating system, however long it takes to get them.
pub(super) fn fill(bytes: &mut [u8]) {
    while let Err(e) = rand::rngs::OsRng.try_fill_bytes(bytes) {
        tracing::error!(error = %e, "the operating system gives no random bits; trying again");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// The form in which a secret is stored.
pub(super) fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Compares in a time that depends on the length only.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && std::hint::black_box(a.iter().zip(b).fold(0u8, |different, (x, y)| different | (x ^ y))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_tell_their_kind() {
        let (a, b) = (token(), token());
        assert_ne!(hash(&a), hash(&b));
        assert!(is_token(&a));
        assert!(!is_token("Bearer"));
        assert_eq!(a.len(), 4 + 43);
    }

    #[test]
    fn codes_are_read_leniently() {
        let code = code(3);
        assert_eq!(code.len(), 14);
        assert_eq!(plain(&code), plain(&code.to_lowercase().replace('-', " ")));
        assert_ne!(code, super::code(3));
    }

    #[test]
    fn comparison() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"abc", b"ab"));
    }
}
