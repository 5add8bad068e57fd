//! The look of the screen: lines of text with colours, never wider or longer than the terminal. Pure.
//!
//! Plain ANSI that a vt220 on a serial line and the Linux console both know; ASCII only. [`update`] writes just the lines that
//! changed.

use crate::facts::{Management, Status};

const RESET: &str = "\x1b[0m";
const BAR: &str = "\x1b[0;37;44m";
const BOLD: &str = "\x1b[0;1m";
const GREEN: &str = "\x1b[0;32m";
const YELLOW: &str = "\x1b[0;33m";
const RED: &str = "\x1b[0;1;31m";

/// A line: colour and text.
type Line = (&'static str, String);

/// Text without anything a terminal would obey, in ASCII.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }).collect()
}

/// Breaks text into lines of at most `width`, at spaces where possible.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in clean(text).split(' ') {
        let mut word = word;
        while let Some(line) = lines.last_mut() {
            let space = usize::from(!line.is_empty());
            if line.len() + space + word.len() <= width {
                if space == 1 {
                    line.push(' ');
                }
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                let (head, tail) = word.split_at(width);
                line.push_str(head);
                word = tail;
            }
            lines.push(String::new());
        }
    }
    lines
}

/// Text of the fields, without frame.
fn content(status: &Status, width: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let field = |name: &str, value: &str| format!("{name:<13}{value}");
    match &status.url {
        Some(url) => lines.push((BOLD, field("Manage at", url))),
        None => lines.push((YELLOW, field("Manage at", "no network address yet"))),
    }
    if let Some(fingerprint) = &status.fingerprint {
        let parts = wrap(&fingerprint.replace(':', " "), width.saturating_sub(13).min(48));
        for (n, part) in parts.into_iter().enumerate() {
            lines.push((RESET, field(if n == 0 { "Certificate" } else { "" }, &part.replace(' ', ":"))));
        }
    }
    match &status.setup_code {
        Some(code) => {
            lines.push((YELLOW, field("Log in", &format!("as admin, set-up code {code}"))));
            lines.push((RESET, field("", "(you choose the password at this first login)")));
        }
        None if status.ready => lines.push((RESET, field("Log in", "as admin"))),
        None => {}
    }
    lines.push((RESET, String::new()));
    match &status.management {
        Management::Ready => lines.push((GREEN, field("Management", "ready"))),
        Management::Starting => lines.push((YELLOW, field("Management", "starting"))),
        Management::NotReady(why) => {
            let why = format!("not ready: {why}");
            for (n, part) in wrap(&why, width.saturating_sub(13)).into_iter().take(3).enumerate() {
                lines.push((YELLOW, field(if n == 0 { "Management" } else { "" }, &part)));
            }
        }
        Management::Down(last) => {
            lines.push((
                RED,
                field("Management", "does not answer; it is started again. Guests keep running"),
            ));
            for part in wrap(last, width.saturating_sub(13)).into_iter().take(2) {
                lines.push((RESET, field("", &part)));
            }
        }
    }
    if let Some(vms) = &status.vms {
        let text: Vec<String> = vms.iter().map(|(state, n)| format!("{n} {state}")).collect();
        lines
            .push((RESET, field("Machines", &if text.is_empty() { "none".into() } else { text.join(", ") })));
    }
    for (n, nic) in status.nics.iter().enumerate() {
        let link = if nic.link { "link" } else { "no link" };
        let uplink = if nic.uplink { ", uplink" } else { "" };
        let value = format!("{} {} ({link}{uplink})", nic.name, nic.mac);
        lines.push((
            if nic.link { RESET } else { YELLOW },
            field(if n == 0 { "Network" } else { "" }, &value),
        ));
    }
    if status.nics.is_empty() {
        lines.push((RED, field("Network", "no interface was found")));
    }
    for (n, warning) in status.warnings.iter().enumerate() {
        if n == 0 {
            lines.push((RESET, String::new()));
        }
        lines.extend(wrap(&format!("! {warning}"), width).into_iter().map(|l| (YELLOW, l)));
    }
    lines
}

