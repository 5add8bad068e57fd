//! What goes to standard output: a table for people, JSON for programs.

use clap::ValueEnum;
use lq_api::{Timestamp, meta::is_unseen};
use serde::Serialize;
use std::io::{self, Write};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: the objects as the API gives them.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Rows under a heading.
pub(crate) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // One line per object, whatever a guest calls itself.
        self.rows.push(cells.into_iter().map(|c| plain(&c)).collect());
    }
    fn render(&self) -> String {
        self.render_on(&mut Vec::new(), true)
    }
    /// With columns at least as wide as those before, which grow: rows that follow stand under the earlier ones.
    pub(crate) fn render_on(&self, widths: &mut Vec<usize>, with_heading: bool) -> String {
        let heading: Vec<String> = self.heading.iter().map(|h| h.to_string()).collect();
        let all = || with_heading.then_some(&heading).into_iter().chain(&self.rows);
        widths.resize(self.heading.len(), 0);
        for row in all() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in all() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths.iter()) {
                let padding = width.saturating_sub(cell.chars().count()) + 2;
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', padding));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Without characters that are obeyed instead of shown: what a host says must neither move the cursor nor turn the line round.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) { ' ' } else { c }).collect()
}

/// The same of a text of several lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Shows objects.
pub(crate) fn show<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce() -> Table,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(value)? + "\n",
        Format::Yaml => serde_saphyr::to_string(value)?,
        Format::Table => table().render(),
    };
    line(&text)
}

/// Shows one object as `field: value` lines.
pub(crate) fn describe<T: Serialize>(
    format: Format,
    value: &T,
    fields: &[(&str, String)],
) -> anyhow::Result<()> {
    if format != Format::Table {
        return show(format, value, || Table::new(&[]));
    }
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:width$}  {}\n", plain(value)));
    }
    line(&text)
}

/// Writes text as it is.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// The word an enum has in the API.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// `-` where there is nothing.
pub(crate) fn or_dash(text: Option<impl ToString>) -> String {
    text.map(|t| t.to_string()).filter(|t| !t.is_empty()).unwrap_or_else(|| "-".into())
}

/// A moment to the second, UTC: `2026-11-28 06:25:39`.
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%F %T").to_string()
}

/// How long ago: `5s`, `12m`, `3h`, `9d`.
pub(crate) fn age(at: Timestamp) -> String {
    let seconds = Timestamp::now().as_second().saturating_sub(at.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_escapes_its_line() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["ä".into(), "running".into()]);
        table.row(["longer".into(), "a\x1b[2J\nb\u{202e}c\u{9b}".into()]);
        assert_eq!(table.render(), "NAME    STATE\nä       running\nlonger  a [2J b c\n");
        let mut widths = Vec::new();
        table.render_on(&mut widths, true);
        let mut more = Table::new(&["NAME", "STATE"]);
        more.row(["b".into(), "stopped".into()]);
        assert_eq!(more.render_on(&mut widths, false), "b       stopped\n");
    }

    #[test]
    fn moments_are_told_to_the_second() {
        let at: Timestamp = "2026-11-28T06:25:39.728001008Z".parse().unwrap();
        assert_eq!(moment(at), "2026-11-28 06:25:39");
    }

    #[test]
    fn words_are_those_of_the_api() {
        assert_eq!(word(&lq_api::vm::RestartPolicy::OnFailure), "on-failure");
    }
}
