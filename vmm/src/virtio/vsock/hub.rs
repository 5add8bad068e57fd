//! All connections of a machine, and the socket by which the host's programs come to them.
//!
//! | a program says | and gets |
//! |---|---|
//! | `CONNECT 1234` | a connection to the guest's port 1234, once the guest has taken it: `OK <port>`, then the guest's bytes |
//! | `ACCEPT 1234` | the next connection the guest makes to port 1234 of the host: `OK <the guest's port>`, then its bytes |
//!
//! A guest reaches nobody who does not wait for it, and names nothing but numbers. Invariant: a bounded number of streams,
//! each with a bounded buffer, whatever the guest or the host's programs do.

use super::{
    connection::{Connection, Outgoing, Then},
    packet::{FromGuest, Op, Ports, Room},
    stream::{self, Got},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    time::Instant,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Streams of the host's programs at a time.
pub(super) const MAX_STREAMS: usize = 256;
/// Resets that wait for the guest's buffers; what a guest asks for beyond is not answered.
const MAX_RESETS: usize = 256;
/// Longest line a program begins with.
const MAX_LINE: usize = 32;
const LISTENER: u64 = 0;
/// First port of connections of the host's programs, out of the way of those people choose.
const FIRST_PORT: u32 = 1 << 30;

/// A packet for the guest.
pub(super) struct Packet {
    pub(super) ports: Ports,
    pub(super) op: Op,
    pub(super) flags: u32,
    pub(super) length: usize,
    pub(super) room: Room,
}

/// What a program has said.
enum Line {
    Connect(u32),
    Accept(u32),
    /// Not all yet.
    Unfinished,
    /// What nobody understands, or it is gone.
    Bad,
}

/// The connections.
pub(super) struct Hub {
    listener: UnixListener,
    epoll: Epoll,
    next_stream: u64,
    next_port: u32,
    /// Who has not said what for.
    new: BTreeMap<u64, UnixStream>,
    /// Who waits for the guest, and at which port.
    acceptors: BTreeMap<u64, (u32, UnixStream)>,
    connections: BTreeMap<Ports, (u64, Connection)>,
    /// Connections by the numbers of their streams.
    by_stream: BTreeMap<u64, Ports>,
    /// Connections that are none, which the guest is to be told of.
    resets: VecDeque<Ports>,
    /// Whose turn it was last.
    turn: Option<Ports>,
}

fn watch(epoll: &Epoll, fd: RawFd, token: u64) -> io::Result<()> {
    // Edges: what is known stays known until a call says otherwise.
    let set = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
    epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(set, token))
}

