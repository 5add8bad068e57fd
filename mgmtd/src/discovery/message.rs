//! DNS messages (RFC 1035) as far as a multicast responder for one service needs them. Pure. What comes in is untrusted: lengths,
//! counts and jumps are bounded, and what does not fit is no message.

use std::net::Ipv4Addr;

/// Largest message that is read or written (RFC 6762, section 17, for an ordinary link).
pub(super) const MAX: usize = 1472;
/// Questions and records of a message that are looked at.
const MOST: usize = 64;
/// Jumps of a compressed name that are followed.
const JUMPS: usize = 16;

/// Class IN.
const IN: u16 = 1;
/// In a question: the answer may come to the asker alone. In a record: it replaces those of before (RFC 6762, sections 5.4, 10.2).
const TOP: u16 = 0x8000;

const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const SRV: u16 = 33;
const ANY: u16 = 255;

/// A name, by its labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Name(pub(super) Vec<Vec<u8>>);

impl Name {
    /// From text without escapes.
    pub(super) fn new(text: &str) -> Self {
        Self(text.split('.').filter(|l| !l.is_empty()).map(|l| l.as_bytes().to_vec()).collect())
    }

    /// This name below `parent`.
    pub(super) fn below(label: &str, parent: &Self) -> Self {
        Self([label.as_bytes().to_vec()].into_iter().chain(parent.0.iter().cloned()).collect())
    }
}

impl PartialEq for Name {
    // Case does not matter (RFC 1035, section 2.3.3).
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}
impl Eq for Name {}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Address,
    Pointer,
    Service,
    Text,
    Any,
    Other(u16),
}

impl Asked {
    fn number(self) -> u16 {
        match self {
            Self::Address => A,
            Self::Pointer => PTR,
            Self::Service => SRV,
            Self::Text => TXT,
            Self::Any => ANY,
            Self::Other(n) => n,
        }
    }
    fn from_number(n: u16) -> Self {
        match n {
            A => Self::Address,
            PTR => Self::Pointer,
            SRV => Self::Service,
            TXT => Self::Text,
            ANY => Self::Any,
            other => Self::Other(other),
        }
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) asked: Asked,
    /// The answer may come to the asker alone.
    pub(super) unicast: bool,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Address(Ipv4Addr),
    Pointer(Name),
    Service { port: u16, target: Name },
    Text(Vec<Vec<u8>>),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: Name,
    /// Seconds it holds; 0: it holds no more.
    pub(super) ttl: u32,
    /// Whether it replaces those of before.
    pub(super) unique: bool,
    pub(super) data: Data,
}

/// A message. Records of other types are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: u16,
    pub(super) response: bool,
    pub(super) questions: Vec<Question>,
    /// Answers, and what was sent along, in one.
    pub(super) records: Vec<Record>,
}

impl Message {
    /// As it is sent; names are not compressed. `None` where it would be too large.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        // Response and authoritative, or nothing.
        let flags: u16 = if self.response { 0x8400 } else { 0 };
        let (questions, records) =
            (u16::try_from(self.questions.len()).ok()?, u16::try_from(self.records.len()).ok()?);
        for word in [self.id, flags, questions, records, 0, 0] {
            out.extend(word.to_be_bytes());
        }
        for question in &self.questions {
            put_name(&mut out, &question.name)?;
            out.extend(question.asked.number().to_be_bytes());
            out.extend((if question.unicast { IN | TOP } else { IN }).to_be_bytes());
        }
        for record in &self.records {
            put_name(&mut out, &record.name)?;
            let mut data = Vec::new();
            let kind = match &record.data {
                Data::Address(address) => {
                    data.extend(address.octets());
                    A
                }
                Data::Pointer(name) => {
                    put_name(&mut data, name)?;
                    PTR
                }
                Data::Service { port, target } => {
                    for word in [0, 0, *port] {
                        data.extend(u16::to_be_bytes(word));
                    }
                    put_name(&mut data, target)?;
                    SRV
                }
                Data::Text(strings) => {
                    for string in strings {
                        data.push(u8::try_from(string.len()).ok()?);
                        data.extend(string);
                    }
                    TXT
                }
            };
            out.extend(kind.to_be_bytes());
            out.extend((if record.unique { IN | TOP } else { IN }).to_be_bytes());
            out.extend(record.ttl.to_be_bytes());
            out.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
            out.extend(data);
        }
        (out.len() <= MAX).then_some(out)
    }

    /// What came in; `None` where it is not a message.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = Reader { bytes, at: 0 };
        let (id, flags) = (at.word()?, at.word()?);
        // Standard queries and their answers only, none that say they failed.
        if flags & 0x780f != 0 {
            return None;
        }
        let counts = [at.word()?, at.word()?, at.word()?, at.word()?].map(usize::from);
        let records: usize = counts.iter().skip(1).sum();
        if counts[0] > MOST || records > MOST {
            return None;
        }
        let mut message = Self { id, response: flags & 0x8000 != 0, ..Self::default() };
        for _ in 0..counts[0] {
            let (name, asked, class) = (at.name()?, at.word()?, at.word()?);
            if matches!(class & !TOP, IN | 255) {
                let unicast = class & TOP != 0;
                message.questions.push(Question { name, asked: Asked::from_number(asked), unicast });
            }
        }
        for _ in 0..records {
            let (name, kind, class) = (at.name()?, at.word()?, at.word()?);
            let ttl = u32::from(at.word()?) << 16 | u32::from(at.word()?);
            let length = usize::from(at.word()?);
            let end = at.at.checked_add(length).filter(|end| *end <= bytes.len())?;
            let mut inner = Reader { bytes: bytes.get(..end)?, at: at.at };
            at.at = end;
            let data = match kind {
                A if length == 4 => Data::Address(Ipv4Addr::from(inner.take::<4>()?)),
                PTR => Data::Pointer(inner.name()?),
                SRV => {
                    let _ = (inner.word()?, inner.word()?);
                    Data::Service { port: inner.word()?, target: inner.name()? }
                }
                TXT => {
                    let mut strings = Vec::new();
                    while inner.at < end {
                        let length = usize::from(inner.take::<1>()?[0]);
                        strings.push(inner.slice(length)?.to_vec());
                    }
                    Data::Text(strings)
                }
                _ => continue,
            };
            if class & !TOP == IN {
                message.records.push(Record { name, ttl, unique: class & TOP != 0, data });
            }
        }
        Some(message)
    }
}

