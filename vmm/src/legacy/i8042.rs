//! The keyboard controller (Intel 8042) with one keyboard and no mouse, as firmware and operating systems find it without
//! a driver of ours. Only machines with firmware have it.
//!
//! ```text
//!  keyboard ─▶ queue ─▶ output buffer ─▶ port 0x60        (interrupt 1 when it fills and the command byte allows it)
//!  controller's answers ────▲
//! ```
//! Reading port 0x60 empties the buffer, and the next byte moves in. Input is taken at once, so the "input full" bit is
//! never set. Pointers go by virtio.

use super::keyboard::{Keyboard, QUEUE};
use crate::state::{self, Saved};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, io};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Its interrupt, edge triggered.
pub const IRQ: u32 = 1;

const STATUS_OUTPUT_FULL: u8 = 1;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
/// The keyboard is not locked.
const STATUS_UNLOCKED: u8 = 1 << 4;

const MODE_INTERRUPT: u8 = 1;
const MODE_SYSTEM: u8 = 1 << 2;
const MODE_KEYBOARD_OFF: u8 = 1 << 4;
const MODE_AUX_OFF: u8 = 1 << 5;
const MODE_TRANSLATE: u8 = 1 << 6;

const SELF_TEST_PASSED: u8 = 0x55;
/// Answer to a test of a port that has no device: clock line stuck low.
const PORT_DEAD: u8 = 1;
/// Output port: reset line high, A20 open.
const OUTPUT_PORT: u8 = 3;
const OUTPUT_PORT_RESET: u8 = 1;
/// Answers that may wait.
const ANSWERS: usize = 16;

/// What of the controller changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    keyboard: Keyboard,
    mode: u8,
    /// The byte port 0x60 gives.
    output: Option<u8>,
    /// Last byte it gave: an empty buffer gives it again.
    last: u8,
    answers: VecDeque<u8>,
    /// A command whose argument comes to port 0x60.
    pending: Option<u8>,
    /// The last write was to port 0x64.
    command_last: bool,
}

impl Saved for State {
    const KIND: &'static str = "i8042";
}

impl Default for State {
    fn default() -> Self {
        Self {
            keyboard: Keyboard::default(),
            mode: MODE_INTERRUPT | MODE_TRANSLATE | MODE_AUX_OFF,
            output: None,
            last: 0,
            answers: VecDeque::new(),
            pending: None,
            command_last: false,
        }
    }
}

/// The controller.
pub struct I8042 {
    state: State,
    interrupt: EventFd,
}

/// What a write asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// A reset.
    Reset,
}

impl I8042 {
    /// At power-on.
    ///
    /// # Errors
    /// The host gave no event.
    pub fn new() -> io::Result<Self> {
        Ok(Self { state: State::default(), interrupt: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? })
    }

    /// The eventfd of [`IRQ`].
    pub fn interrupt(&self) -> &EventFd {
        &self.interrupt
    }

    /// A key, by its name in [`super::keyboard`], goes down or up.
    pub fn key(&mut self, key: u8, down: bool) {
        let translated = self.translates();
        self.state.keyboard.key(key, down, translated);
        self.fill();
    }

    fn translates(&self) -> bool {
        self.state.mode & MODE_TRANSLATE != 0
    }

    /// Port 0x64 is read.
    #[must_use]
    pub fn status(&self) -> u8 {
        let flag = |set, bit| if set { bit } else { 0 };
        STATUS_UNLOCKED
            | flag(self.state.output.is_some(), STATUS_OUTPUT_FULL)
            | flag(self.state.mode & MODE_SYSTEM != 0, STATUS_SYSTEM)
            | flag(self.state.command_last, STATUS_COMMAND)
    }

    /// Port 0x60 is read.
    pub fn read(&mut self) -> u8 {
        if let Some(byte) = self.state.output.take() {
            self.state.last = byte;
        }
        let byte = self.state.last;
        self.fill();
        byte
    }

    /// Port 0x60 is written.
    pub fn write(&mut self, byte: u8) -> Effect {
        self.state.command_last = false;
        match self.state.pending.take() {
            None => {
                // A command to the keyboard switches it on.
                self.state.mode &= !MODE_KEYBOARD_OFF;
                let translated = self.translates();
                self.state.keyboard.command(byte, translated);
            }
            Some(0x60) => self.state.mode = byte,
            Some(0xd1) if byte & OUTPUT_PORT_RESET == 0 => return Effect::Reset,
            // "As if the keyboard had sent it"; for the mouse port, which has no mouse, the same without its mark.
            Some(0xd2 | 0xd3) => self.answer(byte),
            Some(_) => {}
        }
        self.fill();
        Effect::None
    }

    /// Port 0x64 is written.
    pub fn command(&mut self, command: u8) -> Effect {
        self.state.command_last = true;
        self.state.pending = None;
        match command {
            0x20 => self.answer(self.state.mode),
            0x60 | 0xd1..=0xd4 => self.state.pending = Some(command),
            0xa7 => self.state.mode |= MODE_AUX_OFF,
            // There is no second port: its bit stays set.
            0xa9 => self.answer(PORT_DEAD),
            0xaa => {
                self.state.mode |= MODE_SYSTEM;
                self.answer(SELF_TEST_PASSED);
            }
            0xab => self.answer(0),
            0xad => self.state.mode |= MODE_KEYBOARD_OFF,
            0xae => self.state.mode &= !MODE_KEYBOARD_OFF,
            0xc0 => self.answer(0x80),
            0xd0 => self.answer(OUTPUT_PORT),
            // Pulses of output lines: the lowest is the reset line.
            0xf0..=0xff if command & OUTPUT_PORT_RESET == 0 => return Effect::Reset,
            _ => {}
        }
        self.fill();
        Effect::None
    }

