//! The exchange that proves to two hosts that both know the code, without telling it to anyone: SPAKE2 (the draft's group
//! on Ed25519), bound to who both are, with key confirmation (RFC 9382, section 4: no key is used before it).
//!
//! ```text
//!  inviting host (cluster)                      waiting host (shows the code)
//!  Inviter, message ──────── /pair/hello ─────▶ Waiter, message          key = SPAKE2(code, Inviter, Waiter)
//!  its proof ─────────────── /pair/confirm ───▶ checks it first          a wrong one counts as a guess
//!  checks it ◀────────────── its proof ────────
//!  sealed join token ─────── /pair/join ──────▶ joins as with any token
//! ```
//! Both keys in it are what the sides *see*: the inviting host puts in the key of the certificate that answered it, so whoever
//! stands between with a certificate of their own makes the two keys differ. Pure: no network, no clock.

use super::code::Code;
use lq_api::HostId;
use ring::{aead, hkdf, hmac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use uuid::Uuid;

/// Of the exchange. Sides of different versions do not pair.
pub(super) const VERSION: u32 = 1;

/// Who invites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inviter {
    pub(super) version: u32,
    pub(super) cluster: Uuid,
    /// Hash of the cluster's authority.
    pub(super) authority: String,
    pub(super) host: HostId,
    /// Hash of the host's public key.
    pub(super) pin: String,
}

/// Who waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiter {
    pub(super) version: u32,
    pub(super) host: HostId,
    /// Hash of the host's public key.
    pub(super) pin: String,
}

/// The other side said something that is no part of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Fields with their lengths, so that no two different things read the same.
fn digest(label: &str, fields: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for field in [label.as_bytes()].iter().chain(fields) {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

impl Inviter {
    fn identity(&self) -> [u8; 32] {
        let version = self.version.to_be_bytes();
        let fields: [&[u8]; 5] = [
            &version,
            self.cluster.as_bytes(),
            self.authority.as_bytes(),
            self.host.0.as_bytes(),
            self.pin.as_bytes(),
        ];
        digest("lq-pair inviter", &fields)
    }
}

impl Waiter {
    fn identity(&self) -> [u8; 32] {
        let version = self.version.to_be_bytes();
        digest("lq-pair waiter", &[&version, self.host.0.as_bytes(), self.pin.as_bytes()])
    }
}

/// What both sides have once they have heard each other.
pub(super) struct Keys {
    inviter: hmac::Key,
    waiter: hmac::Key,
    seal: [u8; 32],
    transcript: [u8; 32],
}

/// Which side gives a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Inviter,
    Waiter,
}

struct Length(usize);
impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Keys {
    fn new(shared: &[u8], transcript: [u8; 32]) -> Result<Self, Malformed> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &transcript).extract(shared);
        let derive = |label: &str| -> Result<[u8; 32], Malformed> {
            let mut key = [0u8; 32];
            let info = [label.as_bytes()];
            let okm = prk.expand(&info, Length(key.len())).map_err(|_| Malformed)?;
            okm.fill(&mut key).map_err(|_| Malformed)?;
            Ok(key)
        };
        Ok(Self {
            inviter: hmac::Key::new(hmac::HMAC_SHA256, &derive("inviter confirms")?),
            waiter: hmac::Key::new(hmac::HMAC_SHA256, &derive("waiter confirms")?),
            seal: derive("seal")?,
            transcript,
        })
    }

    fn key(&self, side: Side) -> &hmac::Key {
        match side {
            Side::Inviter => &self.inviter,
            Side::Waiter => &self.waiter,
        }
    }

    /// A side's proof that it has the same keys.
    pub(super) fn proof(&self, side: Side) -> Vec<u8> {
        hmac::sign(self.key(side), &self.transcript).as_ref().to_vec()
    }

    /// Whether the other side's proof is right, in constant time.
    pub(super) fn proves(&self, side: Side, proof: &[u8]) -> bool {
        hmac::verify(self.key(side), &self.transcript, proof).is_ok()
    }

    /// The key seals one message, so its nonce may be constant.
    fn sealing(&self) -> Result<(aead::LessSafeKey, aead::Nonce), Malformed> {
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &self.seal).map_err(|_| Malformed)?;
        Ok((aead::LessSafeKey::new(key), aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])))
    }

    /// Seals the one message of the inviting side. Called once.
    pub(super) fn seal(self, message: &[u8]) -> Result<Vec<u8>, Malformed> {
        let (key, nonce) = self.sealing()?;
        let mut bytes = message.to_vec();
        let bound = aead::Aad::from(self.transcript);
        key.seal_in_place_append_tag(nonce, bound, &mut bytes).map_err(|_| Malformed)?;
        Ok(bytes)
    }

    /// Opens it.
    pub(super) fn open(self, sealed: &[u8]) -> Result<Vec<u8>, Malformed> {
        let (key, nonce) = self.sealing()?;
        let mut bytes = sealed.to_vec();
        let bound = aead::Aad::from(self.transcript);
        let plain = key.open_in_place(nonce, bound, &mut bytes).map_err(|_| Malformed)?;
        Ok(plain.to_vec())
    }
}

fn transcript(inviter: &[u8; 32], waiter: &[u8; 32], first: &[u8], second: &[u8]) -> [u8; 32] {
    digest("lq-pair transcript", &[inviter, waiter, first, second])
}

