//! The registers of a TPM with a command response buffer (TCG PC Client Platform TPM Profile 1.06, 6.5.3), locality 0 only. No
//! I/O: what is to be done comes out of a write, what came of it goes in.
//!
//! ```text
//!  Idle ── cmdReady ─▶ Ready ── start, a whole command in the buffer ─▶ Executing ── answer ─▶ Ready
//!    ▲                   │ goIdle                                           │ fail
//!    └───────────────────┘                                                  └─▶ failed: every command is answered so, for good
//! ```
//! Commands and answers lie in the same buffer, in the page of the registers. As other machines do it, a start is taken in Idle
//! too, and needs the locality to be granted.
//!
//! Invariants: the guest may write any value to any register; one command is executing at most; while it is, the buffer is not
//! the guest's to write; what is handed on is exactly as long as its header says.

use serde::{Deserialize, Serialize};

/// Where the registers are.
pub const BASE: u64 = 0xfed4_0000;
/// Bytes of the registers and the buffer: one locality.
pub const LENGTH: u64 = 0x1000;
/// Where the control area of the ACPI table is.
pub const CONTROL_AREA: u64 = BASE + REQUEST;
/// Bytes a command or an answer may have.
pub const BUFFER_BYTES: usize = (LENGTH - BUFFER) as usize;
/// Bytes of the header of a command and of an answer: tag, length, code.
pub const HEADER: usize = 10;

const LOCALITY_STATE: u64 = 0x00;
const LOCALITY_CONTROL: u64 = 0x08;
const LOCALITY_STATUS: u64 = 0x0c;
const INTERFACE_LOW: u64 = 0x30;
const INTERFACE_HIGH: u64 = 0x34;
const REQUEST: u64 = 0x40;
const STATUS: u64 = 0x44;
const CANCEL: u64 = 0x48;
const START: u64 = 0x4c;
const COMMAND_SIZE: u64 = 0x58;
const COMMAND_LOW: u64 = 0x5c;
const RESPONSE_SIZE: u64 = 0x64;
const RESPONSE_LOW: u64 = 0x68;
const BUFFER: u64 = 0x80;

/// No measured launch took place; what the register says is valid.
const STATE_AT_REST: u32 = 1 | 1 << 7;
const STATE_ASSIGNED: u32 = 1 << 1;
const LOCALITY_REQUEST: u32 = 1;
const LOCALITY_RELINQUISH: u32 = 1 << 1;
const COMMAND_READY: u32 = 1;
const GO_IDLE: u32 = 1 << 1;
const STATUS_FATAL: u32 = 1;
const STATUS_IDLE: u32 = 1 << 1;
/// A command response buffer, version 1, transfers of 64 bytes, and that is what is selected.
const INTERFACE: u32 = 1 | 1 << 4 | 3 << 11 | 1 << 14 | 1 << 17;
/// Who makes it: IBM, as the emulation behind it says.
const VENDOR: u32 = 0x1014;

/// Tag of an answer without sessions.
const NO_SESSIONS: u16 = 0x8001;
const RC_FAILURE: u32 = 0x101;
const RC_COMMAND_SIZE: u32 = 0x142;

/// What a write asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// To carry out this command.
    Execute(Vec<u8>),
    /// To call off the one that is executing.
    Cancel,
}

/// The registers.
#[derive(Clone, Debug)]
pub struct Crb {
    granted: bool,
    idle: bool,
    cancel: bool,
    executing: bool,
    failed: bool,
    buffer: Box<[u8]>,
}

/// The registers, saved; no command is executing then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedCrb {
    granted: bool,
    idle: bool,
    cancel: bool,
    /// Without the zeros at its end.
    buffer: Vec<u8>,
}

impl Default for Crb {
    fn default() -> Self {
        Self {
            granted: false,
            idle: true,
            cancel: false,
            executing: false,
            failed: false,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        }
    }
}

