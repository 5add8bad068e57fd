//! What the pages look like. Pure: a status and the pages in, a buffer out.

use crate::{
    app::{App, Page},
    facts::Status,
    view::{self, BAD, BAR, GOOD, Glyphs, Line, PLAIN, STRONG, WARN, clean, put, wrap},
};
use lq_api::{
    Timestamp,
    management::{ManagementNetwork, NetworkTest},
};
use ratatui::{buffer::Buffer, layout::Rect};

/// Lines of a page that scrolls, on a screen of so many rows.
pub(crate) fn room(rows: u16) -> usize {
    // Two bars, the line of what happened last, a blank one, the title and a blank one below it.
    usize::from(rows.clamp(4, 200)).saturating_sub(6)
}

/// Most lines of what happened last.
const NOTE: usize = 5;

/// The whole screen.
pub(crate) fn paint(status: &Status, app: &App, glyphs: Glyphs, columns: u16, rows: u16) -> Buffer {
    let all = Rect::new(0, 0, columns.clamp(20, 300), rows.clamp(4, 200));
    let mut buffer = Buffer::empty(all);
    let last = usize::from(all.height) - 1;
    view::bar(&mut buffer, all, 0, &format!("LimiQuantix {}", status.version), &status.host_name);
    let foot = match (app.pages.last(), &app.user) {
        (None, _) if app.live => "F2 log in  F3 lost password  F4 install  F12 power  Q QR".to_owned(),
        (None, _) => "F2 log in   F3 lost password   F12 power   Q QR code".to_owned(),
        (Some(Page::Form { .. }), _) => "Enter next, send   Tab next   Esc back".to_owned(),
        (Some(Page::Vms { .. }), _) => "Enter actions   R read again   Esc back".to_owned(),
        (Some(Page::Confirm { .. }), _) => "Y yes   N no".to_owned(),
        (Some(Page::Network { state, .. }), _) if state.trial.is_some() => {
            "K keep   U undo   T test   Esc back".to_owned()
        }
        (Some(Page::Network { .. }), _) => "C change   T test   Esc back".to_owned(),
        (Some(Page::Clock(_)), _) => "C change the servers   R read again   Esc back".to_owned(),
        (Some(Page::Log(log)), _) if log.typing => format!("Look for: {}_", log.search),
        (Some(Page::Log(_)), _) => "F follow  / search  N next  arrows, PgUp, PgDn  Esc back".to_owned(),
        (Some(Page::Disks { .. }), _) => "Enter choose   Esc back".to_owned(),
        (Some(Page::Maintenance { state, .. }), _) => state.foot().to_owned(),
        (Some(Page::Support(_)), _) => "Enter write it there   R read again   Esc back".to_owned(),
        (Some(Page::Token(_)), _) => "Enter go on   Ctrl-U empty   Esc back".to_owned(),
        (Some(Page::Joining(_)), _) => "J join   Esc back".to_owned(),
        (Some(Page::Recovery(recovery)), _) => recovery.foot().to_owned(),
        (Some(Page::Installing(p)), _) if p.ended == Some(true) => "R restart   Esc back".to_owned(),
        (Some(_), Some(user)) => format!("{user}   Esc back"),
        (Some(_), None) => "Esc back".to_owned(),
    };
    view::bar(&mut buffer, all, last, &foot, &status.mode);
    // The last row is the bar, the ones above it what happened last: one, unless it takes more words.
    let note = app.note.as_ref().map_or_else(Vec::new, |(_, text)| wrap(text, usize::from(all.width) - 4));
    let note = note.get(..note.len().min(NOTE)).unwrap_or_default();
    let above = u16::try_from(note.len().max(1)).unwrap_or(1);
    let body = Rect::new(0, 2, all.width, all.height.saturating_sub(3 + above));
    match app.pages.last() {
        None => view::open(&mut buffer, body, status, glyphs),
        Some(Page::Qr) => {
            let room = Rect::new(0, 1, all.width, all.height.saturating_sub(2));
            view::qr_page(&mut buffer, room, status.url.as_deref());
        }
        Some(page) => draw(&mut buffer, body, page, app.now),
    }
    let style = if matches!(app.note, Some((true, _))) { BAD } else { GOOD };
    for (n, line) in note.iter().rev().enumerate() {
        put(&mut buffer, all, last.saturating_sub(1 + n), 2, line, style);
    }
    buffer
}

