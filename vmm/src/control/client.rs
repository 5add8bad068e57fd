//! One connection to the control socket: lines in, lines out, never blocking.

use super::passing;
use lq_api::local::vmm::{Outcome, Request, Response, VERSION};
use serde::Serialize;
use std::{
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

/// Longest request, in bytes.
pub const MAX_LINE: usize = 64 << 10;
/// Bytes that may wait for a client that does not read.
const MAX_QUEUE: usize = 1 << 20;
/// Descriptors that may wait for their request.
const MAX_DESCRIPTORS: usize = passing::MOST;
/// Bytes read at once.
const TURN: usize = 4096;

/// A connection.
pub(crate) struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Descriptors that came, oldest first, for the requests they came with.
    descriptors: Vec<OwnedFd>,
    pub(crate) subscribed: bool,
    closed: bool,
}

impl Client {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            descriptors: Vec::new(),
            subscribed: false,
            closed: false,
        })
    }

    /// Takes what has come and returns its whole lines as requests or as what is wrong with them.
    pub(crate) fn receive(&mut self) -> Vec<Result<Request, Box<Response>>> {
        let mut part = [0; TURN];
        match passing::receive(&self.stream, &mut part, &mut self.descriptors) {
            Ok(0) => self.closed = true,
            Ok(count) => self.input.extend(part.iter().take(count)),
            Err(error) if retry(&error) => {}
            Err(_) => self.closed = true,
        }
        let mut requests = Vec::new();
        while let Some(end) = self.input.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = line.trim_ascii();
            if !line.is_empty() {
                requests.push(parse(line));
            }
        }
        if self.input.len() > MAX_LINE {
            requests.push(Err(refusal(0, format!("a request is at most {MAX_LINE} bytes long"))));
            self.input.clear();
            self.closed = true;
        }
        self.descriptors.truncate(MAX_DESCRIPTORS);
        requests
    }

    /// The descriptors that came with a request, at most `count`.
    pub(crate) fn take_descriptors(&mut self, count: usize) -> Vec<OwnedFd> {
        self.descriptors.drain(..count.min(self.descriptors.len())).collect()
    }

    /// Queues a message and sends what can be sent.
    pub(crate) fn send(&mut self, message: &impl Serialize) {
        match serde_json::to_vec(message) {
            Ok(line) => {
                self.output.extend(line);
                self.output.push(b'\n');
            }
            Err(error) => eprintln!("lq-vmm: cannot encode an answer: {error}"),
        }
        self.flush();
        if self.output.len() > MAX_QUEUE {
            self.closed = true;
        }
    }

    /// Sends what can be sent.
    pub(crate) fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return self.closed = true,
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if retry(&error) => return,
                Err(_) => return self.closed = true,
            }
        }
    }

    /// It waits for room in its socket.
    pub(crate) fn wants_room(&self) -> bool {
        !self.output.is_empty()
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed
    }
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn refusal(id: u64, reason: String) -> Box<Response> {
    Box::new(Response { id, outcome: Outcome::Error(reason) })
}

/// Reads one line.
///
/// # Errors
/// It is no request: the answer to it.
pub fn parse(line: &[u8]) -> Result<Request, Box<Response>> {
    let value: serde_json::Value = serde_json::from_slice(line)
        .map_err(|e| refusal(0, format!("not a JSON object on one line: {e}")))?;
    let number = |name| value.get(name).and_then(serde_json::Value::as_u64);
    let id = number("id").unwrap_or(0);
    match number("version") {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(refusal(id, format!("version {version} is not spoken here, {VERSION} is")));
        }
        None => return Err(refusal(id, format!("the request names no version; {VERSION} is spoken here"))),
    }
    serde_json::from_value(value).map_err(|e| refusal(id, format!("not a request: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::local::vmm::Command;
    use proptest::prelude::*;

    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Client::new(ours).unwrap(), theirs)
    }

    #[test]
    fn requests_come_whole_however_they_are_cut() {
        let (mut client, mut theirs) = pair();
        theirs.write_all(b"{\"version\":1,\"id\":7,\"comm").unwrap();
        assert!(client.receive().is_empty());
        theirs.write_all(b"and\":\"pause\"}\n\n{\"version\":1,\"id\":8,\"command\":\"status\"}\n").unwrap();
        let got = client.receive();
        let wanted = [(7, Command::Pause), (8, Command::Status)];
        assert_eq!(got, wanted.map(|(id, command)| Ok(Request { version: 1, id, command })));
    }

    #[test]
    fn what_is_no_request_gets_an_answer_that_says_why() {
        for (line, id, word) in [
            (&b"hello"[..], 0, "JSON"),
            (b"{\"id\":3,\"command\":\"status\"}", 3, "version"),
            (b"{\"version\":2,\"id\":3,\"command\":\"status\"}", 3, "version 2"),
            (b"{\"version\":1,\"id\":4,\"command\":\"explode\"}", 4, "explode"),
            (b"[1,2]", 0, "version"),
        ] {
            let refused = parse(line).map_err(|refusal| *refusal);
            let Err(Response { id: answered, outcome: Outcome::Error(reason) }) = refused else {
                panic!("{line:?} was taken")
            };
            assert_eq!(answered, id);
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_and_a_client_that_does_not_read_is_dropped() {
        let (mut client, mut theirs) = pair();
        let mut answers = Vec::new();
        for _ in 0..MAX_LINE / TURN + 1 {
            theirs.write_all(&[b'x'; TURN]).unwrap();
            answers.extend(client.receive());
        }
        assert!(matches!(answers[..], [Err(_)]));
        assert!(client.closed());
        let (mut client, _theirs) = pair();
        let message = "y".repeat(10_000);
        for _ in 0..400 {
            client.send(&message);
        }
        assert!(client.closed());
    }

    proptest! {
        #[test]
        fn any_line_is_answered(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }
    }
}
