//! Mail: a small SMTP client (RFC 5321) with STARTTLS (RFC 3207), TLS (RFC 8314) and AUTH PLAIN or LOGIN (RFC 4954).
//!
//! ```text
//!  greeting ─▶ EHLO ─▶ [STARTTLS ─▶ TLS ─▶ EHLO] ─▶ [AUTH] ─▶ MAIL FROM ─▶ RCPT TO … ─▶ DATA ─▶ QUIT
//! ```
//! Invariants: a password goes only over TLS; what the server says before TLS is forgotten with it; addresses were checked
//! (`lq_api::channel`), so nothing in a command can end it.

use super::{Sender, render};
use crate::cluster::state::alerts::Notice;
use crate::dial::{self, Trust};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use lq_api::channel::MailSecurity;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// Longest line of an answer: twice what is allowed (RFC 5321, 4.5.3.1.5).
const MAX_LINE: u64 = 1024;
/// Most lines of an answer.
const MAX_LINES: usize = 100;

/// The mail server.
pub(super) struct Place<'a> {
    pub(super) server: &'a str,
    pub(super) port: u16,
    pub(super) security: MailSecurity,
    pub(super) ca: Option<&'a str>,
}

/// From whom to whom.
pub(super) struct Envelope<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a [String],
}

struct Session<S> {
    stream: BufReader<S>,
}

/// An answer: its code, and its lines without it.
struct Answer {
    code: u16,
    lines: Vec<String>,
}

impl Answer {
    fn refused(&self, what: &str) -> String {
        format!("the mail server refused {what}: {} {}", self.code, self.lines.join(" "))
    }
}

impl<S: dial::Stream> Session<S> {
    fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    async fn answer(&mut self) -> Result<Answer, String> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await;
            let n = read.map_err(|e| format!("the mail server broke the connection: {e}"))?;
            if n == 0 {
                return Err("the mail server ended the connection".into());
            }
            let line: String =
                String::from_utf8_lossy(&line).trim_end().chars().filter(|c| !c.is_control()).collect();
            let code = line.get(..3).and_then(|c| c.parse::<u16>().ok());
            let (Some(code), true) = (code, lines.len() < MAX_LINES) else {
                return Err(format!("the mail server does not speak SMTP: `{line}`"));
            };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Answer { code, lines });
            }
        }
    }

    /// Sends a command; its answer must have a code of this hundred.
    async fn command(&mut self, text: &str, hundred: u16, what: &str) -> Result<Answer, String> {
        self.raw(format!("{text}\r\n").as_bytes()).await?;
        let answer = self.answer().await?;
        if answer.code / 100 == hundred { Ok(answer) } else { Err(answer.refused(what)) }
    }

    async fn raw(&mut self, bytes: &[u8]) -> Result<(), String> {
        let stream = self.stream.get_mut();
        let written = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        written.await.map_err(|e| format!("the mail server broke the connection: {e}"))
    }

    async fn hello(&mut self) -> Result<Vec<String>, String> {
        let answer = self.command("EHLO limiquantix.invalid", 2, "the greeting").await?;
        Ok(answer.lines.iter().skip(1).map(|l| l.to_ascii_uppercase()).collect())
    }

    async fn log_in(&mut self, offered: &[String], user: &str, password: &str) -> Result<(), String> {
        let ways: Vec<&str> = offered
            .iter()
            .filter_map(|l| l.strip_prefix("AUTH").filter(|r| r.starts_with([' ', '='])))
            .flat_map(|l| l.split([' ', '=']))
            .collect();
        let what = "user name and password";
        if ways.contains(&"PLAIN") {
            let text = STANDARD.encode(format!("\0{user}\0{password}"));
            self.command(&format!("AUTH PLAIN {text}"), 2, what).await?;
        } else if ways.contains(&"LOGIN") {
            self.command("AUTH LOGIN", 3, what).await?;
            self.command(&STANDARD.encode(user), 3, what).await?;
            self.command(&STANDARD.encode(password), 2, what).await?;
        } else {
            return Err(
                "the mail server takes no password (neither AUTH PLAIN nor LOGIN): leave out the user name"
                    .into(),
            );
        }
        Ok(())
    }

    async fn deliver(
        mut self,
        offered: &[String],
        login: Option<(&str, &str)>,
        envelope: &Envelope<'_>,
        message: &str,
    ) -> Result<(), String> {
        if let Some((user, password)) = login {
            self.log_in(offered, user, password).await?;
        }
        self.command(&format!("MAIL FROM:<{}>", envelope.from), 2, "the sender").await?;
        for to in envelope.to {
            self.command(&format!("RCPT TO:<{to}>"), 2, &format!("the recipient {to}")).await?;
        }
        self.command("DATA", 3, "the mail").await?;
        self.raw(&stuffed(message)).await?;
        let answer = self.answer().await?;
        if answer.code / 100 != 2 {
            return Err(answer.refused("the mail"));
        }
        // It has the mail; how the farewell goes does not matter.
        let _ = self.command("QUIT", 2, "the farewell").await;
        Ok(())
    }
}

