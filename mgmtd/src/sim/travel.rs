//! How a simulated machine moves: by the messages real monitors send each other, with memory that is only counted.
//!
//! ```text
//!  source                                   target
//!  copies    (runs)        ── Hello ──▶     Incoming
//!            ◀─ Accept ──  ── Memory… ─▶
//!  halted    (stands)      ── State ──▶     takes up ticks and what was typed
//!            ◀─ Ready ──   ── Commit ─▶
//!  away      (stands)      ◀─ Running ─     Running
//!  ended (migrated)
//! ```
//! Before `Commit` a lost connection leaves the machine at the source; after it, the source stands still in doubt until it is
//! told to go on. Scroll-back stays behind, as with real ones. A guest with `arrival=refused` in its command line is refused at
//! the last moment, one with `offer=refused` at the first: so both ways back can be tried.

use super::machine::Guest;
use crate::compute::{Console, Error, Incoming, MachineState, frames::Frame};
use lq_api::{
    Bytes, VmId, VolumeId,
    local::{
        frame::Kind,
        vmm::{ExitReason, MigrateOptions, MigrationPhase, MigrationStatus},
    },
    vm::Mac,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    sync::oneshot,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Memory that counts as one frame.
const CHUNK: u64 = 4 << 20;
/// Bytes really sent for it.
const SENT: usize = 16 << 10;
/// How long one side waits for a sign of the other.
const PATIENCE: Duration = Duration::from_secs(30);

/// What must be the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) vm: VmId,
    pub(super) vcpus: u8,
    pub(super) memory: Bytes,
    pub(super) disks: Vec<VolumeId>,
    pub(super) nics: Vec<Mac>,
}

/// What goes along.
#[derive(Serialize, Deserialize)]
struct Luggage {
    ticks: u64,
    typed: Vec<u8>,
    deaf: bool,
    running: bool,
}

/// The last move away.
#[derive(Default)]
pub(super) struct Journey {
    status: Mutex<MigrationStatus>,
    cancel: Mutex<CancellationToken>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journey {
    pub(super) fn status(&self) -> MigrationStatus {
        lock(&self.status).clone()
    }

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.status().phase, MigrationPhase::Copying | MigrationPhase::HandingOver)
    }

    /// The last moment at which it can be called off.
    fn hand_over(&self) -> io::Result<()> {
        let mut status = lock(&self.status);
        if lock(&self.cancel).is_cancelled() {
            return Err(io::Error::other("it was called off"));
        }
        status.phase = MigrationPhase::HandingOver;
        Ok(())
    }

    pub(super) fn cancel(&self) -> Result<(), Error> {
        // Under the lock the last word is not sent.
        let status = lock(&self.status);
        if status.phase != MigrationPhase::Copying {
            return Err(Error::Refused("it cannot be called off any more".into()));
        }
        lock(&self.cancel).cancel();
        Ok(())
    }

    pub(super) fn reclaim(&self, guest: &Guest) -> Result<(), Error> {
        let mut status = lock(&self.status);
        if status.phase != MigrationPhase::InDoubt {
            return Err(Error::Refused("there is no doubt where the machine is".into()));
        }
        status.phase = MigrationPhase::Failed;
        guest.halted.store(false, Ordering::SeqCst);
        guest.set(MachineState::Running);
        Ok(())
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        options: MigrateOptions,
    ) -> Result<Box<dyn Console>, Error> {
        if self.is_under_way() {
            return Err(Error::Refused("the machine is moving already".into()));
        }
        *lock(&self.status) = MigrationStatus { phase: MigrationPhase::Copying, ..Default::default() };
        let cancel = CancellationToken::new();
        *lock(&self.cancel) = cancel.clone();
        let (ours, theirs) = tokio::io::duplex(SENT * 4);
        let (this, guest) = (self.clone(), guest.clone());
        tokio::spawn(async move {
            let mut away = Away { journey: &this, guest: &guest, stream: ours, committed: false };
            let sent = tokio::select! {
                () = cancel.cancelled() => Err(io::Error::other("it was called off")),
                sent = away.send(options) => sent,
            };
            away.end(sent);
        });
        Ok(Box::new(theirs))
    }
}

struct Away<'a> {
    journey: &'a Journey,
    guest: &'a Guest,
    stream: DuplexStream,
    committed: bool,
}

