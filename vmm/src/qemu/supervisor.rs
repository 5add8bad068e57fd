//! The supervisor: one epoll loop between QEMU and whoever asks for something. It never waits for QEMU, which may hang in its
//! disks.
//!
//! ```text
//!  QEMU greets ─▶ set up ─▶ cont ─▶ clients are let in ─▶ … ─▶ QEMU ends ─▶ the record of why
//! ```
//! Invariant: what is said of the machine comes from QEMU's events; what is asked is answered when QEMU has answered.

use super::{
    command,
    link::{Done, Link, News, Order},
    qmp::{Event as Said, Execute, Message},
    start,
    traffic::Traffic,
};
use crate::{
    console::Console,
    control::{
        Sources, Ticket,
        hub::{Hub, has_come},
    },
    exit,
};
use lq_api::local::vmm::{
    Event, ExitReason, ExitRecord, IoLimits, Outcome, Response, RunState, VmmConfig, WatchdogAction,
};
use serde_json::json;
use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::ExitStatusExt,
        },
    },
    process::{Child, ExitStatus},
};
use vmm_sys_util::epoll::{EpollEvent, EventSet};

/// Typed bytes that wait for a guest that does not read its serial line; more are dropped, as a real line does.
const MAX_TYPED: usize = 64 << 10;
/// Bytes of the serial line taken at once.
const TURN: usize = 16 << 10;

/// QEMU, started.
pub struct Machine {
    /// The process.
    pub child: Child,
    /// Stream to its monitor.
    pub monitor: UnixStream,
    /// Stream to the guest's serial line.
    pub serial: UnixStream,
    /// Of each CD drive the set of descriptors its medium is in.
    pub media: Vec<Option<RawFd>>,
    /// Of each interface.
    pub traffic: Vec<Traffic>,
}

/// What a batch of commands is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To begin.
    Begin,
    /// A client asked for it; what is true once it is done.
    Asked(Ticket, Change),
    /// A client asked for counters.
    Stats(Ticket),
    /// To see why it stands still.
    Look,
    /// Nothing depends on it; what it is, for the log.
    Aside(&'static str),
}

/// What is true once something is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Nothing,
    Limits(usize, IoLimits),
    Link(usize, bool),
    Ejected(usize),
    Inserted(usize, Medium),
}

/// A medium in a CD drive, by the names QEMU has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Medium {
    /// Which one it is.
    pub(super) number: u64,
    /// The set of descriptors it is in.
    pub(super) set: u64,
}

/// A CD drive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drive {
    pub(super) medium: Option<Medium>,
    /// We move its tray; else its guest does.
    pub(super) ours: bool,
}

/// What the loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Control,
    Console,
    Display,
    Output,
    Signal,
    Child,
    Monitor,
    Serial,
    /// A client, by its number.
    Client(u64),
}

const TOKENS: [Token; 8] = [
    Token::Control,
    Token::Console,
    Token::Display,
    Token::Output,
    Token::Signal,
    Token::Child,
    Token::Monitor,
    Token::Serial,
];

impl Token {
    fn encode(self) -> u64 {
        match self {
            Self::Client(number) => number + TOKENS.len() as u64,
            other => TOKENS.iter().position(|token| *token == other).unwrap_or_default() as u64,
        }
    }

    fn decode(data: u64) -> Self {
        let fixed = usize::try_from(data).ok().and_then(|data| TOKENS.get(data).copied());
        fixed.unwrap_or(Self::Client(data.saturating_sub(TOKENS.len() as u64)))
    }
}

/// The supervisor of one machine.
pub struct Supervisor {
    /// As the machine is now.
    pub(super) config: VmmConfig,
    child: Child,
    ended: OwnedFd,
    pub(super) link: Link<Purpose>,
    serial: UnixStream,
    typed: VecDeque<u8>,
    pub(super) drives: Vec<Drive>,
    pub(super) traffic: Vec<Traffic>,
    pub(super) media_so_far: u64,
    sources: Sources,
    display: Option<UnixListener>,
    viewers_so_far: u64,
    pub(super) hub: Hub,
    pub(super) begun: bool,
    pub(super) state: RunState,
    pub(super) resets: u64,
    pub(super) panicked: bool,
    /// Why the machine ends, once it does.
    pub(super) end: Option<ExitRecord>,
}

