//! The loop, and what each request and event does to the machine.

use super::{
    FIRST_CLIENT, Token,
    hub::Hub,
    leased::Leased,
    operator::{Begin, Failure, Finished, Job, Operator, Ticket},
    plugging::Waiting,
};
use crate::{
    console::Console,
    disk::room::Room,
    guest::{GuestEvent, Notifier},
    inventory::Inventory,
    machine::{Levers, Machine},
    migrate::{PATIENCE, source::Outgoing},
    virtio::blk::Holds,
    watchdog,
};
use lq_api::{
    VmId,
    local::vmm::{
        Command, CpuStatus, Event, ExitReason, ExitRecord, Outcome, Request, Response, RunState, Stats,
        Status, WatchdogAction,
    },
};
use std::{
    io,
    net::Shutdown,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::Arc,
};
use vmm_sys_util::epoll::{EpollEvent, EventSet};

/// Least bandwidth a migration is held to, in bytes a second: with less, its peer would count as lost.
const LEAST_BANDWIDTH: u64 = 1 << 20;

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

/// What the control thread has to do with the machine's devices.
pub struct Attached {
    /// Which there are.
    pub inventory: Inventory,
    /// The watchdog, and what becomes of a guest that does not feed it.
    pub watchdog: Option<(Arc<watchdog::Shared>, WatchdogAction)>,
    /// Which of its disks wait for room.
    pub room: Arc<Room>,
}

/// The control thread's state.
pub struct Server {
    vm: VmId,
    operator: Operator,
    pub(super) leased: Leased,
    pub(super) inventory: Inventory,
    /// Who waits for the guest to let go of a device.
    pub(super) waiting: Vec<Waiting>,
    watchdog: Option<(Arc<watchdog::Shared>, WatchdogAction)>,
    /// The guest's kernel has panicked.
    panicked: bool,
    /// The TPM has failed.
    tpm_failed: bool,
    /// Which of its disks wait for room, and whether it was told that some do.
    room: Arc<Room>,
    short: bool,
    /// Devices whose back ends are gone.
    back_ends_lost: Vec<String>,
    pub(super) levers: Levers,
    sources: Sources,
    notifier: Arc<Notifier>,
    hub: Hub,
    pub(super) state: RunState,
    resets: u64,
    /// A reset the guest asked for is on its way: what else it asked for belongs to the guest that goes.
    resetting: bool,
    /// Why the machine ends, once it does.
    end: Option<ExitRecord>,
    /// The last migration away from here.
    pub(super) outgoing: Option<Arc<Outgoing>>,
    /// The stream of a migration to here.
    incoming: Option<UnixStream>,
}

impl Server {
    /// Over a machine that is parked.
    pub fn new(
        vm: VmId,
        machine: Machine,
        sources: Sources,
        console: Console,
        notifier: Arc<Notifier>,
        attached: Attached,
        leased: Leased,
    ) -> io::Result<Self> {
        let Attached { inventory, watchdog, room } = attached;
        let hub = Hub::new(console, FIRST_CLIENT, Token::Console.encode())?;
        let levers = machine.levers();
        let operator =
            Operator::start(machine, Holds { lease: Arc::clone(leased.fence()), room: Arc::clone(&room) })?;
        hub.watch(&sources.control, Token::ControlSocket.encode())?;
        hub.watch(&sources.console, Token::ConsoleSocket.encode())?;
        hub.watch(notifier.event(), Token::Guest.encode())?;
        hub.watch(&sources.signals, Token::Signal.encode())?;
        hub.watch(operator.event(), Token::Operator.encode())?;
        hub.watch(leased.timer(), Token::Lease.encode())?;
        if let Some((shared, _)) = &watchdog {
            hub.watch(shared.timer(), Token::Watchdog.encode())?;
        }
        Ok(Self {
            vm,
            operator,
            leased,
            inventory,
            waiting: Vec::new(),
            watchdog,
            panicked: false,
            tpm_failed: false,
            room,
            short: false,
            back_ends_lost: Vec::new(),
            levers,
            sources,
            notifier,
            hub,
            state: RunState::Running,
            resets: 0,
            resetting: false,
            end: None,
            outgoing: None,
            incoming: None,
        })
    }

