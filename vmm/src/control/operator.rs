//! The operator: the one thread that does to the machine what may take long.
//!
//! ```text
//!  control thread ── submit(job, ticket) ──▶ operator ── carries out, one after another ──▶ finished(): ticket, result
//!  migrate thread ── Halt, HandedOver, Keep, Leave ──▶ ┘
//!
//!          ┌── Pause ─▶ Paused ── Resume ──┐         Incoming ── restored ─▶ Paused
//!  Begin ─▶ Running ◀──────────────────────┘            └─ received ─▶ Running or Paused
//!          └── Halt (from Paused too) ─▶ Moving ── Keep ─▶ as before
//!                                          └── HandedOver ─▶ MovedAway ── Leave ─▶ the end      (Keep: given back)
//! ```
//! The lease (see [`crate::lease`]) has its own two: Fence halts a guest that runs and gives up the disks once they are durable,
//! Unfence takes them back and lets it go on where Fence had halted it. Between them nothing else does. The disks are given up
//! because their locks are seen by the hosts that share them: the machine could be started nowhere else for as long as it
//! stands still here.
//!
//! Halting a device waits for its requests under way, and a request may hang in the host for as long as a server on the
//! network is away. So the control thread never touches the machine itself: it hands a [`Job`] over and goes on answering.
//! Invariant: the operator alone owns the machine, and does jobs in the order they were given.

use crate::{
    change::Change,
    exit,
    inventory::Added,
    lease::{
        Moment,
        fence::{self, Fence},
    },
    machine::{self, Machine, Plugged, Removed},
    migrate::{
        self,
        source::{Halted, Outgoing, Owner},
        target,
    },
    plug::New,
    state::file::encode,
    thread::{self, Kind},
};
use lq_api::local::vmm::{Command, MigrateOptions, RunState};
use std::{
    fs::File,
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    time::Duration,
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// How the machine begins.
#[derive(Debug)]
pub enum Begin {
    /// From its boot files.
    Boot,
    /// From the saved machine in `file`, paused.
    Restore {
        /// The file.
        file: File,
        /// Its name, for messages.
        path: String,
        /// The guest is to know that it is a copy.
        copy: bool,
    },
    /// As one that moves here.
    Incoming,
}

impl Begin {
    /// The state the machine is in until it has begun.
    pub(super) fn state(&self) -> RunState {
        match self {
            Self::Boot => RunState::Running,
            Self::Restore { .. } | Self::Incoming => RunState::Incoming,
        }
    }
}

/// What can be done to the machine.
pub(super) enum Job {
    /// Begins.
    Begin(Begin),
    /// Halts it; nothing on one that is halted.
    Pause,
    /// Goes on; nothing on one that runs.
    Resume,
    /// Presses reset.
    Reset {
        /// The guest itself did.
        by_guest: bool,
    },
    /// The lease has run out: halts it; what it wrote is to be durable before the moment.
    Fence(Moment),
    /// The lease was granted again.
    Unfence,
    /// Changes the device in a slot, as the command asks for.
    Change(usize, Option<Change>, Command),
    /// Plugs a device in; where it is is put in when that is done.
    Plug {
        /// The device, until it is taken.
        new: Option<New>,
        /// Its configuration, for the inventory.
        added: Option<Added>,
        /// Where it came to.
        plugged: Option<Plugged>,
    },
    /// Takes a device out of its slot.
    TakeOut(usize),
    /// Brings virtual CPUs, or asks for them, until there are so many.
    AimCpus(u8),
    /// Ends the work of devices and processors the guest has let go of.
    Sweep,
    /// Writes it to a file.
    Snapshot(File),
    /// Takes it in.
    Receive(UnixStream),
    /// Begins to move it away; the migration is put in when it has begun.
    Move(UnixStream, MigrateOptions, Option<Arc<Outgoing>>),
    /// Halts it for a move.
    Halt(SyncSender<Result<Halted, String>>),
    /// It is another host's now.
    HandedOver,
    /// It stays.
    Keep,
    /// It runs on another host.
    Leave,
    /// Stops it for good, everything written durable.
    Stop,
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The machine is as it was.
    #[error("{0}")]
    Refused(String),
    /// The machine cannot go on.
    #[error(transparent)]
    Broken(#[from] machine::Error),
    /// Its lease ran out, while it was on its way or stood still, and its disks may be another's.
    #[error("the lease of the machine ran out, and its disks may be another's")]
    LeaseLost,
    /// The machine did not get here.
    #[error("the machine did not move here")]
    Move(#[from] migrate::Error),
}

fn not_now(state: RunState) -> Failure {
    Failure::Refused(format!("the machine is {state:?}: that cannot be done now").to_lowercase())
}

/// A client's request that waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The client.
    pub(crate) client: u64,
    /// Its number for the request.
    pub(crate) request: u64,
}

/// A job that is done.
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) ticket: Option<Ticket>,
    /// How the machine is now.
    pub(super) state: RunState,
    pub(super) result: Result<(), Failure>,
    /// Devices that have gone meanwhile.
    pub(super) removed: Vec<Removed>,
}

