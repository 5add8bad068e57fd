//! What a console said, and waiting for what it shall say.
//!
//! A [`Transcript`] is fed bytes by whoever reads the console (a serial socket, a WebSocket) and read by tests that wait for
//! words. Terminal control sequences are removed before matching; the raw bytes go to the log file. What stands on the screen is
//! kept beside it ([`Screen`]).
//!
//! Invariant: the cursor only moves forward, over what a wait has matched, so that an old prompt is never taken for a new one.

use crate::{scale, screen::Screen};
use anyhow::{Result, bail};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Text kept per console; older text is dropped.
const KEPT: usize = 16 << 20;

#[derive(Debug, Default)]
struct Inner {
    text: String,
    /// Text dropped from the front, so that positions stay valid.
    dropped: usize,
    cursor: usize,
    strip: Strip,
    screen: Screen,
    closed: Option<String>,
}

/// What a console said so far. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    name: Arc<str>,
    inner: Arc<Mutex<Inner>>,
    grown: Arc<watch::Sender<u64>>,
}

impl Transcript {
    /// An empty one; `name` is used in messages.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), inner: Arc::default(), grown: Arc::new(watch::Sender::new(0)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was read.
    pub(crate) fn push(&self, bytes: &[u8]) {
        {
            let mut guard = self.lock();
            let inner = &mut *guard;
            inner.strip.feed(bytes, &mut inner.text);
            inner.screen.feed(bytes);
            if inner.text.len() > KEPT {
                let mut cut = inner.text.len() - KEPT / 2;
                while !inner.text.is_char_boundary(cut) {
                    cut += 1;
                }
                inner.text.drain(..cut);
                inner.dropped += cut;
                inner.cursor = inner.cursor.max(inner.dropped);
            }
        }
        self.grown.send_modify(|n| *n += 1);
    }

    /// Nothing more will come, and why: waits end at once.
    pub(crate) fn close(&self, reason: &str) {
        self.lock().closed = Some(reason.to_owned());
        self.grown.send_modify(|n| *n += 1);
    }

    /// Forgets what was not read yet: the next wait sees only what comes from now on.
    pub(crate) fn skip(&self) {
        let mut inner = self.lock();
        inner.cursor = inner.dropped + inner.text.len();
    }

    /// Waits until one of `patterns` appears and returns its index and the text from the old cursor to its end.
    /// `seconds` is for an idle machine with emulated processors and is scaled (see [`scale`]).
    pub(crate) async fn expect_any(&self, patterns: &[&str], seconds: u64) -> Result<(usize, String)> {
        let limit = scale::seconds(seconds);
        let deadline = Instant::now() + limit;
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            if let Some(found) = self.try_match(patterns) {
                return Ok(found);
            }
            let closed = self.lock().closed.clone();
            if let Some(reason) = closed {
                bail!(
                    "{}: waited for {patterns:?}, but {reason}; it ended with:\n{}",
                    self.name,
                    self.tail(30)
                );
            }
            if tokio::time::timeout_at(deadline, grown.changed()).await.is_err() {
                let waited = Duration::as_secs(&limit);
                bail!(
                    "{}: {patterns:?} did not appear within {waited} s; it ended with:\n{}",
                    self.name,
                    self.tail(30)
                );
            }
        }
    }

    /// Waits for one pattern; see [`Self::expect_any`].
    pub(crate) async fn expect(&self, pattern: &str, seconds: u64) -> Result<String> {
        Ok(self.expect_any(&[pattern], seconds).await?.1)
    }

    /// The lines of the screen as it stands.
    pub(crate) fn screen(&self) -> Vec<String> {
        self.lock().screen.lines()
    }

    /// Waits until words are in a line of the screen (or in none, where not `wanted`); false when that did not come in time.
    pub(crate) async fn shows(&self, words: &str, wanted: bool, deadline: Instant) -> Result<bool> {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            if self.screen().iter().any(|line| line.contains(words)) == wanted {
                return Ok(true);
            }
            let closed = self.lock().closed.clone();
            if let Some(reason) = closed {
                bail!("{}: looked for `{words}`, but {reason}; it ended with:\n{}", self.name, self.tail(30));
            }
            if tokio::time::timeout_at(deadline, grown.changed()).await.is_err() {
                return Ok(false);
            }
        }
    }

    /// Ends when one of `patterns` appears behind the cursor, or nothing more can come. Takes nothing.
    pub(crate) async fn watch(&self, patterns: &[&str]) {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            {
                let inner = self.lock();
                let unread = inner.text.get(inner.cursor - inner.dropped..).unwrap_or_default();
                if inner.closed.is_some() || patterns.iter().any(|p| unread.contains(p)) {
                    return;
                }
            }
            // The sender lives in `self`, so this waits for the next growth.
            let _ = grown.changed().await;
        }
    }

    fn try_match(&self, patterns: &[&str]) -> Option<(usize, String)> {
        let mut inner = self.lock();
        let from = inner.cursor - inner.dropped;
        let unread = inner.text.get(from..)?;
        // The earliest match wins, so that two prompts in one read are taken in their order.
        let (at, which) =
            patterns.iter().enumerate().filter_map(|(i, p)| unread.find(p).map(|at| (at, i))).min()?;
        let end = at + patterns.get(which)?.len();
        let text = unread.get(..end)?.to_owned();
        inner.cursor += end;
        Some((which, text))
    }

    /// Everything kept, the read part included.
    pub(crate) fn all(&self) -> String {
        self.lock().text.clone()
    }

    /// The last lines.
    pub(crate) fn tail(&self, lines: usize) -> String {
        last_lines(&self.lock().text, lines)
    }
}

fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let from = all.len().saturating_sub(lines);
    all.get(from..).unwrap_or_default().iter().map(|l| format!("    | {l}\n")).collect()
}

/// Removes terminal control sequences (ECMA-48: CSI, OSC, other escapes) and carriage returns from a stream that may be cut
/// anywhere; bytes that are not UTF-8 become replacement characters.
#[derive(Debug, Default)]
struct Strip {
    state: StripState,
    partial: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum StripState {
    #[default]
    Text,
    Escape,
    Csi,
    Osc,
    OscEscape,
    Charset,
}

impl Strip {
    fn feed(&mut self, bytes: &[u8], out: &mut String) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (StripState::Text, 0x1b) => {
                    self.flush(out);
                    StripState::Escape
                }
                (StripState::Text, b'\r' | 0 | 7) => StripState::Text,
                (StripState::Text, _) => {
                    self.partial.push(byte);
                    StripState::Text
                }
                (StripState::Escape, b'[') => StripState::Csi,
                (StripState::Escape, b']' | b'P' | b'^' | b'_') => StripState::Osc,
                (StripState::Escape, b'(' | b')' | b'#' | b'%') => StripState::Charset,
                (StripState::Escape | StripState::Charset, _) => StripState::Text,
                (StripState::Csi, 0x40..=0x7e) => StripState::Text,
                (StripState::Csi, _) => StripState::Csi,
                (StripState::Osc, 7) => StripState::Text,
                (StripState::Osc, 0x1b) => StripState::OscEscape,
                (StripState::Osc, _) => StripState::Osc,
                (StripState::OscEscape, _) => StripState::Text,
            };
        }
        if self.state == StripState::Text {
            self.flush(out);
        }
    }

    /// Moves whole characters to `out`; the beginning of a character that was cut stays.
    fn flush(&mut self, out: &mut String) {
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    out.push_str(text);
                    self.partial.clear();
                    return;
                }
                Err(error) => {
                    let good = error.valid_up_to();
                    let (text, rest) = self.partial.split_at(good);
                    out.push_str(&String::from_utf8_lossy(text));
                    let Some(bad) = error.error_len() else {
                        self.partial = rest.to_vec();
                        return;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.partial = rest.get(bad..).unwrap_or_default().to_vec();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(chunks: &[&[u8]]) -> String {
        let (mut strip, mut out) = (Strip::default(), String::new());
        for chunk in chunks {
            strip.feed(chunk, &mut out);
        }
        out
    }

    #[test]
    fn control_sequences_are_removed_wherever_they_are_cut() {
        let whole: &[u8] = b"\x1b[2J\x1b[1;31mlogin\x1b[0m: \x1b]0;title\x07root\r\n\x1b(Bend \xc3\xa4";
        for cut in 0..whole.len() {
            let (a, b) = whole.split_at(cut);
            assert_eq!(stripped(&[a, b]), "login: root\nend ä", "cut at {cut}");
        }
    }

    #[test]
    fn bad_utf8_is_replaced_and_does_not_hold_up_what_follows() {
        assert_eq!(stripped(&[b"a\xffb"]), "a\u{fffd}b");
    }

    #[tokio::test]
    async fn a_match_is_taken_once_and_in_order() {
        let t = Transcript::new("t");
        t.push(b"one login: two login: ");
        assert_eq!(t.expect("login:", 1).await.unwrap(), "one login:");
        assert_eq!(t.expect_any(&["never", "login:"], 1).await.unwrap(), (1, " two login:".into()));
        let later = t.clone();
        let waiter = tokio::spawn(async move { later.expect("three", 5).await });
        t.push(b"th");
        t.push(b"ree");
        assert_eq!(waiter.await.unwrap().unwrap(), " three");
    }

    #[tokio::test]
    async fn a_closed_console_ends_the_wait_with_the_reason() {
        let t = Transcript::new("serial");
        t.push(b"Kernel panic\n");
        t.close("QEMU ended");
        let error = t.expect("login:", 60).await.unwrap_err().to_string();
        assert!(error.contains("QEMU ended") && error.contains("Kernel panic"), "{error}");
    }
}