    /// Begins and serves until the machine has ended.
    pub fn run(mut self, begin: Begin) -> ExitRecord {
        self.state = begin.state();
        self.submit(Job::Begin(begin), None);
        let end = loop {
            self.end_waiting();
            let mut events = [EpollEvent::default(); 32];
            let count = match self.hub.wait(self.patience_ends(), &mut events) {
                Ok(0) => {
                    self.hub.show_console();
                    continue;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break internal(&format!("cannot wait for events: {error}")),
            };
            let mut ended = events.iter().take(count).filter_map(|event| self.handle(event));
            if let Some(end) = ended.next() {
                break end;
            }
        };
        self.hub.show_console();
        self.tell(&Event::Exit(end.clone()));
        end
    }

    pub(super) fn submit(&mut self, job: Job, ticket: Option<Ticket>) {
        if !self.operator.submit(job, ticket) && self.end.is_none() {
            self.end = Some(internal("the operator's thread is gone"));
        }
    }

    /// Begins to end the machine, for the first reason given. It has ended when the operator has stopped it.
    fn begin_end(&mut self, mut why: ExitRecord) {
        if self.end.is_none() {
            if self.panicked {
                why.detail.push_str("; the guest's kernel had panicked");
            }
            self.end = Some(why);
            self.cut();
            self.set_state(RunState::Ending);
            self.submit(Job::Stop, None);
        }
    }

    /// Calls off what moves, so that nothing waits for it.
    fn cut(&self) {
        if let Some(outgoing) = &self.outgoing {
            // It may be over, or past the moment it can be called off.
            let _ = outgoing.cancel();
        }
        if let Some(incoming) = &self.incoming {
            // Fails only where it is cut already.
            let _ = incoming.shutdown(Shutdown::Both);
        }
    }

    fn handle(&mut self, event: &EpollEvent) -> Option<ExitRecord> {
        match Token::decode(event.data()) {
            Token::ControlSocket => self.hub.accept_client(&self.sources.control),
            Token::ConsoleSocket => self.hub.accept_reader(&self.sources.console),
            Token::Guest => self.guest_events(),
            Token::Operator => return self.jobs_done(),
            Token::Lease => return self.lease_timer(),
            Token::Watchdog => self.watchdog(),
            Token::Console => self.hub.show_console(),
            Token::Signal => self.signal(),
            Token::Client(number) if self.hub.is_client(number) => {
                return self.client(number, event.event_set());
            }
            Token::Client(number) => {
                if let Some(typed) = self.hub.reader(number, event.event_set()) {
                    self.levers.type_in(&typed);
                }
            }
        }
        None
    }

    fn guest_events(&mut self) {
        if self.resetting {
            // Looked at when the reset is done.
            return self.notifier.acknowledge();
        }
        let (news, asked): (Vec<_>, Vec<_>) = self.notifier.take().into_iter().partition(GuestEvent::is_news);
        news.into_iter().for_each(|event| self.news(&event));
        let Some(event) = asked.into_iter().next() else { return };
        let (reason, detail) = match event {
            GuestEvent::Restarted
            | GuestEvent::Ejected(_)
            | GuestEvent::Unplugged
            | GuestEvent::Panicked
            | GuestEvent::TpmFailed(_)
            | GuestEvent::Room
            | GuestEvent::BackEndLost(..) => return,
            GuestEvent::Reset => {
                self.resetting = true;
                return self.submit(Job::Reset { by_guest: true }, None);
            }
            GuestEvent::PowerOff => (ExitReason::GuestPowerOff, "the guest switched itself off".to_owned()),
            GuestEvent::Fault(detail) => (ExitReason::GuestFault, detail),
            GuestEvent::Host(detail) => (ExitReason::Host, detail),
        };
        self.begin_end(ExitRecord { reason, detail });
    }

    /// Tells what the guest did.
    fn news(&mut self, event: &GuestEvent) {
        match event {
            GuestEvent::Ejected(number) => self.tell(&Event::Ejected { cdrom: *number as u32 }),
            GuestEvent::Unplugged => self.submit(Job::Sweep, None),
            GuestEvent::Restarted => self.panicked = false,
            GuestEvent::Panicked if !self.panicked => {
                self.panicked = true;
                self.tell(&Event::Panicked);
            }
            GuestEvent::TpmFailed(why) => {
                self.tpm_failed = true;
                self.tell(&Event::TpmFailed { why: why.clone() });
            }
            GuestEvent::Room if self.short != self.room.is_short() => {
                self.short = !self.short;
                self.tell(&Event::Room { short: self.short });
            }
            GuestEvent::BackEndLost(device, why) if !self.back_ends_lost.contains(device) => {
                self.back_ends_lost.push(device.clone());
                self.tell(&Event::BackEndLost { device: device.clone(), why: why.clone() });
            }
            _ => {}
        }
    }

    /// The watchdog's timer has come.
    fn watchdog(&mut self) {
        let Some((shared, action)) = &self.watchdog else { return };
        let action = *action;
        if !shared.expired() || self.end.is_some() {
            return;
        }
        self.tell(&Event::Watchdog { action });
        match action {
            WatchdogAction::Report => {}
            WatchdogAction::Pause => self.submit(Job::Pause, None),
            WatchdogAction::Reset if self.resetting => {}
            WatchdogAction::Reset => {
                self.resetting = true;
                self.submit(Job::Reset { by_guest: true }, None);
            }
            WatchdogAction::PowerOff => {
                let detail = "the guest did not feed its watchdog".to_owned();
                self.begin_end(ExitRecord { reason: ExitReason::GuestFault, detail });
            }
        }
    }

    /// Takes what the operator has done. A record: the machine has ended.
    fn jobs_done(&mut self) -> Option<ExitRecord> {
        for Finished { mut job, ticket, state, result, removed } in self.operator.finished() {
            self.removed(removed);
            let outcome =
                result.as_ref().map_or_else(|e| Outcome::Error(crate::exit::chain(e)), |()| Outcome::Done);
            match (&mut job, &result) {
                (Job::Stop, _) => {
                    let mut end = self.end.take().unwrap_or_else(|| internal("stopped without a reason"));
                    if let Err(error) = result {
                        end.detail.push_str("; ");
                        end.detail.push_str(&crate::exit::chain(&error));
                    }
                    return Some(end);
                }
                (Job::Reset { .. }, Ok(())) => {
                    self.resets += 1;
                    self.tell(&Event::Reset);
                }
                (Job::HandedOver, Ok(())) => self.lease_away(true),
                (Job::Keep, Ok(())) => self.lease_away(false),
                (Job::Move(_, _, begun), Ok(())) => self.outgoing.clone_from(begun),
                (Job::Change(_, _, by), Ok(())) => self.inventory.changed(by),
                (Job::Plug { added, plugged, .. }, Ok(())) => {
                    if let (Some(added), Some(plugged)) = (added.take(), plugged.take()) {
                        self.inventory.plugged(added, plugged.slot, plugged.counter);
                    }
                }
                (Job::AimCpus(count), Ok(())) => self.inventory.aimed(*count),
                (Job::Leave, Ok(())) => {
                    self.begin_end(ExitRecord { reason: ExitReason::Migrated, detail: self.moved() })
                }
                (Job::Receive(_), Ok(())) => self.incoming = None,
                (_, Err(Failure::Move(error))) => {
                    let detail = format!("the machine did not move here: {}", crate::exit::chain(error));
                    self.begin_end(ExitRecord { reason: ExitReason::NotArrived, detail });
                }
                (_, Err(error @ Failure::LeaseLost)) => {
                    let detail = crate::exit::chain(error);
                    self.begin_end(ExitRecord { reason: ExitReason::LeaseLost, detail });
                }
                (_, Err(Failure::Broken(error))) => self.begin_end(failed(error)),
                _ => {}
            }
            if self.end.is_none() {
                self.set_state(state);
            }
            if matches!(job, Job::Reset { .. }) {
                self.resetting = false;
                self.guest_events();
            }
            if let Some(ticket) = ticket {
                self.answer(ticket.client, &Response { id: ticket.request, outcome });
            }
        }
        None
    }

    fn moved(&self) -> String {
        let pause = self.outgoing.as_ref().and_then(|outgoing| outgoing.status().pause_micros);
        let pause = pause.map(|micros| format!("; it stood still for {} ms", micros.div_ceil(1000)));
        format!("the machine runs on another host{}", pause.unwrap_or_default())
    }

    pub(super) fn answer(&mut self, number: u64, response: &Response) {
        self.hub.answer(number, response);
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
            self.levers.power_button();
        }
    }

