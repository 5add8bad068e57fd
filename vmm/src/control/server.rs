//! The loop, and what each request and event does to the machine.

use super::{Token, client::Client};
use crate::{
    console::{self, Console, PACE, Wants},
    guest::{GuestEvent, Notifier},
    machine::Machine,
    stats::DeviceCounters,
};
use lq_api::{
    VmId,
    local::vmm::{
        Command, Event, ExitReason, ExitRecord, Outcome, Request, Response, RunState, Stats, Status,
    },
};
use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::Arc,
    time::Instant,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Connections to one socket at a time.
const MAX_CLIENTS: usize = 64;

/// What the loop listens to, opened before privileges are dropped.
pub struct Sources {
    /// The control socket.
    pub control: UnixListener,
    /// The console socket.
    pub console: UnixListener,
    /// SIGTERM, as a descriptor.
    pub signals: OwnedFd,
}

impl Sources {
    /// Takes over two listening sockets, and SIGTERM, which no thread made from now on takes otherwise.
    pub fn new(control: UnixListener, console: UnixListener) -> io::Result<Self> {
        control.set_nonblocking(true)?;
        console.set_nonblocking(true)?;
        // SAFETY: `sigset_t` may be all zeros and is filled by `sigemptyset`; the descriptor is checked and then owned
        // here alone.
        let signals = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { control, console, signals })
    }
}

/// The control thread's state.
pub struct Server {
    vm: VmId,
    machine: Machine,
    sources: Sources,
    console: Console,
    notifier: Arc<Notifier>,
    counters: DeviceCounters,
    epoll: Epoll,
    clients: BTreeMap<u64, Client>,
    viewers: BTreeMap<u64, console::Client>,
    next_client: u64,
    /// When to look at the console next, while the guest writes.
    look_at: Option<Instant>,
    state: RunState,
    resets: u64,
}

impl Server {
    /// Over a machine that is parked.
    pub fn new(
        vm: VmId,
        machine: Machine,
        sources: Sources,
        console: Console,
        notifier: Arc<Notifier>,
        counters: DeviceCounters,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let watched = [
            (sources.control.as_raw_fd(), Token::ControlSocket),
            (sources.console.as_raw_fd(), Token::ConsoleSocket),
            (notifier.event().as_raw_fd(), Token::Guest),
            (console.event().as_raw_fd(), Token::Console),
            (sources.signals.as_raw_fd(), Token::Signal),
        ];
        for (fd, token) in watched {
            let event = EpollEvent::new(EventSet::IN, token.encode());
            epoll.ctl(ControlOperation::Add, fd, event)?;
        }
        Ok(Self {
            vm,
            machine,
            sources,
            console,
            notifier,
            counters,
            epoll,
            clients: BTreeMap::new(),
            viewers: BTreeMap::new(),
            next_client: 0,
            look_at: None,
            state: RunState::Running,
            resets: 0,
        })
    }

    /// Starts the guest and serves until the machine ends.
    pub fn run(mut self) -> ExitRecord {
        let end = match self.machine.power_on() {
            Err(error) => failed(&error),
            Ok(()) => loop {
                let mut events = [EpollEvent::default(); 32];
                let count = match self.epoll.wait(self.timeout(), &mut events) {
                    Ok(0) => {
                        self.show_console();
                        continue;
                    }
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => break internal(&format!("cannot wait for events: {error}")),
                };
                let mut ends = events.iter().take(count).filter_map(|event| self.handle(event));
                if let Some(end) = ends.next() {
                    break end;
                }
            },
        };
        self.state = RunState::Ending;
        self.tell(&Event::State { state: RunState::Ending });
        self.machine.stop();
        self.show_console();
        self.tell(&Event::Exit(end.clone()));
        end
    }

    /// Milliseconds until the console wants a look, -1 where it does not.
    fn timeout(&self) -> i32 {
        let left = |at: Instant| at.saturating_duration_since(Instant::now()).as_millis() as i32;
        self.look_at.map_or(-1, left)
    }

