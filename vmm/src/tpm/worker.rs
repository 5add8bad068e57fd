//! The TPM's own thread: hands commands on and takes answers, so that a TPM that is slow holds nobody but who waits for it.

use super::{
    Shared,
    crb::{BUFFER_BYTES, HEADER, stated_length},
};
use std::{
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
};

/// Until the machine ends or the TPM fails.
pub(super) fn work(shared: &Shared, mut data: &UnixStream) {
    // What has come of the answer to the command that is on its way.
    let mut flight: Option<Vec<u8>> = None;
    let end = loop {
        if flight.is_none()
            && let Some(command) = shared.take_job()
        {
            if let Err(error) = data.write_all(&command) {
                break format!("it takes no command: {error}");
            }
            flight = Some(Vec::new());
        }
        let (woken, said) = match wait(shared, data) {
            Ok(ready) => ready,
            Err(error) => break format!("cannot wait for it: {error}"),
        };
        if woken {
            // Fails only when there was no signal.
            let _ = shared.wake.read();
            if shared.is_ended() {
                return;
            }
            if shared.take_cancel()
                && flight.is_some()
                && let Err(error) = shared.control().cancel()
            {
                break crate::exit::chain(&error);
            }
        }
        if said {
            match answer(&mut flight, data) {
                Ok(None) => {}
                Ok(Some(answer)) => shared.answered(&answer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break format!("it gives no answer: {error}"),
            }
        }
    };
    if !shared.is_ended() {
        shared.fail(&end);
    }
}

/// Waits until somebody calls or the TPM says something; which of them.
fn wait(shared: &Shared, data: &UnixStream) -> io::Result<(bool, bool)> {
    let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polls = [poll(shared.wake.as_raw_fd()), poll(data.as_raw_fd())];
    // SAFETY: two valid pollfds.
    if unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok((false, false)) } else { Err(error) };
    }
    let [woken, said] = polls.map(|poll| poll.revents != 0);
    Ok((woken, said))
}

/// Takes what the TPM says; the answer when that is whole.
fn answer(flight: &mut Option<Vec<u8>>, mut data: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    let mut bytes = [0; BUFFER_BYTES];
    let count = data.read(&mut bytes)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = flight.as_mut().ok_or_else(|| invalid("it answers what nobody asked"))?;
    answer.extend(bytes.iter().take(count));
    let came = answer.len();
    let Some(length) = stated_length(answer) else { return Ok(None) };
    if !(HEADER..=BUFFER_BYTES).contains(&length) || came > length {
        return Err(invalid("its answer has not the length it says"));
    }
    Ok(if came == length { flight.take() } else { None })
}