fn draw(buffer: &mut Buffer, area: Rect, page: &Page, now: Timestamp) {
    let width = usize::from(area.width).saturating_sub(4);
    let room = usize::from(area.height).saturating_sub(2);
    match page {
        Page::Form { title, fields, at, .. } => {
            let title = wrap(title, width);
            for (n, line) in title.iter().enumerate() {
                put(buffer, area, n, 2, line, STRONG);
            }
            let area = below(area, title.len() - 1);
            for (n, field) in fields.iter().enumerate() {
                let text = clean(&field.text);
                let text = if field.secret { "*".repeat(text.len()) } else { text };
                // The end is what is being typed.
                let space = width.saturating_sub(18).min(40);
                let shown = text.get(text.len().saturating_sub(space)..).unwrap_or_default();
                let style = if n == *at { BAR } else { PLAIN };
                put(buffer, area, 2 + n, 2, &format!("{:<16}", field.label), PLAIN);
                put(buffer, area, 2 + n, 18, &format!("{shown:<space$}"), style);
            }
            let hint = fields.get(*at).map(|f| f.hint).unwrap_or_default();
            for (n, line) in wrap(hint, width).iter().enumerate() {
                put(buffer, area, 3 + fields.len() + n, 2, line, PLAIN);
            }
        }
        Page::Menu { title, entries, at } => {
            put(buffer, area, 0, 2, &clean(title), STRONG);
            for (n, (hot, text, _)) in entries.iter().enumerate() {
                let text = format!(" {}  {text:<40}", hot.to_ascii_uppercase());
                put(buffer, area, 2 + n, 2, &text, if n == *at { BAR } else { PLAIN });
            }
        }
        Page::Vms { rows, at } => {
            put(buffer, area, 0, 2, &format!("Virtual machines ({})", rows.len()), STRONG);
            let first = at.saturating_sub(room.saturating_sub(1));
            for (n, (index, row)) in rows.iter().enumerate().skip(first).take(room).enumerate() {
                let host = row.host.as_deref().map(clean).unwrap_or_default();
                let text = format!(" {:<12}{:<40} {host}", row.state, clean(&row.name));
                put(buffer, area, 2 + n, 2, &text, if index == *at { BAR } else { PLAIN });
            }
        }
        Page::Lines { title, lines, top } => {
            put(buffer, area, 0, 2, &format!("{title} ({})", lines.len()), STRONG);
            let lines = lines.iter().skip(*top).flat_map(|line| wrap(line, width));
            for (n, line) in lines.take(room).enumerate() {
                put(buffer, area, 2 + n, 2, &line, PLAIN);
            }
        }
        Page::Network { state, test } => {
            put(buffer, area, 0, 2, "Management network", STRONG);
            for (n, (style, line)) in network_lines(state, test.as_ref(), width).iter().take(room).enumerate()
            {
                put(buffer, area, 2 + n, 2, line, *style);
            }
        }
        Page::Log(log) => {
            let how = match (log.follow, log.found) {
                (_, Some(false)) => ", not found",
                (true, _) => ", following",
                (false, _) => "",
            };
            let first = log.first(room);
            put(buffer, area, 0, 2, &format!("{} ({} lines{how})", log.title(), log.lines.len()), STRONG);
            for (n, line) in log.lines.iter().skip(first).take(room).enumerate() {
                let line: String = clean(line).chars().skip(log.left).collect();
                let hit = log.found == Some(true) && first + n == log.top;
                put(buffer, area, 2 + n, 1, &line, if hit { BAR } else { PLAIN });
            }
        }
        Page::Disks { rows, at } => {
            put(buffer, area, 0, 2, "Install LimiQuantix to which disk?", STRONG);
            let mut row = 2;
            for (index, disk) in rows.iter().enumerate() {
                let style = if index == *at { BAR } else { PLAIN };
                put(buffer, area, row, 2, &format!("{:<width$}", clean(&disk.text)), style);
                let holds = if disk.found.is_empty() { "blank".into() } else { disk.found.join("; ") };
                let (style, text) = match &disk.unfit {
                    Some(why) => (WARN, format!("cannot be used: it {why}")),
                    None if disk.found.is_empty() => (GOOD, holds),
                    None => (WARN, format!("holds {holds}")),
                };
                let lines = wrap(&text, width.saturating_sub(2));
                for (n, line) in lines.iter().take(2).enumerate() {
                    put(buffer, area, row + 1 + n, 4, line, style);
                }
                row += 1 + lines.len().min(2);
            }
            if rows.is_empty() {
                put(buffer, area, 2, 2, "There is no disk in this machine.", WARN);
            }
        }
        Page::Installing(progress) => {
            let (style, title) = match progress.ended {
                None => (STRONG, "Installing ..."),
                Some(true) => (GOOD, "Installed. Remove the installation medium and restart"),
                Some(false) => (BAD, "It was not installed"),
            };
            put(buffer, area, 0, 2, title, style);
            let lines: Vec<String> = progress.lines.iter().flat_map(|l| wrap(l, width)).collect();
            let first = lines.len().saturating_sub(room);
            for (n, line) in lines.iter().skip(first).enumerate() {
                put(buffer, area, 2 + n, 2, line, PLAIN);
            }
        }
        Page::Maintenance { state, top } => {
            put(buffer, area, 0, 2, &clean(&format!("Maintenance of {}", state.name)), STRONG);
            part(buffer, area, &state.lines(width), *top);
        }
        Page::Clock(clock) => {
            put(buffer, area, 0, 2, "Clock and time servers", STRONG);
            part(buffer, area, &clock.lines(now, width), 0);
        }
        Page::Support(support) => {
            put(buffer, area, 0, 2, "Support bundle", STRONG);
            part(buffer, area, &support.lines(width), 0);
        }
        Page::Token(entry) => {
            put(buffer, area, 0, 2, "Join a cluster: its join token (`lqctl cluster token create`)", STRONG);
            part(buffer, area, &entry.lines(width), 0);
        }
        Page::Joining(preview) => {
            put(buffer, area, 0, 2, "What joining this cluster would do", STRONG);
            part(buffer, area, &preview.lines(width), 0);
        }
        Page::Recovery(recovery) => {
            put(buffer, area, 0, 2, "Quorum recovery: forming the cluster anew from this host", STRONG);
            part(buffer, area, &recovery.lines(width), 0);
        }
        Page::Settling(settling) => {
            put(buffer, area, 0, 2, settling.title(), STRONG);
            part(buffer, area, &settling.lines(width), 0);
        }
        Page::Confirm { question, .. } => {
            for (n, line) in wrap(question, width).iter().enumerate() {
                put(buffer, area, n, 2, line, STRONG);
            }
        }
        Page::Qr => {}
    }
}

