//! Opaque secrets: 256 random bits in text form, stored only as SHA-256.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};

/// What a secret is for; its prefix says so, also to programs that look for leaked secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A session.
    Session,
    /// An API token.
    Token,
}

const SESSION: &str = "lqs_";
const TOKEN: &str = "lqt_";

/// A secret in text form.
pub(super) struct Secret(String);

impl Secret {
    /// A fresh secret from the operating system.
    pub(super) fn new(kind: Kind) -> Self {
        let mut bytes = [0u8; 32];
        fill(&mut bytes);
        let prefix = match kind {
            Kind::Session => SESSION,
            Kind::Token => TOKEN,
        };
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }
    pub(super) fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Fills with random bits from the operating system, however long it takes to get them.
pub(super) fn fill(bytes: &mut [u8]) {
    while let Err(e) = rand::rngs::OsRng.try_fill_bytes(bytes) {
        tracing::error!(error = %e, "the operating system gives no random bits; trying again");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// What this credential claims to be.
pub(super) fn kind(text: &str) -> Option<Kind> {
    if text.starts_with(SESSION) {
        Some(Kind::Session)
    } else if text.starts_with(TOKEN) {
        Some(Kind::Token)
    } else {
        None
    }
}

/// The form in which a secret is stored.
pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
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
        let (a, b) = (Secret::new(Kind::Session), Secret::new(Kind::Token));
        assert_ne!(a.hash(), b.hash());
        assert_eq!(kind(&a.0), Some(Kind::Session));
        assert_eq!(kind(&b.0), Some(Kind::Token));
        assert_eq!(kind("Bearer"), None);
        assert_eq!(a.into_text().len(), 4 + 43);
    }

    #[test]
    fn comparison() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"abc", b"ab"));
    }
}
