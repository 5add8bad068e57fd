//! One connection between a guest's port and a stream of the host.
//!
//! ```text
//!  host asks  ─▶ Asked ── Response ──▶ Open ── both directions have ended, or Reset ─▶ over
//!                  └── Reset, too late ─▶ over
//!  guest asks ─▶ Open
//! ```
//! Both ends hold at most what they said they would: the guest's bytes wait here, at most [`BUFFER`] of them; the host's are
//! read only as far as the guest has room. Invariant: `sent` is never more than a buffer ahead of what the guest has passed on.

use super::{
    packet::{FromGuest, MAX_PAYLOAD, NO_RECEIVE, NO_SEND, Op, Room},
    stream::{self, Got},
};
use std::{
    collections::VecDeque,
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// Bytes of the guest that wait for the host at most.
pub(super) const BUFFER: u32 = 64 << 10;
/// How long the other side has to take a connection, or to let go of one that has ended.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be told the guest about a connection, besides payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owed {
    request: bool,
    response: bool,
    shutdown: bool,
    credit: bool,
    credit_request: bool,
}

/// A connection.
pub(super) struct Connection {
    stream: UnixStream,
    /// The guest has taken it.
    open: bool,
    /// Until when something must happen.
    deadline: Option<Instant>,
    owed: Owed,
    /// What the guest sent and the host has not taken yet.
    waiting: VecDeque<u8>,
    /// Bytes passed on to the host, and the number last told.
    forwarded: u32,
    told: u32,
    /// Bytes sent to the guest, and the room it has.
    sent: u32,
    guest: Room,
    /// May be read, or written, as far as is known.
    readable: bool,
    writable: bool,
    /// Directions that have ended: what the host sends, what the guest sends, what the guest receives.
    host_sent_all: bool,
    guest_sent_all: bool,
    guest_deaf: bool,
    /// The host is gone altogether.
    host_gone: bool,
}

/// What a connection has for the guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// A packet without payload: op and flags.
    Word(Op, u32),
    /// So many bytes, read into the buffer.
    Data(usize),
    /// Nothing for now.
    Nothing,
    /// It is over: a reset is the last that is said.
    Over,
}

/// What becomes of a connection after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes on.
    Keep,
    /// It is over, and the guest is told so.
    Reset,
    /// It is over; the guest said so itself.
    Forget,
}

impl Connection {
    /// The host asks for it, on `stream`.
    pub(super) fn asked_by_host(stream: UnixStream, now: Instant) -> Self {
        let mut connection = Self::new(stream, Room::default());
        connection.owed.request = true;
        connection.deadline = Some(now + PATIENCE);
        connection
    }

    /// The guest asks for it, and it is given `stream`; its host is told.
    pub(super) fn asked_by_guest(stream: UnixStream, packet: &FromGuest) -> Self {
        let mut connection = Self::new(stream, packet.room);
        connection.open = true;
        connection.owed.response = true;
        connection.greet(packet.ports.guest);
        connection
    }

