//! Syslog: one message of RFC 5424, framed by octet counting, over TCP (RFC 6587, 3.4.1) or TLS (RFC 5425).
//!
//! The protocol has no answer. What is known is that the server's end of the connection took the bytes and did not break it
//! while it was closed in order; a server that ends it with an error is a failure.

use super::{Sender, render};
use crate::cluster::state::alerts::{Cause, Notice};
use crate::dial::{self, Trust};
use lq_api::alert::Severity;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Facility `daemon`.
const FACILITY: u8 = 3;
/// Longest message that is sent; receivers must take 2048 octets (RFC 5425, 4.3.1).
const MAX_TEXT: usize = 1200;
/// How long the server may take to say that it ended the connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// The number of a severity (RFC 5424, 6.2.1).
fn number(notice: &Notice) -> u8 {
    match (notice.cause, notice.alert.severity) {
        (Cause::Resolved, _) => 5,
        (_, Severity::Info) => 6,
        (_, Severity::Warning) => 4,
        (_, Severity::Critical) => 2,
    }
}

/// A field of the header: printable ASCII without spaces, and not longer than its limit.
fn word(text: &str, longest: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(longest).collect();
    if word.is_empty() { "-".into() } else { word }
}

/// A parameter value: `"`, `\` and `]` with a backslash before (RFC 5424, 6.3.3).
fn value(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The message without its frame.
pub(super) fn message(notice: &Notice, sender: &Sender) -> String {
    let alert = &notice.alert;
    let priority = FACILITY * 8 + number(notice);
    let at = notice.at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    let mut text = format!(
        "<{priority}>1 {at} {} limiquantix - {} [alert@32473 id=\"{}\" cause=\"{}\" severity=\"{}\" target=\"{}\" name=\"{}\"",
        word(&sender.host, 255),
        word(alert.rule.text(), 32),
        alert.id,
        value(&notice.cause.to_string()),
        alert.severity,
        value(&alert.target),
        value(&alert.target_name),
    );
    if let Some(part) = &alert.part {
        let _ = write!(text, " part=\"{}\"", value(part));
    }
    let words = format!("{}: {}", render::subject(notice), alert.message);
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect();
    // The byte order mark says that the text is UTF-8 (6.4).
    let _ = write!(text, "] \u{feff}{words}");
    text
}

/// `tls` is the channel's certificates, where it speaks TLS.
pub(super) async fn send(
    server: &str,
    port: u16,
    tls: Option<Option<&str>>,
    notice: &Notice,
    sender: &Sender,
) -> Result<(), String> {
    let message = message(notice, sender);
    let frame = format!("{} {message}", message.len());
    let stream = dial::connect(server, port).await?;
    let mut stream: Box<dyn dial::Stream> = match tls {
        Some(ca) => Box::new(dial::secure(stream, server, Trust::of(ca)).await?),
        None => Box::new(stream),
    };
    let sent = async {
        stream.write_all(frame.as_bytes()).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        let mut rest = [0; 64];
        // Nothing is to come but the end. A server that keeps the connection open has taken the bytes all the same.
        match tokio::time::timeout(FAREWELL, stream.read(&mut rest)).await {
            // Many servers end TLS without saying so.
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
            Ok(Err(e)) => Err(e),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    };
    sent.await.map_err(|e| format!("{server} port {port} broke the connection: {e}"))
}