impl Supervisor {
    /// Over a QEMU that was just started.
    ///
    /// # Errors
    /// The host refused what the loop needs.
    pub fn new(
        config: VmmConfig,
        machine: Machine,
        sources: Sources,
        display: Option<UnixListener>,
        console: Console,
    ) -> io::Result<Self> {
        let Machine { child, monitor, serial, media, traffic } = machine;
        serial.set_nonblocking(true)?;
        let ended = start::follow(&child)?;
        let numbered = (0..).zip(media);
        let medium = |(number, set): (u64, Option<RawFd>)| {
            let set = set.and_then(|set| u64::try_from(set).ok());
            Drive { medium: set.map(|set| Medium { number, set }), ours: false }
        };
        let drives: Vec<_> = numbered.map(medium).collect();
        let supervisor = Self {
            media_so_far: drives.len() as u64,
            drives,
            config,
            child,
            ended,
            link: Link::new(monitor)?,
            serial,
            typed: VecDeque::new(),
            traffic,
            sources,
            display,
            viewers_so_far: 0,
            hub: Hub::new(console, TOKENS.len() as u64, Token::Output.encode())?,
            begun: false,
            state: RunState::Incoming,
            resets: 0,
            panicked: false,
            end: None,
        };
        supervisor.wait_for(&supervisor.sources.signals, Token::Signal)?;
        supervisor.wait_for(&supervisor.ended, Token::Child)?;
        supervisor.wait_for(&supervisor.link, Token::Monitor)?;
        supervisor.wait_for(&supervisor.serial, Token::Serial)?;
        Ok(supervisor)
    }

    fn wait_for(&self, on: &impl AsRawFd, token: Token) -> io::Result<()> {
        self.hub.watch(on, token.encode())
    }

