//! Descriptors beside bytes on a Unix socket (`SCM_RIGHTS`).

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

/// Most descriptors taken with one message; more are closed by the kernel.
pub const MOST: usize = 16;
/// Room for them, in the alignment of a control message.
const ROOM: usize = 12;

/// Receives bytes into `buffer` (0: the other side has closed) and appends the descriptors that came along to `descriptors`.
///
/// # Errors
/// As of `recvmsg`; a signal is not one.
pub fn receive(stream: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut control = [0_u64; ROOM];
    let mut data = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let (count, message) = loop {
        // SAFETY: a message of zeros is valid; its pointers are to `data` and `control`, which outlive the call, with
        // their lengths.
        let (count, message) = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut data;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE((MOST * size_of::<RawFd>()) as u32) as _;
            (libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC), message)
        };
        match usize::try_from(count) {
            Ok(count) => break (count, message),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    // SAFETY: the kernel has written whole control messages into `control`; each descriptor in them is new and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(header).cast::<RawFd>();
                for n in 0..bytes / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(first.add(n).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(count)
}

/// Sends all of `bytes`, with `descriptors`, at most [`MOST`], beside the first of them.
///
/// # Errors
/// As of `sendmsg`.
pub fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    use std::io::Write;
    if descriptors.is_empty() {
        // Most threads may write and not pass descriptors.
        return (&*stream).write_all(bytes);
    }
    let sent = send_some(stream, bytes, descriptors)?;
    (&*stream).write_all(bytes.get(sent..).unwrap_or_default())
}

/// Sends what the socket takes of `bytes`, at least one, with all of `descriptors` beside the first; how many bytes.
///
/// # Errors
/// As of `sendmsg`: nothing was sent.
pub fn send_some(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if descriptors.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let room = size_of_val(descriptors) as u32;
    let mut control = [0_u64; ROOM];
    let mut data = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: as in `receive`; the one control message is written inside `control`, which has room for it.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        if !descriptors.is_empty() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(room) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(room) as _;
            let first = libc::CMSG_DATA(header).cast::<RawFd>();
            for (n, descriptor) in descriptors.iter().enumerate() {
                first.add(n).write_unaligned(descriptor.as_raw_fd());
            }
        }
        libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Seek, Write},
        os::fd::AsFd,
    };

    #[test]
    fn a_descriptor_arrives_with_its_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        file.rewind().unwrap();
        send(&ours, b"take it", &[file.as_fd(), file.as_fd()]).unwrap();
        let (mut buffer, mut descriptors) = ([0; 100], Vec::new());
        assert_eq!(receive(&theirs, &mut buffer, &mut descriptors).unwrap(), 7);
        let mut text = String::new();
        File::from(descriptors.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("inside", 1));
        descriptors.clear();
        drop(ours);
        assert_eq!(receive(&theirs, &mut buffer, &mut descriptors).unwrap(), 0);
    }
}
