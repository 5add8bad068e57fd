//! What the open screen looks like, painted into a buffer. Pure; ASCII, but for the QR code on the Linux console.

use crate::facts::{Management, Status};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

/// The QR code on the open screen, where the terminal can show half blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glyphs {
    /// Serial lines: nothing but ASCII.
    Ascii,
    /// The Linux console, whose font has the half blocks of code page 437.
    HalfBlocks,
}

pub(crate) const PLAIN: Style = Style::new();
pub(crate) const BAR: Style = Style::new().fg(Color::Gray).bg(Color::Blue);
pub(crate) const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
pub(crate) const GOOD: Style = Style::new().fg(Color::Green);
pub(crate) const WARN: Style = Style::new().fg(Color::Yellow);
pub(crate) const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Columns of the names of fields.
const LABEL: usize = 13;
/// Modules of white around a QR code. The standard wants four; readers do with two.
const QUIET: usize = 2;

/// A line: style and text.
pub(crate) type Line = (Style, String);

/// Text without anything a terminal would obey, in ASCII.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' }).collect()
}

/// Breaks text into lines of at most `width`, at spaces where possible.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
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

/// A named value, wrapped under itself, on at most so many lines.
pub(crate) fn field(lines: &mut Vec<Line>, style: Style, name: &str, value: &str, width: usize, most: usize) {
    for (n, part) in wrap(value, width.saturating_sub(LABEL)).into_iter().take(most).enumerate() {
        let name = if n == 0 { name } else { "" };
        lines.push((style, format!("{name:<LABEL$}{part}")));
    }
}

/// How much of something, 0 to 1, in `room` characters between brackets.
pub(crate) fn bar_text(share: f64, room: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * room as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(room.saturating_sub(full)))
}

/// Who the host is and how to reach it.
fn identity(status: &Status, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    match &status.url {
        Some(url) => field(&mut lines, STRONG, "Manage at", url, width, 1),
        None => field(&mut lines, WARN, "Manage at", "no network address yet", width, 1),
    }
    if let Some(fingerprint) = &status.fingerprint {
        let parts = wrap(&fingerprint.replace(':', " "), width.saturating_sub(LABEL).min(48));
        for (n, part) in parts.into_iter().enumerate() {
            let name = if n == 0 { "Certificate" } else { "" };
            lines.push((PLAIN, format!("{name:<LABEL$}{}", part.replace(' ', ":"))));
        }
    }
    if let Some(code) = &status.setup_code {
        field(&mut lines, WARN, "Log in", &format!("as admin, set-up code {code}"), width, 1);
        field(&mut lines, PLAIN, "", "(you choose the password at this first login; here: F2)", width, 2);
    } else if status.ready {
        field(
            &mut lines,
            PLAIN,
            "Log in",
            "as admin with your password, in the browser or here: F2",
            width,
            2,
        );
    }
    if let Some(pairing) = &status.pairing {
        field(&mut lines, STRONG, "Pairing code", pairing, width, 2);
        field(&mut lines, PLAIN, "", "(typed in a cluster, it brings this host into that one)", width, 2);
    }
    if !status.installed.is_empty() {
        let disks = status.installed.join(", ");
        let text = format!(
            "! This machine has an installation on {disks}, but was started from the medium: remove it and restart (F12)"
        );
        lines.extend(wrap(&text, width).into_iter().map(|l| (WARN, l)));
    }
    lines
}

