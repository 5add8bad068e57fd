//! From bytes of a terminal to keys: the Linux console, a vt220 and what serial programs send. Pure.
//!
//! ```text
//!  ground ──ESC──▶ escape ──[──▶ control sequence ──final byte──▶ ground
//!                    └──O──▶ one more byte ──▶ ground
//!  escape, and nothing follows for a moment ([`Keys::idle`]) ──▶ the key Esc
//! ```
//! A sequence that is not known is dropped whole, so that nothing of it is taken for a letter.

/// Longest sequence that is waited for.
const MAX: usize = 16;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A printable ASCII character.
    Char(char),
    Enter,
    Esc,
    Tab,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    F2,
    F3,
    F4,
    F12,
    /// Ctrl-U: empty the field.
    Erase,
    /// Ctrl-L: draw anew.
    Redraw,
}

/// The state of the reader.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pending: Vec<u8>,
}

impl Keys {
    /// The key that a byte ends, if it does.
    pub(crate) fn byte(&mut self, byte: u8) -> Option<Key> {
        if self.pending.is_empty() {
            return match byte {
                0x1b => {
                    self.pending.push(byte);
                    None
                }
                b'\r' | b'\n' => Some(Key::Enter),
                b'\t' => Some(Key::Tab),
                0x08 | 0x7f => Some(Key::Backspace),
                0x0c => Some(Key::Redraw),
                0x15 => Some(Key::Erase),
                0x20..=0x7e => Some(Key::Char(char::from(byte))),
                _ => None,
            };
        }
        if byte == 0x1b {
            // The one before was the key itself, or a sequence that broke off.
            let alone = self.pending.len() == 1;
            self.pending = vec![byte];
            return alone.then_some(Key::Esc);
        }
        self.pending.push(byte);
        let ended = match self.pending.get(1) {
            // The Linux console sends `ESC [ [ A` to `E` for F1 to F5.
            Some(b'[') => {
                self.pending.len() > 2
                    && (0x40..=0x7e).contains(&byte)
                    && !(self.pending.len() == 3 && byte == b'[')
            }
            Some(b'O') => self.pending.len() > 2,
            _ => true,
        };
        if !ended && self.pending.len() < MAX {
            return None;
        }
        let sequence = std::mem::take(&mut self.pending);
        match sequence.get(1..).unwrap_or_default() {
            b"[A" | b"OA" => Some(Key::Up),
            b"[B" | b"OB" => Some(Key::Down),
            b"[C" | b"OC" => Some(Key::Right),
            b"[D" | b"OD" => Some(Key::Left),
            b"[5~" => Some(Key::PageUp),
            b"[6~" => Some(Key::PageDown),
            b"[1~" | b"[7~" | b"[H" | b"OH" => Some(Key::Home),
            b"[4~" | b"[8~" | b"[F" | b"OF" => Some(Key::End),
            b"[[B" | b"OQ" | b"[12~" => Some(Key::F2),
            b"[[C" | b"OR" | b"[13~" => Some(Key::F3),
            b"[[D" | b"OS" | b"[14~" => Some(Key::F4),
            b"[24~" => Some(Key::F12),
            _ => None,
        }
    }

    /// Nothing followed for a moment.
    pub(crate) fn idle(&mut self) -> Option<Key> {
        let alone = self.pending == [0x1b];
        self.pending.clear();
        alone.then_some(Key::Esc)
    }

    /// Whether a sequence has begun.
    pub(crate) fn waiting(&self) -> bool {
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        let mut all: Vec<Key> = bytes.iter().filter_map(|b| keys.byte(*b)).collect();
        all.extend(keys.idle());
        all
    }

    #[test]
    fn every_terminals_way_of_saying_a_key_is_known() {
        for f2 in [b"\x1b[[B".as_slice(), b"\x1bOQ", b"\x1b[12~"] {
            assert_eq!(typed(f2), [Key::F2], "{f2:?}");
        }
        assert_eq!(typed(b"\x1b[A\x1bOB\x1b[24~"), [Key::Up, Key::Down, Key::F12]);
        assert_eq!(
            typed(b"\x1b[[C\x1b[14~\x1b[5~\x1b[4~\x15"),
            [Key::F3, Key::F4, Key::PageUp, Key::End, Key::Erase]
        );
        assert_eq!(
            typed(b"a\r\x7f\t\x0c"),
            [Key::Char('a'), Key::Enter, Key::Backspace, Key::Tab, Key::Redraw]
        );
    }

    #[test]
    fn an_escape_alone_is_a_key_and_an_unknown_sequence_none() {
        assert_eq!(typed(b"\x1b"), [Key::Esc]);
        assert_eq!(typed(b"\x1b\x1b[A"), [Key::Esc, Key::Up]);
        assert_eq!(typed(b"\x1b[99;5~x"), [Key::Char('x')]);
        assert_eq!(typed(b"\x1b[1"), []);
        let mut endless = b"\x1b[".to_vec();
        endless.extend([b'1'; 100]);
        assert!(typed(&endless).iter().all(|k| *k == Key::Char('1')));
    }
}