type Order = (Job, Option<Ticket>);

/// The control thread's end.
pub(super) struct Operator {
    jobs: Sender<Order>,
    finished: Receiver<Finished>,
    event: Arc<EventFd>,
}

impl Operator {
    /// Gives `machine` to a thread of its own.
    pub(super) fn start(machine: Machine, fence: Arc<Fence>) -> io::Result<Self> {
        let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let (jobs, inbox) = mpsc::channel();
        let (outbox, finished) = mpsc::channel();
        let (signal, internal) = (Arc::clone(&event), jobs.clone());
        let work = move || {
            let held = Held::default();
            let (state, announced) = (RunState::Incoming, Vec::new());
            Hands { machine, state, ran: false, fence, held, internal, announced }
                .work(&inbox, &outbox, &signal)
        };
        // Never joined: where a disk hangs for good, the process ends without it.
        drop(thread::spawn(Kind::Operator, "operator", work)?);
        Ok(Self { jobs, finished, event })
    }

    /// Hands a job over. False: the operator is gone.
    #[must_use]
    pub(super) fn submit(&self, job: Job, ticket: Option<Ticket>) -> bool {
        self.jobs.send((job, ticket)).is_ok()
    }

    /// The jobs done since the last call.
    pub(super) fn finished(&self) -> Vec<Finished> {
        // Fails only when there was no signal.
        let _ = self.event.read();
        self.finished.try_iter().collect()
    }

    /// Readable when jobs are done.
    pub(super) fn event(&self) -> &EventFd {
        &self.event
    }
}

/// The migrate thread's way to the operator. A send fails only where the machine is being ended.
struct Remote(Sender<Order>);

