//! An AT keyboard: its commands and its scan codes.
//!
//! Keys are named by their scan code of set 1, with bit 7 for those with prefix E0 — the names QEMU's extension of RFB uses.
//! What the keyboard sends waits in a queue; a key that does not fit whole is dropped, as by a real one.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bytes that may wait. More than a real keyboard's 16, so that pasted text gets through.
pub(super) const QUEUE: usize = 1024;
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;
const EXTENDED: u8 = 0xe0;
const PAUSE: u8 = 0xe1;
const BREAK: u8 = 0xf0;
/// Name of the pause key: an extended code no other key has.
pub const PAUSE_KEY: u8 = 0xc6;

/// Scan codes of set 2 by those of set 1.
#[rustfmt::skip]
const SET_2: [u8; 0x60] = [
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x00, 0x1f, 0x27, 0x2f, 0x00, 0x00,
];

/// What of the keyboard changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyboard {
    queue: VecDeque<u8>,
    /// It sends what is typed.
    scanning: bool,
    /// Scan code set, 1 or 2.
    set: u8,
    /// A command whose argument is still to come.
    pending: Option<u8>,
    /// Last byte sent.
    last: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self { queue: VecDeque::new(), scanning: true, set: 2, pending: None, last: 0 }
    }
}

impl Keyboard {
    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes the next byte it sends.
    pub fn take(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    /// A key goes down or up. `translated`: the controller turns set 2 into set 1 (here: the codes are made so at once).
    pub fn key(&mut self, key: u8, down: bool, translated: bool) {
        if !self.scanning {
            return;
        }
        let (prefixed, code) = (key & 0x80 != 0, key & 0x7f);
        let first_set = translated || self.set == 1;
        let second = SET_2.get(usize::from(code)).copied().unwrap_or(0);
        if second == 0 {
            return;
        }
        let mut bytes = Vec::with_capacity(8);
        if key == PAUSE_KEY {
            // Sent as a whole when pressed; nothing when released.
            if !down {
                return;
            }
            let whole: &[u8] = if first_set {
                &[PAUSE, 0x1d, 0x45, PAUSE, 0x9d, 0xc5]
            } else {
                &[PAUSE, 0x14, 0x77, PAUSE, BREAK, 0x14, BREAK, 0x77]
            };
            bytes.extend(whole);
        } else {
            if prefixed {
                bytes.push(EXTENDED);
            }
            match (first_set, down) {
                (true, true) => bytes.push(code),
                (true, false) => bytes.push(code | 0x80),
                (false, true) => bytes.push(second),
                (false, false) => bytes.extend([BREAK, second]),
            }
        }
        if self.queue.len() + bytes.len() <= QUEUE {
            self.queue.extend(bytes);
        }
    }

    /// The host sends a command or its argument. `translated` as in [`Keyboard::key`].
    pub fn command(&mut self, byte: u8, translated: bool) {
        if let Some(command) = self.pending.take() {
            return self.argument(command, byte);
        }
        match byte {
            // LEDs, scan code set, repeat rate, keys to set: each with an argument.
            0xed | 0xf0 | 0xf3 | 0xfb..=0xfd => {
                self.pending = Some(byte);
                self.answer(&[ACK]);
            }
            0xee => self.answer(&[0xee]),
            0xf2 => self.answer(&[ACK, 0xab, if translated { 0x41 } else { 0x83 }]),
            0xf4 => {
                self.scanning = true;
                self.answer(&[ACK]);
            }
            0xf5 => {
                *self = Self { scanning: false, ..Self::default() };
                self.answer(&[ACK]);
            }
            0xf6 => {
                *self = Self::default();
                self.answer(&[ACK]);
            }
            0xf7..=0xfa => self.answer(&[ACK]),
            0xfe => {
                let last = self.last;
                self.answer(&[last]);
            }
            0xff => {
                *self = Self::default();
                self.answer(&[ACK, SELF_TEST_PASSED]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn argument(&mut self, command: u8, byte: u8) {
        match (command, byte) {
            (0xf0, 0) => {
                let set = self.set;
                self.answer(&[ACK, set]);
            }
            (0xf0, 1 | 2) => {
                self.set = byte;
                self.answer(&[ACK]);
            }
            (0xf0, _) => self.answer(&[RESEND]),
            _ => self.answer(&[ACK]),
        }
    }

    /// A driver that asks without reading loses its answers, as from a real keyboard.
    fn answer(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() <= QUEUE {
            self.queue.extend(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(keyboard: &mut Keyboard) -> Vec<u8> {
        std::iter::from_fn(|| keyboard.take()).collect()
    }

    #[test]
    fn keys_are_sent_in_the_set_in_force() {
        let mut keyboard = Keyboard::default();
        keyboard.key(0x1e, true, true);
        keyboard.key(0x1e, false, true);
        keyboard.key(0xc8, true, true);
        keyboard.key(0xc8, false, true);
        assert_eq!(sent(&mut keyboard), [0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8]);
        keyboard.key(0x1e, true, false);
        keyboard.key(0x1e, false, false);
        keyboard.key(0xc8, false, false);
        assert_eq!(sent(&mut keyboard), [0x1c, 0xf0, 0x1c, 0xe0, 0xf0, 0x75]);
        keyboard.key(PAUSE_KEY, true, true);
        keyboard.key(PAUSE_KEY, false, true);
        assert_eq!(sent(&mut keyboard), [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5]);
        keyboard.command(0xf0, false);
        keyboard.command(1, false);
        keyboard.key(0x1e, true, false);
        assert_eq!(sent(&mut keyboard), [ACK, ACK, 0x1e]);
    }

    #[test]
    fn commands_are_answered_as_drivers_expect() {
        let mut keyboard = Keyboard::default();
        for (commands, answers) in [
            (&[0xff][..], &[ACK, SELF_TEST_PASSED][..]),
            (&[0xf2], &[ACK, 0xab, 0x41]),
            (&[0xed, 7], &[ACK, ACK]),
            (&[0xf0, 0], &[ACK, ACK, 2]),
            (&[0xf0, 3], &[ACK, RESEND]),
            (&[0xee], &[0xee]),
            (&[0x01], &[RESEND]),
        ] {
            commands.iter().for_each(|byte| keyboard.command(*byte, true));
            assert_eq!(sent(&mut keyboard), answers, "{commands:x?}");
        }
        keyboard.command(0xf5, true);
        sent(&mut keyboard);
        keyboard.key(0x1e, true, true);
        assert_eq!(sent(&mut keyboard), [] as [u8; 0], "not scanning");
    }

    #[test]
    fn what_does_not_fit_is_dropped_in_whole_keys() {
        let mut keyboard = Keyboard::default();
        for _ in 0..3 * QUEUE {
            keyboard.key(0xc8, true, true);
        }
        let sent = sent(&mut keyboard);
        assert!(sent.len() <= QUEUE && sent.len().is_multiple_of(2));
        assert!(sent.chunks(2).all(|key| key == [0xe0, 0x48]));
    }
}