/// The length a header says, of which only the first six bytes are needed.
#[must_use]
pub fn stated_length(message: &[u8]) -> Option<usize> {
    let length = message.get(2..6)?;
    Some(length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

impl Crb {
    /// The guest reads at `offset`.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = match at.checked_sub(BUFFER) {
                Some(at) => self.buffer.get(at as usize).copied().unwrap_or(0xff),
                None => (self.register(at & !3) >> (8 * (at & 3))) as u8,
            };
        }
    }

    fn register(&self, register: u64) -> u32 {
        let when = |is, bit| if is { bit } else { 0 };
        match register {
            LOCALITY_STATE => STATE_AT_REST | when(self.granted, STATE_ASSIGNED),
            LOCALITY_STATUS => u32::from(self.granted),
            INTERFACE_LOW => INTERFACE,
            INTERFACE_HIGH => VENDOR,
            STATUS => when(self.failed, STATUS_FATAL) | when(self.idle, STATUS_IDLE),
            CANCEL => u32::from(self.cancel),
            START => u32::from(self.executing),
            COMMAND_SIZE | RESPONSE_SIZE => BUFFER_BYTES as u32,
            COMMAND_LOW | RESPONSE_LOW => (BASE + BUFFER) as u32,
            _ => 0,
        }
    }

    /// The guest writes at `offset`. Of an access the words are written one after another; what does not begin with a register
    /// is not written to it.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        let mut effect = None;
        let (mut at, mut data) = (offset, data);
        while !data.is_empty() {
            let (word, rest) = data.split_at(data.len().min(4 - (at & 3) as usize));
            if let Some(at) = at.checked_sub(BUFFER) {
                self.fill(at as usize, word);
            } else if at.is_multiple_of(4) {
                let value = word.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
                effect = effect.or(self.set(at, value));
            }
            at += word.len() as u64;
            data = rest;
        }
        effect
    }

    fn fill(&mut self, at: usize, bytes: &[u8]) {
        if !self.executing
            && let Some(place) = self.buffer.get_mut(at..at + bytes.len())
        {
            place.copy_from_slice(bytes);
        }
    }

    fn set(&mut self, register: u64, value: u32) -> Option<Effect> {
        match register {
            LOCALITY_CONTROL => {
                if value & LOCALITY_RELINQUISH != 0 {
                    self.granted = false;
                }
                if value & LOCALITY_REQUEST != 0 {
                    self.granted = true;
                }
            }
            REQUEST if !self.executing => {
                if value & COMMAND_READY != 0 {
                    self.idle = false;
                }
                if value & GO_IDLE != 0 {
                    self.idle = true;
                }
            }
            CANCEL => {
                self.cancel = value & 1 != 0;
                return (self.cancel && self.executing).then_some(Effect::Cancel);
            }
            START if value & 1 != 0 && self.granted && !self.executing => return self.start(),
            _ => {}
        }
        None
    }

    fn start(&mut self) -> Option<Effect> {
        if self.failed {
            self.refuse(RC_FAILURE);
            return None;
        }
        let command = stated_length(&self.buffer)
            .filter(|length| *length >= HEADER)
            .and_then(|length| self.buffer.get(..length))
            .map(<[u8]>::to_vec);
        if command.is_none() {
            // Handed on, it would be taken for the begin of another.
            self.refuse(RC_COMMAND_SIZE);
        }
        self.executing = command.is_some();
        command.map(Effect::Execute)
    }

    /// Answers in place of the TPM.
    fn refuse(&mut self, code: u32) {
        let length = (HEADER as u32).to_be_bytes();
        let answer = [&NO_SESSIONS.to_be_bytes()[..], &length, &code.to_be_bytes()].concat();
        self.put(&answer);
    }

    fn put(&mut self, answer: &[u8]) {
        self.buffer.iter_mut().zip(answer).for_each(|(place, byte)| *place = *byte);
    }

    /// The command is carried out; of an answer that is too long the rest is lost.
    pub fn answer(&mut self, answer: &[u8]) {
        if self.executing {
            self.put(answer);
            self.executing = false;
        }
    }

    /// The TPM is gone. What it was asked, and will be asked, fails.
    pub fn fail(&mut self) {
        self.failed = true;
        if std::mem::take(&mut self.executing) {
            self.refuse(RC_FAILURE);
        }
    }

    /// A command is executing.
    #[must_use]
    pub fn executing(&self) -> bool {
        self.executing
    }

    /// Power-on. A TPM that is gone does not come back by it.
    pub fn reset(&mut self) {
        *self = Self { failed: self.failed, ..Self::default() };
    }

    /// Only while no command is executing.
    #[must_use]
    pub fn save(&self) -> SavedCrb {
        let used = self.buffer.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let buffer = self.buffer.get(..used).unwrap_or_default().to_vec();
        SavedCrb { granted: self.granted, idle: self.idle, cancel: self.cancel, buffer }
    }

    /// Takes up saved ones.
    ///
    /// # Errors
    /// What is in the buffer does not fit.
    pub fn load(&mut self, saved: &SavedCrb) -> Result<(), String> {
        let SavedCrb { granted, idle, cancel, buffer } = saved;
        if buffer.len() > BUFFER_BYTES {
            return Err(format!("its buffer holds {} bytes, at most {BUFFER_BYTES} fit", buffer.len()));
        }
        *self =
            Self { granted: *granted, idle: *idle, cancel: *cancel, failed: self.failed, ..Self::default() };
        self.put(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(crb: &Crb, offset: u64) -> u32 {
        let mut data = [0; 4];
        crb.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(crb: &mut Crb, offset: u64, value: u32) -> Option<Effect> {
        crb.write(offset, &value.to_le_bytes())
    }

    /// A command of `length` bytes that says it has as many.
    fn command(length: u32) -> Vec<u8> {
        let mut command = vec![0x80, 1];
        command.extend(length.to_be_bytes());
        command.resize(length as usize, 7);
        command
    }

    fn code(crb: &Crb) -> u32 {
        let mut data = [0; 4];
        crb.read(BUFFER + 6, &mut data);
        u32::from_be_bytes(data)
    }

    #[test]
    fn a_driver_finds_the_interface_and_has_a_command_carried_out() {
        let mut crb = Crb::default();
        assert_eq!((read(&crb, 0x30), read(&crb, 0x34)), (0x2_5811, 0x1014));
        assert_eq!((read(&crb, 0x58), read(&crb, 0x5c), read(&crb, 0x60)), (0xf80, 0xfed4_0080, 0));
        assert_eq!((read(&crb, 0x64), read(&crb, 0x68), read(&crb, 0x6c)), (0xf80, 0xfed4_0080, 0));
        assert_eq!((read(&crb, 0), read(&crb, 0xc), read(&crb, 0x44)), (0x81, 0, 2));
        assert_eq!(set(&mut crb, 8, 1), None);
        assert_eq!((read(&crb, 0), read(&crb, 0xc)), (0x83, 1));
        assert_eq!(set(&mut crb, 0x40, 1), None);
        assert_eq!((read(&crb, 0x40), read(&crb, 0x44)), (0, 0));
        let asked = command(12);
        asked.chunks(5).zip(0..).for_each(|(piece, n)| drop(crb.write(BUFFER + 5 * n, piece)));
        assert_eq!(set(&mut crb, 0x4c, 1), Some(Effect::Execute(asked)));
        assert_eq!((read(&crb, 0x4c), set(&mut crb, 0x4c, 1)), (1, None), "one at a time");
        crb.write(BUFFER, &[0xee; 8]);
        assert_eq!(read(&crb, BUFFER) as u8, 0x80, "it is not the guest's now");
        assert_eq!((set(&mut crb, 0x48, 1), set(&mut crb, 0x48, 0)), (Some(Effect::Cancel), None));
        crb.answer(&[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0]);
        assert_eq!((read(&crb, 0x4c), code(&crb)), (0, 0));
        set(&mut crb, 0x40, 2);
        set(&mut crb, 8, 2);
        assert_eq!((read(&crb, 0), read(&crb, 0x44)), (0x81, 2));
        assert_eq!(set(&mut crb, 0x4c, 1), None, "without the locality nothing is carried out");
    }

    #[test]
    fn what_is_no_command_and_what_comes_after_a_failure_is_answered_here() {
        let mut crb = Crb::default();
        set(&mut crb, 8, 1);
        for length in [0, 9, 0xf81, u32::MAX] {
            crb.write(BUFFER + 2, &length.to_be_bytes());
            assert_eq!(set(&mut crb, 0x4c, 1), None);
            assert_eq!((code(&crb), read(&crb, 0x4c)), (RC_COMMAND_SIZE, 0));
        }
        crb.write(BUFFER + 2, &(BUFFER_BYTES as u32).to_be_bytes());
        assert!(matches!(set(&mut crb, 0x4c, 1), Some(Effect::Execute(all)) if all.len() == BUFFER_BYTES));
        crb.fail();
        assert_eq!((read(&crb, 0x4c), read(&crb, 0x44) & 1, code(&crb)), (0, 1, RC_FAILURE));
        crb.reset();
        set(&mut crb, 8, 1);
        crb.write(BUFFER, &command(10));
        assert_eq!((set(&mut crb, 0x4c, 1), code(&crb)), (None, RC_FAILURE), "it stays gone");
    }

    proptest! {
        #[test]
        fn any_access_is_taken_and_only_whole_commands_are_handed_on(
            steps in prop::collection::vec((0_u64..LENGTH, prop::collection::vec(any::<u8>(), 1..9), any::<bool>()), 1..200),
        ) {
            let mut crb = Crb::default();
            for (offset, mut data, read) in steps {
                if read {
                    crb.read(offset, &mut data);
                    continue;
                }
                let before = crb.executing();
                match crb.write(offset, &data) {
                    Some(Effect::Execute(command)) => {
                        prop_assert!(!before && crb.executing());
                        prop_assert_eq!(stated_length(&command), Some(command.len()));
                        prop_assert!((HEADER..=BUFFER_BYTES).contains(&command.len()));
                    }
                    Some(Effect::Cancel) => prop_assert!(crb.executing()),
                    None => prop_assert_eq!(crb.executing(), before),
                }
                if crb.executing() && data.len() > 4 {
                    crb.answer(&data);
                }
                if !crb.executing() {
                    let mut other = Crb::default();
                    other.load(&crb.save()).unwrap();
                    prop_assert_eq!(other.save(), crb.save());
                }
            }
        }
    }
}