impl Owner for Remote {
    fn halt(&mut self) -> Result<Halted, String> {
        let gone = || "the machine is being ended".to_owned();
        let (answer, answered) = mpsc::sync_channel(1);
        self.0.send((Job::Halt(answer), None)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
    fn handed_over(&mut self) {
        let _ = self.0.send((Job::HandedOver, None));
    }
    fn keep(&mut self) {
        let _ = self.0.send((Job::Keep, None));
    }
    fn leave(&mut self) {
        let _ = self.0.send((Job::Leave, None));
    }
}

struct Hands {
    machine: Machine,
    state: RunState,
    /// While it moves: its guest ran before.
    ran: bool,
    fence: Arc<Fence>,
    held: Held,
    internal: Sender<Order>,
    /// The devices the target of a move was told of.
    announced: Vec<(Option<u32>, String)>,
}

/// Tries to take disks back, and the pause between two: whoever else looks into one meanwhile is soon done.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// What the end of the lease has taken from the guest, to be given back.
#[derive(Debug, Default)]
struct Held {
    /// Its disks, or some of them.
    disks: bool,
    /// It ran.
    ran: bool,
    /// It was about to be reset.
    reset: bool,
}

fn no_lease() -> Failure {
    Failure::Refused(
        "the lease of the machine has run out: it stands still until it is granted again".to_owned(),
    )
}

impl Hands {
    fn work(mut self, inbox: &Receiver<Order>, outbox: &Sender<Finished>, signal: &EventFd) {
        for (mut job, ticket) in inbox {
            let result = self.carry_out(&mut job);
            let removed = self.machine.take_removed();
            let stopped = matches!(job, Job::Stop);
            if outbox.send(Finished { job, ticket, state: self.state, result, removed }).is_err() {
                return;
            }
            // Fails only when a signal is already waiting.
            let _ = signal.write(1);
            if stopped {
                return;
            }
        }
    }

    fn carry_out(&mut self, job: &mut Job) -> Result<(), Failure> {
        use RunState::{Incoming, MovedAway, Moving, Paused, Running};
        self.state =
            match (job, self.state) {
                (Job::Begin(Begin::Boot), _) => {
                    self.machine.power_on()?;
                    Running
                }
                (Job::Begin(Begin::Restore { file, path, copy }), _) => {
                    self.machine.restore(file, path, *copy)?;
                    Paused
                }
                (Job::Begin(Begin::Incoming), _) => Incoming,
                (Job::Fence(deadline), state) => self.fence(*deadline, state),
                (Job::Unfence, state) => self.unfence(state)?,
                // The reset is the guest's last word; it is carried out when the guest may run.
                (Job::Reset { by_guest: true }, Paused) if !self.fence.is_open() => {
                    self.held.reset = true;
                    Paused
                }
                (Job::Resume | Job::Reset { .. }, Running | Paused) if !self.fence.is_open() => {
                    return Err(no_lease());
                }
                (Job::Pause, Paused) => {
                    self.held.ran = false;
                    Paused
                }
                (Job::Plug { new, plugged, .. }, Running | Paused) => {
                    *plugged = self.plug(new.take())?;
                    self.state
                }
                (Job::TakeOut(slot), Running | Paused) => {
                    let taken = self.machine.take_out(*slot);
                    taken.map_err(|error| Failure::Refused(exit::chain(&error)))?;
                    self.state
                }
                (Job::AimCpus(count), Running | Paused) => {
                    let aimed = self.machine.aim_cpus(*count, self.state == Running);
                    aimed.map_err(|error| Failure::Refused(exit::chain(&error)))?;
                    self.state
                }
                (Job::Sweep, state) => {
                    self.machine.sweep();
                    self.machine.sweep_cpus(state == Running);
                    state
                }
                (Job::Change(slot, change, _), Running | Paused) => {
                    self.change(*slot, change.take())?;
                    self.state
                }
                (Job::Pause, Running) => {
                    self.machine.pause();
                    Paused
                }
                (Job::Resume, Paused) => {
                    self.machine.resume();
                    Running
                }
                (Job::Reset { .. }, Running | Paused) => {
                    self.machine.reset()?;
                    Running
                }
                (Job::Snapshot(file), Running | Paused) => {
                    self.snapshot(file)?;
                    self.state
                }
                (Job::Receive(stream), Incoming) => {
                    if target::receive(&mut self.machine, stream, &self.fence)? { Running } else { Paused }
                }
                (Job::Move(stream, options, begun), Running | Paused) => {
                    let stream = stream.try_clone();
                    let remote = Remote(self.internal.clone());
                    self.announced = self.devices();
                    let mut copier = self.machine.copier();
                    copier.description.leased = !self.fence.is_free();
                    let started = stream.and_then(|s| Outgoing::start(copier, s, *options, remote));
                    *begun =
                        Some(started.map_err(|e| Failure::Refused(format!("cannot begin to move: {e}")))?);
                    self.state
                }
                (Job::Halt(answer), Running | Paused) => {
                    let halted = self.halt();
                    let next = if halted.is_ok() { Moving } else { self.state };
                    // Whoever asked waits; it is only gone when the process ends.
                    let _ = answer.send(halted);
                    next
                }
                (Job::HandedOver, Moving) => MovedAway,
                (Job::Keep, Moving | MovedAway) if !self.fence.is_open() => return Err(Failure::LeaseLost),
                (Job::Keep, Moving | MovedAway) => {
                    self.machine.acquire()?;
                    self.go_on()
                }
                (Job::Stop, _) => {
                    self.state = RunState::Ending;
                    self.machine.stop()?;
                    RunState::Ending
                }
                (Job::Resume, Running) | (Job::Keep | Job::Leave, _) => self.state,
                (_, state) => return Err(not_now(state)),
            };
        Ok(())
    }

    /// Halts the machine because of its lease.
    fn fence(&mut self, deadline: Moment, state: RunState) -> RunState {
        if !matches!(state, RunState::Running | RunState::Paused) {
            // It is not here, or has given up its disks.
            return state;
        }
        if state == RunState::Running {
            self.machine.pause();
            self.held.ran = true;
        }
        // Later nothing may be written, and so nothing is asked to be: a disk that is not durable by then stays locked.
        if fence::now() < deadline {
            self.held.disks = true;
            if let Err(error) = self.machine.release() {
                eprintln!("lq-vmm: {}", exit::chain(&error));
            }
        }
        RunState::Paused
    }

    fn unfence(&mut self, state: RunState) -> Result<RunState, Failure> {
        if self.held.disks && state == RunState::Paused && !self.take_back()? {
            return Ok(state);
        }
        let Held { ran, reset, disks: _ } = std::mem::take(&mut self.held);
        if state != RunState::Paused || !ran {
            return Ok(state);
        }
        if reset {
            self.machine.reset()?;
        } else {
            self.machine.resume();
        }
        Ok(RunState::Running)
    }

    /// Takes back the disks that were given up. False: the lease has ended again, and nothing has changed.
    fn take_back(&mut self) -> Result<bool, Failure> {
        for attempt in 1.. {
            let Err(error) = self.machine.acquire() else { return Ok(true) };
            // None of them is kept from whoever may have them next.
            if let Err(error) = self.machine.release() {
                eprintln!("lq-vmm: {}", exit::chain(&error));
            }
            if !self.fence.is_open() {
                return Ok(false);
            }
            eprintln!("lq-vmm: {}", exit::chain(&error));
            if attempt == TRIES {
                break;
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        Err(Failure::LeaseLost)
    }

    fn change(&mut self, slot: usize, change: Option<Change>) -> Result<(), Failure> {
        let Some(change) = change else { return Ok(()) };
        self.machine.change(slot, change).map_err(|error| Failure::Refused(exit::chain(&error)))
    }

    fn plug(&mut self, new: Option<New>) -> Result<Option<Plugged>, Failure> {
        let Some(new) = new else { return Ok(None) };
        let slot = new.slot();
        let device = new.device(&self.fence).map_err(|error| Failure::Refused(exit::chain(&error)))?;
        let plugged = self.machine.plug(device, slot);
        plugged.map(Some).map_err(|error| Failure::Refused(exit::chain(&error)))
    }

    fn snapshot(&mut self, file: &mut File) -> Result<(), Failure> {
        let running = self.state == RunState::Running;
        if running {
            self.machine.pause();
        }
        let written = self.machine.snapshot(file);
        if running {
            self.machine.resume();
        }
        written.map_err(|error| Failure::Refused(exit::chain(&error)))
    }

    /// Halts the machine and gives up its disks; on failure it goes on as before.
    fn halt(&mut self) -> Result<Halted, String> {
        if !self.fence.is_open() {
            return Err(exit::chain(&no_lease()));
        }
        self.ran = self.state == RunState::Running;
        if self.ran {
            self.machine.pause();
        }
        let same = if self.devices() == self.announced {
            Ok(())
        } else {
            Err("the guest has let go of a device while it moved; try again".to_owned())
        };
        let saved = same.and_then(|()| self.machine.save().map_err(|error| exit::chain(&error)));
        let saved = saved.and_then(|state| {
            let state = encode("state", &state).map_err(|error| exit::chain(&error))?;
            self.machine.release().map_err(|error| exit::chain(&error))?;
            Ok(Halted { state, running: self.ran })
        });
        if saved.is_err() {
            // Disks given up are taken back; where that fails, their requests fail and say so.
            if let Err(error) = self.machine.acquire() {
                eprintln!("lq-vmm: {}", exit::chain(&error));
            }
            self.go_on();
        }
        saved
    }

    /// Which devices the machine has.
    fn devices(&self) -> Vec<(Option<u32>, String)> {
        let devices = &self.machine.description().devices;
        devices.iter().map(|device| (device.slot, device.kind.clone())).collect()
    }

    fn go_on(&mut self) -> RunState {
        if self.ran && !self.fence.is_open() {
            self.held.ran = true;
            return RunState::Paused;
        }
        if self.ran {
            self.machine.resume();
            RunState::Running
        } else {
            RunState::Paused
        }
    }
}
