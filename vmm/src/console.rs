//! The guest's serial line: a ring of what it wrote, and the clients that read it and type.
//!
//! ```text
//!  vCPU ─ Output::write ─▶ ring ◀─ position ─ client ─▶ socket
//!                           └─ wakes the control thread, at most once per PACE
//! ```
//! The ring counts every byte ever written; a client is a position in that count. So a slow client costs the guest
//! nothing: it falls behind, and when the ring has overwritten what it had not read, it goes on at the oldest byte kept.
//! A new client starts at the oldest byte kept.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Bytes of scroll-back.
pub const RING: usize = 256 << 10;
/// Bytes moved to or from one client before another has its turn.
const TURN: usize = 16 << 10;
/// While the guest writes, clients get its output at this pace: a byte each would cost more than the byte.
pub const PACE: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Ring {
    /// Grows up to [`RING`] as the guest writes, then is written round.
    bytes: Vec<u8>,
    /// Bytes ever written.
    written: u64,
}

impl Ring {
    fn push(&mut self, data: &[u8]) {
        for &byte in data {
            let at = (self.written % RING as u64) as usize;
            match self.bytes.get_mut(at) {
                Some(old) => *old = byte,
                None => self.bytes.push(byte),
            }
            self.written += 1;
        }
    }

    /// The oldest byte kept.
    fn start(&self) -> u64 {
        self.written - self.bytes.len() as u64
    }

    /// At most [`TURN`] bytes from `position` on, and the position they really start at.
    fn since(&self, position: u64) -> (u64, Vec<u8>) {
        let from = position.clamp(self.start(), self.written);
        let count = (self.written - from).min(TURN as u64) as usize;
        let at = (from % RING as u64) as usize;
        let (round, straight) = self.bytes.split_at(at.min(self.bytes.len()));
        let mut bytes = Vec::with_capacity(count);
        bytes.extend(straight.iter().chain(round).take(count));
        (from, bytes)
    }
}

struct Shared {
    ring: Mutex<Ring>,
    /// The control thread was woken, or will look by itself.
    woken: AtomicBool,
    event: EventFd,
}

/// The guest's end of the line; cheap to clone.
#[derive(Clone)]
pub struct Output(Arc<Shared>);

impl Output {
    /// At most 16 KiB from `position` (counted from the first byte ever written) or the oldest byte kept, whichever is
    /// later, and the position they start at.
    pub fn since(&self, position: u64) -> (u64, Vec<u8>) {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner).since(position)
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner).push(data);
        if !self.0.woken.swap(true, Ordering::SeqCst) {
            self.0.event.write(1)?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The console as the control thread serves it.
pub struct Console {
    shared: Arc<Shared>,
    /// Bytes written when it last looked.
    seen: u64,
}

impl Console {
    /// Nothing written yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared {
                ring: Mutex::default(),
                woken: AtomicBool::new(false),
                event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            }),
            seen: 0,
        })
    }

    /// The guest's end.
    #[must_use]
    pub fn output(&self) -> Output {
        Output(Arc::clone(&self.shared))
    }

    /// Readable when the guest writes after a silence.
    pub fn event(&self) -> &EventFd {
        &self.shared.event
    }

    /// The control thread is about to serve all clients. True: the guest wrote since the last look, so look again after
    /// [`PACE`]; false: wait for [`Console::event`].
    pub fn look(&mut self) -> bool {
        let _ = self.shared.event.read();
        self.shared.woken.store(false, Ordering::SeqCst);
        let written = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner).written;
        let news = written != self.seen;
        self.seen = written;
        if news {
            self.shared.woken.store(true, Ordering::SeqCst);
        }
        news
    }
}

/// One connection to the console socket.
pub struct Client {
    stream: UnixStream,
    output: Output,
    position: u64,
}

/// What a client wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// To be told when the guest writes: it has everything.
    Output,
    /// To be told when its socket takes more.
    Room,
    /// Nothing: it is gone.
    Closed,
}

impl Client {
    /// A new connection, at the begin of the scroll-back.
    pub fn new(stream: UnixStream, output: Output) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, output, position: 0 })
    }

    /// Sends what it has not seen, as far as its socket takes it.
    pub fn send(&mut self) -> Wants {
        loop {
            let (from, bytes) = self.output.since(self.position);
            self.position = from;
            if bytes.is_empty() {
                return Wants::Output;
            }
            match self.stream.write(&bytes) {
                Ok(0) => return Wants::Closed,
                Ok(count) => self.position += count as u64,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Wants::Room,
                    io::ErrorKind::Interrupted => {}
                    _ => return Wants::Closed,
                },
            }
        }
    }

    /// Takes what was typed. `None`: the connection is gone.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut typed = vec![0; TURN];
        match self.stream.read(&mut typed) {
            Ok(0) => None,
            Ok(count) => {
                typed.truncate(count);
                Some(typed)
            }
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted).then(Vec::new)
            }
        }
    }
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_ring_keeps_the_last_bytes(lengths in prop::collection::vec(0_usize..90_000, 0..12), from in any::<u32>()) {
            let mut ring = Ring::default();
            let mut all = Vec::new();
            for (i, length) in lengths.into_iter().enumerate() {
                let data: Vec<u8> = (0..length).map(|j| (i * 31 + j * 7) as u8).collect();
                ring.push(&data);
                all.extend(data);
            }
            let oldest = all.len().saturating_sub(RING) as u64;
            prop_assert_eq!(ring.start(), oldest);
            let (start, bytes) = ring.since(u64::from(from) % (all.len() as u64 + 10));
            prop_assert!(start >= oldest);
            prop_assert_eq!(&all[start as usize..start as usize + bytes.len()], &bytes[..]);
            prop_assert!(!bytes.is_empty() || start == all.len() as u64);
        }
    }

    #[test]
    fn a_client_that_does_not_read_costs_the_guest_nothing_and_goes_on_later() {
        let console = Console::new().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours, console.output()).unwrap();
        let mut output = console.output();
        output.write_all(b"early ").unwrap();
        for _ in 0..3 * RING / 1000 {
            output.write_all(&[b'.'; 1000]).unwrap();
        }
        assert_eq!(client.send(), Wants::Room);
        output.write_all(b"late").unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut seen = Vec::new();
        loop {
            let wants = client.send();
            let mut part = vec![0; 65536];
            while let Ok(count) = theirs.read(&mut part) {
                seen.extend_from_slice(&part[..count]);
            }
            if wants == Wants::Output {
                break;
            }
        }
        assert!(seen.ends_with(b"late"));
        drop(theirs);
        assert_eq!(client.receive(), None);
        output.write_all(b"x").unwrap();
        assert_eq!(client.send(), Wants::Closed);
    }

    #[test]
    fn the_control_thread_is_woken_once_until_it_finds_nothing_new() {
        let mut console = Console::new().unwrap();
        let mut output = console.output();
        output.write_all(b"a").unwrap();
        output.write_all(b"b").unwrap();
        assert_eq!(console.event().read().unwrap(), 1);
        assert!(console.look());
        output.write_all(b"c").unwrap();
        assert!(console.event().read().is_err(), "it looks again by itself");
        assert!(console.look());
        assert!(!console.look());
        output.write_all(b"d").unwrap();
        assert_eq!(console.event().read().unwrap(), 1);
    }
}
