//! Who is connected: clients of the control socket, and readers of the console. The same for each loop that stands before a machine.
//!
//! Owns the epoll set, the connections and their numbers, and when the console is looked at next. What clients ask for is the
//! loop's. Invariants: a number is one connection's, a client's or a reader's, and is never given again; a connection that has
//! closed or cannot be watched is forgotten at once; nobody is waited for.

use super::Client;
use crate::console::{self, Console, Output, PACE, Wants};
use lq_api::local::vmm::{Event, Request, Response};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    time::Instant,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Connections to one socket at a time.
const MAX_CLIENTS: usize = 64;

/// The connections of a loop.
pub(crate) struct Hub {
    epoll: Epoll,
    /// What a connection's events carry is its number and this; what is below is the loop's own.
    first: u64,
    console: Console,
    clients: BTreeMap<u64, Client>,
    readers: BTreeMap<u64, console::Client>,
    next: u64,
    /// When to look at the console next, while the guest writes.
    look_at: Option<Instant>,
}

impl Hub {
    /// Nobody is connected. Events of connections carry `first` or more; `console_data` is what those of the console carry.
    pub(crate) fn new(console: Console, first: u64, console_data: u64) -> io::Result<Self> {
        let hub = Self {
            epoll: Epoll::new()?,
            first,
            console,
            clients: BTreeMap::new(),
            readers: BTreeMap::new(),
            next: 0,
            look_at: None,
        };
        hub.watch(hub.console.event(), console_data)?;
        Ok(hub)
    }

    /// The guest's end of the console.
    pub(crate) fn output(&self) -> Output {
        self.console.output()
    }

    /// Has the loop woken where there is something to read; its events carry `data`.
    pub(crate) fn watch(&self, on: &impl AsRawFd, data: u64) -> io::Result<()> {
        self.epoll.ctl(ControlOperation::Add, on.as_raw_fd(), EpollEvent::new(EventSet::IN, data))
    }

    /// The same, and where there is room to write, if that is wanted, for what is watched already.
    pub(crate) fn follow(&self, fd: RawFd, data: u64, room: bool) -> io::Result<()> {
        let set = if room { EventSet::IN | EventSet::OUT } else { EventSet::IN };
        self.epoll.ctl(ControlOperation::Modify, fd, EpollEvent::new(set, data))
    }

    /// Watches it no more.
    pub(crate) fn leave(&self, on: &impl AsRawFd) {
        // Fails only where it is not watched any more.
        let _ = self.epoll.ctl(ControlOperation::Delete, on.as_raw_fd(), EpollEvent::default());
    }

    /// Waits for events, until the console wants a look or `at` has come; then there are none.
    pub(crate) fn wait(&self, at: Option<Instant>, events: &mut [EpollEvent]) -> io::Result<usize> {
        let left = |at: Instant| {
            let left = at.saturating_duration_since(Instant::now());
            i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        };
        self.epoll.wait(self.look_at.into_iter().chain(at).min().map_or(-1, left), events)
    }

    /// The connection is a client's, and no reader's.
    pub(crate) fn is_client(&self, number: u64) -> bool {
        self.clients.contains_key(&number)
    }

    /// Takes a connection of a client.
    pub(crate) fn accept_client(&mut self, listener: &UnixListener) {
        if let Some((number, stream)) = self.accept(listener, self.clients.len())
            && let Ok(client) = Client::new(stream)
        {
            self.clients.insert(number, client);
        }
    }

    /// Takes a connection of a reader.
    pub(crate) fn accept_reader(&mut self, listener: &UnixListener) {
        if let Some((number, stream)) = self.accept(listener, self.readers.len())
            && let Ok(reader) = console::Client::new(stream, self.console.output())
        {
            self.readers.insert(number, reader);
            self.show(number);
        }
    }

    /// Takes a connection and gives it a number, or refuses it where there are too many.
    fn accept(&mut self, listener: &UnixListener, taken: usize) -> Option<(u64, UnixStream)> {
        let (stream, _) = listener.accept().ok()?;
        if taken >= MAX_CLIENTS {
            eprintln!("lq-vmm: refused a connection: {MAX_CLIENTS} are open already");
            return None;
        }
        let number = self.next;
        self.watch(&stream, number + self.first).ok()?;
        self.next += 1;
        Some((number, stream))
    }

    /// What a client that is ready asks for; it is to be [served](Self::served) after that.
    pub(crate) fn requests(&mut self, number: u64, ready: EventSet) -> Vec<Result<Request, Box<Response>>> {
        let client = self.clients.get_mut(&number).filter(|_| has_come(ready));
        client.map(Client::receive).unwrap_or_default()
    }

    /// At most `count` descriptors that came with a request of a client's.
    pub(crate) fn descriptors(&mut self, number: u64, count: usize) -> Vec<OwnedFd> {
        self.clients.get_mut(&number).map(|client| client.take_descriptors(count)).unwrap_or_default()
    }

    /// From now on it hears of events.
    pub(crate) fn subscribe(&mut self, number: u64) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.subscribed = true;
        }
    }

    /// Queues a message for a client that is being served.
    pub(crate) fn send(&mut self, number: u64, message: &impl Serialize) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.send(message);
        }
    }

    /// Sends a client a message.
    pub(crate) fn answer(&mut self, number: u64, message: &impl Serialize) {
        self.send(number, message);
        self.settle(number);
    }

    /// Sends a client what waits for it: all it has asked for so far was looked at.
    pub(crate) fn served(&mut self, number: u64) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.flush();
        }
        self.settle(number);
    }

    /// Tells all who want to hear of events.
    pub(crate) fn tell(&mut self, event: &Event) {
        let subscribed = self.clients.iter().filter(|(_, client)| client.subscribed);
        let numbers: Vec<u64> = subscribed.map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.answer(number, event));
    }

    /// Watches what a client waits for, or forgets it.
    fn settle(&mut self, number: u64) {
        let Some(client) = self.clients.get(&number) else { return };
        let (fd, room) = (client.as_raw_fd(), client.wants_room());
        if client.closed() || self.follow(fd, number + self.first, room).is_err() {
            // Closing takes it out of the epoll set.
            self.clients.remove(&number);
        }
    }

    /// Serves a reader that is ready: what it has typed, where that is anything.
    pub(crate) fn reader(&mut self, number: u64, ready: EventSet) -> Option<Vec<u8>> {
        let mut typed = None;
        if has_come(ready) {
            typed = self.readers.get_mut(&number)?.receive();
            if typed.is_none() {
                self.readers.remove(&number);
            }
        }
        self.show(number);
        typed
    }

    /// Sends one reader what it has not seen.
    fn show(&mut self, number: u64) {
        let Some(reader) = self.readers.get_mut(&number) else { return };
        let (wants, fd) = (reader.send(), reader.as_raw_fd());
        if wants == Wants::Closed || self.follow(fd, number + self.first, wants == Wants::Room).is_err() {
            self.readers.remove(&number);
        }
    }

    /// Sends all readers what they have not seen.
    pub(crate) fn show_console(&mut self) {
        self.look_at = self.console.look().then(|| Instant::now() + PACE);
        let numbers: Vec<u64> = self.readers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.show(number));
    }
}

/// Something can be read, if only that the connection is gone.
pub(crate) fn has_come(ready: EventSet) -> bool {
    ready.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR)
}
