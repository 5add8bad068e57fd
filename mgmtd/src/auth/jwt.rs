//! Tokens of sessions: JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256 (RFC 7515, `HS256`).
//!
//! One algorithm only, which the token has no say in; the key is chosen by the token's key id among the two the cluster has.
//! What a token says is believed only as far as the session it names is still there (see [`super::Auth::check`]).

use crate::cluster::state::SigningKeys;
use crate::cluster::state::access::SigningKey;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use lq_api::{SessionId, Timestamp, UserId};
use ring::hmac;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest token looked at, in bytes.
const LONGEST: usize = 2048;

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: Uuid,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Use {
    /// Requests.
    Access,
    /// The next token, once.
    Refresh,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The user.
    pub(super) sub: UserId,
    /// The session.
    pub(super) sid: SessionId,
    /// What it is for.
    #[serde(rename = "use")]
    pub(super) purpose: Use,
    /// The session's generation it was made in.
    pub(super) generation: u64,
    /// When it was made, in seconds since 1970.
    pub(super) iat: i64,
    /// When it ends, in seconds since 1970.
    pub(super) exp: i64,
}

/// A key that can be used.
pub(super) fn key(key: &SigningKey) -> Option<hmac::Key> {
    let bytes = STANDARD.decode(&key.secret).ok().filter(|b| b.len() >= 32)?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// Signs; `None` only where the cluster has no usable key.
pub(super) fn sign(keys: &SigningKeys, claims: &Claims) -> Option<String> {
    let current = keys.current.as_ref()?;
    let header = Header { alg: "HS256".into(), typ: "JWT".into(), kid: current.id };
    let part = |json: serde_json::Result<Vec<u8>>| json.ok().map(|j| URL_SAFE_NO_PAD.encode(j));
    let signed = format!("{}.{}", part(serde_json::to_vec(&header))?, part(serde_json::to_vec(claims))?);
    let tag = hmac::sign(&key(current)?, signed.as_bytes());
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)))
}

/// What a token says, if one of our keys signed it for this use and it has not ended.
pub(super) fn verify(keys: &SigningKeys, token: &str, purpose: Use, now: Timestamp) -> Option<Claims> {
    if token.len() > LONGEST {
        return None;
    }
    let (signed, tag) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.alg != "HS256" {
        return None;
    }
    let known = [&keys.current, &keys.previous].into_iter().flatten().find(|k| k.id == header.kid)?;
    hmac::verify(&key(known)?, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    (claims.purpose == purpose && claims.exp > now.as_second()).then_some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(current: u128, previous: u128) -> SigningKeys {
        let key = |n: u128| SigningKey {
            id: Uuid::from_u128(n),
            secret: STANDARD.encode([u8::try_from(n).unwrap(); 32]),
            since: Timestamp::UNIX_EPOCH,
        };
        SigningKeys { current: Some(key(current)), previous: Some(key(previous)) }
    }

    fn claims(purpose: Use) -> Claims {
        Claims {
            sub: UserId(Uuid::from_u128(1)),
            sid: SessionId(Uuid::from_u128(2)),
            purpose,
            generation: 3,
            iat: 100,
            exp: 200,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_was_signed_is_believed_until_it_ends() {
        let token = sign(&keys(1, 2), &claims(Use::Access)).unwrap();
        assert_eq!(verify(&keys(1, 2), &token, Use::Access, at(199)), Some(claims(Use::Access)));
        assert_eq!(verify(&keys(3, 1), &token, Use::Access, at(199)), Some(claims(Use::Access)), "rotated");
        assert_eq!(verify(&keys(3, 2), &token, Use::Access, at(199)), None, "rotated twice");
        assert_eq!(verify(&keys(1, 2), &token, Use::Access, at(200)), None, "ended");
        assert_eq!(verify(&keys(1, 2), &token, Use::Refresh, at(199)), None, "another use");
        assert_eq!(sign(&SigningKeys::default(), &claims(Use::Access)), None);
    }

    #[test]
    fn no_other_algorithm_is_taken() {
        let header = format!(r#"{{"alg":"none","typ":"JWT","kid":"{}"}}"#, Uuid::from_u128(1));
        let body = serde_json::to_vec(&claims(Use::Access)).unwrap();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body));
        assert_eq!(verify(&keys(1, 2), &format!("{signed}."), Use::Access, at(100)), None);
        let tag = hmac::sign(&key(keys(1, 2).current.as_ref().unwrap()).unwrap(), signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(verify(&keys(1, 2), &token, Use::Access, at(100)), None);
    }

    proptest! {
        #[test]
        fn a_changed_token_is_refused(place in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_.-]") {
            let token = sign(&keys(1, 2), &claims(Use::Access)).unwrap();
            let at_place = place.index(token.len());
            let mut changed = token.clone();
            changed.replace_range(at_place..=at_place, &letter);
            prop_assume!(changed != token);
            prop_assert_eq!(verify(&keys(1, 2), &changed, Use::Access, at(100)), None);
        }

        #[test]
        fn rubbish_is_refused(text in "\\PC{0,80}") {
            prop_assert_eq!(verify(&keys(1, 2), &text, Use::Access, at(100)), None);
        }
    }
}