/// How it is.
fn state(status: &Status, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    match &status.management {
        Management::Ready => field(&mut lines, GOOD, "Management", "ready", width, 1),
        Management::Starting => field(&mut lines, WARN, "Management", "starting", width, 1),
        Management::NotReady(why) => {
            field(&mut lines, WARN, "Management", &format!("not ready: {why}"), width, 3);
        }
        Management::Down(last) => {
            let what = "does not answer; it is started again. Guests keep running";
            field(&mut lines, BAD, "Management", what, width, 2);
            if !last.is_empty() {
                field(&mut lines, PLAIN, "", last, width, 2);
            }
        }
    }
    let (now, alone) = &status.clock;
    let text = if *alone { format!("{now} (nothing sets it)") } else { now.clone() };
    field(&mut lines, PLAIN, "Clock", &text, width, 1);
    for load in &status.loads {
        let room = width.saturating_sub(LABEL + load.text.len() + 3).min(20);
        let bar = format!("{} {}", bar_text(load.share, room), load.text);
        let style = if load.share > 0.9 { WARN } else { PLAIN };
        field(&mut lines, style, load.name, &bar, width, 1);
    }
    if let Some((well, text)) = &status.cluster {
        field(&mut lines, if *well { PLAIN } else { WARN }, "Cluster", text, width, 2);
    }
    if let Some(vms) = &status.vms {
        let text: Vec<String> = vms.here.iter().map(|(state, n)| format!("{n} {state}")).collect();
        let text = if text.is_empty() { "none".into() } else { text.join(", ") };
        let text = match vms.all {
            Some(all) => format!("{text} on this host; {all} in the cluster"),
            None => text,
        };
        field(&mut lines, PLAIN, "Machines", &text, width, 2);
    }
    for (n, nic) in status.nics.iter().enumerate() {
        let link = if nic.link { "link" } else { "no link" };
        let uplink = if nic.uplink { ", uplink" } else { "" };
        let value = format!("{} {} ({link}{uplink})", nic.name, nic.mac);
        let style = if nic.link { PLAIN } else { WARN };
        field(&mut lines, style, if n == 0 { "Network" } else { "" }, &value, width, 2);
    }
    for (name, addresses) in &status.addresses {
        field(&mut lines, PLAIN, "", &format!("{name} {}", addresses.join(", ")), width, 2);
    }
    if status.nics.is_empty() {
        field(&mut lines, BAD, "Network", "no interface was found", width, 1);
    }
    if let Some(trouble) = &status.trouble {
        lines.extend(wrap(&format!("! {trouble}"), width).into_iter().take(4).map(|l| (BAD, l)));
    }
    for warning in &status.warnings {
        lines.extend(wrap(&format!("! {warning}"), width).into_iter().map(|l| (WARN, l)));
    }
    for (critical, alert) in &status.alerts {
        let style = if *critical { BAD } else { WARN };
        lines.extend(wrap(&format!("! {alert}"), width).into_iter().take(2).map(|l| (style, l)));
    }
    if !status.events.is_empty() {
        lines.push((PLAIN, String::new()));
        lines.extend(
            status.events.iter().flat_map(|e| wrap(e, width).into_iter().take(2)).map(|l| (PLAIN, l)),
        );
    }
    lines
}

/// The squares of the QR code of a text, true is dark, with the quiet zone; rows of equal length.
fn squares(text: &str) -> Option<Vec<Vec<bool>>> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L).ok()?;
    let side = code.width();
    let at = |row: usize, column: usize| {
        let (row, column) = (row.checked_sub(QUIET)?, column.checked_sub(QUIET)?);
        (row < side && column < side).then(|| code[(column, row)] == qrcode::Color::Dark)
    };
    let whole = side + 2 * QUIET;
    Some((0..whole).map(|r| (0..whole).map(|c| at(r, c).unwrap_or(false)).collect()).collect())
}

/// Two rows of squares in one row of text.
fn half_blocks(squares: &[Vec<bool>]) -> Vec<String> {
    let row = |pair: &[Vec<bool>]| {
        let upper = pair.first().map(Vec::as_slice).unwrap_or_default();
        let lower = pair.get(1).map(Vec::as_slice).unwrap_or_default();
        let light = |row: &[bool], n: usize| !row.get(n).copied().unwrap_or(false);
        (0..upper.len())
            .map(|n| match (light(upper, n), light(lower, n)) {
                (true, true) => '\u{2588}',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (false, false) => ' ',
            })
            .collect()
    };
    squares.chunks(2).map(row).collect()
}