    fn handle(&mut self, event: &EpollEvent) -> Option<ExitRecord> {
        match Token::decode(event.data()) {
            Token::ControlSocket => self.accept_client(),
            Token::ConsoleSocket => self.accept_viewer(),
            Token::Guest => return self.guest_events(),
            Token::Console => self.show_console(),
            Token::Signal => self.signal(),
            Token::Client(number) if self.clients.contains_key(&number) => {
                return self.client(number, event.event_set());
            }
            Token::Client(number) => self.viewer(number, event.event_set()),
        }
        None
    }

    fn guest_events(&mut self) -> Option<ExitRecord> {
        for event in self.notifier.take() {
            let (reason, detail) = match event {
                GuestEvent::Reset => match self.reset() {
                    Ok(()) => continue,
                    Err(error) => return Some(failed(&error)),
                },
                GuestEvent::PowerOff => {
                    (ExitReason::GuestPowerOff, "the guest switched itself off".to_owned())
                }
                GuestEvent::Fault(detail) => (ExitReason::GuestFault, detail),
                GuestEvent::Host(detail) => (ExitReason::Host, detail),
            };
            return Some(ExitRecord { reason, detail });
        }
        None
    }

    fn reset(&mut self) -> Result<(), crate::machine::Error> {
        self.machine.reset()?;
        // What CPUs reported while they were being parked belongs to the guest that is gone.
        self.notifier.take();
        self.resets += 1;
        self.tell(&Event::Reset);
        self.set_state(RunState::Running);
        Ok(())
    }

    fn set_state(&mut self, state: RunState) {
        if self.state != state {
            self.state = state;
            self.tell(&Event::State { state });
        }
    }

    fn signal(&mut self) {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        // SAFETY: reads into a buffer of the given length.
        let got =
            unsafe { libc::read(self.sources.signals.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
        if got > 0 {
            eprintln!("lq-vmm: SIGTERM: pressing the power button");
            self.machine.power_button();
        }
    }

    /// Carries a request out. A record: the machine ends.
    fn command(&mut self, command: Command) -> (Outcome, Option<ExitRecord>) {
        match (command, self.state) {
            (Command::Status, state) => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                let status = Status { version, vm: self.vm, state, resets: self.resets };
                return (Outcome::Status(status), None);
            }
            (Command::Stats, _) => {
                let (disks, nics) = self.counters.read();
                return (Outcome::Stats(Stats { exits: self.machine.exits(), disks, nics }), None);
            }
            (Command::Pause, RunState::Running) => {
                self.machine.pause();
                self.set_state(RunState::Paused);
            }
            (Command::Resume, RunState::Paused) => {
                self.machine.resume();
                self.set_state(RunState::Running);
            }
            (Command::Reset, _) => {
                if let Err(error) = self.reset() {
                    let end = failed(&error);
                    return (Outcome::Error(end.detail.clone()), Some(end));
                }
            }
            (Command::PowerButton, RunState::Running) => self.machine.power_button(),
            (Command::PowerButton, state) => {
                return (Outcome::Error(format!("the guest is {state:?} and cannot react")), None);
            }
            (Command::Quit, _) => {
                let detail = "told to end".to_owned();
                return (Outcome::Done, Some(ExitRecord { reason: ExitReason::Told, detail }));
            }
            // Already so, or nothing to do here.
            (Command::Pause | Command::Resume | Command::Subscribe, _) => {}
        }
        (Outcome::Done, None)
    }

    fn client(&mut self, number: u64, ready: EventSet) -> Option<ExitRecord> {
        let mut end = None;
        if ready.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR) {
            let requests = self.clients.get_mut(&number).map(Client::receive).unwrap_or_default();
            for request in requests {
                let response = match request {
                    Ok(Request { id, command, .. }) => {
                        let (outcome, ends) = self.command(command);
                        if let (Command::Subscribe, Some(client)) = (command, self.clients.get_mut(&number)) {
                            client.subscribed = true;
                        }
                        end = end.or(ends);
                        Response { id, outcome }
                    }
                    Err(refusal) => refusal,
                };
                if let Some(client) = self.clients.get_mut(&number) {
                    client.send(&response);
                }
                if end.is_some() {
                    break;
                }
            }
        }
        if let Some(client) = self.clients.get_mut(&number) {
            client.flush();
        }
        self.settle_client(number);
        end
    }

