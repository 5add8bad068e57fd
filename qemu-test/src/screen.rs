//! What a vt220 of 24 lines by 80 columns shows of what is sent to it: the screen as a person at the serial line sees it, not
//! what went by. Knows what our own console, the kernel and shells send; of the rest it obeys nothing.

/// Lines of the screen.
pub(crate) const ROWS: usize = 24;
/// Columns of the screen.
pub(crate) const COLUMNS: usize = 80;

/// The screen.
#[derive(Debug)]
pub(crate) struct Screen {
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Text,
    Escape,
    /// One more byte follows, which is of no account.
    Charset,
    /// A control sequence, so far.
    Csi(Vec<u8>),
    /// Text for the terminal, up to its end.
    Osc,
}

impl Default for Screen {
    fn default() -> Self {
        Self { cells: vec![vec![' '; COLUMNS]; ROWS], row: 0, column: 0, state: State::Text }
    }
}

impl Screen {
    /// Shows what was sent; it may be cut anywhere.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
    }

    /// The lines, without the blanks at their ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.cells.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
    }

    fn byte(&mut self, byte: u8) {
        self.state = match std::mem::replace(&mut self.state, State::Text) {
            State::Text => match byte {
                0x1b => State::Escape,
                _ => {
                    self.text(byte);
                    State::Text
                }
            },
            State::Escape => match byte {
                b'[' => State::Csi(Vec::new()),
                b']' | b'P' | b'^' | b'_' => State::Osc,
                b'(' | b')' | b'#' | b'%' => State::Charset,
                // Reset.
                b'c' => {
                    *self = Self::default();
                    State::Text
                }
                _ => State::Text,
            },
            State::Charset => State::Text,
            State::Csi(mut sequence) => match byte {
                0x40..=0x7e => {
                    self.obey(&sequence, byte);
                    State::Text
                }
                _ => {
                    sequence.push(byte);
                    State::Csi(sequence)
                }
            },
            State::Osc if byte == 7 => State::Text,
            // Its end is `ESC \`; the palette is reset by `ESC ] R` without one.
            State::Osc if byte == 0x1b => State::Escape,
            State::Osc if byte == b'R' => State::Text,
            State::Osc => State::Osc,
        };
    }

    fn text(&mut self, byte: u8) {
        match byte {
            b'\r' => self.column = 0,
            b'\n' => self.line_feed(),
            8 => self.column = self.column.saturating_sub(1),
            b'\t' => self.column = (self.column / 8 * 8 + 8).min(COLUMNS - 1),
            0..=0x1f | 0x7f => {}
            _ => {
                if self.column >= COLUMNS {
                    self.column = 0;
                    self.line_feed();
                }
                if let Some(cell) = self.cells.get_mut(self.row).and_then(|row| row.get_mut(self.column)) {
                    *cell = if byte.is_ascii() { char::from(byte) } else { '?' };
                }
                self.column += 1;
            }
        }
    }

    fn line_feed(&mut self) {
        if self.row + 1 < ROWS {
            self.row += 1;
        } else {
            self.cells.remove(0);
            self.cells.push(vec![' '; COLUMNS]);
        }
    }

    fn obey(&mut self, sequence: &[u8], last: u8) {
        let text = String::from_utf8_lossy(sequence);
        let mut numbers = text.split(';').map(str::parse::<usize>);
        let mut number = |absent| numbers.next().and_then(Result::ok).unwrap_or(absent);
        match last {
            b'H' | b'f' => {
                let (row, column) = (number(1), number(1));
                self.row = row.clamp(1, ROWS) - 1;
                self.column = column.clamp(1, COLUMNS) - 1;
            }
            b'J' if number(0) == 2 => self.cells.iter_mut().for_each(|row| row.fill(' ')),
            b'K' if number(0) == 0 => {
                if let Some(row) = self.cells.get_mut(self.row) {
                    row.iter_mut().skip(self.column).for_each(|cell| *cell = ' ');
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_what_stands_not_what_went_by() {
        let mut screen = Screen::default();
        screen.feed(b"\x1b[0m\x1b[2J\x1b[3;5Hwrong\x1b[3;5H\x1b[0;1mright\x1b[0m\x1b[K\x1b[24;1Hfoot");
        assert_eq!(screen.lines()[2], "    right");
        assert_eq!(screen.lines()[23], "foot");
        screen.feed(b"\r\nscrolled");
        assert_eq!((screen.lines()[1].as_str(), screen.lines()[23].as_str()), ("    right", "scrolled"));
        screen.feed(b"\x1bc\x1b]R\x1b[0mnew");
        assert_eq!(screen.lines()[0], "new");
        assert!(screen.lines()[1..].iter().all(String::is_empty));
    }

    #[test]
    fn what_is_wrong_or_cut_does_no_harm() {
        let mut screen = Screen::default();
        for byte in b"\x1b[99999;0Hx\x1b[;Hy\x1b[1;77Habcdef\xff" {
            screen.feed(&[*byte]);
        }
        assert_eq!(screen.lines()[0], format!("y{:75}abcd", ""));
        assert_eq!(screen.lines()[1], "ef?");
        assert_eq!(screen.lines()[23], "x");
    }

    proptest::proptest! {
        #[test]
        fn nothing_sent_leaves_the_screen(bytes: Vec<u8>) {
            let mut screen = Screen::default();
            screen.feed(&bytes);
            assert!(screen.lines().len() == ROWS && screen.lines().iter().all(|l| l.chars().count() <= COLUMNS));
        }
    }
}
