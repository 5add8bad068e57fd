//! Client of one `lq-vmm`: its control and console sockets.

use super::{Error, lines::Lines};
use lq_api::local::{
    paths,
    vmm::{Command, Event, Outcome, Request, Response, RunState, Stats, Status, VERSION},
};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixStream, sync::Mutex, time::timeout};

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

    async fn connect(&self) -> io::Result<Lines> {
        Lines::connect(&self.run_dir.join(paths::VM_CONTROL)).await
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
