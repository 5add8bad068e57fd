//! The thread that serves the screen's viewers: one epoll loop over the socket and all connections.

use super::{
    frame::Frame,
    keys,
    ramfb::Screen,
    rfb::{Input, Viewer},
};
use crate::{
    legacy::Devices,
    machine::Display,
    memory::Memory,
    thread::{self, Kind},
    virtio::input::{self, Pointer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Viewers at a time.
const MAX_VIEWERS: usize = 16;
/// The screen is looked at no more often than this.
const PACE: Duration = Duration::from_millis(33);
/// Bytes taken from one viewer before another has its turn.
const TURN: usize = 16 << 10;
const SOCKET: u64 = 0;

struct Connection {
    stream: UnixStream,
    viewer: Viewer,
    /// Keys it holds down: released when it goes.
    held: BTreeSet<u8>,
    watched: EventSet,
}

/// The server.
pub struct Server {
    socket: UnixListener,
    screen: Screen,
    memory: Memory,
    devices: Arc<Devices>,
    pointer: Option<Arc<Pointer>>,
    name: String,
    epoll: Epoll,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    frame: Frame,
    looked: Option<Instant>,
}

impl Server {
    /// Serves those who come to the display's socket `screen`; their keys go to `devices`.
    ///
    /// # Errors
    /// The host gave no descriptors.
    pub fn new(display: Display, screen: Screen, memory: Memory, devices: Arc<Devices>) -> io::Result<Self> {
        let Display { socket, name, pointer } = display;
        socket.set_nonblocking(true)?;
        let epoll = Epoll::new()?;
        let event = EpollEvent::new(EventSet::IN, SOCKET);
        epoll.ctl(ControlOperation::Add, socket.as_raw_fd(), event)?;
        Ok(Self {
            socket,
            screen,
            memory,
            devices,
            pointer,
            name,
            epoll,
            connections: BTreeMap::new(),
            next: SOCKET + 1,
            frame: Frame::default(),
            looked: None,
        })
    }

    /// Starts its thread, which lives as long as the process.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(self) -> io::Result<()> {
        thread::spawn(Kind::Display, "display", move || self.run()).map(drop)
    }

    fn run(mut self) {
        let mut events = [EpollEvent::default(); 16];
        loop {
            let count = match self.epoll.wait(self.timeout(), &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return eprintln!("lq-vmm: display: cannot wait for events: {error}"),
            };
            for event in events.iter().take(count) {
                match event.data() {
                    SOCKET => self.accept(),
                    number => self.receive(number, event.event_set()),
                }
            }
            self.show();
        }
    }

    /// Milliseconds until the screen is to be looked at; -1: nobody waits for it.
    fn timeout(&self) -> i32 {
        let waiting = self.connections.values().any(|c| c.viewer.waits());
        let left = |at: Instant| PACE.saturating_sub(at.elapsed()).as_millis() as i32 + 1;
        if waiting { self.looked.map_or(0, left) } else { -1 }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.socket.accept() else { return };
        if self.connections.len() >= MAX_VIEWERS || stream.set_nonblocking(true).is_err() {
            return;
        }
        let number = self.next;
        let watched = EventSet::IN;
        let event = EpollEvent::new(watched, number);
        if self.epoll.ctl(ControlOperation::Add, stream.as_raw_fd(), event).is_err() {
            return;
        }
        self.next += 1;
        if self.connections.is_empty() {
            self.look();
        }
        let viewer = Viewer::new(&self.name);
        self.connections.insert(number, Connection { stream, viewer, held: BTreeSet::new(), watched });
        self.send(number);
    }

    fn look(&mut self) {
        self.frame.update(self.screen.get(), &self.memory);
        self.looked = Some(Instant::now());
    }

    fn receive(&mut self, number: u64, ready: EventSet) {
        if ready.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR) {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let mut bytes = [0; TURN];
            let inputs = match connection.stream.read(&mut bytes) {
                Ok(0) => return self.close(number),
                Ok(count) => connection.viewer.take(bytes.get(..count).unwrap_or_default(), &self.frame),
                Err(error) if retry(&error) => Ok(vec![]),
                Err(_) => return self.close(number),
            };
            match inputs {
                Ok(inputs) => inputs.into_iter().for_each(|input| self.input(number, input)),
                Err(fault) => {
                    eprintln!("lq-vmm: display: a viewer is disconnected: {fault}");
                    return self.close(number);
                }
            }
        }
        self.send(number);
    }

    fn input(&mut self, number: u64, input: Input) {
        let (down, symbol, code) = match input {
            Input::Key { down, symbol, code } => (down, symbol, code),
            Input::Pointer { x, y, buttons } => {
                if let Some(pointer) = &self.pointer {
                    let (width, height) = (self.frame.width(), self.frame.height());
                    pointer.moved(scale(x, width), scale(y, height), buttons);
                }
                return;
            }
        };
        let (Some(key), Some(connection)) =
            (code.or_else(|| keys::key(symbol)), self.connections.get_mut(&number))
        else {
            return;
        };
        if down {
            connection.held.insert(key);
        } else {
            connection.held.remove(&key);
        }
        self.key(key, down);
    }

    fn key(&self, key: u8, down: bool) {
        if let Some(controller) = &self.devices.i8042 {
            controller.lock().unwrap_or_else(PoisonError::into_inner).key(key, down);
        }
    }

    /// Pictures for those who wait, at the screen's pace.
    fn show(&mut self) {
        let due = self.looked.is_none_or(|at| at.elapsed() >= PACE);
        if !due || !self.connections.values().any(|c| c.viewer.waits()) {
            return;
        }
        self.look();
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            let shown = self.connections.get_mut(&number).map(|c| c.viewer.show(&self.frame));
            match shown {
                Some(Err(fault)) => {
                    eprintln!("lq-vmm: display: a viewer is disconnected: {fault}");
                    self.close(number);
                }
                _ => self.send(number),
            }
        }
    }

    /// Sends what a viewer's socket takes, and watches for room for the rest.
    fn send(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let output = connection.viewer.output();
        while !output.is_empty() {
            match connection.stream.write(output) {
                Ok(0) => return self.close(number),
                Ok(count) => drop(output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if retry(&error) => {}
                Err(_) => return self.close(number),
            }
        }
        let room = if output.is_empty() { EventSet::empty() } else { EventSet::OUT };
        let wanted = EventSet::IN | room;
        if wanted != connection.watched {
            connection.watched = wanted;
            let event = EpollEvent::new(wanted, number);
            let fd = connection.stream.as_raw_fd();
            if self.epoll.ctl(ControlOperation::Modify, fd, event).is_err() {
                self.close(number);
            }
        }
    }

    fn close(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else { return };
        connection.held.iter().for_each(|key| self.key(*key, false));
        if self.connections.is_empty() {
            // Nobody looks: the copy of the screen goes.
            (self.frame, self.looked) = (Frame::default(), None);
        }
    }
}

/// A place on a screen of `size` pixels as a coordinate of the tablet.
fn scale(at: u16, size: u16) -> u16 {
    let last = u32::from(size.max(2) - 1);
    (u32::from(at).min(last) * u32::from(input::MAX) / last) as u16
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