/// The inviting side before the other's answer.
pub(super) struct Begun {
    state: Spake2<Ed25519Group>,
    inviter: [u8; 32],
    waiter: [u8; 32],
    pub(super) message: Vec<u8>,
}

impl Begun {
    /// `waiter` holds the key of the certificate that was seen.
    pub(super) fn new(code: &Code, inviter: &Inviter, waiter: &Waiter) -> Self {
        let (inviter, waiter) = (inviter.identity(), waiter.identity());
        let (state, message) = Spake2::<Ed25519Group>::start_a(
            &Password::new(code.bytes()),
            &Identity::new(&inviter),
            &Identity::new(&waiter),
        );
        Self { state, inviter, waiter, message }
    }

    pub(super) fn finish(self, answer: &[u8]) -> Result<Keys, Malformed> {
        let transcript = transcript(&self.inviter, &self.waiter, &self.message, answer);
        let shared = self.state.finish(answer).map_err(|_| Malformed)?;
        Keys::new(&shared, transcript)
    }
}

/// The waiting side: its message, and its keys.
pub(super) fn answer(
    code: &Code,
    inviter: &Inviter,
    waiter: &Waiter,
    message: &[u8],
) -> Result<(Vec<u8>, Keys), Malformed> {
    let (inviter, waiter) = (inviter.identity(), waiter.identity());
    let (state, own) = Spake2::<Ed25519Group>::start_b(
        &Password::new(code.bytes()),
        &Identity::new(&inviter),
        &Identity::new(&waiter),
    );
    let transcript = transcript(&inviter, &waiter, message, &own);
    let shared = state.finish(message).map_err(|_| Malformed)?;
    Ok((own, Keys::new(&shared, transcript)?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::cluster::pairing) fn inviter() -> Inviter {
        Inviter {
            version: VERSION,
            cluster: Uuid::now_v7(),
            authority: "aa".into(),
            host: HostId::new(),
            pin: "bb".into(),
        }
    }

    fn waiter() -> Waiter {
        Waiter { version: VERSION, host: HostId::new(), pin: "cc".into() }
    }

    /// Whether the two sides come to the same keys.
    fn agree(typed: &Code, said: (&Inviter, &Waiter), shown: &Code, heard: (&Inviter, &Waiter)) -> bool {
        let begun = Begun::new(typed, said.0, said.1);
        let (own, theirs) = answer(shown, heard.0, heard.1, &begun.message).unwrap();
        let ours = begun.finish(&own).unwrap();
        let both = theirs.proves(Side::Inviter, &ours.proof(Side::Inviter))
            && ours.proves(Side::Waiter, &theirs.proof(Side::Waiter));
        assert!(!theirs.proves(Side::Inviter, &theirs.proof(Side::Waiter)), "a proof is not its own answer");
        let opened = theirs.open(&ours.seal(b"token").unwrap());
        assert_eq!(opened.is_ok_and(|o| o == b"token"), both);
        both
    }

    #[test]
    fn the_same_code_and_the_same_sides_agree_and_nothing_else() {
        let (code, i, w) = (Code::random().unwrap(), inviter(), waiter());
        assert!(agree(&code, (&i, &w), &code, (&i, &w)));
        assert!(!agree(&Code::random().unwrap(), (&i, &w), &code, (&i, &w)));
        // Somebody between shows a certificate of their own.
        let seen = Waiter { pin: "dd".into(), ..w.clone() };
        assert!(!agree(&code, (&i, &seen), &code, (&i, &w)));
        for other in [
            Inviter { cluster: Uuid::now_v7(), ..i.clone() },
            Inviter { authority: "ab".into(), ..i.clone() },
            Inviter { host: HostId::new(), ..i.clone() },
            Inviter { pin: "bc".into(), ..i.clone() },
            Inviter { version: VERSION + 1, ..i.clone() },
        ] {
            assert!(!agree(&code, (&i, &w), &code, (&other, &w)), "{other:?}");
        }
        let other = Waiter { host: HostId::new(), ..w.clone() };
        assert!(!agree(&code, (&i, &other), &code, (&i, &w)));
    }

    #[test]
    fn what_was_sent_before_opens_nothing_later() {
        let (code, i, w) = (Code::random().unwrap(), inviter(), waiter());
        let begun = Begun::new(&code, &i, &w);
        let message = begun.message.clone();
        let (own, first) = answer(&code, &i, &w, &message).unwrap();
        let ours = begun.finish(&own).unwrap();
        let proof = ours.proof(Side::Inviter);
        assert!(first.proves(Side::Inviter, &proof));
        // The same message again: the waiting side's own is another.
        let (_, again) = answer(&code, &i, &w, &message).unwrap();
        assert!(!again.proves(Side::Inviter, &proof));
        assert!(again.open(&ours.seal(b"x").unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn rubbish_is_refused(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (code, i, w) = (Code::random().unwrap(), inviter(), waiter());
            let begun = Begun::new(&code, &i, &w);
            if let Ok(keys) = begun.finish(&message) {
                prop_assert!(!keys.proves(Side::Waiter, &message));
            }
            if let Ok((_, keys)) = answer(&code, &i, &w, &message) {
                prop_assert!(!keys.proves(Side::Inviter, &message));
                prop_assert!(keys.open(&message).is_err());
            }
        }
    }
}
