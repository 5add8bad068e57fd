//! Client of PID 1: starts, signals and lists units, and hears of their ends.
//!
//! Owns two connections, made again whenever they break: one for requests, one for events. An end that happened while the
//! connection was away is not lost: PID 1 repeats the ends not yet forgotten at each subscription.

use super::{Error, lines::Lines};
use lq_api::local::init::{End, InitAnswer, InitEvent, InitRequest, Unit, UnitState};
use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::{Instant, sleep, timeout},
};

/// How long a request is tried while PID 1 does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer must come within this time.
const ANSWER: Duration = Duration::from_secs(10);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The end of a unit's last process, once it has one.
pub(super) type EndOf = Option<(u32, End)>;

/// A client of PID 1.
pub(super) struct Init {
    socket: PathBuf,
    requests: AsyncMutex<Option<Lines>>,
    ends: Mutex<HashMap<String, watch::Sender<EndOf>>>,
    going_down: watch::Sender<bool>,
    listening: Once,
}

impl Init {
    pub(super) fn new(socket: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            socket,
            requests: AsyncMutex::new(None),
            ends: Mutex::default(),
            going_down: watch::Sender::new(false),
            listening: Once::new(),
        })
    }

    /// True once PID 1 said that the host goes down.
    pub(super) fn going_down(&self) -> watch::Receiver<bool> {
        self.going_down.subscribe()
    }

    /// Listens to events from now on.
    pub(super) fn listen(self: &Arc<Self>) {
        self.listening.call_once(|| {
            tokio::spawn(listen(Arc::downgrade(self), self.socket.clone()));
        });
    }

    /// Hears of the end of a unit: process and end.
    pub(super) fn watch(&self, name: &str) -> watch::Receiver<EndOf> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    fn ended(&self, name: &str, pid: u32, end: End) {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        // An end nobody watches belongs to a unit that is not ours, or is found by `list` when we adopt.
        if let Some(end_of) = ends.get(name) {
            end_of.send_replace(Some((pid, end)));
        }
    }

    /// Starts a unit; its process id.
    pub(super) async fn spawn(&self, unit: Unit) -> Result<u32, Error> {
        let name = unit.name.clone();
        let request = InitRequest::Spawn(unit);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.once(&request).await {
                Ok(InitAnswer::Spawned { pid }) => return Ok(pid),
                Ok(other) => return Err(refused("starting the monitor", &other)),
                // Whether it was started before the connection broke, only PID 1 knows.
                Err(source) => {
                    let units = self.list().await?;
                    if let Some(unit) = units.into_iter().find(|u| u.name == name && u.end.is_none()) {
                        return Ok(unit.pid);
                    }
                    if attempts == 3 {
                        return Err(Error::Io {
                            context: "asking PID 1 to start the monitor".into(),
                            source,
                        });
                    }
                }
            }
        }
    }

    /// Sends a signal to a unit.
    pub(super) async fn signal(&self, name: &str, signal: i32) -> Result<(), Error> {
        match self.patiently(&InitRequest::Signal { name: name.to_owned(), signal }).await? {
            InitAnswer::Done => Ok(()),
            other => Err(refused("signalling the monitor", &other)),
        }
    }

    /// Every unit PID 1 knows.
    pub(super) async fn list(&self) -> Result<Vec<UnitState>, Error> {
        match self.patiently(&InitRequest::List).await? {
            InitAnswer::Units { units } => Ok(units),
            other => Err(refused("listing the units", &other)),
        }
    }

    /// Forgets the end of a unit, where it has one.
    pub(super) async fn forget(&self, name: &str) -> Result<(), Error> {
        // Refused where PID 1 does not know the unit: forgotten already.
        self.patiently(&InitRequest::Forget { name: name.to_owned() }).await?;
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.get(name).is_some_and(|end_of| end_of.receiver_count() == 0) {
            ends.remove(name);
        }
        Ok(())
    }

    /// For requests that do no harm when repeated.
    async fn patiently(&self, request: &InitRequest) -> Result<InitAnswer, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.once(request).await {
                Ok(answer) => return Ok(answer),
                Err(source) if Instant::now() >= deadline => {
                    let context =
                        format!("PID 1 does not answer at {} for {PATIENCE:?}", self.socket.display());
                    return Err(Error::Io { context, source });
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn once(&self, request: &InitRequest) -> io::Result<InitAnswer> {
        let mut slot = self.requests.lock().await;
        // A connection whose exchange failed or was given up half way is not used again: it is out of step.
        let mut lines = match slot.take() {
            Some(lines) => lines,
            None => connect(&self.socket).await?,
        };
        let exchange = async {
            lines.send(request).await?;
            lines.receive().await
        };
        let answer = timeout(ANSWER, exchange).await.map_err(|_| io::ErrorKind::TimedOut)??;
        *slot = Some(lines);
        Ok(answer)
    }
}

/// PID 1 may be restarting its socket: a refused connection is tried again for a while.
async fn connect(socket: &std::path::Path) -> io::Result<Lines> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Lines::connect(socket).await {
            Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            result => return result,
        }
    }
}

fn refused(what: &str, answer: &InitAnswer) -> Error {
    let reason = match answer {
        InitAnswer::Error { reason } => reason.clone(),
        other => format!("unexpected answer {other:?}"),
    };
    Error::Io { context: format!("{what}: PID 1 refused"), source: io::Error::other(reason) }
}

/// Listens until the client is gone.
async fn listen(init: std::sync::Weak<Init>, socket: PathBuf) {
    while init.strong_count() > 0 {
        let subscribed = async {
            let mut lines = Lines::connect(&socket).await?;
            lines.send(&InitRequest::Subscribe).await?;
            io::Result::Ok(lines)
        };
        match subscribed.await {
            Err(error) => tracing::debug!(%error, "PID 1 cannot be reached; trying again"),
            Ok(mut lines) => {
                let error = loop {
                    let event = lines.receive().await;
                    let Some(init) = init.upgrade() else { return };
                    match event {
                        Ok(InitEvent::Ended { name, pid, end }) => init.ended(&name, pid, end),
                        Ok(InitEvent::GoingDown { .. }) => {
                            init.going_down.send_replace(true);
                        }
                        Err(error) => break error,
                    }
                };
                tracing::warn!(%error, "lost the connection to PID 1; connecting again");
            }
        }
        sleep(PAUSE).await;
    }
}
