//! What a browser keeps for us and must not change: sealed with the key sessions are signed with (HMAC-SHA-256), for one purpose.

use super::jwt;
use crate::cluster::state::SigningKeys;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

/// Longest that is looked at, bytes.
const LONGEST: usize = 4096;

/// What is signed. No token begins so: they have no zero byte.
fn message(purpose: &str, text: &str) -> Vec<u8> {
    [purpose.as_bytes(), &[0], text.as_bytes()].concat()
}

/// Seals; `None` only where the cluster has no usable key.
pub(super) fn seal(keys: &SigningKeys, purpose: &str, plain: &[u8]) -> Option<String> {
    let text = URL_SAFE_NO_PAD.encode(plain);
    let tag = hmac::sign(&jwt::key(keys.current.as_ref()?)?, &message(purpose, &text));
    Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag)))
}

/// What was sealed by one of our keys for this purpose.
pub(super) fn unseal(keys: &SigningKeys, purpose: &str, sealed: &str) -> Option<Vec<u8>> {
    if sealed.len() > LONGEST {
        return None;
    }
    let (text, tag) = sealed.split_once('.')?;
    let (message, tag) = (message(purpose, text), URL_SAFE_NO_PAD.decode(tag).ok()?);
    let mut ours = [&keys.current, &keys.previous].into_iter().flatten().filter_map(jwt::key);
    ours.any(|key| hmac::verify(&key, &message, &tag).is_ok()).then(|| URL_SAFE_NO_PAD.decode(text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::state::access::SigningKey;
    use base64::engine::general_purpose::STANDARD;
    use lq_api::Timestamp;

    #[test]
    fn only_what_we_sealed_for_the_purpose_is_opened() {
        let key = |n: u8| SigningKey {
            id: uuid::Uuid::from_u128(u128::from(n)),
            secret: STANDARD.encode([n; 32]),
            since: Timestamp::UNIX_EPOCH,
        };
        let old = SigningKeys { current: Some(key(1)), previous: None };
        let new = SigningKeys { current: Some(key(2)), previous: Some(key(1)) };
        let sealed = seal(&old, "a", b"plain").unwrap();
        assert_eq!(unseal(&new, "a", &sealed).as_deref(), Some(&b"plain"[..]), "after the key was changed");
        assert_eq!(unseal(&old, "b", &sealed), None);
        assert_eq!(unseal(&SigningKeys { current: Some(key(3)), previous: None }, "a", &sealed), None);
        assert_eq!(unseal(&old, "a", &format!("A{sealed}")), None);
        assert_eq!(unseal(&old, "a", "x"), None);
        assert_eq!(seal(&SigningKeys::default(), "a", b""), None);
    }
}
