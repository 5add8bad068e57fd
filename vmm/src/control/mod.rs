//! The control thread: one epoll loop over the control socket, the console, signals and what the guest does.
//!
//! It never waits for the machine, whose disks may hang: the [`operator`] does what may take long, and this loop goes on
//! answering. A client, whatever it sends or does not read, costs the
//! guest nothing: input lines are bounded, output is queued up to a bound, then the client is dropped.

pub mod ask;
mod client;
pub(crate) mod hub;
mod leased;
mod operator;
pub mod passing;
mod plugging;
mod server;

use client::Client;
pub use client::{MAX_LINE, parse};
pub use leased::Leased;
pub use operator::Begin;
pub(crate) use operator::Ticket;
pub use server::{Attached, Server, Sources};

/// What the loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    ControlSocket,
    ConsoleSocket,
    Guest,
    Console,
    Signal,
    Operator,
    Lease,
    Watchdog,
    /// A client, by its number.
    Client(u64),
}

impl Token {
    fn encode(self) -> u64 {
        match self {
            Self::ControlSocket => 0,
            Self::ConsoleSocket => 1,
            Self::Guest => 2,
            Self::Console => 3,
            Self::Signal => 4,
            Self::Operator => 5,
            Self::Lease => 6,
            Self::Watchdog => 7,
            Self::Client(number) => number + FIRST_CLIENT,
        }
    }

    fn decode(data: u64) -> Self {
        match data {
            0 => Self::ControlSocket,
            1 => Self::ConsoleSocket,
            2 => Self::Guest,
            3 => Self::Console,
            4 => Self::Signal,
            5 => Self::Operator,
            6 => Self::Lease,
            7 => Self::Watchdog,
            number => Self::Client(number - FIRST_CLIENT),
        }
    }
}

const FIRST_CLIENT: u64 = 8;
