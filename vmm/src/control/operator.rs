//! The operator: the one thread that does to the machine what may take long.
//!
//! ```text
//!  control thread ── submit(job, ticket) ──▶ operator ── carries out, one after another ──▶ finished(): ticket, result
//! ```
//! Halting a device waits for its requests under way, and a request may hang in the host for as long as a server on the
//! network is away. So the control thread never touches the machine itself: it hands a [`Job`] over and goes on answering.
//! Invariant: the operator alone owns the machine, and does jobs in the order they were given.

use crate::{
    machine::{self, Machine},
    thread::{self, Kind},
};
use lq_api::local::vmm::RunState;
use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// What can be done to the machine.
#[derive(Debug)]
pub(super) enum Job {
    /// Loads the guest and starts it.
    PowerOn,
    /// Halts it; nothing on one that is halted.
    Pause,
    /// Goes on; nothing on one that runs.
    Resume,
    /// Presses reset.
    Reset,
    /// Stops it for good, everything written durable.
    Stop,
}

/// A client's request that waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The client.
    pub(super) client: u64,
    /// Its number for the request.
    pub(super) request: u64,
}

/// A job that is done.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) ticket: Option<Ticket>,
    /// How the machine is now.
    pub(super) state: RunState,
    pub(super) result: Result<(), machine::Error>,
}

/// The control thread's end.
pub(super) struct Operator {
    jobs: Sender<(Job, Option<Ticket>)>,
    finished: Receiver<Finished>,
    event: Arc<EventFd>,
}

impl Operator {
    /// Gives `machine` to a thread of its own.
    pub(super) fn start(machine: Machine) -> io::Result<Self> {
        let event = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let (jobs, inbox) = mpsc::channel();
        let (outbox, finished) = mpsc::channel();
        let signal = Arc::clone(&event);
        // Never joined: where a disk hangs for good, the process ends without it.
        drop(thread::spawn(Kind::Operator, "operator", move || operate(machine, &inbox, &outbox, &signal))?);
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

fn operate(
    mut machine: Machine,
    inbox: &Receiver<(Job, Option<Ticket>)>,
    outbox: &Sender<Finished>,
    signal: &EventFd,
) {
    let mut state = RunState::Running;
    for (job, ticket) in inbox {
        let result = carry_out(&mut machine, &mut state, &job);
        let stopped = matches!(job, Job::Stop);
        if outbox.send(Finished { job, ticket, state, result }).is_err() {
            return;
        }
        // Fails only when a signal is already waiting.
        let _ = signal.write(1);
        if stopped {
            return;
        }
    }
}

fn carry_out(machine: &mut Machine, state: &mut RunState, job: &Job) -> Result<(), machine::Error> {
    match (job, *state) {
        (Job::PowerOn, _) => machine.power_on()?,
        (Job::Pause, RunState::Running) => {
            machine.pause();
            *state = RunState::Paused;
        }
        (Job::Resume, RunState::Paused) => {
            machine.resume();
            *state = RunState::Running;
        }
        (Job::Reset, _) => {
            machine.reset()?;
            *state = RunState::Running;
        }
        (Job::Stop, _) => {
            *state = RunState::Ending;
            machine.stop()?;
        }
        // Already so.
        (Job::Pause | Job::Resume, _) => {}
    }
    Ok(())
}
