//! The channel to a back end (vhost-user specification, "Message Specification"): requests and answers one after another on a
//! Unix socket, in the host's byte order, each within a time.
//!
//! The words are those of the `vhost` crate. Its own channel is not used: it waits for an answer for as long as that takes, and
//! whoever waits here keeps a guest standing.
//!
//! Invariants: what a back end says is looked at before it is used; after an error the channel is not used any more, because an
//! answer may still be on its way.

use crate::control::passing;
use std::{
    io::{self, Read},
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};
use vhost::vhost_user::message::FrontendReq;
use vm_memory::ByteValued;

/// How long the answers to all that is asked in one go may take: to greet, to start, to stop. A queue that is stopped finishes
/// what is under way before.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take until a back end listens: it may just have been started.
const COME_UP: Duration = Duration::from_secs(10);
/// Bytes of a header.
const HEADER: usize = 12;
/// More no message has.
const MOST: usize = vhost::vhost_user::message::MAX_MSG_SIZE;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// Why a back end cannot be used, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody at the socket.
    #[error("cannot connect to the back end at {path}; is it running?")]
    Connect {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The socket failed, or its other end was closed.
    #[error("the back end cannot be reached any more ({request:?})")]
    Channel {
        /// What it was asked.
        request: FrontendReq,
        /// Why.
        source: io::Error,
    },
    /// It does not answer.
    #[error("the back end did not answer {request:?} within {} ms", patience.as_millis())]
    Silent {
        /// What it was asked.
        request: FrontendReq,
        /// So long.
        patience: Duration,
    },
    /// Its answer makes no sense.
    #[error("the back end answered {request:?} with {problem}")]
    Answer {
        /// What it was asked.
        request: FrontendReq,
        /// In words.
        problem: String,
    },
    /// It said that it could not.
    #[error("the back end refused {request:?} (error {code})")]
    Refused {
        /// What it was asked.
        request: FrontendReq,
        /// Its word for why.
        code: u64,
    },
    /// It is not one for such a device.
    #[error("the back end cannot be used: {0}")]
    Unsuitable(String),
    /// It closed the socket, or spoke without being asked.
    #[error("the back end {0}")]
    Gone(&'static str),
    /// The host failed.
    #[error("cannot wait for the back end")]
    Host(#[from] io::Error),
}

/// The channel.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    patience: Duration,
    /// When what is asked now is to be answered.
    deadline: Instant,
    /// Every request is answered, if only by whether it was carried out.
    confirmed: bool,
}

impl Channel {
    /// Connects to the back end that listens at `path`, or will within some seconds.
    pub(super) fn connect(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Connect { path: path.display().to_string(), source };
        let deadline = Instant::now() + COME_UP;
        let stream = loop {
            match UnixStream::connect(path) {
                // Not there yet; or there, and not listening yet.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
                        && Instant::now() < deadline =>
                {
                    thread::sleep(Duration::from_millis(10));
                }
                result => break result.map_err(failed)?,
            }
        };
        Self::over(stream, PATIENCE).map_err(failed)
    }

    /// Over a connected socket.
    pub(super) fn over(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream, patience, deadline: Instant::now() + patience, confirmed: false })
    }

    /// Something else is asked for from now on: time begins anew.
    pub(super) fn renew(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    /// From now on every request is answered (protocol feature REPLY_ACK).
    pub(super) fn confirm(&mut self) {
        self.confirmed = true;
    }

    /// Says `request`; where that was agreed, waits until it is carried out.
    pub(super) fn tell(
        &mut self,
        request: FrontendReq,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let flags = if self.confirmed { NEED_REPLY } else { 0 };
        self.send(request, flags, body, descriptors)?;
        if !self.confirmed {
            return Ok(());
        }
        match self.value::<u64>(request)? {
            0 => Ok(()),
            code => Err(Error::Refused { request, code }),
        }
    }

    /// Says `request`; returns its answer, of `T`'s length.
    pub(super) fn ask<T: ByteValued + Default>(
        &mut self,
        request: FrontendReq,
        body: &[u8],
    ) -> Result<T, Error> {
        self.send(request, 0, body, &[])?;
        self.value(request)
    }

    /// Says `request`; returns its answer, of `length` bytes.
    pub(super) fn ask_bytes(
        &mut self,
        request: FrontendReq,
        body: &[u8],
        length: usize,
    ) -> Result<Vec<u8>, Error> {
        self.send(request, 0, body, &[])?;
        self.answer(request, length)
    }

    fn send(
        &self,
        request: FrontendReq,
        flags: u32,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let header = [u32::from(request), VERSION | flags, body.len() as u32];
        let header: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
        // With the first byte of a message come its descriptors.
        passing::send(&self.stream, &[&header, body].concat(), descriptors).map_err(|source| {
            match source.kind() {
                io::ErrorKind::WouldBlock => Error::Silent { request, patience: self.patience },
                _ => Error::Channel { request, source },
            }
        })
    }

    fn value<T: ByteValued + Default>(&mut self, request: FrontendReq) -> Result<T, Error> {
        let mut value = T::default();
        let bytes = self.answer(request, size_of::<T>())?;
        value.as_mut_slice().iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(value)
    }

    fn answer(&mut self, request: FrontendReq, length: usize) -> Result<Vec<u8>, Error> {
        let mut header = [0; HEADER];
        self.receive(request, &mut header)?;
        let [a0, a1, a2, a3, f0, f1, f2, f3, s0, s1, s2, s3] = header;
        let code = u32::from_ne_bytes([a0, a1, a2, a3]);
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let size = u32::from_ne_bytes([s0, s1, s2, s3]) as usize;
        let wrong = |problem| Err(Error::Answer { request, problem });
        if code != u32::from(request) || flags & REPLY == 0 || flags & VERSION_MASK != VERSION {
            return wrong(format!("another message ({code}, flags {flags:#x})"));
        }
        if size != length || size > MOST {
            return wrong(format!("{size} bytes, not {length}"));
        }
        let mut body = vec![0; size];
        self.receive(request, &mut body)?;
        Ok(body)
    }

    fn receive(&mut self, request: FrontendReq, mut buffer: &mut [u8]) -> Result<(), Error> {
        let failed = |source| Error::Channel { request, source };
        while !buffer.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            // Descriptors nobody asked for are closed by the kernel: there is no room for them.
            match readable(self.stream.as_raw_fd(), left).and_then(|ready| {
                let read = || (&self.stream).read(buffer);
                ready.then(read).transpose()
            }) {
                Ok(None) => return Err(Error::Silent { request, patience: self.patience }),
                Ok(Some(0)) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(Some(count)) => buffer = buffer.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Waits until there is something to read; false: the time is over.
fn readable(fd: RawFd, within: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let millis = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `poll` is one valid pollfd that lives through the call.
    match unsafe { libc::poll(&raw mut poll, 1, millis) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}