/// Lines below a title from one on, with a word of what does not fit.
fn part(buffer: &mut Buffer, area: Rect, lines: &[Line], top: usize) {
    let room = usize::from(area.height).saturating_sub(2);
    let top = top.min(lines.len().saturating_sub(room));
    let hidden = lines.len().saturating_sub(top + room);
    let shown = if hidden > 0 { room.saturating_sub(1) } else { room };
    for (n, (style, line)) in lines.iter().skip(top).take(shown).enumerate() {
        put(buffer, area, 2 + n, 2, &clean(line), *style);
    }
    if hidden > 0 {
        put(buffer, area, 2 + shown, 2, &format!("... and {} more lines", hidden + 1), WARN);
    }
}

/// The area without its first rows.
fn below(area: Rect, rows: usize) -> Rect {
    let rows = u16::try_from(rows).unwrap_or(0).min(area.height);
    Rect::new(area.x, area.y + rows, area.width, area.height - rows)
}

/// The management network: what holds, what is tried, whether it works.
fn network_lines(state: &ManagementNetwork, test: Option<&NetworkTest>, width: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let used = state.trial.as_ref().map_or(&state.kept, |t| &t.network);
    let mut put = |style, name: &str, value: String| {
        for (n, part) in wrap(&value, width.saturating_sub(16)).into_iter().enumerate() {
            lines.push((style, format!("{:<16}{part}", if n == 0 { name } else { "" })));
        }
    };
    let text = |o: Option<String>, none: &str| o.unwrap_or_else(|| none.to_owned());
    let chosen = used.interface.map(|mac| mac.to_string());
    put(PLAIN, "Interface", text(chosen, "the first with a link"));
    put(PLAIN, "Address", text(used.address.clone(), "by DHCP"));
    if used.address.is_some() {
        put(PLAIN, "Gateway", text(used.gateway.map(|g| g.to_string()), "none"));
        let dns: Vec<String> = used.dns.iter().map(ToString::to_string).collect();
        put(PLAIN, "Name servers", text(Some(dns.join(" ")).filter(|d| !d.is_empty()), "none"));
    }
    put(PLAIN, "", String::new());
    for (n, nic) in state.nics.iter().enumerate() {
        let mut value = format!("{} {} {}", nic.name, nic.mac, if nic.link { "link" } else { "no link" });
        if state.uplink.as_deref() == Some(nic.name.as_str()) {
            value += ", in use";
        }
        put(if nic.link { PLAIN } else { WARN }, if n == 0 { "There are" } else { "" }, value);
    }
    if let Some(test) = test {
        put(PLAIN, "", String::new());
        let style = |good| if good { GOOD } else { BAD };
        put(style(test.address.is_some()), "Own address", text(test.address.clone(), "none yet"));
        let (good, answer) = match (test.gateway, test.gateway_answers) {
            (Some(g), Some(true)) => (true, format!("{g} answers")),
            (Some(g), _) => (false, format!("{g} does NOT answer")),
            (None, _) => (true, "none".into()),
        };
        put(style(good), "Gateway", answer);
        let api =
            if test.api_answers { "answers at this address" } else { "does NOT answer at this address" };
        put(style(test.api_answers), "API", api.into());
    }
    if let Some(trial) = &state.trial {
        put(PLAIN, "", String::new());
        let text = format!("ON TRIAL: taken back in {} s. K keeps it, U undoes it now", trial.seconds_left);
        put(WARN, "", text);
    }
    if let Some(note) = &state.note {
        put(PLAIN, "", String::new());
        put(WARN, "", note.clone());
    }
    lines
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