impl Away<'_> {
    async fn send(&mut self, options: MigrateOptions) -> io::Result<()> {
        let guest = self.guest;
        let shape = guest.shape();
        say(&mut self.stream, Kind::Hello, &serde_json::to_vec(&shape)?).await?;
        self.expect(Kind::Accept).await?;
        let all = shape.memory.get();
        self.copy(all, options).await?;
        self.copy(all / 32, options).await?;
        let began = Instant::now();
        let running = *guest.state.borrow() == MachineState::Running;
        guest.halted.store(true, Ordering::SeqCst);
        let luggage = Luggage {
            ticks: guest.ticks.load(Ordering::SeqCst),
            typed: lock(&guest.typed).clone(),
            deaf: guest.deaf.load(Ordering::SeqCst),
            running,
        };
        say(&mut self.stream, Kind::State, &serde_json::to_vec(&luggage)?).await?;
        self.expect(Kind::Ready).await?;
        self.journey.hand_over()?;
        // From here on the word counts as said: whether it arrives nobody here can know.
        self.committed = true;
        guest.set(MachineState::Away);
        say(&mut self.stream, Kind::Commit, b"{}").await?;
        self.expect(Kind::Running).await?;
        let mut status = lock(&self.journey.status);
        status.pause_micros = u64::try_from(began.elapsed().as_micros()).ok();
        status.phase = MigrationPhase::Moved;
        Ok(())
    }

    /// One pass over so many bytes.
    async fn copy(&mut self, bytes: u64, options: MigrateOptions) -> io::Result<()> {
        let began = Instant::now();
        let chunks = bytes.div_ceil(CHUNK);
        for n in 1..=chunks {
            say(&mut self.stream, Kind::Memory, &[0; SENT]).await?;
            lock(&self.journey.status).sent_bytes += CHUNK;
            if let Some(rate) = options.bandwidth {
                let due = Duration::from_secs_f64((n * CHUNK) as f64 / rate as f64);
                tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            }
        }
        let mut status = lock(&self.journey.status);
        status.passes += 1;
        status.dirty_pages = bytes / 32 / 4096;
        Ok(())
    }

    async fn expect(&mut self, kind: Kind) -> io::Result<()> {
        let frame = hear(&mut self.stream).await?;
        match frame.kind() {
            Some(found) if found == kind => Ok(()),
            Some(Kind::Refuse) => {
                // The other side never runs it, whatever it was told.
                self.committed = false;
                Err(io::Error::other(format!("the other host refused: {}", text(&frame))))
            }
            other => Err(io::Error::other(format!("a message of the kind {other:?} where it has no place"))),
        }
    }

    fn end(self, sent: io::Result<()>) {
        let Err(e) = sent else {
            return self.guest.end(ExitReason::Migrated, "the machine runs on another host");
        };
        let mut status = lock(&self.journey.status);
        status.error = Some(e.to_string());
        if self.committed {
            status.phase = MigrationPhase::InDoubt;
            return;
        }
        status.phase = MigrationPhase::Failed;
        drop(status);
        self.guest.halted.store(false, Ordering::SeqCst);
        if *self.guest.state.borrow() == MachineState::Away {
            self.guest.set(MachineState::Running);
        }
    }
}

/// Takes in a machine.
pub(super) fn arrive(guest: &Arc<Guest>) -> Result<Incoming, Error> {
    if *guest.state.borrow() != MachineState::Incoming {
        return Err(Error::Refused("this machine does not wait for one that moves here".into()));
    }
    let (mut ours, theirs) = tokio::io::duplex(SENT * 4);
    let (tell, outcome) = oneshot::channel();
    let guest = guest.clone();
    tokio::spawn(async move {
        let taken = take_in(&guest, &mut ours).await;
        if let Err(e) = &taken {
            let _ = say(&mut ours, Kind::Refuse, e.to_string().as_bytes()).await;
            guest.end(ExitReason::NotArrived, &format!("the machine did not move here: {e}"));
        }
        let _ = tell.send(taken.map_err(|e| Error::Refused(e.to_string())));
    });
    Ok(Incoming { stream: Box::new(theirs), outcome })
}

async fn take_in(guest: &Guest, stream: &mut DuplexStream) -> io::Result<()> {
    let hello = hear(stream).await?;
    let shape: Shape = serde_json::from_slice(hello.payload())?;
    if shape != guest.shape() {
        return Err(io::Error::other("it is not the machine that is waited for"));
    }
    if guest.cmdline.contains("offer=refused") {
        return Err(io::Error::other("this host's processor lacks what the guest was told to have"));
    }
    say(stream, Kind::Accept, &[]).await?;
    let luggage: Luggage = loop {
        let frame = hear(stream).await?;
        match frame.kind() {
            Some(Kind::Memory) => {}
            Some(Kind::State) => break serde_json::from_slice(frame.payload())?,
            other => return Err(io::Error::other(format!("a message of the kind {other:?} too early"))),
        }
    };
    say(stream, Kind::Ready, &[]).await?;
    let commit = hear(stream).await?;
    if commit.kind() != Some(Kind::Commit) {
        return Err(io::Error::other(format!("a message of the kind {:?} too early", commit.kind())));
    }
    if guest.cmdline.contains("arrival=refused") {
        return Err(io::Error::other("a disk could not be taken"));
    }
    guest.ticks.store(luggage.ticks, Ordering::SeqCst);
    guest.deaf.store(luggage.deaf, Ordering::SeqCst);
    lock(&guest.typed).clone_from(&luggage.typed);
    guest.set(if luggage.running { MachineState::Running } else { MachineState::Paused });
    // The machine is ours: a source that does not hear it stays in doubt.
    let _ = say(stream, Kind::Running, &[]).await;
    Ok(())
}

async fn say(stream: &mut DuplexStream, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let frame = Frame::new(kind, payload).map_err(io::Error::other)?;
    timeout(PATIENCE, stream.write_all(frame.bytes())).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn hear(stream: &mut DuplexStream) -> io::Result<Frame> {
    let mut frame = Frame::default();
    let whole = timeout(PATIENCE, frame.read(stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if whole { Ok(frame) } else { Err(io::Error::other("the connection to the other host broke")) }
}

fn text(frame: &Frame) -> String {
    String::from_utf8_lossy(frame.payload()).into_owned()
}