impl Hub {
    pub(super) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new()?;
        epoll.ctl(ControlOperation::Add, listener.as_raw_fd(), EpollEvent::new(EventSet::IN, LISTENER))?;
        Ok(Self {
            listener,
            epoll,
            next_stream: LISTENER + 1,
            next_port: FIRST_PORT,
            new: BTreeMap::new(),
            acceptors: BTreeMap::new(),
            connections: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            resets: VecDeque::new(),
            turn: None,
        })
    }

    /// Readable when there is something for [`Hub::look`].
    pub(super) fn event(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// When a connection has waited too long, at the earliest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.connections.values().filter_map(|(_, connection)| connection.deadline()).min()
    }

    fn streams(&self) -> usize {
        self.new.len() + self.acceptors.len() + self.connections.len()
    }

    /// Ends all connections, because the guest has forgotten them. Who waits for the guest goes on waiting.
    pub(super) fn forget(&mut self) {
        self.connections.clear();
        self.by_stream.clear();
        self.resets.clear();
    }

    /// Takes in what the host's programs do. True: there may be more.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let mut events = [EpollEvent::default(); 32];
        // Fails only when interrupted: then it is looked at again.
        let Ok(count) = self.epoll.wait(0, &mut events) else { return true };
        for event in events.iter().take(count) {
            let (token, set) = (event.data(), event.event_set());
            if token == LISTENER {
                self.accept();
            } else if self.new.contains_key(&token) {
                self.begin(token, now);
            } else if self.acceptors.contains_key(&token) {
                // Who waits has nothing to say; it may only go.
                if set.intersects(EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR) {
                    self.acceptors.remove(&token);
                }
            } else if let Some(ports) = self.by_stream.get(&token)
                && let Some((_, connection)) = self.connections.get_mut(ports)
            {
                connection.ready(
                    set.intersects(EventSet::IN | EventSet::READ_HANG_UP),
                    set.contains(EventSet::OUT),
                    set.intersects(EventSet::HANG_UP | EventSet::ERROR),
                );
            }
        }
        count == events.len()
    }

    fn accept(&mut self) {
        // One at a time: the listener tells of the next one.
        let Ok((stream, _)) = self.listener.accept() else { return };
        // Closed at once where there are too many.
        if self.streams() < MAX_STREAMS && watch(&self.epoll, stream.as_raw_fd(), self.next_stream).is_ok() {
            self.new.insert(self.next_stream, stream);
            self.next_stream += 1;
        }
    }

    /// A new stream may have said what it is for.
    fn begin(&mut self, number: u64, now: Instant) {
        let Some(stream) = self.new.get(&number) else { return };
        match read_line(stream) {
            Line::Unfinished => {}
            Line::Bad => drop(self.new.remove(&number)),
            Line::Connect(port) => {
                let Some(stream) = self.new.remove(&number) else { return };
                let ports = Ports { guest: port, host: self.free_port(port) };
                self.by_stream.insert(number, ports);
                self.connections.insert(ports, (number, Connection::asked_by_host(stream, now)));
            }
            Line::Accept(port) => {
                let Some(stream) = self.new.remove(&number) else { return };
                self.acceptors.insert(number, (port, stream));
            }
        }
    }

    /// A port of the host with no connection to the guest's `port`. There are more than streams.
    fn free_port(&mut self, port: u32) -> u32 {
        loop {
            let host = self.next_port;
            self.next_port = host.checked_add(1).filter(|next| *next != u32::MAX).unwrap_or(FIRST_PORT);
            if !self.connections.contains_key(&Ports { guest: port, host }) {
                return host;
            }
        }
    }

    /// The guest has sent a packet.
    pub(super) fn take(&mut self, packet: &FromGuest, payload: &[u8], now: Instant) {
        let ports = packet.ports;
        match self.connections.get_mut(&ports) {
            Some((_, connection)) => match connection.take(packet, payload, now) {
                Then::Keep => {}
                Then::Forget => self.remove(ports),
                Then::Reset => self.end(ports),
            },
            None if packet.op == Some(Op::Request) => {
                let waits = self.acceptors.iter().find(|(_, (port, _))| *port == ports.host);
                match waits.map(|(number, _)| *number).and_then(|n| Some((n, self.acceptors.remove(&n)?))) {
                    Some((number, (_, stream))) => {
                        self.by_stream.insert(number, ports);
                        self.connections.insert(ports, (number, Connection::asked_by_guest(stream, packet)));
                    }
                    None => self.refuse(ports),
                }
            }
            None if packet.op == Some(Op::Reset) => {}
            None => self.refuse(ports),
        }
    }

    fn refuse(&mut self, ports: Ports) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(ports);
        }
    }

    fn remove(&mut self, ports: Ports) {
        if let Some((number, _)) = self.connections.remove(&ports) {
            self.by_stream.remove(&number);
        }
    }

    fn end(&mut self, ports: Ports) {
        self.remove(ports);
        self.refuse(ports);
    }

    /// The next packet for the guest; its payload is in `buffer`.
    pub(super) fn next(&mut self, buffer: &mut [u8], now: Instant) -> Option<Packet> {
        loop {
            if let Some(ports) = self.resets.pop_front() {
                return Some(Packet { ports, op: Op::Reset, flags: 0, length: 0, room: Room::default() });
            }
            let mut over = None;
            // Everyone once, after the one whose turn it was.
            let after = self.turn.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let order: Vec<_> = self
                .connections
                .range((after, std::ops::Bound::Unbounded))
                .chain(self.connections.range(..=self.turn.unwrap_or(Ports { guest: 0, host: 0 })))
                .map(|(ports, _)| *ports)
                .collect();
            for ports in order {
                let Some((_, connection)) = self.connections.get_mut(&ports) else { continue };
                let (op, flags, length) = match connection.next(buffer, now) {
                    Outgoing::Nothing => continue,
                    Outgoing::Word(op, flags) => (op, flags, 0),
                    Outgoing::Data(length) => (Op::Data, 0, length),
                    Outgoing::Over => {
                        over = Some(ports);
                        break;
                    }
                };
                self.turn = Some(ports);
                return Some(Packet { ports, op, flags, length, room: connection.room() });
            }
            self.end(over?);
        }
    }
}

/// Reads the first line of a stream, and not a byte of what follows.
fn read_line(stream: &UnixStream) -> Line {
    let mut bytes = [0; MAX_LINE];
    let Got::Bytes(count) = (match stream::peek(stream, &mut bytes) {
        Got::Later => return Line::Unfinished,
        got => got,
    }) else {
        return Line::Bad;
    };
    let seen = bytes.get(..count).unwrap_or_default();
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if count < MAX_LINE { Line::Unfinished } else { Line::Bad };
    };
    let mut line = vec![0; end + 1];
    if stream::receive(stream, &mut line) != Got::Bytes(end + 1) {
        return Line::Bad;
    }
    parse(line.get(..end).unwrap_or_default())
}

fn parse(line: &[u8]) -> Line {
    let Ok(text) = std::str::from_utf8(line) else { return Line::Bad };
    let Some((word, port)) = text.trim_end_matches('\r').split_once(' ') else { return Line::Bad };
    // All ones is no port but "any".
    match (word, port.parse::<u32>()) {
        ("CONNECT", Ok(port)) if port != u32::MAX => Line::Connect(port),
        ("ACCEPT", Ok(port)) if port != u32::MAX => Line::Accept(port),
        _ => Line::Bad,
    }
}
