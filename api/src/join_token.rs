//! The text of a join token: `lqj_`, then in URL-safe base64 what a joining host has to know, as JSON in this order: the cluster
//! (`c`), addresses of its hosts (`a`), the hash of its authority (`h`), the secret (`s`), and check letters (`k`).
//!
//! It is long, and sometimes typed: [`typed`] says of any beginning of one whether it can become a token, and where it went wrong.
//! The check letters (two for each of the four parts) tell a slip that still looks like a token; tokens of before have none.

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// What every join token begins with.
pub const PREFIX: &str = "lqj_";
/// Longest text that is looked at, in characters.
pub const MAX_TEXT: usize = 2048;
/// Letters of the authority's hash (SHA-256 in hexadecimal).
const HASH: usize = 64;
/// Check letters of each part.
const CHECK: usize = 2;

/// What a join token says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenText {
    /// The cluster.
    #[serde(rename = "c")]
    pub cluster: Uuid,
    /// Addresses of its hosts, `address:port`.
    #[serde(rename = "a")]
    pub addresses: Vec<String>,
    /// SHA-256 of the key of its authority, in hexadecimal.
    #[serde(rename = "h")]
    pub authority: String,
    /// The secret.
    #[serde(rename = "s")]
    pub secret: String,
    /// Check letters; absent in tokens of before there were any.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    checks: Option<String>,
}

/// A part of the text, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `lqj_` and what is the same in all.
    Beginning,
    /// The cluster's id.
    Cluster,
    /// Addresses of hosts.
    Addresses,
    /// The hash of the authority.
    Authority,
    /// The secret.
    Secret,
    /// The check letters and the end.
    End,
}

impl Part {
    /// Every one, in order.
    pub const ALL: [Self; 6] =
        [Self::Beginning, Self::Cluster, Self::Addresses, Self::Authority, Self::Secret, Self::End];

    /// What people call it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Beginning => "beginning",
            Self::Cluster => "id of the cluster",
            Self::Addresses => "addresses of hosts",
            Self::Authority => "hash of the authority",
            Self::Secret => "secret",
            Self::End => "end",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It ends too early.
    #[error("it ends in the {0}, too early")]
    Short(Part),
    /// A character cannot stand where it does.
    #[error("it is wrong at about character {at}, in the {part}: {why}")]
    At {
        /// Which character, from 1, blanks not counted.
        at: usize,
        /// In which part.
        part: Part,
        /// Why.
        why: &'static str,
    },
    /// The check letters do not fit.
    #[error("the {0} does not fit its check letters: a character in it is wrong")]
    Check(Part),
    /// It is longer than any token.
    #[error("it is longer than {MAX_TEXT} characters")]
    Long,
}

/// How far a text that is being typed is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// The part that the last character belongs to; all before are whole.
    pub part: Part,
    /// The addresses so far, the last one perhaps unfinished.
    pub addresses: Vec<String>,
    /// `Ok(true)`: it is a whole token. `Ok(false)`: it can become one.
    pub state: Result<bool, TokenFault>,
}

/// Two letters that change, but for one time in 4096, when anything of the part does.
fn check_of(part: &str) -> String {
    let sum = crc32fast::hash(part.as_bytes());
    let letters = URL_SAFE.as_str().as_bytes();
    let letter = |n: u32| letters.get((n & 63) as usize).map_or('A', |b| char::from(*b));
    [letter(sum >> 6), letter(sum)].iter().collect()
}

impl TokenText {
    /// A token.
    #[must_use]
    pub fn new(cluster: Uuid, addresses: Vec<String>, authority: String, secret: String) -> Self {
        let token = Self { cluster, addresses, authority, secret, checks: None };
        Self { checks: Some(token.expected_checks()), ..token }
    }

    fn parts(&self) -> [(Part, String); 4] {
        [
            (Part::Cluster, self.cluster.to_string()),
            (Part::Addresses, self.addresses.join(",")),
            (Part::Authority, self.authority.clone()),
            (Part::Secret, self.secret.clone()),
        ]
    }

    fn expected_checks(&self) -> String {
        self.parts().iter().map(|(_, text)| check_of(text)).collect()
    }

    /// Its text.
    ///
    /// # Errors
    /// Never in practice: what it holds can be written as JSON.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?)))
    }

    /// Reads a text; blanks and line breaks do not count.
    ///
    /// # Errors
    /// [`TokenFault`]: what is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, TokenFault> {
        if text.len() > MAX_TEXT * 2 {
            return Err(TokenFault::Long);
        }
        let text = without_blanks(text);
        match whole(&text) {
            Some(token) => token.checked(),
            None => match scan(&text) {
                (part, _, Ok(_)) => Err(TokenFault::Short(part)),
                (_, _, Err(fault)) => Err(fault),
            },
        }
    }

    fn checked(self) -> Result<Self, TokenFault> {
        let Some(checks) = &self.checks else { return Ok(self) };
        for (n, (part, text)) in self.parts().iter().enumerate() {
            if checks.get(n * CHECK..(n + 1) * CHECK) != Some(check_of(text).as_str()) {
                return Err(TokenFault::Check(*part));
            }
        }
        Ok(self)
    }
}