pub(super) async fn send(
    place: &Place<'_>,
    login: Option<(&str, &str)>,
    envelope: &Envelope<'_>,
    notice: &Notice,
    sender: &Sender,
) -> Result<(), String> {
    let message = message(envelope, notice, sender);
    let stream = dial::connect(place.server, place.port).await?;
    match place.security {
        MailSecurity::Tls => {
            let mut session = Session::new(dial::secure(stream, place.server, Trust::of(place.ca)).await?);
            greeted(&mut session).await?;
            let offered = session.hello().await?;
            session.deliver(&offered, login, envelope, &message).await
        }
        MailSecurity::StartTls => {
            let stream = start_tls(stream).await?;
            let mut session = Session::new(dial::secure(stream, place.server, Trust::of(place.ca)).await?);
            let offered = session.hello().await?;
            session.deliver(&offered, login, envelope, &message).await
        }
        MailSecurity::None => {
            let mut session = Session::new(stream);
            greeted(&mut session).await?;
            let offered = session.hello().await?;
            session.deliver(&offered, None, envelope, &message).await
        }
    }
}

async fn greeted<S: dial::Stream>(session: &mut Session<S>) -> Result<(), String> {
    let greeting = session.answer().await?;
    if greeting.code / 100 == 2 { Ok(()) } else { Err(greeting.refused("the connection")) }
}

/// Up to where TLS begins.
async fn start_tls(stream: TcpStream) -> Result<TcpStream, String> {
    let mut session = Session::new(stream);
    greeted(&mut session).await?;
    if !session.hello().await?.iter().any(|l| l == "STARTTLS") {
        return Err(
            "the mail server offers no STARTTLS: choose `tls`, or `none` in a network that is trusted".into(),
        );
    }
    session.command("STARTTLS", 2, "STARTTLS").await?;
    // What came before TLS and is not read yet could be anyone's (CVE-2011-0411).
    if !session.stream.buffer().is_empty() {
        return Err("the mail server spoke on before TLS began".into());
    }
    Ok(session.stream.into_inner())
}

/// The mail: headers and text (RFC 5322), the text in base 64 so that nothing on the way changes it.
fn message(envelope: &Envelope<'_>, notice: &Notice, sender: &Sender) -> String {
    let date = notice.at.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let domain = envelope.from.rsplit_once('@').map_or("limiquantix.invalid", |(_, domain)| domain);
    let id = format!("{}.{}.{}", notice.alert.id, notice.number, uuid::Uuid::now_v7().simple());
    let mut text = format!(
        "From: LimiQuantix <{}>\r\nTo: {}\r\nSubject: {}\r\nDate: {date}\r\nMessage-ID: <{id}@{domain}>\r\n",
        envelope.from,
        envelope.to.join(",\r\n "),
        encoded(&render::subject(notice)),
    );
    text.push_str("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n");
    text.push_str("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n");
    let body = STANDARD.encode(render::text(notice, sender).replace('\n', "\r\n"));
    for line in body.as_bytes().chunks(76) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push_str("\r\n");
    }
    text
}

/// A text in a header: as it is where that is plain, else as encoded words (RFC 2047), each of at most 75 characters.
fn encoded(text: &str) -> String {
    let plain = |c: char| c == ' ' || c.is_ascii_graphic();
    if text.chars().all(plain) && text.len() <= 200 && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars().filter(|c| !c.is_control()) {
        match words.last_mut() {
            Some(word) if word.len() + c.len_utf8() <= 45 => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    let words: Vec<_> = words.iter().map(|w| format!("=?utf-8?B?{}?=", STANDARD.encode(w))).collect();
    words.join("\r\n ")
}

/// The message as it is sent: a dot before every dot at the beginning of a line, and the end (RFC 5321, 4.5.2).
fn stuffed(message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive("\r\n") {
        if line.starts_with('.') {
            out.push(b'.');
        }
        out.extend_from_slice(line.as_bytes());
    }
    if !message.ends_with("\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_alone_does_not_end_the_mail() {
        assert_eq!(stuffed("a\r\n.\r\n..b"), b"a\r\n..\r\n...b\r\n.\r\n");
    }

    #[test]
    fn headers_hold_any_text() {
        assert_eq!(encoded("[critical] Host lost: h2"), "[critical] Host lost: h2");
        let long = encoded(&"ä\r\nBcc: x".repeat(20));
        assert!(long.split("\r\n ").all(|w| w.len() <= 75 && w.starts_with("=?utf-8?B?")), "{long}");
        assert!(!long.contains("Bcc"));
    }
}
