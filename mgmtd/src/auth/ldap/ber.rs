//! The part of BER (ITU-T X.690) that LDAP uses (RFC 4511, 5.1): definite lengths, tags of one byte. Pure.

/// Longest content of an element, bytes.
pub(super) const LONGEST: usize = 4 << 20;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// What came is no BER, or not what was expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent what is no LDAP message: {0}")]
pub(super) struct BerError(pub(super) &'static str);

/// An element.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length.to_le_bytes()[0]);
    } else {
        let bytes = length.to_be_bytes();
        let used = bytes.iter().skip_while(|b| **b == 0);
        out.push(0x80 | used.clone().count().to_le_bytes()[0]);
        out.extend(used);
    }
    out.extend_from_slice(content);
    out
}

/// An element made of elements.
pub(super) fn constructed(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// A number, in the fewest bytes that hold it and its sign.
pub(super) fn integer(tag: u8, value: i32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let fill = if value < 0 { 0xff } else { 0 };
    let mut start = 0;
    while start < 3 && bytes[start] == fill && (bytes[start + 1] & 0x80 != 0) == (value < 0) {
        start += 1;
    }
    element(tag, &bytes[start..])
}

/// Bytes.
pub(super) fn octets(bytes: &[u8]) -> Vec<u8> {
    element(OCTETS, bytes)
}

/// How long the content after a header is; `None` where the header is not whole yet. Answers with the header's own length too.
pub(super) fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, BerError> {
    let Some(first) = bytes.get(1) else { return Ok(None) };
    if *first < 0x80 {
        return Ok(Some((2, usize::from(*first))));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return Err(BerError("an indefinite or overlong length"));
    }
    let Some(digits) = bytes.get(2..2 + count) else { return Ok(None) };
    let length = digits.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    if length > LONGEST {
        return Err(BerError("it is longer than 4 MiB"));
    }
    Ok(Some((2 + count, length)))
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Result<(u8, &'a [u8]), BerError> {
        let tag = *self.0.first().ok_or(BerError("it ends too early"))?;
        if tag & 0x1f == 0x1f {
            return Err(BerError("a tag of several bytes"));
        }
        let (header, length) = length(self.0)?.ok_or(BerError("it ends too early"))?;
        let content = self.0.get(header..header + length).ok_or(BerError("it ends too early"))?;
        self.0 = &self.0[header + length..];
        Ok((tag, content))
    }

    /// The next element, which has to have this tag.
    pub(super) fn take(&mut self, wanted: u8) -> Result<&'a [u8], BerError> {
        match self.any()? {
            (tag, content) if tag == wanted => Ok(content),
            _ => Err(BerError("another kind of element than expected")),
        }
    }

    /// The next element, a number.
    pub(super) fn number(&mut self, tag: u8) -> Result<i32, BerError> {
        let content = self.take(tag)?;
        let Some(first) = content.first().filter(|_| content.len() <= 4) else {
            return Err(BerError("a number that is empty or too large"));
        };
        let sign = if first & 0x80 == 0 { 0 } else { -1 };
        Ok(content.iter().fold(sign, |n, b| n << 8 | i32::from(*b)))
    }

    /// The next element, a text.
    pub(super) fn text(&mut self) -> Result<String, BerError> {
        Ok(String::from_utf8_lossy(self.take(OCTETS)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_as_the_standard_writes_them() {
        for (value, bytes) in [
            (0, &[0x02, 1, 0][..]),
            (127, &[0x02, 1, 0x7f]),
            (128, &[0x02, 2, 0, 0x80]),
            (-128, &[0x02, 1, 0x80]),
            (-129, &[0x02, 2, 0xff, 0x7f]),
            (i32::MAX, &[0x02, 4, 0x7f, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(integer(INTEGER, value), bytes, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any::<i32>(), bytes in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let all = constructed(SEQUENCE, &[integer(INTEGER, value), octets(&bytes)]);
            let mut outer = Reader::new(&all);
            let mut inner = Reader::new(outer.take(SEQUENCE).unwrap());
            prop_assert_eq!(inner.number(INTEGER).unwrap(), value);
            prop_assert_eq!(inner.take(OCTETS).unwrap(), &bytes[..]);
            prop_assert!(inner.is_empty() && outer.is_empty());
        }

        #[test]
        fn nothing_a_server_sends_is_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            while reader.any().is_ok() {}
            let _ = Reader::new(&bytes).number(INTEGER);
        }
    }
}
