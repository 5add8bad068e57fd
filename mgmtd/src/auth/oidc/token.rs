//! ID tokens of OpenID providers: JSON Web Tokens (RFC 7519) signed with RS256 or ES256 (RFC 7518). Pure: the time comes from the
//! caller.
//!
//! Invariants: the algorithm follows from the key, not from the token alone; nothing of a token is believed before its signature
//! holds (OpenID Connect Core 1.0, 3.1.3.7).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lq_api::Timestamp;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// How far clocks may be apart, seconds.
const SKEW: i64 = 60;
/// Longest token, bytes.
const LONGEST: usize = 64 << 10;

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    /// None of the keys signed it. They may have been changed.
    #[error("none of the provider's keys signed it")]
    UnknownKey,
    /// It is no token.
    #[error("it is not a signed token: {0}")]
    Malformed(&'static str),
    /// It says the wrong thing.
    #[error("{0}")]
    Claim(String),
}

/// A key as providers publish it (RFC 7517). What we cannot use is left out.
#[derive(Clone, Debug, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Clone, Debug)]
enum Public {
    /// For RS256.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// For ES256: the point, not compressed.
    P256(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

impl Key {
    fn of(jwk: Jwk) -> Option<Self> {
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
        if jwk.purpose.is_some_and(|p| p != "sig") {
            return None;
        }
        let (public, alg) = match jwk.kty.as_str() {
            "RSA" => (Public::Rsa { n: bytes(jwk.n)?, e: bytes(jwk.e)? }, "RS256"),
            "EC" if jwk.crv.as_deref() == Some("P-256") => {
                let (x, y) = (bytes(jwk.x)?, bytes(jwk.y)?);
                let point = (x.len() == 32 && y.len() == 32).then(|| [&[4][..], &x, &y].concat())?;
                (Public::P256(point), "ES256")
            }
            _ => return None,
        };
        jwk.alg.is_none_or(|a| a == alg).then_some(Self { id: jwk.kid, public })
    }

    fn signed(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rsa { n, e } if alg == "RS256" => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Public::P256(point) if alg == "ES256" => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// The keys of a provider that can be used.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// From a set of keys as it is published.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(bytes).map_err(|e| format!("its set of keys is none: {e}"))?;
        let usable = set.keys.into_iter().filter_map(|k| Key::of(serde_json::from_value(k).ok()?));
        Ok(Self(usable.take(100).collect()))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that have to be understood (RFC 7515, 4.1.11): we understand none.
    #[serde(default)]
    crit: Option<Value>,
}

/// What a token has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client: &'a str,
    pub(super) nonce: &'a str,
}

/// What a token says, if it may be believed.
pub(super) fn verify(
    token: &str,
    keys: &Keys,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Map<String, Value>, TokenError> {
    let bad = TokenError::Malformed;
    if token.len() > LONGEST {
        return Err(bad("it is too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(bad("it has no parts"))?;
    let (header, claims) = signed.split_once('.').ok_or(bad("it has not three parts"))?;
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| bad("a part is not base 64"));
    let header: Header = serde_json::from_slice(&part(header)?).map_err(|_| bad("its header is none"))?;
    if header.crit.is_some() {
        return Err(bad("it has critical extensions"));
    }
    let signature = part(signature)?;
    let named = |k: &&Key| header.kid.is_none() || k.id.is_none() || k.id == header.kid;
    let mut candidates = keys.0.iter().filter(named);
    if !candidates.any(|k| k.signed(&header.alg, signed.as_bytes(), &signature)) {
        return Err(TokenError::UnknownKey);
    }
    let claims: Map<String, Value> =
        serde_json::from_slice(&part(claims)?).map_err(|_| bad("its claims are none"))?;
    check(&claims, expected, now)?;
    Ok(claims)
}

fn check(claims: &Map<String, Value>, expected: &Expected<'_>, now: Timestamp) -> Result<(), TokenError> {
    let wrong = |why: String| Err(TokenError::Claim(why));
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // Dates may have fractions (RFC 7519, 2).
    let date =
        |name: &str| claims.get(name).and_then(|v| v.as_i64().or_else(|| v.as_f64().map(|f| f as i64)));
    if text("iss") != Some(expected.issuer) {
        return wrong(format!("it is of another issuer: {:?}", text("iss").unwrap_or_default()));
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    if !audiences.contains(&expected.client) {
        return wrong("it is not for us: `aud` does not name our client id".into());
    }
    if text("azp").map_or(audiences.len() > 1, |azp| azp != expected.client) {
        return wrong("it was given to someone else: `azp` is not our client id".into());
    }
    let now = now.as_second();
    match date("exp") {
        Some(end) if end.saturating_add(SKEW) > now => {}
        _ => return wrong("it has ended: compare the clocks of the host and the provider".into()),
    }
    for name in ["iat", "nbf"] {
        if date(name).is_some_and(|at| at.saturating_sub(SKEW) > now) {
            return wrong(format!(
                "`{name}` is in the future: compare the clocks of the host and the provider"
            ));
        }
    }
    if date("iat").is_none_or(|at| at <= 0) {
        return wrong("it does not say when it was made".into());
    }
    if text("nonce") != Some(expected.nonce) {
        return wrong("it was not made for this login".into());
    }
    if !text("sub").is_some_and(|s| (1..=255).contains(&s.len())) {
        return wrong("it does not say who it is about".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };
    use serde_json::json;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let rng = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &rng).unwrap())
        }
        fn jwk(&self, kid: &str) -> Value {
            let point = self.0.public_key().as_ref();
            let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": part(&point[1..33]), "y": part(&point[33..])})
        }
        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
            let signed = format!("{}.{}", part(header), part(claims));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    const NOW: i64 = 1_800_000_000;
    const EXPECTED: Expected<'_> = Expected { issuer: "https://id", client: "lq", nonce: "n" };

    fn claims() -> Value {
        json!({"iss": "https://id", "aud": "lq", "sub": "1", "nonce": "n", "exp": NOW + 300, "iat": NOW})
    }

    fn keys(of: &[Value]) -> Keys {
        Keys::read(json!({"keys": of}).to_string().as_bytes()).unwrap()
    }

    fn tell(token: &str, keys: &Keys) -> Result<Map<String, Value>, TokenError> {
        verify(token, keys, &EXPECTED, Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn only_what_a_key_of_the_provider_signed_is_believed() {
        let (ours, other) = (Signer::new(), Signer::new());
        let header = json!({"alg": "ES256", "kid": "a"});
        let all = keys(&[ours.jwk("a"), json!({"kty": "oct", "k": "AAAA"}), json!({"kty": "OKP"}), json!(7)]);
        assert_eq!(all.len(), 1);
        assert_eq!(tell(&ours.sign(&header, &claims()), &all).unwrap()["sub"], "1");
        assert_eq!(tell(&other.sign(&header, &claims()), &all), Err(TokenError::UnknownKey));
        assert_eq!(
            tell(&ours.sign(&json!({"alg": "ES256", "kid": "b"}), &claims()), &all),
            Err(TokenError::UnknownKey)
        );
        // A provider that names no keys is asked of all of them.
        assert!(
            tell(&ours.sign(&json!({"alg": "ES256"}), &claims()), &keys(&[other.jwk("x"), ours.jwk("a")]))
                .is_ok()
        );
        for alg in ["none", "HS256", "RS256", "ES384"] {
            assert_eq!(
                tell(&ours.sign(&json!({"alg": alg, "kid": "a"}), &claims()), &all),
                Err(TokenError::UnknownKey)
            );
        }
        let critical = json!({"alg": "ES256", "kid": "a", "crit": ["b64"]});
        assert!(matches!(tell(&ours.sign(&critical, &claims()), &all), Err(TokenError::Malformed(_))));
        let token = ours.sign(&header, &claims());
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert_eq!(tell(&unsigned, &all), Err(TokenError::UnknownKey));
        let mut encryption = ours.jwk("a");
        encryption["use"] = "enc".into();
        assert_eq!(keys(&[encryption]).len(), 0);
    }

    #[test]
    fn every_claim_counts() {
        let signer = Signer::new();
        let all = keys(&[signer.jwk("a")]);
        let with = |name: &str, value: Value| {
            let mut changed = claims();
            if value.is_null() {
                changed.as_object_mut().unwrap().remove(name);
            } else {
                changed[name] = value;
            }
            tell(&signer.sign(&json!({"alg": "ES256"}), &changed), &all)
        };
        for (name, value) in [
            ("iss", json!("https://id/")),
            ("iss", Value::Null),
            ("aud", json!("else")),
            ("aud", json!(["lq", "else"])),
            ("aud", Value::Null),
            ("azp", json!("else")),
            ("exp", json!(NOW - 61)),
            ("exp", Value::Null),
            ("exp", json!("soon")),
            ("iat", json!(NOW + 61)),
            ("iat", Value::Null),
            ("nbf", json!(NOW + 61)),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
            ("sub", json!("")),
            ("sub", json!(7)),
        ] {
            assert!(matches!(with(name, value.clone()), Err(TokenError::Claim(_))), "{name} {value}");
        }
        for (name, value) in [
            ("aud", json!(["lq"])),
            ("azp", json!("lq")),
            ("exp", json!(NOW - 59)),
            ("exp", json!(NOW as f64 + 0.5)),
            ("iat", json!(NOW + 59)),
        ] {
            assert!(with(name, value.clone()).is_ok(), "{name} {value}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_is_more_than_an_error(token in "[a-zA-Z0-9_.-]{0,80}", set in ".{0,60}") {
            let _ = Keys::read(set.as_bytes());
            prop_assert!(tell(&token, &Keys::default()).is_err());
        }
    }
}
