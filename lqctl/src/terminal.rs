//! The terminal of the person: questions, secrets without echo, raw mode for consoles, progress.

use crate::failure::usage;
use anyhow::Context;
use lq_api::{Bytes, client::Progress, task::Task};
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Whether a person can be asked.
pub(crate) fn interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Puts the terminal back when dropped.
pub(crate) struct Mode {
    before: Termios,
}

impl Mode {
    /// Every key goes to the program as it is.
    pub(crate) fn raw() -> io::Result<Self> {
        Self::change(cfmakeraw)
    }
    fn no_echo() -> io::Result<Self> {
        Self::change(|mode| mode.local_flags.remove(LocalFlags::ECHO))
    }
    fn change(change: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut mode = before.clone();
        change(&mut mode);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &mode)?;
        Ok(Self { before })
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before);
    }
}

fn read_line() -> anyhow::Result<String> {
    let mut text = String::new();
    if io::stdin().lock().read_line(&mut text).context("cannot read the answer")? == 0 {
        anyhow::bail!("no answer");
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks for a line.
pub(crate) fn ask(question: &str) -> anyhow::Result<String> {
    if !interactive() {
        return Err(usage(format!("`{question}` has to be answered, and there is no terminal to ask on")));
    }
    eprint!("{question}: ");
    io::stderr().flush()?;
    read_line()
}

/// Where a secret is taken from that logs in.
const PASSWORD: &str = "LQ_PASSWORD";
/// Where a secret is taken from that is to be set: another one, lest a user be given the caller's own by accident.
const NEW_PASSWORD: &str = "LQ_NEW_PASSWORD";

/// Asks for a secret: from `LQ_PASSWORD`, the first line of standard input where that is no terminal, or without echo.
pub(crate) fn ask_secret(question: &str) -> anyhow::Result<String> {
    secret(question, PASSWORD)
}

fn secret(question: &str, variable: &str) -> anyhow::Result<String> {
    if let Ok(secret) = std::env::var(variable) {
        return Ok(secret);
    }
    if !io::stdin().is_terminal() {
        return read_line().with_context(|| format!("{question} is needed ({variable} or standard input)"));
    }
    eprint!("{question}: ");
    io::stderr().flush()?;
    let _silent = Mode::no_echo().context("cannot switch off the echo")?;
    let secret = read_line();
    eprintln!();
    secret
}

/// Asks for a new secret, twice where a person types it.
pub(crate) fn ask_new_secret(question: &str) -> anyhow::Result<String> {
    let first = secret(question, NEW_PASSWORD)?;
    let typed = io::stdin().is_terminal() && std::env::var_os(NEW_PASSWORD).is_none();
    if typed && secret("Once more", NEW_PASSWORD)? != first {
        return Err(usage("the two passwords differ"));
    }
    Ok(first)
}

/// Asks whether to go on; without a terminal, `--yes` has to say so.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !interactive() {
        return Err(usage(format!("{question} Say --yes to do it without being asked")));
    }
    match ask(&format!("{question} [y/N]"))?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(usage("nothing was done")),
    }
}

/// Time after which somebody who waits without a terminal is told how far it is, and how often at most.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// Cells of a bar.
const BAR: usize = 24;

/// How far something is, on standard error: at a terminal one line with a bar that changes in place; elsewhere, of what takes
/// longer than [`PLAIN_EVERY`], a plain line whenever it has changed.
pub(crate) struct Line {
    terminal: bool,
    shown: bool,
    last: Instant,
    text: String,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: false, last: Instant::now(), text: String::new() }
    }
    /// At most ten times a second at a terminal, and at the end.
    fn show(&mut self, bar: Option<f64>, text: String, end: bool) {
        let every = if self.terminal { Duration::from_millis(100) } else { PLAIN_EVERY };
        let first = self.terminal && !self.shown;
        if text == self.text || (!first && self.last.elapsed() < every && !(end && self.terminal)) {
            return;
        }
        let plain = crate::output::plain(&text);
        if self.terminal {
            let bar = bar.map(|share| format!("{} ", bar_of(share))).unwrap_or_default();
            eprint!("\r\x1b[K{bar}{plain}");
            let _ = io::stderr().flush();
            self.shown = true;
        } else {
            eprintln!("lqctl: {plain}");
        }
        (self.last, self.text) = (Instant::now(), text);
    }
    /// Shows how far a task is.
    pub(crate) fn task(&mut self, task: &Task) {
        let share = task.progress.map(|p| format!(" {:.0} %", p * 100.0)).unwrap_or_default();
        let message = task.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
        self.show(task.progress, format!("{}{share}{message}", task.kind), false);
    }
    /// Shows how far an upload is.
    pub(crate) fn upload(&mut self, progress: Progress, since: Instant) {
        let percent = (progress.sent * 100).checked_div(progress.total).unwrap_or(100);
        let rate = progress.sent as f64 / since.elapsed().as_secs_f64().max(0.001);
        let (sent, total) = (Bytes(progress.sent), Bytes(progress.total));
        let end = progress.sent == progress.total;
        let doing = if end { ", the host checks it" } else { "" };
        let text = format!("{percent} %  {sent} of {total}  {}/s{doing}", Bytes(rate as u64));
        self.show(Some(percent as f64 / 100.0), text, end);
    }
}

/// `[######------]`.
fn bar_of(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64) as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR.saturating_sub(full)))
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(bar_of(0.5), "[############------------]");
        for (share, full) in [(0.0, 0), (0.99, 23), (1.0, BAR), (-1.0, 0), (7.0, BAR), (f64::NAN, 0)] {
            let bar = bar_of(share);
            assert_eq!((bar.len(), bar.matches('#').count()), (BAR + 2, full), "{share}");
        }
    }
}
