//! The TPM 2.0: registers of our own ([`crb`]), commands carried out by a swtpm process that belongs to this machine alone.
//!
//! ```text
//!  guest ─ registers ─▶ Tpm (crb) ── a command ──▶ worker ── data stream ──▶ swtpm ─▶ its directory
//!                        ▲                           │                        ▲
//!                        └────────── the answer ─────┘                        │
//!  operator ── power, state out and in ── control channel (swtpm) ────────────┘
//! ```
//! The monitor connects to swtpm's control socket before it locks itself in, and makes the data stream itself. swtpm writes what
//! is kept without power to its own directory; a saved machine has all of it with it, keys and all.
//!
//! Invariants
//! - No vCPU ever waits for the TPM: it sees a command that is executing until the worker has the answer.
//! - A TPM that dies, hangs up or talks nonsense has failed: its commands fail from then on, it is told once, and the machine
//!   runs on. It comes back when the machine is started anew. A machine whose TPM has failed is not saved: its keys would be lost.
//! - A reset waits for the command that is executing: neither it nor its answer ever reaches the guest after that.

pub mod crb;
pub mod launch;
pub mod swtpm;
mod worker;

use crate::{
    exit,
    guest::{GuestEvent, Notifier},
    state::{self, Saved},
    thread::{self, Kind},
};
use crb::{BASE, Crb, Effect, LENGTH, SavedCrb};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use swtpm::{Control, Error, MOST_STATE, Parts};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// How long a machine that is to be saved waits for a command that is executing; its guest stands still meanwhile.
const SAVE_PATIENCE: Duration = Duration::from_secs(10);
/// How long one that is to be reset does. More than it takes to make any key.
const RESET_PATIENCE: Duration = Duration::from_secs(60);

/// A TPM that is switched on, and that nobody uses yet.
#[derive(Debug)]
pub struct Connection {
    control: Control,
    data: UnixStream,
}

impl Connection {
    /// Takes the swtpm over that listens on a control socket at `path`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (mut control, data) = Control::connect(path)?;
        control.power_on()?;
        Ok(Self { control, data })
    }
}

/// The device.
pub struct Tpm {
    shared: Arc<Shared>,
}

/// What guest, operator and worker share.
struct Shared {
    inner: Mutex<Inner>,
    /// Nothing is executing any more.
    settled: Condvar,
    /// For the worker.
    wake: EventFd,
    control: Mutex<Control>,
    /// Both ends of the work hold it: to shut it down ends the worker wherever it is.
    data: UnixStream,
    notifier: Arc<Notifier>,
}

#[derive(Default)]
struct Inner {
    crb: Crb,
    job: Option<Vec<u8>>,
    cancel: bool,
    failed: bool,
    ended: bool,
}

/// The device, saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedTpm {
    crb: SavedCrb,
    permanent: Vec<u8>,
    volatile: Vec<u8>,
    saved: Vec<u8>,
}

impl Saved for SavedTpm {
    const KIND: &'static str = "tpm";
}

impl fmt::Debug for Tpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.shared.lock();
        f.debug_struct("Tpm")
            .field("executing", &inner.crb.executing())
            .field("failed", &inner.failed)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when a signal is already waiting.
        let _ = self.wake.write(1);
    }

    fn take_job(&self) -> Option<Vec<u8>> {
        self.lock().job.take()
    }

    fn take_cancel(&self) -> bool {
        std::mem::take(&mut self.lock().cancel)
    }

    fn is_ended(&self) -> bool {
        self.lock().ended
    }

    fn answered(&self, answer: &[u8]) {
        let mut inner = self.lock();
        inner.crb.answer(answer);
        inner.cancel = false;
        self.settled.notify_all();
    }

    /// Waits until no command is executing, at most for `patience`.
    fn settle<'a>(&self, inner: MutexGuard<'a, Inner>, patience: Duration) -> MutexGuard<'a, Inner> {
        self.settled
            .wait_timeout_while(inner, patience, |inner| inner.crb.executing())
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// It has failed because of `why`; told once.
    fn fail(&self, why: &str) {
        let mut inner = self.lock();
        inner.crb.fail();
        self.settled.notify_all();
        let first = !std::mem::replace(&mut inner.failed, true);
        drop(inner);
        if first {
            eprintln!("lq-vmm: the TPM has failed: {why}");
            self.notifier.send(GuestEvent::TpmFailed(why.to_owned()));
        }
    }

    /// Does something by the control channel without which the TPM is of no use: where that fails, it has failed.
    fn by_control<T>(&self, action: impl FnOnce(&mut Control) -> Result<T, Error>) -> Result<T, Error> {
        let done = action(&mut self.control());
        if let Err(error) = &done {
            self.fail(&exit::chain(error));
        }
        done
    }
}