    /// Answers a request, or has the operator carry it out (`None`: the answer comes later).
    fn command(&mut self, command: Command, descriptors: Vec<OwnedFd>, ticket: Ticket) -> Option<Outcome> {
        let job = match command {
            Command::Status => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                return Some(Outcome::Status(Status {
                    version,
                    vm: self.vm,
                    state: self.state,
                    resets: self.resets,
                    panicked: self.panicked,
                    tpm_failed: self.tpm_failed,
                    short_of_room: self.short,
                    back_ends_lost: self.back_ends_lost.clone(),
                    cdroms: self.inventory.slots.loaded(),
                    lease: self.leased.status(),
                }));
            }
            Command::Stats => {
                let (disks, nics) = self.inventory.counters.read();
                return Some(Outcome::Stats(Stats { exits: self.levers.exits(), disks, nics }));
            }
            Command::Config => return Some(Outcome::Config(Box::new(self.inventory.config()))),
            Command::BalloonStatus => {
                return Some(self.inventory.slots.balloon().map_or_else(Outcome::Error, Outcome::Balloon));
            }
            Command::MemoryStatus => {
                return Some(self.inventory.slots.memory().map_or_else(Outcome::Error, Outcome::Memory));
            }
            Command::CpuStatus => {
                let wanted = self.inventory.vcpus();
                let status = |(most, present)| CpuStatus { most, wanted, present };
                let cpus = self.levers.cpus().map(status).ok_or_else(no_cpus);
                return Some(cpus.map_or_else(Outcome::Error, Outcome::Cpus));
            }
            Command::Subscribe => {
                self.hub.subscribe(ticket.client);
                return Some(Outcome::Done);
            }
            Command::Quit | Command::ForceQuit => return Some(Outcome::Done),
            _ if self.end.is_some() => return Some(Outcome::Error("the machine is being ended".to_owned())),
            Command::PowerButton if self.state == RunState::Running => {
                self.levers.power_button();
                return Some(Outcome::Done);
            }
            Command::PowerButton => {
                return Some(Outcome::Error(format!("the guest is {:?} and cannot react", self.state)));
            }
            Command::LeaseSet(grant) => match self.inventory.unleasable() {
                None => return self.lease_set(grant, ticket),
                why => return why.map(Outcome::Error),
            },
            Command::BalloonTarget(target) if target.bytes > 0 && self.inventory.pinned().is_some() => {
                return self.inventory.pinned().map(Outcome::Error);
            }
            Command::LeaseRelease(release) => return self.lease_release(release, ticket),
            Command::DiskLimits(_)
            | Command::NicLimits(_)
            | Command::DiskResize(_)
            | Command::NicLink(_)
            | Command::CdromEject(_)
            | Command::MemoryTarget(_)
            | Command::BalloonTarget(_) => match self.inventory.slots.change(&command) {
                Ok((slot, change)) => Job::Change(slot, Some(change), command),
                Err(why) => return Some(Outcome::Error(why)),
            },
            Command::CpuTarget(target) => match self.aim_cpus(target) {
                Ok(job) => job,
                Err(why) => return Some(Outcome::Error(why)),
            },
            Command::Pause => Job::Pause,
            Command::Resume => Job::Resume,
            Command::Reset => Job::Reset { by_guest: false },
            Command::Unplug(unplug) => return self.unplug(unplug, ticket),
            Command::Snapshot | Command::MigrateOut(_) if self.inventory.rooted().is_some() => {
                return self.inventory.rooted().map(Outcome::Error);
            }
            Command::Snapshot
            | Command::MigrateOut(_)
            | Command::MigrateIn
            | Command::CdromInsert(_)
            | Command::DiskPlug(_)
            | Command::NicPlug(_) => match self.with_descriptors(command, descriptors) {
                Ok(job) => job,
                Err(why) => return Some(Outcome::Error(why)),
            },
            Command::MigrateStatus => {
                let status = self.outgoing.as_ref().map(|outgoing| outgoing.status()).unwrap_or_default();
                return Some(Outcome::Migration(status));
            }
            Command::MigrateCancel => {
                let done = match (&self.outgoing, &self.incoming) {
                    (Some(outgoing), _) => outgoing.cancel(),
                    (None, Some(incoming)) => incoming.shutdown(Shutdown::Both).map_err(|e| e.to_string()),
                    (None, None) => Err("nothing moves".to_owned()),
                };
                return Some(done.map_or_else(Outcome::Error, |()| Outcome::Done));
            }
            Command::MigrateReclaim if !self.leased.fence().is_open() => {
                return Some(Outcome::Error("the lease has run out: grant it first".to_owned()));
            }
            Command::MigrateReclaim => {
                let outgoing = self.outgoing.as_ref().ok_or_else(|| "nothing moved".to_owned());
                if let Err(why) = outgoing.and_then(|outgoing| outgoing.reclaim()) {
                    return Some(Outcome::Error(why));
                }
                Job::Keep
            }
        };
        self.submit(job, Some(ticket));
        None
    }

    /// The job of a command that takes descriptors.
    fn with_descriptors(&mut self, command: Command, mut descriptors: Vec<OwnedFd>) -> Result<Job, String> {
        let (came, wanted) = (descriptors.len(), command.descriptors());
        if came < wanted && wanted > 1 {
            return Err(format!("{came} descriptors came with the request, {wanted} are needed"));
        }
        if came == 0 {
            return Err("no descriptor came with the request".to_owned());
        }
        if matches!(command, Command::DiskPlug(_) | Command::NicPlug(_)) {
            return self.plug(command, descriptors);
        }
        let descriptor = descriptors.swap_remove(0);
        if command == Command::Snapshot {
            return Ok(Job::Snapshot(descriptor.into()));
        }
        if let Command::CdromInsert(insert) = command {
            let (slot, change) = self.inventory.slots.insert(insert, descriptor.into())?;
            return Ok(Job::Change(slot, Some(change), Command::CdromInsert(insert)));
        }
        let stream = UnixStream::from(descriptor);
        // A peer that stands still counts as lost.
        stream.set_nonblocking(false).map_err(|e| e.to_string())?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(|e| format!("the descriptor is no stream socket: {e}"))?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        match command {
            Command::MigrateOut(options) => {
                if options.bandwidth.is_some_and(|bandwidth| bandwidth < LEAST_BANDWIDTH) {
                    return Err(format!("bandwidth is below {LEAST_BANDWIDTH} bytes in a second"));
                }
                if self.outgoing.as_ref().is_some_and(|outgoing| !outgoing.is_over()) {
                    return Err("the machine is moving already".to_owned());
                }
                Ok(Job::Move(stream, options, None))
            }
            _ => {
                if self.state != RunState::Incoming || self.incoming.is_some() {
                    return Err("this machine does not wait for one that moves here".to_owned());
                }
                self.incoming = Some(stream.try_clone().map_err(|e| e.to_string())?);
                Ok(Job::Receive(stream))
            }
        }
    }

    /// A record: the process ends now.
    fn client(&mut self, number: u64, ready: EventSet) -> Option<ExitRecord> {
        let mut now = None;
        for request in self.hub.requests(number, ready) {
            let response = match &request {
                Ok(Request { id, command, .. }) => {
                    let ticket = Ticket { client: number, request: *id };
                    let descriptors = self.hub.descriptors(number, command.descriptors());
                    self.command(command.clone(), descriptors, ticket)
                        .map(|outcome| Response { id: *id, outcome })
                }
                Err(refusal) => Some(Response::clone(refusal)),
            };
            if let Some(response) = response {
                self.hub.send(number, &response);
            }
            match request.map(|request| request.command) {
                Ok(Command::Quit) => self.begin_end(told("told to end")),
                Ok(Command::ForceQuit) => now = Some(told("told to end at once, without waiting for disks")),
                _ => {}
            }
        }
        self.hub.served(number);
        now
    }

    pub(super) fn tell(&mut self, event: &Event) {
        self.hub.tell(event);
    }
}

pub(super) fn no_cpus() -> String {
    "the machine was started without processors that come and go (`devices.cpus`)".to_owned()
}

/// The end after a machine that could not start or go on.
pub(crate) fn failed(error: &crate::machine::Error) -> ExitRecord {
    let reason = match error {
        crate::machine::Error::Boot(_) | crate::machine::Error::Restore { .. } => ExitReason::Config,
        _ => ExitReason::Host,
    };
    ExitRecord { reason, detail: crate::exit::chain(error) }
}

fn told(detail: &str) -> ExitRecord {
    ExitRecord { reason: ExitReason::Told, detail: detail.to_owned() }
}

fn internal(detail: &str) -> ExitRecord {
    ExitRecord { reason: ExitReason::Internal, detail: detail.to_owned() }
}
