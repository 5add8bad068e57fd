//! The keys and codes of an RMCP+ session (IPMI 2.0, 13.28 – 13.33): the exchange of RAKP 1 to 4, without any I/O.
//!
//! Invariant: only suites that authenticate, check and encrypt are known. There is no other to be talked down to.

use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// Longest password of IPMI 2.0, in bytes (22.30).
pub(super) const MAX_PASSWORD: usize = 20;
/// Longest user name, in bytes (22.28).
pub(super) const MAX_USER: usize = 16;
/// What the two keys of a session are derived from (13.32).
const CONSTANT: usize = 20;

/// A set of algorithms (22.15.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// Cipher suite 17: RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
    /// Cipher suite 3: RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
}

impl Suite {
    /// The numbers of authentication, integrity and confidentiality (13.28 – 13.28.5).
    pub(super) const fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Seventeen => [3, 4, 1],
            Self::Three => [1, 1, 1],
        }
    }

    /// Length of the codes of RAKP 2 and 3, in bytes.
    pub(super) const fn code(self) -> usize {
        match self {
            Self::Seventeen => 32,
            Self::Three => 20,
        }
    }

    /// Length of the codes of RAKP 4 and of each message of the session, in bytes.
    pub(super) const fn check(self) -> usize {
        match self {
            Self::Seventeen => 16,
            Self::Three => 12,
        }
    }

    /// The code of what the parts come to together.
    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Seventeen => keyed::<Hmac<Sha256>>(key, parts).finalize().into_bytes().to_vec(),
            Self::Three => keyed::<Hmac<Sha1>>(key, parts).finalize().into_bytes().to_vec(),
        }
    }

    /// Whether `code` is the beginning of that code, of `length` bytes. Takes as long whatever differs.
    pub(super) fn proves(self, key: &[u8], parts: &[&[u8]], code: &[u8], length: usize) -> bool {
        code.len() == length
            && length > 0
            && match self {
                Self::Seventeen => keyed::<Hmac<Sha256>>(key, parts).verify_truncated_left(code).is_ok(),
                Self::Three => keyed::<Hmac<Sha1>>(key, parts).verify_truncated_left(code).is_ok(),
            }
    }
}

fn keyed<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> M {
    // Keys of HMAC have any length: a longer one than a block would be hashed. Ours never are.
    let mut block = hmac::digest::Key::<M>::default();
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = <M as hmac::digest::KeyInit>::new(&block);
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// What both sides know after RAKP 2. Named as in 13.31: M is the console (this host), C the managed system (the BMC).
#[derive(Clone, Debug)]
pub(super) struct Exchange<'a> {
    pub(super) suite: Suite,
    /// The console's id of the session.
    pub(super) sid_m: u32,
    /// The BMC's id of the session.
    pub(super) sid_c: u32,
    pub(super) random_m: [u8; 16],
    pub(super) random_c: [u8; 16],
    pub(super) guid_c: [u8; 16],
    /// As it was asked for in RAKP 1.
    pub(super) role: u8,
    pub(super) user: &'a [u8],
    pub(super) password: &'a [u8],
}

impl Exchange<'_> {
    fn who(&self) -> Vec<u8> {
        let length = u8::try_from(self.user.len()).unwrap_or(u8::MAX);
        [&[self.role, length], self.user].concat()
    }

    /// Whether the code of RAKP 2 shows that the BMC knows the password.
    pub(super) fn knows_password(&self, code: &[u8]) -> bool {
        let (m, c) = (self.sid_m.to_le_bytes(), self.sid_c.to_le_bytes());
        let parts: [&[u8]; 6] = [&m, &c, &self.random_m, &self.random_c, &self.guid_c, &self.who()];
        self.suite.proves(self.password, &parts, code, self.suite.code())
    }

    /// The code of RAKP 3: shows the BMC that we know it.
    pub(super) fn our_code(&self) -> Vec<u8> {
        self.suite.hmac(self.password, &[&self.random_c, &self.sid_m.to_le_bytes(), &self.who()])
    }

    fn session_key(&self) -> Vec<u8> {
        // Without a key of the BMC (K_G) the password stands for it (13.31).
        self.suite.hmac(self.password, &[&self.random_m, &self.random_c, &self.who()])
    }

    /// The keys of the session, where the code of RAKP 4 shows that the BMC has them too.
    pub(super) fn keys(&self, code: &[u8]) -> Option<Keys> {
        let key = self.session_key();
        let parts: [&[u8]; 3] = [&self.random_m, &self.sid_c.to_le_bytes(), &self.guid_c];
        self.suite.proves(&key, &parts, code, self.suite.check()).then(|| Keys::of(self.suite, &key))
    }
}

/// The keys of a session.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) suite: Suite,
    /// K1: of the codes.
    pub(super) integrity: Vec<u8>,
    /// The beginning of K2: of AES (13.29).
    pub(super) secrecy: [u8; 16],
}

impl Keys {
    /// From the session integrity key (13.32).
    pub(super) fn of(suite: Suite, session_key: &[u8]) -> Self {
        let second = suite.hmac(session_key, &[&[2; CONSTANT]]);
        let mut secrecy = [0; 16];
        secrecy.iter_mut().zip(second).for_each(|(to, from)| *to = from);
        Self { suite, integrity: suite.hmac(session_key, &[&[1; CONSTANT]]), secrecy }
    }
}

#[cfg(test)]
#[path = "rakp_tests.rs"]
mod tests;
