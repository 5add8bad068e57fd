//! COM1: a 16550 whose line ends at the console hub.
//!
//! Output never blocks: it goes into the hub's ring. Input waits in [`Serial::type_in`]'s queue until the guest has room
//! in its 64-byte FIFO. Bytes typed beyond [`MAX_INPUT`] are dropped, as on a line without flow control.

use crate::{
    console::Output,
    state::{self, Saved},
};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, io, sync::Arc};
use vm_superio::{
    Trigger,
    serial::{NoEvents, SerialState},
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Bytes typed that may wait for the guest.
pub const MAX_INPUT: usize = 64 << 10;

struct Interrupt(Arc<EventFd>);

impl Trigger for Interrupt {
    type E = io::Error;
    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

type Uart = vm_superio::Serial<Interrupt, NoEvents, Output>;

/// The port, saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSerial {
    divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    fifo: Vec<u8>,
    typed: Vec<u8>,
}

impl Saved for SavedSerial {
    const KIND: &'static str = "com1";
}

/// The port and what is typed but not yet taken.
pub struct Serial {
    uart: Uart,
    output: Output,
    interrupt: Arc<EventFd>,
    typed: VecDeque<u8>,
}

impl Serial {
    /// A port that writes to `output`.
    pub fn new(output: Output) -> io::Result<Self> {
        let interrupt = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let uart = Uart::new(Interrupt(Arc::clone(&interrupt)), output.clone());
        Ok(Self { uart, output, interrupt, typed: VecDeque::new() })
    }

    /// The eventfd of its interrupt.
    pub fn interrupt(&self) -> &EventFd {
        &self.interrupt
    }

    /// The guest reads register `offset`.
    pub fn read(&mut self, offset: u8) -> u8 {
        let value = self.uart.read(offset);
        self.feed();
        value
    }

    /// The guest writes register `offset`.
    pub fn write(&mut self, offset: u8, value: u8) {
        // The ring takes everything, and a full interrupt counter means the interrupt is on its way.
        let _ = self.uart.write(offset, value);
    }

    /// Someone types.
    pub fn type_in(&mut self, bytes: &[u8]) {
        let room = MAX_INPUT - self.typed.len();
        self.typed.extend(bytes.iter().take(room));
        self.feed();
    }

    /// Registers, FIFO and what is typed but not yet taken.
    #[must_use]
    pub fn save(&self) -> SavedSerial {
        let state = self.uart.state();
        SavedSerial {
            divisor: [state.baud_divisor_low, state.baud_divisor_high],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            fifo: state.in_buffer,
            typed: self.typed.iter().copied().collect(),
        }
    }

    /// Takes up a saved state; what is pending interrupts again.
    pub fn load(&mut self, saved: SavedSerial) -> Result<(), state::Error> {
        let invalid = |problem| state::Error::Invalid { kind: SavedSerial::KIND.into(), id: 0, problem };
        if saved.typed.len() > MAX_INPUT {
            return Err(invalid(format!("{} typed bytes", saved.typed.len())));
        }
        let [baud_divisor_low, baud_divisor_high] = saved.divisor;
        let state = SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable: saved.interrupt_enable,
            interrupt_identification: saved.interrupt_identification,
            line_control: saved.line_control,
            line_status: saved.line_status,
            modem_control: saved.modem_control,
            modem_status: saved.modem_status,
            scratch: saved.scratch,
            in_buffer: saved.fifo,
        };
        let interrupt = Interrupt(Arc::clone(&self.interrupt));
        self.uart = Uart::from_state(&state, interrupt, NoEvents, self.output.clone())
            .map_err(|error| invalid(format!("{error:?}")))?;
        self.typed = saved.typed.into();
        Ok(())
    }

    /// Back to power-on; what was typed is forgotten.
    pub fn reset(&mut self) {
        self.typed.clear();
        self.uart = Uart::new(Interrupt(Arc::clone(&self.interrupt)), self.output.clone());
        let _ = self.interrupt.read();
    }

    /// Moves typed bytes into the FIFO. Only into an empty one: refilling behind every byte the guest takes would keep
    /// its interrupt handler busy for as long as something is typed.
    fn feed(&mut self) {
        if self.typed.is_empty() || self.uart.fifo_capacity() < FIFO {
            return;
        }
        let (front, _) = self.typed.as_slices();
        let count = front.len().min(FIFO);
        match self.uart.enqueue_raw_bytes(&front[..count]) {
            Ok(taken) => drop(self.typed.drain(..taken)),
            // The FIFO was empty, so this is the interrupt that could not be raised; the bytes are in.
            Err(_) => drop(self.typed.drain(..count)),
        }
    }
}

/// Bytes the emulated FIFO holds.
const FIFO: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Console;

    #[test]
    fn output_reaches_the_console_and_input_the_guest_in_order() {
        let console = Console::new().unwrap();
        let mut serial = Serial::new(console.output()).unwrap();
        b"hello".iter().for_each(|b| serial.write(0, *b));
        assert_eq!(console.output().since(0).1, b"hello");
        let typed: Vec<u8> = (0..200).collect();
        serial.write(1, 1);
        serial.type_in(&typed);
        let mut got = Vec::new();
        while serial.read(5) & 1 != 0 {
            got.push(serial.read(0));
        }
        assert_eq!(got, typed);
        assert!(serial.interrupt().read().is_ok());
    }

    #[test]
    fn what_is_typed_too_much_is_dropped_and_a_reset_forgets() {
        let console = Console::new().unwrap();
        let mut serial = Serial::new(console.output()).unwrap();
        serial.type_in(&vec![1; 3 * MAX_INPUT]);
        serial.type_in(&[2]);
        assert!(serial.typed.len() <= MAX_INPUT);
        serial.reset();
        assert_eq!(serial.read(5) & 1, 0);
    }
}
