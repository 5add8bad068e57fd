//! The services PID 1 keeps running by itself: `mgmtd`, the DHCP client, the consoles.
//!
//! A service that ends is started again after a growing wait ([`super::backoff`]). What it writes goes to a bounded log, or, for
//! a console, to its terminal.

use super::{backoff::Backoff, ring::Ring};
use crate::{
    error::{Doing, Result, chain},
    say,
    sys::spawn::{Process, spawn},
};
use lq_api::local::init::End;
use nix::fcntl::OFlag;
use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    time::{Duration, Instant},
};

/// A service as it is to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Its terminal, for a console; else its output goes to `log`.
    pub terminal: Option<PathBuf>,
    /// Its log.
    pub log: PathBuf,
    /// Its cgroup.
    pub cgroup: Option<PathBuf>,
    /// Its `oom_score_adj`.
    pub oom_score: Option<i32>,
    /// It runs from the beginning.
    pub wanted: bool,
}

/// A service and how it fares.
#[derive(Debug)]
pub struct Service {
    spec: Spec,
    pid: Option<i32>,
    started: Instant,
    start_at: Option<Instant>,
    backoff: Backoff,
    output: Option<File>,
    ring: Ring,
    failures: u32,
    wanted: bool,
}

impl Service {
    /// A service that is to be started at once.
    pub fn new(spec: Spec) -> Self {
        let ring = Ring::new(spec.log.clone());
        let (now, wanted) = (Instant::now(), spec.wanted);
        Self {
            spec,
            pid: None,
            started: now,
            start_at: wanted.then_some(now),
            backoff: Backoff::default(),
            output: None,
            ring,
            failures: 0,
            wanted,
        }
    }

    /// It is not to run from now on; what runs of it is ended.
    pub fn stop(&mut self) {
        self.wanted = false;
        self.start_at = None;
        if let Some(pid) = self.pid {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// It is to run again.
    pub fn begin(&mut self, now: Instant) {
        if !self.wanted {
            self.wanted = true;
            self.backoff = Backoff::default();
            self.start_at = Some(now);
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its process, while it runs.
    pub const fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// For how long it has been running, where it does.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// It draws on a terminal.
    pub const fn is_display(&self) -> bool {
        self.spec.terminal.is_some()
    }

    /// When it is to be started.
    pub const fn start_at(&self) -> Option<Instant> {
        self.start_at
    }

    /// Its output, to wait for.
    pub const fn output(&self) -> Option<&File> {
        self.output.as_ref()
    }

    /// Starts it where its time has come.
    pub fn start_if_due(&mut self, now: Instant) {
        if self.pid.is_some() || self.start_at.is_none_or(|at| now < at) {
            return;
        }
        self.start_at = None;
        self.started = now;
        match self.start() {
            Ok(pid) => self.pid = Some(pid),
            Err(e) => self.failed(now, &chain(&e)),
        }
    }

    fn start(&mut self) -> Result<i32> {
        let mut process = Process::new(&self.spec.argv);
        process.env = self.spec.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        process.cgroup = self.spec.cgroup.as_deref();
        process.oom_score = self.spec.oom_score;
        if let Some(path) = &self.spec.terminal {
            let tty = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOCTTY)
                .open(path)
                .doing(|| format!("open {}", path.display()))?;
            process.output = Some(tty.try_clone().doing(|| "copy a descriptor".into())?.into());
            process.stdin = Some(tty.into());
            process.terminal = true;
            return spawn(&process);
        }
        let (read, write): (OwnedFd, OwnedFd) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).doing(|| "make a pipe".into())?;
        // Only our end: a service that finds its log full for a moment must wait, not fail.
        nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .doing(|| "set up a pipe".into())?;
        process.output = Some(write);
        let pid = spawn(&process)?;
        self.output = Some(read.into());
        Ok(pid)
    }

    /// Takes what it wrote.
    pub fn drain(&mut self) {
        let mut buffer = [0u8; 16 * 1024];
        // Bounded, so that a service that writes without end cannot hold PID 1.
        for _ in 0..16 {
            let Some(file) = &mut self.output else { return };
            match file.read(&mut buffer) {
                Ok(0) => self.output = None,
                Ok(length) => self.ring.write(buffer.get(..length).unwrap_or_default()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => self.output = None,
            }
        }
    }

    /// Its process ended.
    pub fn ended(&mut self, now: Instant, end: End, going_down: bool) {
        self.pid = None;
        self.drain();
        self.output = None;
        if going_down || !self.wanted {
            return;
        }
        let how = match end {
            End::Exited(status) => format!("exited with status {status}"),
            End::Killed(signal) => format!("was killed by signal {signal}"),
        };
        self.failed(now, &how);
    }

    fn failed(&mut self, now: Instant, how: &str) {
        let wait = self.backoff.after(now.saturating_duration_since(self.started));
        self.start_at = Some(now + wait);
        self.failures += 1;
        let mut text = format!("{} {how}; starting it again in {} s", self.spec.name, wait.as_secs());
        // The first times with its last words; after that they are in its log.
        if self.failures <= 3 {
            for line in self.ring.last_lines() {
                text += &format!("\n  {}: {line}", self.spec.name);
            }
        }
        say::error(&text);
    }

    /// Time until it is to be started.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.start_at.filter(|_| self.pid.is_none()).map(|at| at.saturating_duration_since(now))
    }
}