fn put_name(out: &mut Vec<u8>, name: &Name) -> Option<()> {
    let length: usize = name.0.iter().map(|l| l.len() + 1).sum::<usize>() + 1;
    if length > 255 {
        return None;
    }
    for label in &name.0 {
        let length = u8::try_from(label.len()).ok().filter(|l| (1..=63).contains(l))?;
        out.push(length);
        out.extend(label);
    }
    out.push(0);
    Some(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let slice = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(slice)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn word(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// A name, compressed or not (RFC 1035, section 4.1.4). Jumps lead backwards only.
    fn name(&mut self) -> Option<Name> {
        let (mut labels, mut length, mut jumps) = (Vec::new(), 1, 0);
        let mut at = self.at;
        let mut after = None;
        loop {
            let first = *self.bytes.get(at)?;
            match first >> 6 {
                0 if first == 0 => {
                    self.at = after.unwrap_or(at + 1);
                    return Some(Name(labels));
                }
                0 => {
                    let size = usize::from(first);
                    length += size + 1;
                    if length > 255 {
                        return None;
                    }
                    labels.push(self.bytes.get(at + 1..at + 1 + size)?.to_vec());
                    at += 1 + size;
                }
                3 => {
                    let second = *self.bytes.get(at + 1)?;
                    let target = usize::from(first & 0x3f) << 8 | usize::from(second);
                    jumps += 1;
                    if jumps > JUMPS || target >= at {
                        return None;
                    }
                    after.get_or_insert(at + 2);
                    at = target;
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Name> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..5).prop_map(Name)
    }

    fn data() -> impl Strategy<Value = Data> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|a| Data::Address(a.into())),
            name().prop_map(Data::Pointer),
            (any::<u16>(), name()).prop_map(|(port, target)| Data::Service { port, target }),
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..4)
                .prop_map(Data::Text),
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        let question = (name(), any::<u16>(), any::<bool>()).prop_map(|(name, n, unicast)| Question {
            name,
            asked: Asked::from_number(n),
            unicast,
        });
        let record = (name(), any::<u32>(), any::<bool>(), data())
            .prop_map(|(name, ttl, unique, data)| Record { name, ttl, unique, data });
        let parts = (proptest::collection::vec(question, 0..3), proptest::collection::vec(record, 0..4));
        (any::<u16>(), any::<bool>(), parts).prop_map(|(id, response, (questions, records))| Message {
            id,
            response,
            questions,
            records,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(message in message()) {
            if let Some(bytes) = message.encode() {
                prop_assert_eq!(Message::decode(&bytes), Some(message));
            }
        }

        #[test]
        fn rubbish_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(message) = Message::decode(&bytes) {
                prop_assert!(message.questions.len() <= MOST && message.records.len() <= MOST);
            }
        }

        #[test]
        fn a_spoilt_message_does_no_harm(message in message(), at in any::<usize>(), with in any::<u8>()) {
            if let Some(mut bytes) = message.encode() {
                let at = at % bytes.len();
                bytes[at] = with;
                let _ = Message::decode(&bytes);
                let _ = Message::decode(&bytes[..at]);
            }
        }
    }

    #[test]
    fn compressed_names_are_followed_and_loops_are_not() {
        // "x.local" at 12, then a pointer to it behind "y".
        let mut bytes = vec![0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        bytes.extend(b"\x01x\x05local\x00\x00\x0c\x00\x01");
        bytes.extend(b"\x01y\xc0\x0c\x00\x0c\x80\x01");
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.questions[1].name, Name::new("Y.x.LOCAL"));
        assert!(message.questions[1].unicast);
        let head = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for looped in [&[0xc0u8, 12][..], &[0xc0, 14, 0xc0, 12], &[1, b'x', 0xc0, 12]] {
            let bytes = [&head[..], looped, &[0, 12, 0, 1]].concat();
            assert_eq!(Message::decode(&bytes), None, "{looped:?}");
        }
    }
}
