//! The messages of LDAP version 3 that are needed (RFC 4511, 4): bind, search, StartTLS, unbind. Pure.

use super::ber::{
    BOOLEAN, BerError, ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE, SET, constructed, element, integer,
    octets,
};

/// StartTLS (RFC 4511, 4.14).
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// How deep is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The object itself.
    Base,
    /// It and all that is below it.
    Subtree,
}

/// A search.
#[derive(Clone, Debug)]
pub(super) struct Search<'a> {
    pub(super) base: &'a str,
    pub(super) depth: Depth,
    /// As it goes over the wire.
    pub(super) filter: Vec<u8>,
    pub(super) attributes: &'a [&'a str],
    /// Most entries that are wanted.
    pub(super) most: i32,
    /// Longest that the server may take, seconds.
    pub(super) seconds: i32,
}

/// What the server thinks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: i32,
    pub(super) message: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) dn: String,
    pub(super) attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// All values of an attribute; names differ in nothing by letter case.
    pub(super) fn all<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let of = self.attributes.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(attribute));
        of.flat_map(|(_, values)| values.iter().map(Vec::as_slice))
    }

    /// The first value of an attribute, where it is a text.
    pub(super) fn text(&self, attribute: &str) -> Option<String> {
        let value = self.all(attribute).next()?;
        std::str::from_utf8(value).ok().filter(|t| !t.is_empty()).map(str::to_owned)
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Response {
    Bound(Outcome),
    Found(Entry),
    /// A search is over.
    Done(Outcome),
    Extended(Outcome),
    /// Something that is not needed: places on other servers, which are not followed.
    Other,
}

fn message(id: i32, operation: Vec<u8>) -> Vec<u8> {
    constructed(SEQUENCE, &[integer(INTEGER, id), operation])
}

/// A simple bind.
pub(super) fn bind(id: i32, dn: &str, password: &str) -> Vec<u8> {
    let parts = [integer(INTEGER, 3), octets(dn.as_bytes()), element(0x80, password.as_bytes())];
    message(id, constructed(0x60, &parts))
}

pub(super) fn search(id: i32, search: &Search<'_>) -> Vec<u8> {
    let depth = match search.depth {
        Depth::Base => 0,
        Depth::Subtree => 2,
    };
    let attributes: Vec<_> = search.attributes.iter().map(|a| octets(a.as_bytes())).collect();
    let parts = [
        octets(search.base.as_bytes()),
        integer(ENUMERATED, depth),
        // Aliases are not followed.
        integer(ENUMERATED, 0),
        integer(INTEGER, search.most),
        integer(INTEGER, search.seconds),
        element(BOOLEAN, &[0]),
        search.filter.clone(),
        constructed(SEQUENCE, &attributes),
    ];
    message(id, constructed(0x63, &parts))
}

pub(super) fn start_tls(id: i32) -> Vec<u8> {
    message(id, constructed(0x77, &[element(0x80, START_TLS)]))
}

pub(super) fn unbind(id: i32) -> Vec<u8> {
    message(id, element(0x42, &[]))
}

fn outcome(content: &[u8]) -> Result<Outcome, BerError> {
    let mut parts = Reader::new(content);
    let code = parts.number(ENUMERATED)?;
    parts.text()?;
    Ok(Outcome { code, message: parts.text()? })
}

fn entry(content: &[u8]) -> Result<Entry, BerError> {
    let mut parts = Reader::new(content);
    let dn = parts.text()?;
    let mut list = Reader::new(parts.take(SEQUENCE)?);
    let mut attributes = Vec::new();
    while !list.is_empty() {
        let mut one = Reader::new(list.take(SEQUENCE)?);
        let name = one.text()?;
        let mut set = Reader::new(one.take(SET)?);
        let mut values = Vec::new();
        while !set.is_empty() {
            values.push(set.take(OCTETS)?.to_vec());
        }
        attributes.push((name, values));
    }
    Ok(Entry { dn, attributes })
}

/// An answer, and to which request.
pub(super) fn read(bytes: &[u8]) -> Result<(i32, Response), BerError> {
    let mut message = Reader::new(Reader::new(bytes).take(SEQUENCE)?);
    let id = message.number(INTEGER)?;
    let (tag, content) = message.any()?;
    let response = match tag {
        0x61 => Response::Bound(outcome(content)?),
        0x64 => Response::Found(entry(content)?),
        0x65 => Response::Done(outcome(content)?),
        0x78 => Response::Extended(outcome(content)?),
        _ => Response::Other,
    };
    Ok((id, response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bind_is_as_the_standard_writes_it() {
        let wanted = [
            &[0x30, 0x15, 0x02, 0x01, 0x01, 0x60, 0x10, 0x02, 0x01, 0x03, 0x04, 0x06][..],
            b"cn=abc",
            &[0x80, 0x03],
            b"xyz",
        ];
        assert_eq!(bind(1, "cn=abc", "xyz"), wanted.concat());
    }

    #[test]
    fn answers_are_read() {
        let done = [0x30, 0x0d, 0x02, 0x01, 0x02, 0x61, 0x08, 0x0a, 0x01, 0x31, 0x04, 0x00, 0x04, 0x01, b'x'];
        let bound = Response::Bound(Outcome { code: 49, message: "x".into() });
        assert_eq!(read(&done), Ok((2, bound)));
        let set = constructed(SET, &[octets(b"eve"), octets(b"e")]);
        let list = constructed(SEQUENCE, &[constructed(SEQUENCE, &[octets(b"UID"), set])]);
        let bytes = message(3, constructed(0x64, &[octets(b"uid=eve"), list]));
        let Ok((3, Response::Found(entry))) = read(&bytes) else { unreachable!("it is an entry") };
        assert_eq!((entry.dn.as_str(), entry.text("uid").as_deref()), ("uid=eve", Some("eve")));
        assert_eq!(entry.all("Uid").count(), 2);
    }

    proptest! {
        #[test]
        fn nothing_a_server_sends_is_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
