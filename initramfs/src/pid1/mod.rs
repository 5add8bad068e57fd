//! PID 1 at work: one thread, one `poll` loop. It reaps, supervises, runs the units of `mgmtd`, and takes the host down.
//!
//! ```text
//!            signals ─┐
//!   control socket ───┤            ┌─► units      (names, ends)
//!   outputs, timers ──┼─► Loop ────┼─► services   (back-off, logs)
//!   power button ─────┤            ├─► clients    (lines, queues)
//!   uevents ──────────┘            └─► shutdown   (phases) ──► Outcome
//! ```
//! Invariants: it never blocks but in `poll` (and for milliseconds in starting a process); a bad request is answered with an
//! error; a client that breaks its bounds is dropped; a panic in one round does not end it; an end of a unit is kept until it
//! is forgotten.

pub mod backoff;
pub mod hardware;
pub mod jobs;
pub mod lines;
pub mod network;
mod requests;
pub mod ring;
pub mod service;
pub mod shutdown;
pub mod units;

use crate::{
    error::{Doing, Result, chain},
    say,
    sys::spawn::{Process, spawn},
};
use hardware::{PET_EVERY, PowerButtons, Uevents, Watchdog};
use jobs::{Job, Purpose};
use lines::Lines;
use lq_api::local::init::{End, InitEvent};
use network::Management;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use service::{Service, Spec};
use shutdown::{Shutdown, Step, World};
use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};
use units::Units;

/// The service that is the DHCP client.
pub const DHCP: &str = "dhcp";
/// Most clients at a time.
const MAX_CLIENTS: usize = 64;
/// New devices are collected for this long before their modules are loaded.
const SETTLE: Duration = Duration::from_millis(100);

/// A screen that was started so long ago takes signals.
const DISPLAY_READY: Duration = Duration::from_secs(1);

/// How PID 1 is to work.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub socket: PathBuf,
    /// What it keeps running.
    pub services: Vec<Spec>,
    /// Look after watchdog, power button and new devices.
    pub hardware: bool,
    /// The program that loads modules for new devices.
    pub helper: String,
    /// The management network, where it is ours to change.
    pub management: Option<Management>,
    /// The mounted state partition of an installed host.
    pub state: Option<PathBuf>,
}

/// How the host is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Restart instead of switching off.
    pub reboot: bool,
}

struct Client {
    id: u64,
    /// A job is to answer first.
    busy: bool,
    stream: UnixStream,
    lines: Lines,
    subscribed: bool,
    gone: bool,
}

struct Loop {
    config: Config,
    start: Instant,
    signals: SignalFd,
    listener: UnixListener,
    clients: Vec<Client>,
    services: Vec<Service>,
    units: Units,
    shutdown: Option<(Shutdown, Outcome)>,
    /// Subscribers were told of the shutdown.
    announced: bool,
    /// Processes are left that we have not reaped.
    children: bool,
    watchdog: Option<Watchdog>,
    next_pet: Instant,
    buttons: PowerButtons,
    uevents: Option<Uevents>,
    new_aliases: Vec<String>,
    load_at: Option<Instant>,
    management: Option<Management>,
    jobs: Vec<Job>,
    clients_seen: u64,
    /// Something was written over the screens, which were not told yet.
    overwritten: bool,
}

