//! A log on the screen: scrolled, searched, followed. Pure.

use crate::{keys::Key, remote::LogSource};

/// Columns that are moved sideways at once.
const SIDEWAYS: usize = 40;
/// Longest text that is looked for.
const MAX_SEARCH: usize = 60;

/// A log being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogView {
    pub(crate) source: LogSource,
    pub(crate) lines: Vec<String>,
    /// First line shown; what is beyond the last page is drawn as the last page.
    pub(crate) top: usize,
    /// First column shown.
    pub(crate) left: usize,
    /// Stays at the end, read again and again.
    pub(crate) follow: bool,
    pub(crate) search: String,
    /// The search is being typed.
    pub(crate) typing: bool,
    /// What came of the search.
    pub(crate) found: Option<bool>,
}

impl LogView {
    /// At its end, followed.
    pub(crate) fn new(source: LogSource, lines: Vec<String>) -> Self {
        let top = lines.len();
        Self { source, lines, top, left: 0, follow: true, search: String::new(), typing: false, found: None }
    }

    /// What it is of.
    pub(crate) fn title(&self) -> String {
        match &self.source {
            LogSource::Kernel => "Kernel".into(),
            LogSource::Init => "Start of the host".into(),
            LogSource::Service(name) => format!("Log of {name}"),
            LogSource::Monitor(vm) => format!("Monitor of {vm}"),
        }
    }

    /// It was read again.
    pub(crate) fn again(&mut self, lines: Vec<String>) {
        self.lines = lines;
        if self.follow {
            self.top = self.lines.len();
        }
    }

    /// The first line shown where `room` lines are.
    pub(crate) fn first(&self, room: usize) -> usize {
        self.top.min(self.lines.len().saturating_sub(room))
    }

    /// A key was pressed while `room` lines are shown; false where it is none of its own.
    pub(crate) fn key(&mut self, key: Key, room: usize) -> bool {
        self.found = None;
        if self.typing {
            match key {
                Key::Enter => {
                    self.typing = false;
                    self.find();
                }
                Key::Esc => self.typing = false,
                Key::Backspace => {
                    self.search.pop();
                }
                Key::Char(c) if self.search.len() < MAX_SEARCH => self.search.push(c),
                _ => {}
            }
            return true;
        }
        // Moving from the end begins at the last page, not beyond it.
        let last = self.lines.len().saturating_sub(room);
        let from = self.top.min(last);
        let moved = match key {
            Key::Up => from.saturating_sub(1),
            Key::PageUp => from.saturating_sub(room),
            Key::Home => 0,
            Key::Down => (from + 1).min(last),
            Key::PageDown => (from + room).min(last),
            Key::End => last,
            Key::Left => {
                self.left = self.left.saturating_sub(SIDEWAYS);
                return true;
            }
            Key::Right => {
                self.left += SIDEWAYS;
                return true;
            }
            Key::Char('f' | 'F') => {
                self.follow = !self.follow;
                if self.follow {
                    self.top = self.lines.len();
                }
                return true;
            }
            Key::Char('/') => {
                self.search.clear();
                self.typing = true;
                return true;
            }
            Key::Char('n' | 'N') => {
                self.find();
                return true;
            }
            _ => return false,
        };
        self.follow = false;
        self.top = moved;
        true
    }

    /// Goes to the next line that has the text, upper or lower case, from the top of the log after its end.
    fn find(&mut self) {
        let wanted = self.search.to_ascii_lowercase();
        if wanted.is_empty() {
            return;
        }
        let begin = if self.top >= self.lines.len() { 0 } else { self.top + 1 };
        let has = |n: &usize| self.lines.get(*n).is_some_and(|l| l.to_ascii_lowercase().contains(&wanted));
        let hit = (begin..self.lines.len()).chain(0..begin.min(self.lines.len())).find(has);
        self.found = Some(hit.is_some());
        if let Some(hit) = hit {
            self.follow = false;
            self.top = hit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(lines: usize) -> LogView {
        LogView::new(LogSource::Kernel, (0..lines).map(|n| format!("line {n}")).collect())
    }

    #[test]
    fn it_follows_until_someone_moves() {
        let mut log = view(100);
        assert_eq!(log.first(20), 80);
        log.again((0..200).map(|n| format!("line {n}")).collect());
        assert_eq!(log.first(20), 180);
        log.key(Key::Up, 20);
        assert!(!log.follow);
        let at = log.first(20);
        log.again((0..300).map(|n| format!("line {n}")).collect());
        assert_eq!(log.first(20), at, "what is read stays where it is");
        log.key(Key::Char('f'), 20);
        assert_eq!(log.first(20), 280);
        log.key(Key::Home, 20);
        assert_eq!(log.first(20), 0);
        log.key(Key::PageDown, 20);
        assert_eq!(log.first(20), 20);
    }

    #[test]
    fn what_is_looked_for_is_found_again_and_again() {
        let mut log = view(100);
        for key in [Key::Char('/'), Key::Char('L'), Key::Char('i'), Key::Char('n'), Key::Char('e')] {
            assert!(log.key(key, 20));
        }
        log.key(Key::Char(' '), 20);
        log.key(Key::Char('9'), 20);
        log.key(Key::Enter, 20);
        assert_eq!((log.top, log.found), (9, Some(true)));
        log.key(Key::Char('n'), 20);
        assert_eq!(log.top, 90);
        log.search = "nothing".into();
        log.key(Key::Char('n'), 20);
        assert_eq!((log.top, log.found), (90, Some(false)));
        assert!(!log.key(Key::Char('x'), 20) && !log.key(Key::Esc, 20), "others are the page's");
        let mut empty = view(0);
        empty.search = "x".into();
        empty.key(Key::Char('n'), 20);
        assert_eq!(empty.found, Some(false));
    }
}
