//! From a painted buffer to what a terminal obeys: plain ANSI with the 8 colours and bold that a vt220 on a serial line and the
//! Linux console both know. [`update`] sends just the lines that changed. Pure.

use ratatui::{
    buffer::Buffer,
    style::{Color, Modifier},
};

const RESET: &str = "\x1b[0m";

/// The lines of a buffer with their colours. The last column is left out: some terminals wrap there.
pub(crate) fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let row = |y: u16| {
        let (mut text, mut shown) = (String::new(), String::new());
        for x in 0..area.width.saturating_sub(1) {
            let Some(cell) = buffer.cell((x, y)) else { continue };
            let mut style = String::from("\x1b[0");
            if cell.modifier.contains(Modifier::BOLD) {
                style += ";1";
            }
            style += &colour(cell.fg, 30).map(|n| format!(";{n}")).unwrap_or_default();
            style += &colour(cell.bg, 40).map(|n| format!(";{n}")).unwrap_or_default();
            style.push('m');
            if style != shown {
                text += &style;
                shown = style;
            }
            text += cell.symbol();
        }
        // What is blank and has no colour is erased by `update`.
        if shown == "\x1b[0m" { text.trim_end().to_owned() } else { text }
    };
    (0..area.height).map(row).collect()
}

fn colour(colour: Color, base: u8) -> Option<u8> {
    let n = match colour {
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        _ => return None,
    };
    Some(base + n)
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