/// Runs until a shutdown has ended everything.
pub fn run(config: Config) -> Result<Outcome> {
    let mut mask = SigSet::empty();
    for signal in
        [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPWR, Signal::SIGHUP, Signal::SIGPIPE]
    {
        mask.add(signal);
    }
    mask.thread_block().doing(|| "block signals".into())?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .doing(|| "open a signal descriptor".into())?;
    let _ = fs::remove_file(&config.socket);
    let listener =
        UnixListener::bind(&config.socket).doing(|| format!("listen at {}", config.socket.display()))?;
    listener.set_nonblocking(true).doing(|| "set up the control socket".into())?;
    fs::set_permissions(&config.socket, fs::Permissions::from_mode(0o600))
        .doing(|| format!("protect {}", config.socket.display()))?;
    let now = Instant::now();
    let mut this = Loop {
        services: config.services.iter().cloned().map(Service::new).collect(),
        watchdog: config.hardware.then(Watchdog::arm).flatten(),
        uevents: config.hardware.then(Uevents::open).flatten(),
        management: config.management.clone(),
        jobs: Vec::new(),
        clients_seen: 0,
        overwritten: false,
        config,
        start: now,
        signals,
        listener,
        clients: Vec::new(),
        units: Units::default(),
        shutdown: None,
        announced: false,
        children: true,
        next_pet: now,
        buttons: PowerButtons::default(),
        new_aliases: Vec::new(),
        load_at: None,
    };
    loop {
        match catch_unwind(AssertUnwindSafe(|| this.round())) {
            Ok(Some(outcome)) => {
                if let Some(watchdog) = this.watchdog.take() {
                    watchdog.disarm();
                }
                return Ok(outcome);
            }
            Ok(None) => {}
            Err(_) => {
                say::error(
                    "a fault in PID 1 was caught; it goes on. Please report this with the host's kernel log",
                );
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

impl Loop {
    /// Other hosts wait for this one to be reset should it hang, or do not any more.
    fn watch(&mut self, closely: bool) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.watch(closely);
            self.next_pet = Instant::now();
        }
    }

    /// One round: start what is due, wait, handle what came.
    fn round(&mut self) -> Option<Outcome> {
        let now = Instant::now();
        if self.shutdown.is_none() {
            for service in &mut self.services {
                service.start_if_due(now);
            }
        }
        if now >= self.next_pet {
            self.next_pet = now + self.watchdog.as_ref().map_or(PET_EVERY, Watchdog::pet_every);
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.pet();
            }
            if self.config.hardware {
                self.buttons.rescan();
            }
        }
        if self.load_at.is_some_and(|at| now >= at) {
            self.load_modules();
        }
        self.wait(self.next_wait(now));
        self.read_signals();
        self.reap();
        for service in &mut self.services {
            service.drain();
        }
        if self.buttons.pressed() {
            self.begin_shutdown(false, "the power button was pressed");
        }
        if let Some(uevents) = &self.uevents {
            let aliases = uevents.aliases();
            if !aliases.is_empty() && self.new_aliases.len() < 1000 {
                self.new_aliases.extend(aliases);
                self.load_at.get_or_insert(Instant::now() + SETTLE);
            }
        }
        self.accept();
        self.serve();
        self.step_network();
        self.finish_jobs();
        if self.shutdown.is_none() {
            self.redraw(Instant::now());
        }
        self.step_shutdown()
    }

    fn next_wait(&self, now: Instant) -> Duration {
        let mut wait = self.next_pet.saturating_duration_since(now);
        if self.shutdown.is_some() {
            wait = wait.min(Duration::from_millis(500));
        } else {
            wait = self.services.iter().filter_map(|s| s.wait(now)).fold(wait, Duration::min);
        }
        if !self.jobs.is_empty() {
            wait = wait.min(Duration::from_millis(20));
        }
        if self.overwritten {
            wait = wait.min(DISPLAY_READY);
        }
        if let Some(due) = self.management.as_ref().and_then(Management::due) {
            wait = wait.min(due.saturating_duration_since(now));
        }
        self.load_at.map_or(wait, |at| wait.min(at.saturating_duration_since(now)))
    }

    fn wait(&self, wait: Duration) {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        // One that waits for a job is not heard, and its hanging up must not make the loop spin.
        for client in self.clients.iter().filter(|c| !c.busy) {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !client.lines.pending().is_empty());
            fds.push(PollFd::new(client.stream.as_fd(), flags));
        }
        fds.extend(
            self.services
                .iter()
                .filter_map(Service::output)
                .map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN)),
        );
        fds.extend(self.buttons.files().map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.uevents.as_ref().map(|u| PollFd::new(u.socket().as_fd(), PollFlags::POLLIN)));
        let millis = u16::try_from(wait.as_millis() + 1).unwrap_or(u16::MAX);
        let _ = poll(&mut fds, PollTimeout::from(millis));
    }

    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGINT) => self.begin_shutdown(true, "Ctrl-Alt-Del was pressed"),
                Ok(Signal::SIGTERM | Signal::SIGPWR) => self.begin_shutdown(false, "a signal asked for it"),
                _ => {}
            }
        }
    }

    fn reap(&mut self) {
        let now = Instant::now();
        loop {
            let (pid, end) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid.as_raw(), End::Exited(status)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), End::Killed(signal as i32)),
                Ok(WaitStatus::StillAlive) => {
                    self.children = true;
                    return;
                }
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => {
                    self.children = false;
                    return;
                }
            };
            if let Some(name) = self.units.ended(pid, end) {
                self.publish(&InitEvent::Ended { name, pid: pid.unsigned_abs(), end });
            } else if let Some(service) = self.services.iter_mut().find(|s| s.pid() == Some(pid)) {
                service.ended(now, end, self.shutdown.is_some());
            }
        }
    }

    /// Lets the screens draw anew after something was written over them. A screen that was only just started is waited for: it
    /// may not be ready for the signal, which would end it.
    fn redraw(&mut self, now: Instant) {
        self.overwritten |= say::over_screen();
        let displays = || self.services.iter().filter(|s| s.is_display() && s.pid().is_some());
        if !self.overwritten || displays().any(|s| s.age(now) < DISPLAY_READY) {
            return;
        }
        for pid in displays().filter_map(Service::pid) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGUSR1);
        }
        self.overwritten = false;
    }

    fn load_modules(&mut self) {
        self.load_at = None;
        let mut argv = vec![self.config.helper.clone(), "modprobe".into()];
        argv.append(&mut self.new_aliases);
        if let Err(e) = spawn(&Process::new(&argv)) {
            say::warn(&chain(&e));
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
            let allowed = peer.is_ok_and(|p| p.uid() == 0 || p.uid() == nix::unistd::geteuid().as_raw());
            if allowed && self.clients.len() < MAX_CLIENTS && stream.set_nonblocking(true).is_ok() {
                self.clients_seen += 1;
                let id = self.clients_seen;
                self.clients.push(Client {
                    id,
                    busy: false,
                    stream,
                    lines: Lines::default(),
                    subscribed: false,
                    gone: false,
                });
            }
        }
    }

    fn serve(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        for client in clients.iter_mut().filter(|c| !c.busy) {
            self.serve_client(client);
        }
        clients.retain(|c| !c.gone);
        clients.append(&mut self.clients);
        self.clients = clients;
        if let Some((_, outcome)) = &self.shutdown
            && !self.announced
        {
            self.announced = true;
            self.publish(&InitEvent::GoingDown { reboot: outcome.reboot });
        }
        self.flush();
    }

    fn serve_client(&mut self, client: &mut Client) {
        let mut buffer = [0u8; 16 * 1024];
        // Bounded, so that one client cannot hold the loop.
        for _ in 0..8 {
            match client.stream.read(&mut buffer) {
                Ok(0) => client.gone = true,
                Ok(length) => match client.lines.receive(buffer.get(..length).unwrap_or_default()) {
                    Ok(lines) => {
                        for line in lines.iter().filter(|l| !l.trim().is_empty()) {
                            self.handle_line(client, line);
                        }
                    }
                    Err(e) => {
                        say::warn(&format!("a client of PID 1 is dropped: {e}"));
                        client.gone = true;
                    }
                },
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => client.gone = true,
            }
            if client.gone {
                return;
            }
        }
    }

    /// Changes of the management network that are due. The DHCP client is one of the services.
    fn step_network(&mut self) {
        if self.shutdown.is_some() {
            return;
        }
        let dhcp = self.services.iter_mut().find(|s| s.name() == DHCP);
        if let (Some(management), Some(dhcp)) = (&mut self.management, dhcp) {
            management.step(Instant::now(), dhcp);
        }
    }

    /// Answers for the jobs that have ended.
    fn finish_jobs(&mut self) {
        let mut ended = Vec::new();
        self.jobs.retain(|job| {
            let result = job.ended();
            let under_way = result.is_none();
            ended.extend(result.map(|r| (job.client, job.purpose, r)));
            under_way
        });
        for (id, purpose, result) in ended {
            if let (Purpose::KeepNetwork, Some(management)) = (purpose, &mut self.management) {
                management.kept(&result);
            }
            if let Some(client) = self.clients.iter_mut().find(|c| c.id == id) {
                client.busy = false;
                client.gone |= client.lines.queue(&jobs::answer(&result)).is_err();
            }
        }
        self.flush();
    }

    /// Sends an event to every subscriber.
    fn publish(&mut self, event: &InitEvent) {
        for client in self.clients.iter_mut().filter(|c| c.subscribed) {
            client.gone |= client.lines.queue(event).is_err();
        }
    }

    fn flush(&mut self) {
        for client in &mut self.clients {
            while !client.lines.pending().is_empty() {
                match client.stream.write(client.lines.pending()) {
                    Ok(0) => client.gone = true,
                    Ok(count) => client.lines.sent(count),
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(_) => client.gone = true,
                }
                if client.gone {
                    break;
                }
            }
        }
        self.clients.retain(|c| !c.gone);
    }

    /// Begins to take the host down; a second call changes nothing.
    fn begin_shutdown(&mut self, reboot: bool, reason: &str) {
        if self.shutdown.is_some() {
            return;
        }
        self.shutdown = Some((Shutdown::new(self.start.elapsed()), Outcome { reboot }));
        // The screens make room for what follows.
        for service in self.services.iter().filter(|s| s.is_display()) {
            if let Some(pid) = service.pid() {
                let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        say::screen_owns(false);
        let what = if reboot { "restarting" } else { "switching off" };
        say::info(&format!("{what}: {reason}"));
    }

    fn step_shutdown(&mut self) -> Option<Outcome> {
        let (mut shutdown, outcome) = self.shutdown.clone()?;
        let world = World {
            units: self.units.running(),
            services: self
                .services
                .iter()
                .filter(|s| !s.is_display())
                .filter_map(|s| Some((s.name().to_owned(), s.pid()?)))
                .collect(),
            others: self.children,
        };
        let steps = shutdown.step(self.start.elapsed(), &world);
        self.shutdown = Some((shutdown, outcome));
        for step in steps {
            match step {
                Step::Signal(pid, signal) => self.signal(pid, signal),
                Step::SignalAll(signal) if std::process::id() == 1 => self.signal(-1, signal),
                // As an ordinary process (tests) we end only what we started.
                Step::SignalAll(signal) => {
                    for (_, pid, _) in &world.units {
                        self.signal(*pid, signal);
                    }
                }
                Step::Say(text) => say::info(&text),
                Step::Done => return Some(outcome),
            }
        }
        None
    }

    fn signal(&self, pid: i32, signal: i32) {
        // SAFETY: kill takes no memory.
        unsafe { libc::kill(pid, signal) };
    }
}
