//! What the pages look like. Pure: a status and the pages in, a buffer out.

use crate::{
    app::{App, Page},
    facts::Status,
    view::{self, BAD, BAR, GOOD, Glyphs, PLAIN, STRONG, clean, put, wrap},
};
use ratatui::{buffer::Buffer, layout::Rect};

/// The whole screen.
pub(crate) fn paint(status: &Status, app: &App, glyphs: Glyphs, columns: u16, rows: u16) -> Buffer {
    let all = Rect::new(0, 0, columns.clamp(20, 300), rows.clamp(4, 200));
    let mut buffer = Buffer::empty(all);
    let last = usize::from(all.height) - 1;
    view::bar(&mut buffer, all, 0, &format!("LimiQuantix {}", status.version), &status.host_name);
    let foot = match (app.pages.last(), &app.user) {
        (None, _) => "F2 log in   F12 power   Q QR code".to_owned(),
        (Some(Page::Form { .. }), _) => "Enter next, send   Tab next   Esc back".to_owned(),
        (Some(Page::Vms { .. }), _) => "Enter actions   R read again   Esc back".to_owned(),
        (Some(Page::Confirm { .. }), _) => "Y yes   N no".to_owned(),
        (Some(_), Some(user)) => format!("{user}   Esc back"),
        (Some(_), None) => "Esc back".to_owned(),
    };
    view::bar(&mut buffer, all, last, &foot, &status.mode);
    // The last row is the bar, the one above what happened last.
    let body = Rect::new(0, 2, all.width, all.height.saturating_sub(4));
    match app.pages.last() {
        None => view::open(&mut buffer, body, status, glyphs),
        Some(Page::Qr) => {
            let room = Rect::new(0, 1, all.width, all.height.saturating_sub(2));
            view::qr_page(&mut buffer, room, status.url.as_deref());
        }
        Some(page) => draw(&mut buffer, body, page),
    }
    if let Some((bad, text)) = &app.note {
        let style = if *bad { BAD } else { GOOD };
        let lines = wrap(text, usize::from(all.width).saturating_sub(4));
        put(&mut buffer, all, last - 1, 2, lines.first().map_or("", String::as_str), style);
    }
    buffer
}

fn draw(buffer: &mut Buffer, area: Rect, page: &Page) {
    let width = usize::from(area.width).saturating_sub(4);
    let room = usize::from(area.height).saturating_sub(2);
    match page {
        Page::Form { fields, at, .. } => {
            put(buffer, area, 0, 2, "Fill in", STRONG);
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
                let text = format!(" {:<12}{:<40}", row.state, clean(&row.name));
                put(buffer, area, 2 + n, 2, &text, if index == *at { BAR } else { PLAIN });
            }
        }
        Page::Lines { title, lines, top } => {
            put(buffer, area, 0, 2, &format!("{title} ({})", lines.len()), STRONG);
            for (n, line) in lines.iter().skip(*top).take(room).enumerate() {
                put(buffer, area, 2 + n, 2, &clean(line), PLAIN);
            }
        }
        Page::Confirm { question, .. } => {
            for (n, line) in wrap(question, width).iter().enumerate() {
                put(buffer, area, n, 2, line, STRONG);
            }
        }
        Page::Qr => {}
    }
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