impl Tpm {
    /// Over a TPM that is switched on; starts its thread. That it fails is told to `notifier`.
    ///
    /// # Errors
    /// The host gave no thread or no event.
    pub fn new(connection: Connection, notifier: Arc<Notifier>) -> io::Result<Self> {
        let Connection { control, data } = connection;
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            settled: Condvar::new(),
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            control: Mutex::new(control),
            data: data.try_clone()?,
            notifier,
        });
        let theirs = Arc::clone(&shared);
        // Never joined: where the TPM hangs, the process ends without it.
        drop(thread::spawn(Kind::Socket, "tpm", move || worker::work(&theirs, &data))?);
        Ok(Self { shared })
    }

    fn offset(address: u64, length: usize) -> Option<u64> {
        let offset = address.checked_sub(BASE)?;
        (offset.checked_add(length as u64)? <= LENGTH).then_some(offset)
    }

    /// Memory is read. False: not here.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some(offset) = Self::offset(address, data.len()) else { return false };
        self.shared.lock().crb.read(offset, data);
        true
    }

    /// Memory is written. False: not here.
    pub fn memory_write(&self, address: u64, data: &[u8]) -> bool {
        let Some(offset) = Self::offset(address, data.len()) else { return false };
        let mut inner = self.shared.lock();
        match inner.crb.write(offset, data) {
            Some(Effect::Execute(command)) => inner.job = Some(command),
            Some(Effect::Cancel) => inner.cancel = true,
            None => return true,
        }
        drop(inner);
        self.shared.wake();
        true
    }

    /// It has failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.shared.lock().failed
    }

    /// Back to power-on; what is kept without power stays. No vCPU runs.
    pub fn reset(&self) {
        let mut inner = self.shared.lock();
        inner.cancel = inner.crb.executing();
        self.shared.wake();
        inner = self.shared.settle(inner, RESET_PATIENCE);
        let stuck = inner.crb.executing();
        inner.crb.reset();
        let failed = inner.failed;
        drop(inner);
        if stuck {
            self.shared.fail("it did not come to an end with a command before the machine was reset");
        } else if !failed {
            // It is told where that fails.
            let _ = self.shared.by_control(Control::power_on);
        }
    }

    /// While the machine stands still.
    ///
    /// # Errors
    /// It has failed, or is still at a command.
    pub fn save(&self) -> Result<SavedTpm, state::Error> {
        let unsettled = |problem: &str| state::Error::Unsettled(problem.to_owned());
        let inner = self.shared.settle(self.shared.lock(), SAVE_PATIENCE);
        if inner.failed {
            return Err(unsettled(
                "the TPM of the machine has failed, and what it holds would be lost; switch the machine off and on",
            ));
        }
        if inner.crb.executing() {
            return Err(unsettled("the TPM is still at a command of the guest; try again"));
        }
        let crb = inner.crb.save();
        drop(inner);
        let state = self.shared.control().state();
        let [permanent, volatile, saved] = state.map_err(|error| {
            let why = exit::chain(&error);
            if !matches!(error, Error::Refused { .. }) {
                self.shared.fail(&why);
            }
            unsettled(&why)
        })?;
        Ok(SavedTpm { crb, permanent, volatile, saved })
    }

    /// Takes up a saved one; nothing ran yet.
    ///
    /// # Errors
    /// It is not one of a TPM, or the TPM does not take it.
    pub fn load(&self, saved: SavedTpm) -> Result<(), state::Error> {
        let invalid = |problem| state::Error::Invalid { kind: SavedTpm::KIND.to_owned(), id: 0, problem };
        let SavedTpm { crb, permanent, volatile, saved } = saved;
        let parts: Parts = [permanent, volatile, saved];
        if let Some(part) = parts.iter().find(|part| part.len() > MOST_STATE) {
            return Err(invalid(format!("{} bytes of state, at most {MOST_STATE} are taken", part.len())));
        }
        self.shared.lock().crb.load(&crb).map_err(invalid)?;
        self.shared.by_control(|control| control.set_state(&parts)).map_err(|e| invalid(exit::chain(&e)))
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.wake();
        // Fails only where it is gone already.
        let _ = self.shared.data.shutdown(Shutdown::Both);
    }
}