fn without_blanks(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

fn whole(text: &str) -> Option<TokenText> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// How far a text is that is being typed; blanks and line breaks do not count.
#[must_use]
pub fn typed(text: &str) -> Typed {
    let text = without_blanks(text);
    if let Some(token) = whole(&text) {
        let addresses = token.addresses.clone();
        let (part, state) = match token.checked() {
            Ok(_) => (Part::End, Ok(true)),
            Err(fault) => (Part::End, Err(fault)),
        };
        return Typed { part, addresses, state };
    }
    let (part, addresses, state) = scan(&text);
    // What looks whole was read above.
    Typed { part, addresses, state: state.map(|()| false) }
}

/// The longest beginning of a token that a text is: its last part, the addresses in it, and where it is none any more.
fn scan(text: &str) -> (Part, Vec<String>, Result<(), TokenFault>) {
    let at = |at: usize, part, why| Err(TokenFault::At { at, part, why });
    for (n, (is, wanted)) in text.chars().zip(PREFIX.chars()).enumerate() {
        if is != wanted {
            return (Part::Beginning, vec![], at(n + 1, Part::Beginning, "a join token begins with `lqj_`"));
        }
    }
    let Some(inner) = text.strip_prefix(PREFIX) else { return (Part::Beginning, vec![], Ok(())) };
    let good = inner.bytes().take_while(|b| URL_SAFE.as_str().as_bytes().contains(b)).count();
    // One letter alone is less than a byte.
    let take = if good % 4 == 1 { good - 1 } else { good };
    let lenient = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
    );
    let bytes = inner.get(..take).and_then(|t| lenient.decode(t).ok()).unwrap_or_default();
    let mut scan = Scan { bytes: &bytes, at: 0, part: Part::Beginning, addresses: Vec::new() };
    let end = scan.token();
    let (part, addresses) = (scan.part, scan.addresses);
    // The letter that has the last bits of a byte, counted from 1.
    let letter = |byte: usize| PREFIX.len() + (byte * 8 + 7) / 6 + 1;
    let state = match end {
        Err(Stop::Bad(byte, why)) => at(letter(byte), part, why),
        _ if good < inner.len() => {
            let why = "letters, digits, `-` and `_` are possible";
            at(PREFIX.len() + good + 1, part, why)
        }
        Ok(()) if scan.at < bytes.len() => at(letter(scan.at), Part::End, "it goes on behind its end"),
        Ok(()) | Err(Stop::More) => Ok(()),
    };
    (part, addresses, state)
}

