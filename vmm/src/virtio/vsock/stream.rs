//! Streams of the host: what comes without waiting.

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
};

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Not now.
    Later,
    /// No more, for good.
    End,
}

fn got(result: isize) -> Option<Got> {
    match usize::try_from(result) {
        Ok(0) => Some(Got::End),
        Ok(count) => Some(Got::Bytes(count)),
        Err(_) => match io::Error::last_os_error().kind() {
            io::ErrorKind::Interrupted => None,
            io::ErrorKind::WouldBlock => Some(Got::Later),
            _ => Some(Got::End),
        },
    }
}

fn receive_with(stream: &UnixStream, buffer: &mut [u8], flags: libc::c_int) -> Got {
    loop {
        // SAFETY: `buffer` is valid for writes of its length.
        let result = unsafe {
            let flags = flags | libc::MSG_DONTWAIT;
            libc::recv(stream.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags)
        };
        if let Some(got) = got(result) {
            return got;
        }
    }
}

/// Receives into `buffer`, which is not empty.
pub(super) fn receive(stream: &UnixStream, buffer: &mut [u8]) -> Got {
    receive_with(stream, buffer, 0)
}

/// As [`receive`], and leaves the bytes where they are.
pub(super) fn peek(stream: &UnixStream, buffer: &mut [u8]) -> Got {
    receive_with(stream, buffer, libc::MSG_PEEK)
}

/// Sends what it takes of `bytes`, which are not empty.
pub(super) fn send(stream: &UnixStream, bytes: &[u8]) -> Got {
    loop {
        // SAFETY: `bytes` is valid for reads of its length.
        let result = unsafe {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            libc::send(stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags)
        };
        if let Some(got) = got(result) {
            return got;
        }
    }
}

/// The other side has closed it, not only said that it sends no more.
pub(super) fn is_gone(stream: &UnixStream) -> bool {
    let mut poll = libc::pollfd { fd: stream.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one valid pollfd that lives through the call, which does not wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR) != 0 }
}