/// The lines of the screen, one for each row but the last, with their colours.
pub(crate) fn draw(status: &Status, rows: usize, columns: usize) -> Vec<String> {
    let (rows, columns) = (rows.clamp(4, 200), columns.clamp(20, 300));
    // The last column stays free: some terminals wrap there.
    let width = columns - 1;
    let cut = |text: &str| -> String { clean(text).chars().take(width).collect() };
    let bar = |left: &str, right: &str| {
        let left = clean(left);
        let pad = width.saturating_sub(left.len() + right.len() + 2);
        format!("{BAR}{}{RESET}", cut(&format!(" {left}{:pad$}{} ", "", clean(right))))
    };
    let mut lines = vec![bar(&format!("LimiQuantix {}", status.version), &status.host_name), String::new()];
    let body = content(status, width.saturating_sub(2));
    let room = rows.saturating_sub(4);
    let hidden = body.len().saturating_sub(room);
    let shown = if hidden > 0 { room.saturating_sub(1) } else { room };
    for (colour, text) in body.into_iter().take(shown) {
        lines.push(format!("{colour}{}{RESET}", cut(&format!("  {text}"))));
    }
    if hidden > 0 {
        lines.push(format!("{YELLOW}{}{RESET}", cut(&format!("  ... and {} more lines", hidden + 1))));
    }
    lines.resize(rows.saturating_sub(2), String::new());
    lines.push(bar(&status.mode, "power button: stop guests, switch off"));
    lines
}

/// What to send to a terminal that shows `old` (nothing known where absent) so that it shows `new`.
pub(crate) fn update(old: Option<&[String]>, new: &[String]) -> String {
    let mut text = String::new();
    let known = old.filter(|o| o.len() == new.len());
    if known.is_none() {
        text += "\x1b[0m\x1b[?25l\x1b[2J";
    }
    for (row, line) in new.iter().enumerate() {
        let same = known.and_then(|o| o.get(row)).is_some_and(|o| o == line);
        if !same && (known.is_some() || !line.is_empty()) {
            text += &format!("\x1b[{};1H{line}{RESET}\x1b[K", row + 1);
        }
    }
    text
}

/// The same without colours and positions.
pub(crate) fn plain(status: &Status) -> String {
    let mut text =
        format!("LimiQuantix {}  {}  ({})\n", status.version, clean(&status.host_name), status.mode);
    for (_, line) in content(status, 100) {
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Nic;

    fn status() -> Status {
        Status {
            version: "0.1.0".into(),
            mode: "live".into(),
            host_name: "node1".into(),
            url: Some("https://10.0.0.2/".into()),
            fingerprint: Some(["AB"; 32].join(":")),
            setup_code: Some("123-456".into()),
            nics: vec![Nic {
                name: "eth0".into(),
                mac: "52:54:00:00:00:01".into(),
                link: true,
                uplink: true,
            }],
            management: Management::Ready,
            ready: true,
            vms: Some([("running".to_owned(), 2)].into()),
            warnings: Vec::new(),
        }
    }

    fn visible(line: &str) -> String {
        let mut text = String::new();
        let mut parts = line.split('\x1b');
        text += parts.next().unwrap_or("");
        for part in parts {
            text += part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, t)| t);
        }
        text
    }

    #[test]
    fn everything_a_person_needs_is_on_the_screen() {
        let lines = draw(&status(), 24, 80);
        let all: String = lines.iter().map(|l| visible(l) + "\n").collect();
        for word in [
            "node1",
            "https://10.0.0.2/",
            "set-up code 123-456",
            "ready",
            "2 running",
            "eth0 52:54",
            "uplink",
        ] {
            assert!(all.contains(word), "{word} in\n{all}");
        }
        assert_eq!(all.matches("AB").count(), 32);
    }

    #[test]
    fn the_screen_never_grows_beyond_the_terminal() {
        let mut status = status();
        status.warnings = vec!["a warning of some length that has to be wrapped ".repeat(9); 9];
        status.management = Management::Down("x".repeat(500));
        status.host_name = "h\x1b[2J\u{e9}".repeat(40);
        for (rows, columns) in [(24, 80), (4, 20), (1, 1), (25, 80), (60, 200)] {
            let lines = draw(&status, rows, columns);
            assert!(lines.len() < rows.max(4), "{rows}x{columns}: {}", lines.len());
            for line in &lines {
                let text = visible(line);
                assert!(text.len() < columns.max(20), "{rows}x{columns}: {text}");
                assert!(text.chars().all(|c| !c.is_control()));
            }
        }
        let all: String = draw(&status, 24, 80).iter().map(|l| visible(l)).collect();
        assert!(all.contains("more lines"));
    }

    #[test]
    fn only_changed_lines_are_sent() {
        let old = draw(&status(), 24, 80);
        assert_eq!(update(Some(&old), &old), "");
        let mut changed = status();
        changed.vms = Some([("running".to_owned(), 3)].into());
        let new = draw(&changed, 24, 80);
        let text = update(Some(&old), &new);
        assert_eq!(text.matches('H').count(), 1, "{text:?}");
        assert!(update(None, &new).starts_with("\x1b[0m\x1b[?25l\x1b[2J"));
    }

    #[test]
    fn long_words_are_broken() {
        assert_eq!(wrap("aaaa bb", 3), ["aaa", "a", "bb"]);
        assert_eq!(wrap("a b", 3), ["a b"]);
    }
}
