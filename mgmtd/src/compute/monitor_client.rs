//! Client of one `lq-vmm`: its control and console sockets.

use super::{Error, Incoming, lines::Lines};
use crate::hardware::Told;
use lq_api::local::{
    paths,
    vmm::{
        Command, Event, MemoryStatus, MigrateOptions, MigrationStatus, Outcome, Request, Response, RunState,
        Stats, Status, VERSION, VmmConfig,
    },
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::{
    fs::File,
    io::{self, IoSlice},
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::UnixStream,
    sync::{Mutex, oneshot},
    time::timeout,
};

/// A monitor answers within this time; `Pause` may have to wait for disks.
const ANSWER: Duration = Duration::from_secs(10);

/// A client of the monitor with this run directory.
pub(super) struct Monitor {
    run_dir: PathBuf,
    control: Mutex<(Option<Lines>, u64)>,
}

/// What a monitor tells.
pub(super) struct Events(Lines);

impl Events {
    /// The next event; an error when the connection ends. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Event> {
        self.0.receive().await
    }
}

impl Monitor {
    pub(super) fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned(), control: Mutex::new((None, 0)) }
    }

    async fn connect_raw(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.run_dir.join(paths::VM_CONTROL)).await
    }

    async fn connect(&self) -> io::Result<Lines> {
        Ok(Lines::on(self.connect_raw().await?))
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, command: Command) -> Result<Outcome, Error> {
        let failed = |source| Error::Io { context: format!("asking the monitor for {command:?}"), source };
        let mut control = self.control.lock().await;
        let (kept, last) = &mut *control;
        *last += 1;
        let id = *last;
        let exchange = async {
            let mut lines = match kept.take() {
                Some(lines) => lines,
                None => self.connect().await?,
            };
            let outcome = exchange(&mut lines, id, command.clone()).await?;
            *kept = Some(lines);
            io::Result::Ok(outcome)
        };
        let outcome = timeout(ANSWER, exchange).await;
        match outcome.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)? {
            Outcome::Error(reason) => Err(Error::Io {
                context: format!("the monitor refused {command:?}"),
                source: io::Error::other(reason),
            }),
            outcome => Ok(outcome),
        }
    }

    pub(super) async fn status(&self) -> Result<Status, Error> {
        match self.ask(Command::Status).await? {
            Outcome::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn stats(&self) -> Result<Stats, Error> {
        match self.ask(Command::Stats).await? {
            Outcome::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn migration(&self) -> Result<MigrationStatus, Error> {
        match self.ask(Command::MigrateStatus).await? {
            Outcome::Migration(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// What the machine has, as it would have to be started.
    pub(super) async fn config(&self) -> Result<VmmConfig, Error> {
        match self.ask(Command::Config).await? {
            Outcome::Config(config) => Ok(*config),
            other => Err(unexpected(&other)),
        }
    }

    /// How the memory stands that comes and goes.
    pub(super) async fn memory(&self) -> Result<MemoryStatus, Error> {
        match self.ask(Command::MemoryStatus).await? {
            Outcome::Memory(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// All it says of what the machine has.
    pub(super) async fn told(&self) -> Result<Told, Error> {
        let Status { state, cdroms: loaded, .. } = self.status().await?;
        let config = self.config().await?;
        // A monitor of an earlier release knows nothing of it, nor does its machine have any.
        let there = matches!(state, RunState::Running | RunState::Paused) && config.devices.memory.is_some();
        let memory = if there { Some(self.memory().await?) } else { None };
        Ok(Told { config, loaded, memory })
    }

    /// Has the machine changed, with what its command comes with, on a connection of its own: it may take long, and nothing
    /// else waits for it. What the monitor says against it is [`Error::Refused`].
    pub(super) async fn change(
        &self,
        command: Command,
        files: &[File],
        limit: Duration,
    ) -> Result<(), Error> {
        let failed = |source| Error::Io { context: "having the monitor change its machine".into(), source };
        let descriptors: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let asked = async {
            let response: Response = self.send_with(command, &descriptors).await?.receive().await?;
            io::Result::Ok(response.outcome)
        };
        match timeout(limit, asked)
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?
        {
            Outcome::Done => Ok(()),
            Outcome::Error(reason) => Err(Error::Refused(reason)),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks with a stream of whose two ends the monitor gets one. Returns the other one, and the connection its answer comes by.
    async fn hand_over(&self, command: Command) -> io::Result<(UnixStream, Lines)> {
        let (ours, theirs) = UnixStream::pair()?;
        let connection = self.send_with(command, &[theirs.as_raw_fd()]).await?;
        Ok((ours, connection))
    }

    /// Asks with descriptors. Returns the connection the answer comes by.
    async fn send_with(&self, command: Command, descriptors: &[RawFd]) -> io::Result<Lines> {
        let connection = self.connect_raw().await?;
        let mut line = serde_json::to_vec(&Request { version: VERSION, id: 1, command })?;
        line.push(b'\n');
        let sent = connection.async_io(Interest::WRITABLE, || {
            let beside = [ControlMessage::ScmRights(descriptors)];
            let beside = beside.get(usize::from(descriptors.is_empty())..).unwrap_or_default();
            let flags = MsgFlags::MSG_NOSIGNAL;
            let sent = sendmsg::<()>(connection.as_raw_fd(), &[IoSlice::new(&line)], beside, flags, None);
            sent.map_err(io::Error::from)
        });
        let sent = timeout(ANSWER, sent).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let mut connection = connection;
        // A line of this length goes in one piece but for an odd kernel.
        connection.write_all(line.get(sent..).unwrap_or_default()).await?;
        Ok(Lines::on(connection))
    }

    pub(super) async fn move_out(&self, options: MigrateOptions) -> Result<UnixStream, Error> {
        let command = Command::MigrateOut(options);
        let failed = |source| Error::Io { context: "having the monitor send its machine".into(), source };
        let asked = async {
            let (stream, mut lines) = self.hand_over(command).await?;
            let response: Response = lines.receive().await?;
            io::Result::Ok((stream, response.outcome))
        };
        match timeout(ANSWER, asked)
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?
        {
            (stream, Outcome::Done) => Ok(stream),
            (_, Outcome::Error(reason)) => Err(failed(io::Error::other(reason))),
            (_, other) => Err(unexpected(&other)),
        }
    }

    pub(super) async fn move_in(&self) -> Result<Incoming, Error> {
        let failed = |source| Error::Io { context: "having the monitor take a machine in".into(), source };
        let (stream, mut lines) = self.hand_over(Command::MigrateIn).await.map_err(failed)?;
        let (tell, outcome) = oneshot::channel();
        tokio::spawn(async move {
            // It answers once the machine runs, however long that takes; a connection that breaks says nothing.
            if let Ok(Response { outcome, .. }) = lines.receive().await {
                let known = match outcome {
                    Outcome::Done => Ok(()),
                    Outcome::Error(reason) => Err(Error::Refused(reason)),
                    other => {
                        tracing::warn!("unexpected answer of a monitor: {other:?}");
                        return;
                    }
                };
                let _ = tell.send(known);
            }
        });
        Ok(Incoming { stream: Box::new(stream), outcome })
    }

    /// Subscribes, then asks for the state: together nothing is missed.
    pub(super) async fn subscribe(&self) -> io::Result<(Events, RunState)> {
        let exchange = async {
            let mut lines = self.connect().await?;
            match exchange(&mut lines, 1, Command::Subscribe).await? {
                Outcome::Done => {}
                other => return Err(io::Error::other(format!("unexpected answer {other:?}"))),
            }
            let state = self.status().await.map_err(io::Error::other)?.state;
            Ok((Events(lines), state))
        };
        timeout(ANSWER, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    pub(super) async fn console(&self) -> Result<UnixStream, Error> {
        self.connect_to(paths::VM_CONSOLE, "serial console").await
    }

    pub(super) async fn display(&self) -> Result<UnixStream, Error> {
        self.connect_to(paths::VM_DISPLAY, "display").await
    }

    async fn connect_to(&self, socket: &str, what: &str) -> Result<UnixStream, Error> {
        let connected = UnixStream::connect(self.run_dir.join(socket)).await;
        connected.map_err(|source| Error::Io { context: format!("connecting to the {what}"), source })
    }
}

async fn exchange(lines: &mut Lines, id: u64, command: Command) -> io::Result<Outcome> {
    lines.send(&Request { version: VERSION, id, command }).await?;
    let response: Response = lines.receive().await?;
    if response.id != id && response.id != 0 {
        return Err(io::Error::other(format!("answer {} to question {id}", response.id)));
    }
    Ok(response.outcome)
}

fn unexpected(outcome: &Outcome) -> Error {
    Error::Io {
        context: "talking to the monitor".into(),
        source: io::Error::other(format!("unexpected answer {outcome:?}")),
    }
}
