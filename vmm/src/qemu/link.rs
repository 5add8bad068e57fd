//! The stream to QEMU's monitor: commands out, one after the other and in batches; messages in. Never blocking.

use super::qmp::{Decoder, Execute, Malformed, Message};
use crate::control::passing;
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

/// Bytes read at once.
const TURN: usize = 16 << 10;
/// Commands that may wait for QEMU, which hangs where its disks do.
const MOST_WAITING: usize = 256;

/// A command with the descriptor it needs.
pub(super) type Order = (Execute, Option<OwnedFd>);

/// Commands that belong together, in their order; `P` is what they are for.
struct Batch<P> {
    missing: usize,
    results: Vec<Result<Value, String>>,
    purpose: P,
}

/// What came of a batch.
pub(super) struct Done<P> {
    /// Of each command, in order.
    pub(super) results: Vec<Result<Value, String>>,
    pub(super) purpose: P,
}

impl<P> Done<P> {
    /// Why the first command failed that did.
    pub(super) fn failure(&self) -> Option<&String> {
        self.results.iter().find_map(|result| result.as_ref().err())
    }
}

/// What came.
pub(super) enum News<P> {
    /// A batch is done.
    Done(Done<P>),
    /// QEMU says something by itself.
    Said(Message),
}

/// Why the link is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// QEMU has closed it.
    #[error("QEMU has closed its monitor")]
    Closed,
    /// What came is not QMP.
    #[error("QEMU does not keep to its protocol")]
    Malformed(#[from] Malformed),
    /// An answer nobody has asked for.
    #[error("QEMU answers {0}, which it was not asked")]
    Unasked(u64),
    /// The stream.
    #[error("the stream to QEMU's monitor is broken")]
    Io(#[from] io::Error),
}

/// The link.
pub(super) struct Link<P> {
    stream: UnixStream,
    decoder: Decoder,
    output: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    /// Of each command its batch.
    asked: BTreeMap<u64, u64>,
    batches: BTreeMap<u64, Batch<P>>,
    last: u64,
}

impl<P> Link<P> {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            decoder: Decoder::default(),
            output: VecDeque::new(),
            asked: BTreeMap::new(),
            batches: BTreeMap::new(),
            last: 0,
        })
    }

    /// No more is taken for a client: QEMU has not answered for long.
    pub(super) fn is_full(&self) -> bool {
        self.asked.len() >= MOST_WAITING
    }

    /// Sends commands that belong together. All are carried out, whatever becomes of those before.
    pub(super) fn submit(&mut self, orders: Vec<Order>, purpose: P) {
        let (batch, missing) = (self.last, orders.len());
        for (execute, descriptor) in orders {
            self.last += 1;
            self.asked.insert(self.last, batch);
            self.output.push_back((execute.line(self.last), descriptor));
        }
        if missing > 0 {
            self.batches.insert(batch, Batch { missing, results: Vec::new(), purpose });
        }
        self.flush();
    }

    /// Sends what can be sent. A stream that is broken is seen when it is read.
    pub(super) fn flush(&mut self) {
        while let Some((line, descriptor)) = self.output.front_mut() {
            let beside: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            match passing::send_some(&self.stream, line, &beside) {
                Ok(sent) => {
                    *descriptor = None;
                    line.drain(..sent.min(line.len()));
                    if line.is_empty() {
                        self.output.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// It waits for room in its socket.
    pub(super) fn wants_room(&self) -> bool {
        !self.output.is_empty()
    }

    /// Takes what has come.
    ///
    /// # Errors
    /// See [`Broken`].
    pub(super) fn receive(&mut self) -> Result<Vec<News<P>>, Broken> {
        let mut part = [0; TURN];
        let count = match (&self.stream).read(&mut part) {
            Ok(0) => return Err(Broken::Closed),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            // It has ended with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Broken::Closed),
            Err(error) => return Err(error.into()),
        };
        let mut news = Vec::new();
        for message in self.decoder.push(part.get(..count).unwrap_or_default())? {
            match message {
                Message::Answer { id, result } => {
                    news.extend(self.answered(id, result)?.map(News::Done));
                }
                said => news.push(News::Said(said)),
            }
        }
        Ok(news)
    }

    fn answered(&mut self, id: u64, result: Result<Value, String>) -> Result<Option<Done<P>>, Broken> {
        let batch = self.asked.remove(&id).ok_or(Broken::Unasked(id))?;
        let Some(open) = self.batches.get_mut(&batch) else { return Err(Broken::Unasked(id)) };
        open.results.push(result);
        open.missing = open.missing.saturating_sub(1);
        if open.missing > 0 {
            return Ok(None);
        }
        let done = self.batches.remove(&batch);
        Ok(done.map(|Batch { results, purpose, .. }| Done { results, purpose }))
    }
}

impl<P> AsRawFd for Link<P> {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};

    fn order(command: &'static str) -> Order {
        (Execute::plain(command), None)
    }

    #[test]
    fn batches_are_done_when_all_of_them_is() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut link = Link::new(ours).unwrap();
        link.submit(vec![order("a"), order("b")], "first");
        link.submit(vec![order("c")], "second");
        let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
        let sent: Vec<_> = (0..3).map(|_| lines.next().unwrap().unwrap()).collect();
        assert!(sent[2].contains("\"c\""), "{sent:?}");
        assert!(link.receive().unwrap().is_empty());
        theirs.write_all(b"{\"return\":1,\"id\":1}\n{\"event\":\"STOP\"}\n").unwrap();
        assert!(matches!(link.receive().unwrap().as_slice(), [News::Said(_)]));
        theirs.write_all(b"{\"error\":{\"desc\":\"no\"},\"id\":2}\n{\"return\":{},\"id\":3}\n").unwrap();
        let news = link.receive().unwrap();
        let [News::Done(first), News::Done(second)] = news.as_slice() else { panic!("{}", news.len()) };
        assert_eq!((first.purpose, second.purpose), ("first", "second"));
        assert_eq!((first.failure().map(String::as_str), second.failure()), (Some("no"), None));
        theirs.write_all(b"{\"return\":{},\"id\":3}\n").unwrap();
        assert!(matches!(link.receive(), Err(Broken::Unasked(3))));
        link.submit(vec![order("unread")], "third");
        drop((theirs, lines));
        assert!(matches!(link.receive(), Err(Broken::Closed)));
    }

    #[test]
    fn what_waits_for_a_qemu_that_hangs_is_bounded_and_goes_out_later() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut link = Link::new(ours).unwrap();
        let mut sent = 0;
        while !link.is_full() {
            let padding = serde_json::json!("x".repeat(4096));
            link.submit(vec![(Execute::with("a", padding), None)], ());
            sent += 1;
        }
        assert!(link.wants_room());
        let mut lines = BufReader::new(theirs).lines();
        for _ in 0..sent {
            link.flush();
            lines.next().unwrap().unwrap();
        }
        assert!(!link.wants_room());
    }
}
