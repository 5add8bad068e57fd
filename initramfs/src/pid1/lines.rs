//! One client's connection to PID 1: bytes in, whole lines out; answers queued until the client takes them. No I/O here.
//!
//! Bounds: a line of at most [`MAX_LINE`], at most [`MAX_QUEUE`] unread answers. A client beyond them is dropped.

/// Longest request.
pub const MAX_LINE: usize = 256 * 1024;
/// Most bytes a client may leave unread.
pub const MAX_QUEUE: usize = 1024 * 1024;

/// Buffers of a connection.
#[derive(Debug, Default)]
pub struct Lines {
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The client broke the bounds.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overrun {
    /// A request without end.
    #[error("a request is longer than {MAX_LINE} bytes")]
    Line,
    /// Answers not read.
    #[error("more than {MAX_QUEUE} bytes of answers were not read")]
    Queue,
}

impl Lines {
    /// Takes bytes from the client and returns the lines that are whole now, without their ends.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<String>, Overrun> {
        self.input.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.input.iter().position(|b| *b == b'\n') {
            let mut line: Vec<u8> = self.input.drain(..=end).collect();
            line.pop();
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        if self.input.len() > MAX_LINE { Err(Overrun::Line) } else { Ok(lines) }
    }

    /// Queues a message, which becomes one line.
    pub fn queue(&mut self, message: &impl serde::Serialize) -> Result<(), Overrun> {
        // Our own types always serialize; an empty line would only be skipped by the client.
        let text = serde_json::to_vec(message).unwrap_or_default();
        self.output.extend_from_slice(&text);
        self.output.push(b'\n');
        if self.output.len() > MAX_QUEUE { Err(Overrun::Queue) } else { Ok(()) }
    }

    /// What waits to be sent.
    pub fn pending(&self) -> &[u8] {
        &self.output
    }

    /// The client took `count` bytes.
    pub fn sent(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_without_end_is_refused() {
        let mut lines = Lines::default();
        assert_eq!(lines.receive(&vec![b'x'; MAX_LINE]), Ok(vec![]));
        assert_eq!(lines.receive(b"x"), Err(Overrun::Line));
    }

    #[test]
    fn a_client_that_never_reads_is_refused() {
        let mut lines = Lines::default();
        let message = "x".repeat(1000);
        let refused = (0..2000).find(|_| lines.queue(&message).is_err());
        assert!(refused.is_some_and(|n| n > 1000));
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_bytes_arrive(texts in proptest::collection::vec("[a-z]{0,20}", 0..10), cut in 1usize..7) {
            let all: String = texts.iter().map(|t| format!("{t}\n")).collect();
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for part in all.as_bytes().chunks(cut) {
                got.extend(lines.receive(part).unwrap());
            }
            prop_assert_eq!(got, texts);
        }
    }
}