/// Why a scan goes no further.
enum Stop {
    /// The text ends here.
    More,
    /// This byte cannot stand here.
    Bad(usize, &'static str),
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    part: Part,
    addresses: Vec<String>,
}

impl Scan<'_> {
    fn token(&mut self) -> Result<(), Stop> {
        self.literal(r#"{"c":""#)?;
        self.part = Part::Cluster;
        for n in 0..36 {
            let dash = matches!(n, 8 | 13 | 18 | 23);
            self.one("an id is of digits, a to f, and `-`", |b| if dash { b == b'-' } else { is_hex(b) })?;
        }
        self.literal(r#"","a":[""#)?;
        self.part = Part::Addresses;
        loop {
            self.address()?;
            // Another one, or the end of them.
            let more = self.one("`,` or `]` comes after an address", |b| b == b',' || b == b']')? == b',';
            if !more {
                break;
            }
            self.literal("\"")?;
        }
        self.literal(r#","h":""#)?;
        self.part = Part::Authority;
        for _ in 0..HASH {
            self.one("the hash is of digits and a to f", is_hex)?;
        }
        self.literal(r#"","s":""#)?;
        self.part = Part::Secret;
        let why = "the secret is of letters, digits, `-` and `_`";
        let letter = |b: u8| URL_SAFE.as_str().as_bytes().contains(&b);
        self.one(why, letter)?;
        while self.one(why, |b| letter(b) || b == b'"')? != b'"' {}
        self.part = Part::End;
        if self.one("`,` or `}` comes after the secret", |b| b == b',' || b == b'}')? == b',' {
            self.literal(r#""k":""#)?;
            for _ in 0..4 * CHECK {
                self.one("check letters are letters, digits, `-` and `_`", letter)?;
            }
            self.literal("\"}")?;
        }
        Ok(())
    }

    fn address(&mut self) -> Result<(), Stop> {
        let from = self.at;
        self.addresses.push(String::new());
        let why = "an address is like 192.0.2.1:7443 or [2001:db8::1]:7443";
        let letter = |b: u8| b.is_ascii_alphanumeric() || b".:[]-%_".contains(&b);
        loop {
            let byte = self.one(why, |b| letter(b) || b == b'"')?;
            let address = self.addresses.last_mut();
            if byte == b'"' {
                let port = address.and_then(|a| Some(a.rsplit_once(':')?.1.parse::<u16>().is_ok()));
                return if port == Some(true) { Ok(()) } else { Err(Stop::Bad(from, why)) };
            }
            if let Some(address) = address {
                address.push(char::from(byte));
            }
        }
    }

    fn literal(&mut self, text: &str) -> Result<(), Stop> {
        text.bytes().try_for_each(|wanted| {
            self.one("a character there or just before it is wrong", |b| b == wanted).map(|_| ())
        })
    }

    fn one(&mut self, why: &'static str, fits: impl Fn(u8) -> bool) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::More)?;
        if !fits(byte) {
            return Err(Stop::Bad(self.at, why));
        }
        self.at += 1;
        Ok(byte)
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(addresses: &[&str]) -> TokenText {
        let addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
        TokenText::new(Uuid::from_u128(0x0190_0000_7000), addresses, "0a".repeat(32), "s3cret-_".repeat(5))
    }

    #[test]
    fn every_beginning_can_become_a_token_and_only_the_whole_is_one() {
        for addresses in
            [&["192.0.2.1:7443"][..], &["192.0.2.1:7443", "[2001:db8::1]:7443", "node-1.lan:7443"]]
        {
            let wanted = token(addresses);
            let text = wanted.text().unwrap();
            let mut part = Part::Beginning;
            for n in 0..text.len() {
                let so_far = typed(&text[..n]);
                assert_eq!(so_far.state, Ok(false), "{n}: {:?}", so_far.part);
                assert!(so_far.part >= part, "{n}");
                part = so_far.part;
                assert!(matches!(TokenText::parse(&text[..n]), Err(TokenFault::Short(_))), "{n}");
            }
            assert_eq!(part, Part::End);
            let end = typed(&text);
            assert_eq!((end.state, end.addresses), (Ok(true), wanted.addresses.clone()));
            let broken: String = text.chars().flat_map(|c| [c, '\n', ' ']).collect();
            assert!(TokenText::parse(&broken).is_ok_and(|t| t == wanted), "pasted over several lines");
            assert!(matches!(typed(&format!("{text}A")).state, Err(_) | Ok(false)));
            assert!(matches!(
                typed(&format!("{text}AAAA")).state,
                Err(TokenFault::At { part: Part::End, .. })
            ));
        }
    }

    #[test]
    fn a_token_of_before_there_were_check_letters_counts() {
        let old = TokenText { checks: None, ..token(&["192.0.2.1:7443"]) };
        let text = old.text().unwrap();
        assert!(TokenText::parse(&text).is_ok_and(|t| t == old));
        assert_eq!(typed(&text).state, Ok(true));
        for n in 0..text.len() {
            assert_eq!(typed(&text[..n]).state, Ok(false));
        }
    }

    #[test]
    fn what_is_no_token_is_told_where() {
        for (text, part) in [
            ("lqt_abc", Part::Beginning),
            ("x", Part::Beginning),
            ("lqj_!", Part::Beginning),
            ("lqj_AAAA", Part::Beginning),
        ] {
            let fault = TokenText::parse(text).err();
            assert!(matches!(fault, Some(TokenFault::At { part: p, .. }) if p == part), "{text}: {fault:?}");
        }
        assert_eq!(TokenText::parse("").err(), Some(TokenFault::Short(Part::Beginning)));
        assert_eq!(TokenText::parse(&"A".repeat(MAX_TEXT * 2 + 1)).err(), Some(TokenFault::Long));
    }

    proptest! {
        #[test]
        fn a_slip_is_found_and_not_far_from_where_it_is(at in 4usize..250, letter in 0usize..64) {
            let text = token(&["192.0.2.1:7443", "192.0.2.2:7443"]).text().unwrap();
            let at = at.min(text.len() - 1);
            let mut wrong: Vec<char> = text.chars().collect();
            wrong[at] = char::from(URL_SAFE.as_str().as_bytes()[letter]);
            let wrong: String = wrong.into_iter().collect();
            prop_assume!(wrong != text);
            match typed(&wrong).state {
                // Nothing that counts: a bit of the last letter, or, one time in 4096, one that the checks miss.
                Ok(whole) => prop_assert!(whole || at == text.len() - 1),
                Err(TokenFault::At { at: told, .. }) => {
                    prop_assert!(told.abs_diff(at + 1) <= 30, "{told} instead of {}", at + 1);
                }
                Err(TokenFault::Check(_) | TokenFault::Short(_)) => {}
                Err(TokenFault::Long) => prop_assert!(false),
            }
            prop_assert!(TokenText::parse(&wrong).is_err() || typed(&wrong).state == Ok(true));
        }

        #[test]
        fn nothing_typed_breaks_it(text in "\\PC{0,300}", tail in "lqj_[A-Za-z0-9_-]{0,200}") {
            for text in [text, tail] {
                let state = typed(&text).state;
                prop_assert_eq!(state == Ok(true), TokenText::parse(&text).is_ok());
            }
        }
    }
}
