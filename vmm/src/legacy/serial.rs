//! COM1: a 16550 whose line ends at the console hub.
//!
//! Output never blocks: it goes into the hub's ring. Input waits in [`Serial::type_in`]'s queue until the guest has room
//! in its 64-byte FIFO. Bytes typed beyond [`MAX_INPUT`] are dropped, as on a line without flow control.

use crate::console::Output;
use std::{collections::VecDeque, io, sync::Arc};
use vm_superio::{Trigger, serial::NoEvents};
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
