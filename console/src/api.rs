//! The smallest HTTP/1.1 client that can ask `mgmtd` on the same host a question: one request, one connection, bounded in
//! time and size.

use lq_api::local::paths;
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// For facts, which are asked for again soon.
const LOOK: Duration = Duration::from_secs(2);
/// For what a person asked for: hashing a password takes its time.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Looks at a path as root.
pub(crate) fn get(path: &str) -> std::io::Result<Answer> {
    exchange(Path::new(paths::API_SOCKET), &head("GET", path, None, None), &[], LOOK)
}

/// Asks something, with a session's token where given.
pub(crate) fn ask(
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&[u8]>,
    patience: Duration,
) -> std::io::Result<Answer> {
    let head = head(method, path, token, body.map(<[u8]>::len));
    exchange(Path::new(paths::API_SOCKET), &head, body.unwrap_or_default(), patience)
}

fn head(method: &str, path: &str, token: Option<&str>, length: Option<usize>) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n");
    if let Some(token) = token {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    if let Some(length) = length {
        head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    } else if method != "GET" {
        head += "Content-Length: 0\r\n";
    }
    head + "Connection: close\r\n\r\n"
}

fn exchange(socket: &Path, head: &str, body: &[u8], timeout: Duration) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))
}

/// The words of a problem document, or the first line of any other text.
pub(crate) fn reason(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let words = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|v| v.get("detail").and_then(|d| d.as_str().map(str::to_owned)));
    words.or_else(|| text.lines().next().map(str::to_owned)).filter(|t| !t.trim().is_empty())
}

/// Reads status and body, whole or in chunks.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let body = bytes.get(end + 4..)?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let chunked = lines.any(|l| {
        l.split_once(':').is_some_and(|(k, v)| {
            k.eq_ignore_ascii_case("transfer-encoding") && v.trim().eq_ignore_ascii_case("chunked")
        })
    });
    Some(Answer { status, body: if chunked { unchunk(body)? } else { body.to_vec() } })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = rest.get(end + 2..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn answers_are_read_whole_or_in_chunks() {
        let whole = parse(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert_eq!(whole, Answer { status: 503, body: b"no".to_vec() });
        let chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunks).unwrap().body, b"abcde");
        for bad in [
            b"".as_slice(),
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab",
        ] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn a_question_is_answered_over_the_socket() {
        let path = std::env::temp_dir().join(format!("lq-console-test-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}").unwrap();
            request
        });
        let answer = exchange(&path, &head("GET", "/ready", None, None), &[], LOOK).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"{}".as_slice()));
        assert!(server.join().unwrap().starts_with(b"GET /ready HTTP/1.1\r\n"));
        let _ = std::fs::remove_file(&path);
        assert!(exchange(&path, &head("GET", "/ready", None, None), &[], LOOK).is_err());
    }

    #[test]
    fn a_body_is_announced_and_a_session_named() {
        let head = head("POST", "/x", Some("t"), Some(2));
        assert!(head.starts_with("POST /x HTTP/1.1\r\n") && head.ends_with("\r\n\r\n"));
        assert!(head.contains("Authorization: Bearer t\r\n") && head.contains("Content-Length: 2\r\n"));
    }

    #[test]
    fn a_reason_is_taken_from_a_problem_document_or_as_it_is() {
        assert_eq!(reason(br#"{"detail":"no leader"}"#).as_deref(), Some("no leader"));
        assert_eq!(reason(b"starting\nx").as_deref(), Some("starting"));
        assert_eq!(reason(b""), None);
    }
}