    fn new(stream: UnixStream, guest: Room) -> Self {
        Self {
            stream,
            open: false,
            deadline: None,
            owed: Owed::default(),
            waiting: VecDeque::new(),
            forwarded: 0,
            told: 0,
            sent: 0,
            guest,
            // Tried once, then told by the kernel.
            readable: true,
            writable: true,
            host_sent_all: false,
            guest_sent_all: false,
            guest_deaf: false,
            host_gone: false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Tells the host which port it is connected to; these bytes are not the guest's and count for nothing.
    fn greet(&mut self, port: u32) {
        let line = format!("OK {port}\n");
        match stream::send(&self.stream, line.as_bytes()) {
            Got::Bytes(count) if count == line.len() => {}
            // A stream that does not even take that is gone.
            _ => self.host_gone = true,
        }
    }

    /// Bytes the guest has room for.
    fn credit(&self) -> u32 {
        self.guest.buffer.saturating_sub(self.sent.wrapping_sub(self.guest.forwarded))
    }

    /// The room here, to be told with every packet.
    pub(super) fn room(&mut self) -> Room {
        self.told = self.forwarded;
        self.owed.credit = false;
        Room { buffer: BUFFER, forwarded: self.forwarded }
    }

    /// The kernel says what can be done with the stream.
    pub(super) fn ready(&mut self, readable: bool, writable: bool, gone: bool) {
        self.readable |= readable || gone;
        self.writable |= writable || gone;
        if writable {
            self.flush();
        }
    }

    /// The guest has sent a packet, and `payload` with it.
    pub(super) fn take(&mut self, packet: &FromGuest, payload: &[u8], now: Instant) -> Then {
        self.guest = packet.room;
        match (packet.op, self.open) {
            (Some(Op::Response), false) => {
                (self.open, self.deadline) = (true, None);
                self.greet(packet.ports.host);
            }
            (Some(Op::Reset), _) => return Then::Forget,
            (Some(Op::Data), true) if !self.guest_sent_all => return self.data(payload),
            (Some(Op::CreditUpdate), true) => {}
            (Some(Op::CreditRequest), true) => self.owed.credit = true,
            (Some(Op::Shutdown), true) => {
                self.guest_sent_all |= packet.flags & NO_SEND != 0;
                self.guest_deaf |= packet.flags & NO_RECEIVE != 0;
                if self.guest_deaf && !self.host_sent_all {
                    // What the host still sends goes nowhere; it learns of it when it sends. Fails where it is gone.
                    let _ = self.stream.shutdown(Shutdown::Read);
                }
                if self.guest_sent_all && self.guest_deaf {
                    self.deadline = Some(now + PATIENCE);
                }
                self.flush();
            }
            _ => return Then::Reset,
        }
        if self.is_over() { Then::Reset } else { Then::Keep }
    }

    fn data(&mut self, payload: &[u8]) -> Then {
        let room = BUFFER as usize - self.waiting.len();
        if payload.len() > room {
            // The guest knows how much there was.
            return Then::Reset;
        }
        self.waiting.extend(payload);
        self.flush();
        // A host that is gone takes nothing more.
        if self.is_over() || self.host_gone { Then::Reset } else { Then::Keep }
    }

    /// Passes on what waits for the host.
    fn flush(&mut self) {
        while self.writable && !self.waiting.is_empty() {
            let (front, _) = self.waiting.as_slices();
            match stream::send(&self.stream, front) {
                Got::Bytes(count) => {
                    drop(self.waiting.drain(..count));
                    self.forwarded = self.forwarded.wrapping_add(count as u32);
                }
                Got::Later => self.writable = false,
                Got::End => {
                    self.host_gone = true;
                    self.waiting.clear();
                }
            }
        }
        // Told before the guest's view of the room here is half used up.
        self.owed.credit |= self.forwarded.wrapping_sub(self.told) >= BUFFER / 2;
        if self.guest_sent_all && self.waiting.is_empty() {
            // Fails where the host is gone, or was told before.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Nothing can go either way any more.
    fn is_over(&self) -> bool {
        let guest_done = self.guest_sent_all && self.waiting.is_empty();
        guest_done && (self.guest_deaf || self.host_sent_all) || (self.host_gone && !self.open)
    }

    /// What there is for the guest next; payload is read into `buffer`, as much as fits it.
    pub(super) fn next(&mut self, buffer: &mut [u8], now: Instant) -> Outgoing {
        if self.deadline.is_some_and(|deadline| deadline <= now) || self.is_over() {
            return Outgoing::Over;
        }
        if std::mem::take(&mut self.owed.request) {
            return Outgoing::Word(Op::Request, 0);
        }
        if !self.open {
            return Outgoing::Nothing;
        }
        if std::mem::take(&mut self.owed.response) {
            return Outgoing::Word(Op::Response, 0);
        }
        if let Some(count) = self.read(buffer, now) {
            return Outgoing::Data(count);
        }
        if std::mem::take(&mut self.owed.shutdown) {
            let deaf = if self.host_gone { NO_RECEIVE } else { 0 };
            return Outgoing::Word(Op::Shutdown, NO_SEND | deaf);
        }
        if self.owed.credit {
            return Outgoing::Word(Op::CreditUpdate, 0);
        }
        if std::mem::take(&mut self.owed.credit_request) {
            return Outgoing::Word(Op::CreditRequest, 0);
        }
        Outgoing::Nothing
    }

    /// Reads what the host sends, as far as the guest has room.
    fn read(&mut self, buffer: &mut [u8], now: Instant) -> Option<usize> {
        if !self.readable || self.host_sent_all || self.guest_deaf {
            return None;
        }
        let credit = self.credit() as usize;
        let most = credit.min(MAX_PAYLOAD).min(buffer.len());
        let part = buffer.get_mut(..most).filter(|part| !part.is_empty())?;
        match stream::receive(&self.stream, part) {
            Got::Bytes(count) => {
                self.sent = self.sent.wrapping_add(count as u32);
                // A guest that only reads is asked how it fares before it is full.
                self.owed.credit_request = self.credit() < self.guest.buffer / 4;
                Some(count)
            }
            Got::Later => {
                self.readable = false;
                None
            }
            Got::End => {
                (self.host_sent_all, self.owed.shutdown) = (true, true);
                if self.host_gone || stream::is_gone(&self.stream) {
                    self.host_gone = true;
                    self.deadline = Some(now + PATIENCE);
                }
                None
            }
        }
    }
}
