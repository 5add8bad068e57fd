//! swtpm's control channel (its `tpm_ioctl.h`): requests and answers in big endian over a Unix socket, one after another.
//!
//! | request | is for |
//! |---|---|
//! | 1 capabilities | whether it is new enough |
//! | 2 init, 14 stop | power |
//! | 9 cancel | calling a command off |
//! | 12, 13 state | what it holds, out and in (only while it is stopped) |
//! | 16 data descriptor | where it takes commands |
//! | 17 buffer size | how long they may be |
//!
//! Invariant: after an error of the channel it is not used any more, because an answer may still be on its way.

use super::crb::BUFFER_BYTES;
use crate::control::passing;
use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How long an answer may take. swtpm looks here only between two commands, and to make a key takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take until it listens: it may just have been started.
const COME_UP: Duration = Duration::from_secs(10);
/// More than any state has.
pub const MOST_STATE: usize = 1 << 20;

const CAPABILITIES: u32 = 1;
const INIT: u32 = 2;
const CANCEL: u32 = 9;
const GET_STATE: u32 = 12;
const SET_STATE: u32 = 13;
const STOP: u32 = 14;
const SET_DATA: u32 = 16;
const SET_BUFFER: u32 = 17;

/// Of what was kept of a run that is to be gone on with, nothing stays behind.
const DELETE_VOLATILE: u32 = 1;
/// Init, cancel, state out and in, stop, data descriptor, buffer size.
const NEEDED: u64 = 1 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13;

/// The parts of a state, in the order they are numbered from 1.
pub const PARTS: [&str; 3] = ["permanent", "volatile", "saved"];
/// A state by its [`PARTS`].
pub type Parts = [Vec<u8>; 3];

/// Why a TPM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody at the socket.
    #[error("cannot connect to the TPM at {path}; is swtpm running there?")]
    Connect {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It does not speak as it should, or not any more.
    #[error("the TPM does not answer: cannot {what}")]
    Channel {
        /// What was asked.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It refused.
    #[error("the TPM refused to {what}: error {code:#x}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its result.
        code: u32,
    },
    /// It lacks something.
    #[error("the TPM's program cannot do all that is needed (it lacks {missing:#x}); use swtpm 0.7 or newer")]
    TooOld {
        /// Capabilities.
        missing: u64,
    },
    /// There is more of a state than can be.
    #[error("the TPM has {length} bytes of {part} state, at most {MOST_STATE} are taken")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length.
        length: usize,
    },
}

/// The channel.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
}

/// Connects as soon as somebody listens there.
fn come_up(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + COME_UP;
    loop {
        match UnixStream::connect(path) {
            // Not there yet; or there, and not listening yet.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

impl Control {
    /// Connects to the swtpm that listens at `path`, powers it off, and gives it a stream to take commands from; returns the
    /// other end.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn connect(path: &Path) -> Result<(Self, UnixStream), Error> {
        let failed = |source| Error::Connect { path: path.display().to_string(), source };
        let stream = come_up(path).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let (data, theirs) = UnixStream::pair().map_err(failed)?;
        data.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut control = Self { stream };
        const ASK: &str = "ask what it can do";
        control.send(ASK, CAPABILITIES, &[], &[])?;
        let can = u64::from_be_bytes(control.receive(ASK)?);
        if can & NEEDED != NEEDED {
            return Err(Error::TooOld { missing: NEEDED & !can });
        }
        const DATA: &str = "give it a stream for commands";
        control.send(DATA, SET_DATA, &[], &[theirs.as_fd()])?;
        control.result(DATA)?;
        control.stop()?;
        const SIZE: &str = "set the size of its buffer";
        control.ask(SIZE, SET_BUFFER, &words(&[BUFFER_BYTES as u32]))?;
        let size = word(&control.receive::<12>(SIZE)?);
        if size as usize > BUFFER_BYTES {
            let source = io::Error::other(format!("{size} bytes it is, {BUFFER_BYTES} are there"));
            return Err(Error::Channel { what: SIZE, source });
        }
        Ok((control, data))
    }

    fn send(
        &self,
        what: &'static str,
        request: u32,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        // At once: it takes a request for what it reads at once.
        let message = [&request.to_be_bytes()[..], body].concat();
        passing::send(&self.stream, &message, descriptors).map_err(|source| Error::Channel { what, source })
    }

    fn receive<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).map_err(|source| Error::Channel { what, source })?;
        Ok(bytes)
    }

    fn result(&mut self, what: &'static str) -> Result<(), Error> {
        match u32::from_be_bytes(self.receive(what)?) {
            0 => Ok(()),
            code => Err(Error::Refused { what, code }),
        }
    }

    fn ask(&mut self, what: &'static str, request: u32, body: &[u8]) -> Result<(), Error> {
        self.send(what, request, body, &[])?;
        self.result(what)
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.ask("switch it off", STOP, &[])
    }

    /// Off and on: what is kept without power stays.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn power_on(&mut self) -> Result<(), Error> {
        self.stop()?;
        self.ask("switch it on", INIT, &words(&[0]))
    }

    /// Calls off what it is at, if it can do that; no answer to the command is lost by it.
    ///
    /// # Errors
    /// Only those of the channel.
    pub fn cancel(&mut self) -> Result<(), Error> {
        match self.ask("call a command off", CANCEL, &[]) {
            Err(Error::Refused { .. }) => Ok(()),
            other => other,
        }
    }

    /// What it holds. It goes on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn state(&mut self) -> Result<Parts, Error> {
        let mut parts = Parts::default();
        for ((part, kind), name) in parts.iter_mut().zip(1..).zip(PARTS) {
            *part = self.part(kind, name)?;
        }
        Ok(parts)
    }

    fn part(&mut self, kind: u32, part: &'static str) -> Result<Vec<u8>, Error> {
        const WHAT: &str = "read its state";
        /// In the clear: it goes where the guest's memory goes.
        const DECRYPTED: u32 = 1;
        /// Such a part it has not.
        const NOT_THERE: u32 = 0x800;
        let mut state = Vec::new();
        loop {
            self.send(WHAT, GET_STATE, &words(&[DECRYPTED, kind, state.len() as u32]), &[])?;
            // All of it comes, whatever the result.
            let head: [u8; 16] = self.receive(WHAT)?;
            let code = word(&head);
            if code != 0 && code & NOT_THERE == 0 {
                return Err(Error::Refused { what: WHAT, code });
            }
            let (total, length) = (word(&head[8..]) as usize, word(&head[12..]) as usize);
            if total > MOST_STATE || length > MOST_STATE {
                return Err(Error::TooLong { part, length: total.max(length) });
            }
            let from = state.len();
            state.resize(from + length, 0);
            let room = state.get_mut(from..).unwrap_or_default();
            self.stream.read_exact(room).map_err(|source| Error::Channel { what: WHAT, source })?;
            if length == 0 || state.len() >= total {
                return Ok(state);
            }
        }
    }

    /// Has it hold `parts` from now on, in place of all it held, and goes on where that was.
    ///
    /// # Errors
    /// See [`Error`]; it must not be used then.
    pub fn set_state(&mut self, parts: &Parts) -> Result<(), Error> {
        self.stop()?;
        for (part, kind) in parts.iter().zip(1..).filter(|(part, _)| !part.is_empty()) {
            let head = words(&[0, kind, part.len() as u32]);
            self.ask("write its state", SET_STATE, &[head, part.clone()].concat())?;
        }
        self.ask("go on with its state", INIT, &words(&[DELETE_VOLATILE]))
    }
}