/// The QR code over the whole body, in blanks with and without background: any terminal can show it.
pub(crate) fn qr_page(buffer: &mut Buffer, area: Rect, url: Option<&str>) {
    let squares = url.and_then(squares).unwrap_or_default();
    // The quiet zone above and below is given up where there is no room for it.
    let spare = squares.len().saturating_sub(usize::from(area.height)).div_ceil(2).min(QUIET);
    let rows = squares.get(spare..squares.len().saturating_sub(spare)).unwrap_or_default();
    if rows.is_empty() || rows.len() > usize::from(area.height) || rows.len() * 2 > usize::from(area.width) {
        let text = "There is no address yet, or no room for its code.";
        put(buffer, area, 0, 2, text, WARN);
        return;
    }
    for (n, row) in rows.iter().enumerate() {
        for (m, dark) in row.iter().enumerate() {
            let colour = if *dark { Color::Black } else { Color::Gray };
            put(buffer, area, n, 2 + 2 * m, "  ", Style::new().bg(colour));
        }
    }
}

/// Puts text into an area, cut where the area ends.
pub(crate) fn put(buffer: &mut Buffer, area: Rect, row: usize, column: usize, text: &str, style: Style) {
    if row >= usize::from(area.height) || column >= usize::from(area.width) {
        return;
    }
    let (row, left) = (row as u16, column as u16);
    buffer.set_stringn(area.x + left, area.y + row, text, usize::from(area.width - left), style);
}

/// The bar at the top or at the foot.
pub(crate) fn bar(buffer: &mut Buffer, area: Rect, row: usize, left: &str, right: &str) {
    let width = usize::from(area.width);
    let (left, right) = (clean(left), clean(right));
    let pad = width.saturating_sub(left.len() + right.len() + 2);
    put(buffer, area, row, 0, &format!(" {left}{:pad$}{right} ", ""), BAR);
}

/// The body of the open screen.
pub(crate) fn open(buffer: &mut Buffer, area: Rect, status: &Status, glyphs: Glyphs) {
    let width = usize::from(area.width).saturating_sub(3);
    let height = usize::from(area.height);
    let head = identity(status, width);
    let code = status.url.as_deref().filter(|_| glyphs == Glyphs::HalfBlocks).and_then(squares);
    let code = code.map(|c| half_blocks(&c)).unwrap_or_default();
    let code_width = code.first().map_or(0, |r| r.chars().count());
    let below = head.len() + 1;
    // Only where something else still fits beside it.
    let fits = !code.is_empty() && below + code.len() <= height && width >= code_width + 46;
    let body = state(status, if fits { width - code_width - 2 } else { width });
    if fits {
        for (n, row) in code.iter().enumerate() {
            let style = Style::new().fg(Color::Gray).bg(Color::Black);
            put(buffer, area, below + n, width + 1 - code_width, row, style);
        }
    }
    let mut lines = head;
    lines.push((PLAIN, String::new()));
    lines.extend(body);
    let hidden = lines.len().saturating_sub(height);
    let shown = if hidden > 0 { height.saturating_sub(1) } else { height };
    for (n, (style, text)) in lines.iter().take(shown).enumerate() {
        put(buffer, area, n, 2, text, *style);
    }
    if hidden > 0 {
        put(buffer, area, shown, 2, &format!("... and {} more lines", hidden + 1), WARN);
    }
}

/// The same as text without colours, for logs.
pub(crate) fn plain(status: &Status) -> String {
    let mut text =
        format!("LimiQuantix {}  {}  ({})\n", status.version, clean(&status.host_name), status.mode);
    for (_, line) in identity(status, 100).into_iter().chain(state(status, 100)) {
        text += line.trim_end();
        text.push('\n');
    }
    text
}