    /// Watches what a client waits for, or forgets it.
    fn settle_client(&mut self, number: u64) {
        let Some(client) = self.clients.get(&number) else { return };
        let (fd, room) = (client.as_raw_fd(), client.wants_room());
        if client.closed() || self.watch(fd, number, room).is_err() {
            // Closing takes it out of the epoll set.
            self.clients.remove(&number);
        }
    }

    fn watch(&self, fd: RawFd, number: u64, room: bool) -> io::Result<()> {
        let set = if room { EventSet::IN | EventSet::OUT } else { EventSet::IN };
        let event = EpollEvent::new(set, Token::Client(number).encode());
        self.epoll.ctl(ControlOperation::Modify, fd, event)
    }

    fn tell(&mut self, event: &Event) {
        let numbers: Vec<u64> = self.clients.keys().copied().collect();
        for number in numbers {
            if let Some(client) = self.clients.get_mut(&number).filter(|c| c.subscribed) {
                client.send(event);
                self.settle_client(number);
            }
        }
    }

    /// Takes a connection and gives it a number, or refuses it where there are too many.
    fn accept(&mut self, listener: fn(&Sources) -> &UnixListener, taken: usize) -> Option<(u64, UnixStream)> {
        let (stream, _) = listener(&self.sources).accept().ok()?;
        if taken >= MAX_CLIENTS {
            eprintln!("lq-vmm: refused a connection: {MAX_CLIENTS} are open already");
            return None;
        }
        let number = self.next_client;
        let event = EpollEvent::new(EventSet::IN, Token::Client(number).encode());
        self.epoll.ctl(ControlOperation::Add, stream.as_raw_fd(), event).ok()?;
        self.next_client += 1;
        Some((number, stream))
    }

    fn accept_client(&mut self) {
        if let Some((number, stream)) = self.accept(|s| &s.control, self.clients.len())
            && let Ok(client) = Client::new(stream)
        {
            self.clients.insert(number, client);
        }
    }

    fn accept_viewer(&mut self) {
        if let Some((number, stream)) = self.accept(|s| &s.console, self.viewers.len())
            && let Ok(viewer) = console::Client::new(stream, self.console.output())
        {
            self.viewers.insert(number, viewer);
            self.show(number);
        }
    }

    fn viewer(&mut self, number: u64, ready: EventSet) {
        if ready.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR) {
            match self.viewers.get_mut(&number).map(console::Client::receive) {
                Some(Some(typed)) => self.machine.type_in(&typed),
                Some(None) => drop(self.viewers.remove(&number)),
                None => {}
            }
        }
        self.show(number);
    }

    /// Sends one viewer what it has not seen.
    fn show(&mut self, number: u64) {
        let Some(viewer) = self.viewers.get_mut(&number) else { return };
        let (wants, fd) = (viewer.send(), viewer.as_raw_fd());
        if wants == Wants::Closed || self.watch(fd, number, wants == Wants::Room).is_err() {
            self.viewers.remove(&number);
        }
    }

    fn show_console(&mut self) {
        self.look_at = self.console.look().then(|| Instant::now() + PACE);
        let numbers: Vec<u64> = self.viewers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.show(number));
    }
}

/// The end after a machine that could not start or go on.
pub(crate) fn failed(error: &crate::machine::Error) -> ExitRecord {
    let reason = match error {
        crate::machine::Error::Boot(_) => ExitReason::Config,
        _ => ExitReason::Host,
    };
    ExitRecord { reason, detail: crate::exit::chain(error) }
}

fn internal(detail: &str) -> ExitRecord {
    ExitRecord { reason: ExitReason::Internal, detail: detail.to_owned() }
}