    fn answer(&mut self, byte: u8) {
        if self.state.answers.len() < ANSWERS {
            self.state.answers.push_back(byte);
        }
    }

    /// Moves the next byte into an empty output buffer.
    fn fill(&mut self) {
        if self.state.output.is_some() {
            return;
        }
        let state = &mut self.state;
        state.output = state.answers.pop_front().or_else(|| {
            let on = state.mode & MODE_KEYBOARD_OFF == 0;
            if on { state.keyboard.take() } else { None }
        });
        if state.output.is_some() && state.mode & MODE_INTERRUPT != 0 {
            // Fails only when the interrupt is already on its way.
            let _ = self.interrupt.write(1);
        }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        let _ = self.interrupt.read();
        self.state = State::default();
    }

    /// What changes of it.
    #[must_use]
    pub fn save(&self) -> State {
        self.state.clone()
    }

    /// Takes up a saved state, and interrupts for a byte that waits: the interrupt may have been on its way.
    ///
    /// # Errors
    /// More waits than can.
    pub fn load(&mut self, state: State) -> Result<(), state::Error> {
        let (answers, typed) = (state.answers.len(), state.keyboard.waiting());
        if answers > ANSWERS || typed > QUEUE {
            let problem = format!("{answers} answers and {typed} bytes of keys wait");
            return Err(state::Error::Invalid { kind: State::KIND.into(), id: 0, problem });
        }
        let _ = self.interrupt.read();
        self.state = state;
        if self.state.output.is_some() && self.state.mode & MODE_INTERRUPT != 0 {
            let _ = self.interrupt.write(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(controller: &mut I8042) -> Vec<u8> {
        let mut bytes = Vec::new();
        while controller.status() & STATUS_OUTPUT_FULL != 0 {
            bytes.push(controller.read());
        }
        bytes
    }

    #[test]
    fn a_driver_brings_it_up_and_gets_keys_with_interrupts() {
        let mut controller = I8042::new().unwrap();
        controller.command(0xaa);
        assert_eq!(drain(&mut controller), [SELF_TEST_PASSED]);
        controller.command(0xab);
        assert_eq!(drain(&mut controller), [0]);
        controller.command(0x60);
        controller.write(MODE_INTERRUPT | MODE_TRANSLATE | MODE_SYSTEM);
        controller.command(0x20);
        assert_eq!(drain(&mut controller), [0x45]);
        controller.write(0xff);
        assert_eq!(drain(&mut controller), [0xfa, 0xaa]);
        let _ = controller.interrupt().read();
        controller.key(0x1c, true);
        assert_eq!(controller.interrupt().read().unwrap(), 1);
        controller.key(0x1c, false);
        assert!(controller.interrupt().read().is_err(), "the buffer is still full");
        assert_eq!(controller.read(), 0x1c);
        assert_eq!(controller.interrupt().read().unwrap(), 1);
        assert_eq!(drain(&mut controller), [0x9c]);
    }

    #[test]
    fn a_keyboard_switched_off_keeps_what_is_typed_for_later() {
        let mut controller = I8042::new().unwrap();
        controller.command(0xad);
        controller.key(0x1c, true);
        assert_eq!(drain(&mut controller), [] as [u8; 0]);
        controller.command(0xae);
        assert_eq!(drain(&mut controller), [0x1c]);
    }

    #[test]
    fn there_is_no_mouse_and_that_is_told_at_once() {
        let mut controller = I8042::new().unwrap();
        controller.command(0xd3);
        controller.write(0x5a);
        // The mark of the mouse port, bit 5, is missing.
        assert_eq!(controller.status() & (1 << 5 | STATUS_OUTPUT_FULL), STATUS_OUTPUT_FULL);
        assert_eq!(drain(&mut controller), [0x5a]);
        controller.command(0xa9);
        assert_eq!(drain(&mut controller), [PORT_DEAD]);
        controller.command(0xa8);
        controller.command(0x20);
        assert_eq!(drain(&mut controller)[0] & MODE_AUX_OFF, MODE_AUX_OFF);
    }

    #[test]
    fn both_ways_of_resetting_reset() {
        let mut controller = I8042::new().unwrap();
        assert_eq!(controller.command(0xfe), Effect::Reset);
        assert_eq!(controller.command(0xd1), Effect::None);
        assert_eq!(controller.write(3), Effect::None);
        controller.command(0xd1);
        assert_eq!(controller.write(2), Effect::Reset);
    }

    #[test]
    fn a_byte_that_waits_interrupts_again_where_it_is_taken_up() {
        let mut one = I8042::new().unwrap();
        one.key(0x1c, true);
        let mut two = I8042::new().unwrap();
        two.load(one.save()).unwrap();
        assert_eq!(two.interrupt().read().unwrap(), 1);
        assert_eq!(two.read(), 0x1c);
        let mut endless = one.save();
        endless.answers.resize(ANSWERS + 1, 0);
        assert!(two.load(endless).unwrap_err().to_string().contains("i8042"));
    }

    proptest! {
        #[test]
        fn any_access_is_answered_and_a_saved_state_goes_on_alike(
            steps in prop::collection::vec((0..4_u8, any::<u8>()), 0..200),
        ) {
            let mut one = I8042::new().unwrap();
            let mut two = I8042::new().unwrap();
            for (kind, byte) in steps {
                two.load(serde_json::from_value(serde_json::to_value(one.save()).unwrap()).unwrap()).unwrap();
                for controller in [&mut one, &mut two] {
                    match kind {
                        0 => drop(controller.read()),
                        1 => drop(controller.write(byte)),
                        2 => drop(controller.command(byte)),
                        _ => controller.key(byte, byte & 1 != 0),
                    }
                }
                prop_assert_eq!(one.save(), two.save());
            }
        }
    }
}