    /// Serves until the machine has ended.
    pub fn run(mut self) -> ExitRecord {
        let end = loop {
            let mut events = [EpollEvent::default(); 32];
            let count = match self.hub.wait(None, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.kill();
                    break record(ExitReason::Internal, format!("cannot wait for events: {error}"));
                }
            };
            if count == 0 {
                self.hub.show_console();
            }
            let mut ended = events.iter().take(count).filter_map(|event| self.handle(event));
            if let Some(end) = ended.next() {
                break end;
            }
            self.follow_output();
        };
        self.hub.show_console();
        self.tell(&Event::Exit(end.clone()));
        end
    }

    fn handle(&mut self, event: &EpollEvent) -> Option<ExitRecord> {
        match Token::decode(event.data()) {
            Token::Control => self.hub.accept_client(&self.sources.control),
            Token::Console => self.hub.accept_reader(&self.sources.console),
            Token::Display => self.accept_viewer(),
            Token::Output => self.hub.show_console(),
            Token::Signal => self.signal(),
            Token::Child => return Some(self.conclude()),
            Token::Monitor => self.monitor(event.event_set()),
            Token::Serial => self.serial(event.event_set()),
            Token::Client(number) if self.hub.is_client(number) => {
                self.client(number, event.event_set());
            }
            Token::Client(number) => self.reader(number, event.event_set()),
        }
        None
    }

    /// Watches for room where something waits to be sent.
    fn follow_output(&self) {
        let streams = [
            (self.link.as_raw_fd(), Token::Monitor, self.link.wants_room()),
            (self.serial.as_raw_fd(), Token::Serial, !self.typed.is_empty()),
        ];
        for (fd, token, wants) in streams {
            // One that was closed is not watched any more.
            let _ = self.hub.follow(fd, token.encode(), wants);
        }
    }

    /// Whatever becomes of QEMU is seen by its end.
    pub(super) fn kill(&mut self) {
        if let Err(error) = self.child.kill() {
            eprintln!("lq-vmm: cannot end QEMU: {error}");
        }
    }

    /// Begins to end the machine, for the first reason given.
    pub(super) fn begin_end(&mut self, mut why: ExitRecord) {
        if self.end.is_some() {
            return;
        }
        if self.panicked {
            why.detail.push_str("; the guest's kernel had panicked");
        }
        self.end = Some(why);
        self.set_state(RunState::Ending);
        self.link.submit(vec![(Execute::plain("quit"), None)], Purpose::Aside("the end of QEMU"));
    }

    /// QEMU has ended. What it said before is heard first.
    fn conclude(&mut self) -> ExitRecord {
        while let Ok(news) = self.link.receive() {
            if news.is_empty() {
                break;
            }
            news.into_iter().for_each(|news| self.news(news));
        }
        self.serial(EventSet::IN);
        let status = self.child.wait();
        self.end.take().unwrap_or_else(|| unexpected(status, self.begun))
    }

    fn monitor(&mut self, ready: EventSet) {
        if ready.contains(EventSet::OUT) {
            self.link.flush();
        }
        match self.link.receive() {
            Ok(news) => news.into_iter().for_each(|news| self.news(news)),
            Err(error) => {
                self.hub.leave(&self.link);
                if !matches!(error, super::link::Broken::Closed) && self.end.is_none() {
                    self.end = Some(record(ExitReason::Internal, exit::chain(&error)));
                }
                // Nothing of it can be steered any more; most of the time it is ending anyway.
                if self.end.is_some() {
                    self.kill();
                }
            }
        }
    }

    fn news(&mut self, news: News<Purpose>) {
        match news {
            News::Said(Message::Greeting { version: [major, minor, micro] }) => {
                eprintln!("lq-vmm: QEMU {major}.{minor}.{micro} greets");
                self.begin();
            }
            News::Said(Message::Event(event)) => self.said(event),
            News::Said(Message::Answer { .. }) => {}
            News::Done(done) => self.done(done),
        }
    }

    fn begin(&mut self) {
        let mut orders: Vec<Order> = vec![(Execute::plain("qmp_capabilities"), None)];
        let unplugged = self.config.nics.iter().enumerate().filter(|(_, nic)| nic.link_down);
        orders.extend(unplugged.map(|(n, _)| (set_link(n, false), None)));
        orders.push((Execute::plain("cont"), None));
        self.link.submit(orders, Purpose::Begin);
    }

    fn said(&mut self, event: Said) {
        match event {
            Said::Resume => self.set_state(RunState::Running),
            Said::Stop => {
                self.set_state(RunState::Paused);
                self.link.submit(vec![(Execute::plain("query-status"), None)], Purpose::Look);
            }
            Said::Reset => {
                self.panicked = false;
                self.resets += 1;
                self.tell(&Event::Reset);
            }
            Said::Panicked if !self.panicked => {
                self.panicked = true;
                self.tell(&Event::Panicked);
            }
            Said::Watchdog => self.watchdog(),
            Said::Tray { drive, open: true } => self.tray_opened(&drive),
            Said::Shutdown { reason } => {
                let why = match reason.as_str() {
                    "guest-shutdown" => {
                        record(ExitReason::GuestPowerOff, "the guest switched itself off".to_owned())
                    }
                    "host-qmp-quit" | "host-signal" => {
                        record(ExitReason::Told, format!("QEMU was told to end ({reason})"))
                    }
                    _ => record(ExitReason::Host, format!("QEMU switched the machine off ({reason})")),
                };
                if self.end.is_none() {
                    self.end = Some(why);
                    self.set_state(RunState::Ending);
                }
            }
            Said::Panicked | Said::Tray { .. } | Said::Other(_) => {}
        }
    }

    fn watchdog(&mut self) {
        let Some(action) = self.config.devices.watchdog else { return };
        self.tell(&Event::Watchdog { action });
        let command = match action {
            WatchdogAction::Report => return,
            WatchdogAction::Pause => "stop",
            WatchdogAction::Reset => "system_reset",
            WatchdogAction::PowerOff => {
                let detail = "the guest did not feed its watchdog".to_owned();
                return self.begin_end(record(ExitReason::GuestFault, detail));
            }
        };
        self.link.submit(vec![(Execute::plain(command), None)], Purpose::Aside("what the watchdog is for"));
    }

    /// The guest has opened a tray: what is in it is out.
    fn tray_opened(&mut self, drive: &str) {
        let Some(n) = (0..self.drives.len()).find(|n| command::drive_name(*n) == drive) else { return };
        let Some(medium) = self.drives.get(n).filter(|drive| !drive.ours).and_then(|drive| drive.medium)
        else {
            return;
        };
        let remove = Execute::with("blockdev-remove-medium", json!({"id": drive}));
        self.link.submit(vec![(remove, None)], Purpose::Aside("taking out what the guest has ejected"));
        self.let_go(n, medium);
        if let Ok(cdrom) = u32::try_from(n) {
            self.tell(&Event::Ejected { cdrom });
        }
    }

    fn done(&mut self, done: Done<Purpose>) {
        let failure = done.failure().cloned();
        match done.purpose {
            Purpose::Begin => match failure {
                None => self.let_in(),
                Some(why) => {
                    let detail = format!("QEMU refused to set the machine up: {why}");
                    self.begin_end(record(ExitReason::Host, detail));
                }
            },
            Purpose::Look => {
                let status = done.results.first().and_then(|result| result.as_ref().ok());
                if status.and_then(|status| status.get("status")?.as_str()) == Some("internal-error") {
                    let detail = "KVM cannot go on with the guest (an internal error)".to_owned();
                    self.begin_end(record(ExitReason::GuestFault, detail));
                }
            }
            Purpose::Aside(what) => {
                if let Some(why) = failure {
                    eprintln!("lq-vmm: {what}: {why}");
                }
            }
            Purpose::Stats(ticket) => {
                let stats = self.stats(&done.results);
                self.answer(ticket, stats);
            }
            Purpose::Asked(ticket, change) => {
                self.changed(change, failure.is_none());
                self.answer(ticket, failure.map_or(Outcome::Done, Outcome::Error));
            }
        }
    }

    /// The machine runs: from now on it can be asked.
    fn let_in(&mut self) {
        self.begun = true;
        let watched = self
            .wait_for(&self.sources.control, Token::Control)
            .and_then(|()| self.wait_for(&self.sources.console, Token::Console))
            .and_then(|()| {
                let Some(display) = &self.display else { return Ok(()) };
                display.set_nonblocking(true)?;
                self.wait_for(display, Token::Display)
            });
        if let Err(error) = watched {
            self.begin_end(record(ExitReason::Internal, format!("cannot wait for clients: {error}")));
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        self.hub.answer(ticket.client, &Response { id: ticket.request, outcome });
    }

    pub(super) fn set_state(&mut self, state: RunState) {
        if self.state != state && self.state != RunState::Ending {
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
            let press = vec![(Execute::plain("system_powerdown"), None)];
            self.link.submit(press, Purpose::Aside("the power button"));
        }
    }

    fn client(&mut self, number: u64, ready: EventSet) {
        for request in self.hub.requests(number, ready) {
            match request {
                Ok(request) => {
                    let ticket = Ticket { client: number, request: request.id };
                    let descriptors = self.hub.descriptors(number, request.command.descriptors());
                    if let Some(outcome) = self.command(request.command, descriptors, ticket) {
                        self.answer(ticket, outcome);
                    }
                }
                Err(refusal) => self.hub.send(number, &*refusal),
            }
        }
        self.hub.served(number);
    }

    pub(super) fn tell(&mut self, event: &Event) {
        self.hub.tell(event);
    }

    /// A viewer of the screen is QEMU's from its first byte on.
    fn accept_viewer(&mut self) {
        let Some(Ok((stream, _))) = self.display.as_ref().map(UnixListener::accept) else { return };
        if self.link.is_full() {
            eprintln!("lq-vmm: refused a viewer: QEMU does not answer");
            return;
        }
        self.viewers_so_far += 1;
        let name = format!("viewer{}", self.viewers_so_far);
        let hand = Execute::with("getfd", json!({"fdname": name}));
        let add = Execute::with("add_client", json!({"protocol": "vnc", "fdname": name, "skipauth": true}));
        self.link
            .submit(vec![(hand, Some(stream.into())), (add, None)], Purpose::Aside("a viewer of the screen"));
    }

    /// The guest wrote, or reads.
    fn serial(&mut self, ready: EventSet) {
        if has_come(ready) {
            let mut part = [0; TURN];
            match self.serial.read(&mut part) {
                Ok(0) => self.hub.leave(&self.serial),
                Ok(count) => {
                    // Into memory.
                    let _ = self.hub.output().write_all(part.get(..count).unwrap_or_default());
                }
                Err(_) => {}
            }
        }
        self.type_on();
    }

    fn type_on(&mut self) {
        while !self.typed.is_empty() {
            let (front, _) = self.typed.as_slices();
            match self.serial.write(front) {
                Ok(0) | Err(_) => return,
                Ok(count) => drop(self.typed.drain(..count)),
            }
        }
    }

    fn reader(&mut self, number: u64, ready: EventSet) {
        if let Some(typed) = self.hub.reader(number, ready) {
            let room = MAX_TYPED.saturating_sub(self.typed.len());
            self.typed.extend(typed.into_iter().take(room));
            self.type_on();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Only where it did not end by itself; then nobody would steer it any more.
        if let Ok(None) = self.child.try_wait() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

pub(super) fn set_link(nic: usize, up: bool) -> Execute {
    Execute::with("set_link", json!({"name": command::nic_name(nic), "up": up}))
}

pub(super) fn record(reason: ExitReason, detail: String) -> ExitRecord {
    ExitRecord { reason, detail }
}

/// The end of a QEMU that did not say why.
fn unexpected(status: io::Result<ExitStatus>, begun: bool) -> ExitRecord {
    let when = if begun { "" } else { " while the machine was set up" };
    let how = match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}"),
            (None, code) => format!("ended with status {}", code.unwrap_or_default()),
        },
        Err(error) => format!("ended, and how is not known ({error})"),
    };
    record(ExitReason::Host, format!("QEMU {how}{when}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        let clients = [0, 1, 77].map(Token::Client);
        for token in TOKENS.into_iter().chain(clients) {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }

    #[test]
    fn ends_without_a_word_are_told_in_words() {
        let killed = unexpected(Ok(ExitStatus::from_raw(9)), true);
        assert_eq!(
            (killed.reason, killed.detail.as_str()),
            (ExitReason::Host, "QEMU was killed by signal 9")
        );
        let refused = unexpected(Ok(ExitStatus::from_raw(1 << 8)), false);
        assert_eq!(refused.detail, "QEMU ended with status 1 while the machine was set up");
    }
}
