//! Filters (RFC 4515) and distinguished names (RFC 4514) into which a user's name is put. Pure.
//!
//! Invariant: what someone types is never more than a value: every character that has a meaning there is escaped before it is put
//! in, and the text is taken apart only after that.

use super::ber::{OCTETS, constructed, element, octets};
use lq_api::provider::{DN, USER};

/// Deepest nesting.
const DEEPEST: usize = 16;

/// Why a text is no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a filter (RFC 4515): {0}")]
pub(super) struct FilterError(&'static str);

/// A value in a filter (RFC 4515, 3).
fn escaped_value(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '*' | '(' | ')' | '\\' | '\0' => out.push_str(&format!("\\{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A value in a distinguished name (RFC 4514, 2.4).
fn escaped_dn(text: &str) -> String {
    let mut out = String::new();
    let last = text.chars().count().saturating_sub(1);
    for (n, c) in text.chars().enumerate() {
        match c {
            '\0' => out.push_str("\\00"),
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => out.extend(['\\', c]),
            ' ' if n == 0 || n == last => out.push_str("\\ "),
            '#' if n == 0 => out.push_str("\\#"),
            c => out.push(c),
        }
    }
    out
}

/// The distinguished name a template stands for.
pub(super) fn dn(template: &str, user: &str) -> String {
    template.replace(USER, &escaped_dn(user))
}

/// The filter a template stands for, as it goes over the wire.
pub(super) fn filter(template: &str, user: &str, user_dn: &str) -> Result<Vec<u8>, FilterError> {
    // In one pass: what is put in is not looked at again.
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(USER) {
            text.push_str(&escaped_value(user));
            rest = after;
        } else if let Some(after) = rest.strip_prefix(DN) {
            text.push_str(&escaped_value(user_dn));
            rest = after;
        } else {
            text.push('{');
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    let (encoded, rest) = parse(&text, 0)?;
    if rest.is_empty() { Ok(encoded) } else { Err(FilterError("something follows its end")) }
}

/// Takes one filter in parentheses off the text.
fn parse(text: &str, depth: usize) -> Result<(Vec<u8>, &str), FilterError> {
    if depth > DEEPEST {
        return Err(FilterError("it is nested too deeply"));
    }
    let rest = text.strip_prefix('(').ok_or(FilterError("a `(` is missing"))?;
    let (encoded, rest) = match rest.chars().next() {
        Some(sign @ ('&' | '|')) => {
            let (mut parts, mut rest) = (Vec::new(), &rest[1..]);
            while rest.starts_with('(') {
                let (part, after) = parse(rest, depth + 1)?;
                parts.push(part);
                rest = after;
            }
            (constructed(if sign == '&' { 0xa0 } else { 0xa1 }, &parts), rest)
        }
        Some('!') => {
            let (part, rest) = parse(&rest[1..], depth + 1)?;
            (constructed(0xa2, &[part]), rest)
        }
        _ => {
            let end = rest.find(['(', ')']).unwrap_or(rest.len());
            (item(&rest[..end])?, &rest[end..])
        }
    };
    Ok((encoded, rest.strip_prefix(')').ok_or(FilterError("a `)` is missing"))?))
}

fn item(text: &str) -> Result<Vec<u8>, FilterError> {
    let (attribute, value) = text.split_once('=').ok_or(FilterError("a `=` is missing"))?;
    if let Some(rule) = attribute.strip_suffix(':') {
        return extensible(rule, value);
    }
    let (attribute, tag) = match attribute.chars().last() {
        Some('>') => (&attribute[..attribute.len() - 1], 0xa5),
        Some('<') => (&attribute[..attribute.len() - 1], 0xa6),
        Some('~') => (&attribute[..attribute.len() - 1], 0xa8),
        _ => (attribute, 0xa3),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || ".-;".contains(c);
    if attribute.is_empty() || !attribute.chars().all(good) {
        return Err(FilterError("the name of an attribute is missing or has a sign that it cannot have"));
    }
    if tag == 0xa3 && value == "*" {
        return Ok(element(0x87, attribute.as_bytes()));
    }
    if tag == 0xa3 && value.contains('*') {
        let pieces: Vec<&str> = value.split('*').collect();
        let last = pieces.len() - 1;
        let mut parts = Vec::new();
        for (n, piece) in pieces.iter().enumerate().filter(|(_, p)| !p.is_empty()) {
            let tag = if n == 0 {
                0x80
            } else if n == last {
                0x82
            } else {
                0x81
            };
            parts.push(element(tag, &unescaped(piece)?));
        }
        if parts.is_empty() {
            return Err(FilterError("only stars: write one"));
        }
        let parts = constructed(0x30, &parts);
        return Ok(constructed(0xa4, &[octets(attribute.as_bytes()), parts]));
    }
    Ok(constructed(tag, &[octets(attribute.as_bytes()), element(OCTETS, &unescaped(value)?)]))
}

/// `attribute[:dn][:rule]` before the `:=`.
fn extensible(rule: &str, value: &str) -> Result<Vec<u8>, FilterError> {
    let mut words = rule.split(':');
    let attribute = words.next().unwrap_or_default();
    let (mut with_dn, mut matching) = (false, None);
    for word in words {
        match word {
            "dn" if matching.is_none() && !with_dn => with_dn = true,
            "" => return Err(FilterError("an empty matching rule")),
            word if matching.is_none() => matching = Some(word),
            _ => return Err(FilterError("two matching rules")),
        }
    }
    if attribute.is_empty() && matching.is_none() {
        return Err(FilterError("neither an attribute nor a matching rule"));
    }
    let mut parts: Vec<Vec<u8>> = matching.map(|m| element(0x81, m.as_bytes())).into_iter().collect();
    if !attribute.is_empty() {
        parts.push(element(0x82, attribute.as_bytes()));
    }
    parts.push(element(0x83, &unescaped(value)?));
    if with_dn {
        parts.push(element(0x84, &[0xff]));
    }
    Ok(constructed(0xa9, &parts))
}

/// A value with `\xx` as the byte it stands for.
fn unescaped(text: &str) -> Result<Vec<u8>, FilterError> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let mut digit =
            || bytes.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(FilterError("a `\\` that two hexadecimal digits do not follow"));
        };
        out.push(high << 4 | low);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An equality as it goes over the wire.
    fn equality(attribute: &str, value: &[u8]) -> Vec<u8> {
        constructed(0xa3, &[octets(attribute.as_bytes()), octets(value)])
    }

    #[test]
    fn filters_are_read() {
        let read = |text: &str| filter(text, "eve", "uid=eve,dc=x");
        assert_eq!(read("(uid={user})").unwrap(), equality("uid", b"eve"));
        assert_eq!(read("(uid=*)").unwrap(), element(0x87, b"uid"));
        let both = constructed(0xa0, &[equality("a", b"1"), constructed(0xa2, &[equality("b", b"{x}*")])]);
        assert_eq!(read("(&(a=1)(!(b={x}\\2a)))").unwrap(), both);
        let pieces = constructed(0x30, &[element(0x80, b"a"), element(0x81, b"b"), element(0x82, b"c")]);
        assert_eq!(read("(cn=a*b*c)").unwrap(), constructed(0xa4, &[octets(b"cn"), pieces]));
        let chain = [
            element(0x81, b"1.2.840.113556.1.4.1941"),
            element(0x82, b"member"),
            element(0x83, b"uid=eve,dc=x"),
        ];
        assert_eq!(read("(member:1.2.840.113556.1.4.1941:={dn})").unwrap(), constructed(0xa9, &chain));
        assert_eq!(read("(n>=5)").unwrap()[0], 0xa5);
        for bad in
            ["", "uid=x", "(uid=x", "(uid=x)(a=b)", "(x)", "(=x)", "(uid=\\2)", "(uid=**)", "(a b=c)", "(!)"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&format!("{}(a=b){}", "(!".repeat(20), ")".repeat(20))).is_err(), "too deep");
    }

    #[test]
    fn names_are_escaped_in_distinguished_names() {
        assert_eq!(dn("uid={user},dc=x", "eve"), "uid=eve,dc=x");
        assert_eq!(dn("uid={user},dc=x", "x,dc=y"), "uid=x\\,dc\\=y,dc=x");
        assert_eq!(dn("{user}", " #a+\"\\<>;\0 "), "\\ #a\\+\\\"\\\\\\<\\>\\;\\00\\ ");
        assert_eq!(dn("{user}", "#1"), "\\#1");
    }

    proptest! {
        /// Whatever is typed is the value of one equality, and nothing else.
        #[test]
        fn nothing_that_is_typed_has_a_meaning(user in ".{0,40}", dn in ".{0,40}") {
            let wanted = constructed(0xa1, &[equality("uid", user.as_bytes()), equality("m", dn.as_bytes())]);
            prop_assert_eq!(filter("(|(uid={user})(m={dn}))", &user, &dn).unwrap(), wanted);
        }

        #[test]
        fn no_template_is_more_than_an_error(template in "[(){}&|!=*:a-z\\\\]{0,60}") {
            let _ = filter(&template, "eve", "uid=eve");
        }
    }
}
