//! The driver task of one VM: carries out what [`super::life`] decides and tells what it sees.
//!
//! Owns the VM's machine. Reports go through a queue of their own, so that a cluster that cannot store them at the moment
//! never keeps a machine from being stopped or started again; the latest status is never lost, and order is kept.

use super::{
    Action, Arrival, Desired, Error, Holds, Machine, MachineState, Notice, Observer, Part,
    adjust::Step,
    fleet::{Inner, now},
    life::{Effect, Life, Seen, Want},
};
use crate::{causes::chain, hardware::Hardware};
use lq_api::{ImageId, VmId, event::EventLevel, vm::VmStatus};
use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

/// Reports waiting to be stored, per VM. Beyond it events are dropped and only the newest status is kept.
const REPORTS: usize = 256;
/// A machine that does not answer an action within this time has not done it.
const ACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest a change may take: whoever carries it out has shorter limits for its parts.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);

/// What the fleet and a driver share.
pub(super) struct Slot {
    /// What is wanted.
    pub(super) order: watch::Sender<Order>,
    /// How far the driver is.
    pub(super) progress: watch::Sender<Progress>,
    machine: Mutex<Option<Arc<dyn Machine>>>,
}

/// What is wanted, and how often that changed.
pub(super) struct Order {
    pub(super) want: Want,
    pub(super) version: u64,
}

/// How far a driver is.
#[derive(Clone)]
pub(super) struct Progress {
    /// Version of the order it acts on.
    pub(super) seen: u64,
    /// There is a process, or there may be one soon.
    pub(super) process: bool,
    /// The process waited for a machine that did not come: it never ran.
    pub(super) never_ran: bool,
    /// The place of a machine that moves here, by move.
    pub(super) arrival: Option<(Uuid, Arrival)>,
    /// The epoch that process is of, where it is known.
    pub(super) epoch: Option<u64>,
    /// The machine is being changed.
    pub(super) adjusting: bool,
}

impl Slot {
    pub(super) fn new(want: Want, life: &Life, machine: Option<Arc<dyn Machine>>) -> Self {
        let progress = Progress {
            seen: 0,
            process: life.has_process(),
            epoch: life.epoch(),
            never_ran: false,
            arrival: None,
            adjusting: false,
        };
        Self {
            order: watch::Sender::new(Order { want, version: 1 }),
            progress: watch::Sender::new(progress),
            machine: Mutex::new(machine),
        }
    }

    /// The machine, while it runs.
    pub(super) fn machine(&self) -> Option<Arc<dyn Machine>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_machine(&self, machine: Option<Arc<dyn Machine>>) {
        *self.machine.lock().unwrap_or_else(PoisonError::into_inner) = machine;
    }
}

enum Report {
    Status(u64, VmStatus),
    Holds(Holds),
    Ejected(u64, usize, ImageId),
    Event { level: EventLevel, kind: &'static str, message: String },
}

/// A machine, and what it tells.
struct Attached {
    machine: Arc<dyn Machine>,
    state: watch::Receiver<MachineState>,
    hardware: watch::Receiver<Option<Hardware>>,
    notices: Option<mpsc::Receiver<Notice>>,
}

impl Attached {
    fn to(machine: Arc<dyn Machine>) -> Self {
        let (state, hardware, notices) = (machine.state(), machine.hardware(), machine.notices());
        Self { machine, state, hardware, notices }
    }
}

type Launching = JoinHandle<Result<Arc<dyn Machine>, Error>>;

/// A driver.
pub(super) struct Driver {
    vm: VmId,
    fleet: Arc<Inner>,
    slot: Arc<Slot>,
    life: Life,
    machine: Option<Attached>,
    launching: Option<Launching>,
    adjusting: Option<JoinHandle<Result<(), Error>>>,
    reports: mpsc::Sender<Report>,
    /// Last status queued.
    reported: Option<(u64, VmStatus)>,
    /// Last devices queued.
    held: Option<Holds>,
}

impl Driver {
    pub(super) fn new(
        vm: VmId,
        fleet: Arc<Inner>,
        slot: Arc<Slot>,
        mut life: Life,
        machine: Option<Arc<dyn Machine>>,
    ) -> Self {
        let (reports, queue) = mpsc::channel(REPORTS);
        tokio::spawn(store(vm, fleet.observer.clone(), queue));
        let mut machine = machine.map(Attached::to);
        if let Some(attached) = &mut machine {
            life.set_hardware(attached.hardware.borrow_and_update().clone());
        }
        let (launching, adjusting, reported, held) = (None, None, None, None);
        Self { vm, fleet, slot, life, machine, launching, adjusting, reports, reported, held }
    }

    pub(super) async fn run(mut self) {
        let mut orders = self.slot.order.subscribe();
        let mut going_down = self.fleet.hypervisor.going_down();
        let mut seen = self.look();
        loop {
            let (want, version) = {
                let order = orders.borrow_and_update();
                (order.want.clone(), order.version)
            };
            let down = *going_down.borrow_and_update();
            let (life, effects) = self.life.clone().next(&want, seen, down, now());
            self.life = life;
            // Told before anything is carried out: whoever waits for the process to be gone must see it coming.
            let process = self.life.has_process();
            self.slot.progress.send_replace(Progress {
                seen: version,
                process,
                epoch: self.life.epoch(),
                never_ran: self.life.never_ran(),
                arrival: self.life.arrival(&want),
                adjusting: self.life.is_adjusting(),
            });
            // In this order: once it is seen that nothing waits, others may have what the machine had.
            let unreported = !self.report_holds(&want) | !self.report_status(&want);
            for effect in effects {
                self.carry_out(effect, &want).await;
            }
            if want == Want::Gone && !process && self.leave() {
                return;
            }
            let retry = unreported.then(|| Instant::now() + Duration::from_secs(1));
            let wake = self.life.wake_at(&want).map(Instant::from_std).into_iter().chain(retry).min();
            seen = tokio::select! {
                Ok(()) = orders.changed() => Seen::Nothing,
                Ok(()) = going_down.changed() => Seen::Nothing,
                result = launched(&mut self.launching) => self.launched(result),
                done = adjusted(&mut self.adjusting) => {
                    self.adjusting = None;
                    self.look_at_hardware();
                    Seen::Adjusted(done)
                }
                news = news(&mut self.machine) => match news {
                    News::State(state) => {
                        if matches!(state, MachineState::Ended(_)) {
                            self.machine = None;
                            self.adjusting = None;
                            self.slot.set_machine(None);
                        }
                        Seen::Machine(state)
                    }
                    News::Notice(notice) => Seen::Notice(notice),
                    News::Hardware => {
                        self.look_at_hardware();
                        Seen::Nothing
                    }
                },
                () = at(wake) => Seen::Nothing,
            };
        }
    }

    /// The state of an adopted machine may have changed since it was found.
    fn look(&mut self) -> Seen {
        match &mut self.machine {
            Some(attached) => {
                attached.state.mark_changed();
                Seen::Nothing
            }
            None => Seen::Nothing,
        }
    }

    fn look_at_hardware(&mut self) {
        if let Some(attached) = &mut self.machine {
            self.life.set_hardware(attached.hardware.borrow_and_update().clone());
        }
    }

    async fn carry_out(&mut self, effect: Effect, want: &Want) {
        match effect {
            Effect::Launch => {
                if let Want::This(desired) = want {
                    let (hypervisor, desired): (_, Desired) =
                        (self.fleet.hypervisor.clone(), (**desired).clone());
                    let observer = self.fleet.observer.clone();
                    self.launching = Some(tokio::spawn(async move {
                        let mut desired = desired;
                        if desired.leased {
                            let lease =
                                observer.lease(desired.vm, desired.runs_in()).ok_or(Error::NoLease)?;
                            desired.launch.lease = Some(lease);
                        }
                        match desired.part {
                            Part::Arriving(_) => hypervisor.receive(&desired).await,
                            _ => hypervisor.launch(&desired).await,
                        }
                    }));
                }
            }
            Effect::Act(Action::Reclaim) => self.reclaim(want).await,
            Effect::Act(action) => self.act(action).await,
            Effect::Adjust(step) => self.adjust(*step),
            Effect::Ejected(drive, image) => {
                if let Want::This(desired) = want
                    && self.reports.try_send(Report::Ejected(desired.epoch, drive, image)).is_err()
                {
                    tracing::warn!(vm = %self.vm, "that a medium was ejected is not told: too much waits to be stored");
                }
            }
            Effect::Forget => self.fleet.hypervisor.forget(self.vm).await,
            Effect::Event { level, kind, message } => {
                tracing::info!(vm = %self.vm, kind, "{message}");
                if self.reports.try_send(Report::Event { level, kind, message }).is_err() {
                    tracing::warn!(vm = %self.vm, kind, "an event is lost: too many wait to be stored");
                }
            }
        }
    }

    /// Takes back what was let go of. Its lease may have run out meanwhile, and without one it would end: then it waits for one.
    async fn reclaim(&mut self, want: &Want) {
        if let (Want::This(desired), Some(Attached { machine, .. })) = (want, &self.machine)
            && desired.leased
        {
            let Some(lease) = self.fleet.observer.lease(self.vm, desired.epoch) else { return };
            match timeout(ACTION_TIMEOUT, machine.lease(lease.grant)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(vm = %self.vm, "the machine that came back did not take its lease: {}", chain(&error));
                    return;
                }
                Err(_) => return,
            }
        }
        self.act(Action::Reclaim).await;
    }

    /// Begins to change the machine. What was told of an earlier process is not waited for.
    fn adjust(&mut self, step: Step) {
        let Some(Attached { machine, .. }) = &self.machine else { return };
        let (vm, machine) = (self.vm, machine.clone());
        self.adjusting = Some(tokio::spawn(async move {
            tracing::info!(%vm, ?step, "the machine is changed");
            let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
            let done = timeout(CHANGE_TIMEOUT, machine.adjust(&step)).await;
            done.map_err(|_| Error::Io { context: "changing the machine".into(), source: late() })?
        }));
    }

    async fn act(&mut self, action: Action) {
        let Some(Attached { machine, .. }) = &self.machine else { return };
        let outcome = timeout(ACTION_TIMEOUT, machine.act(action)).await;
        match outcome {
            Ok(Ok(())) | Ok(Err(Error::NotRunning)) => {}
            Ok(Err(error)) => tracing::warn!(vm = %self.vm, ?action, "refused: {}", chain(&error)),
            Err(_) => tracing::warn!(vm = %self.vm, ?action, "not answered within {ACTION_TIMEOUT:?}"),
        }
    }

    fn launched(&mut self, result: Result<Result<Arc<dyn Machine>, Error>, JoinError>) -> Seen {
        self.launching = None;
        let error = match result {
            Ok(Ok(machine)) => {
                let mut attached = Attached::to(machine.clone());
                let first = attached.state.borrow().clone();
                // It may have ended already: look at its state once more in any case.
                attached.state.mark_changed();
                let (pid, started_at) = (machine.pid(), machine.started_at());
                let seen = Seen::Launched { pid, started_at, state: first };
                self.slot.set_machine(Some(machine));
                self.machine = Some(attached);
                self.look_at_hardware();
                return seen;
            }
            Ok(Err(error)) => error,
            Err(error) => Error::Io {
                context: "starting the machine failed within the daemon".into(),
                source: std::io::Error::other(error),
            },
        };
        if matches!(error, Error::NoLease) {
            return Seen::NoLease;
        }
        match error {
            Error::Busy(reason) => Seen::Busy { reason },
            Error::Refused(reason) => Seen::LaunchFailed { reason, lasting: true },
            error => Seen::LaunchFailed { reason: chain(&error), lasting: false },
        }
    }

    /// Queues the status where it differs from the last; false where there was no room.
    fn report_status(&mut self, want: &Want) -> bool {
        let Want::This(desired) = want else { return true };
        let Some(status) = self.life.status(want) else { return true };
        let status = (desired.epoch, status);
        if self.reported.as_ref() == Some(&status) {
            return true;
        }
        let queued = self.reports.try_send(Report::Status(status.0, status.1.clone())).is_ok();
        if queued {
            self.reported = Some(status);
        }
        queued
    }

    /// Queues which devices there are of the machine, where that differs from the last; false where there was no room.
    fn report_holds(&mut self, want: &Want) -> bool {
        let Some(holds) = self.life.holds(want) else {
            // Told anew when it is this host's to say again.
            self.held = None;
            return true;
        };
        if self.held.as_ref() == Some(&holds) {
            return true;
        }
        let queued = self.reports.try_send(Report::Holds(holds.clone())).is_ok();
        if queued {
            self.held = Some(holds);
        }
        queued
    }

    /// Leaves the fleet unless the VM is wanted again.
    fn leave(&self) -> bool {
        let mut slots = self.fleet.slots();
        let unwanted = self.slot.order.borrow().want == Want::Gone;
        if unwanted {
            slots.remove(&self.vm);
            // The order may have come and gone unseen; whoever waits for it must not wait for ever.
            let over = Progress {
                seen: u64::MAX,
                process: false,
                epoch: None,
                never_ran: false,
                arrival: None,
                adjusting: false,
            };
            self.slot.progress.send_replace(over);
        }
        unwanted
    }
}

/// Stores reports, one after the other.
async fn store(vm: VmId, observer: Arc<dyn Observer>, mut queue: mpsc::Receiver<Report>) {
    while let Some(report) = queue.recv().await {
        match report {
            Report::Status(epoch, status) => observer.observed(vm, epoch, status).await,
            Report::Holds(holds) => observer.holds(vm, holds).await,
            Report::Ejected(epoch, drive, image) => observer.ejected(vm, epoch, drive, image).await,
            Report::Event { level, kind, message } => observer.event(vm, level, kind, message).await,
        }
    }
}

async fn launched(launching: &mut Option<Launching>) -> Result<Result<Arc<dyn Machine>, Error>, JoinError> {
    match launching {
        Some(task) => task.await,
        None => pending().await,
    }
}

/// The end of a change, or why it was not made.
async fn adjusted(adjusting: &mut Option<JoinHandle<Result<(), Error>>>) -> Result<(), String> {
    match adjusting {
        Some(task) => match task.await {
            Ok(done) => done.map_err(|e| chain(&e)),
            Err(e) => Err(format!("changing the machine failed within the daemon: {e}")),
        },
        None => pending().await,
    }
}

/// What a machine tells.
enum News {
    State(MachineState),
    Notice(Notice),
    Hardware,
}

async fn news(machine: &mut Option<Attached>) -> News {
    let Some(Attached { state, hardware, notices, .. }) = machine else { return pending().await };
    let notice = async {
        let notice = match notices {
            Some(notices) => notices.recv().await,
            None => None,
        };
        match notice {
            Some(notice) => notice,
            None => pending().await,
        }
    };
    let change = async {
        if hardware.changed().await.is_err() {
            pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        // What the guest did before its end is told before that.
        notice = notice => News::Notice(notice),
        state = changed(state) => News::State(state),
        () = change => News::Hardware,
    }
}

async fn changed(state: &mut watch::Receiver<MachineState>) -> MachineState {
    match state.changed().await {
        Ok(()) => state.borrow_and_update().clone(),
        Err(_) => {
            // Its watcher is gone; what it said last stands, and if that was not an end, the end is unknown.
            let last = state.borrow().clone();
            match last {
                MachineState::Ended(_) => last,
                _ => MachineState::Ended(lq_api::local::vmm::ExitRecord {
                    reason: lq_api::local::vmm::ExitReason::Internal,
                    detail: "the daemon lost sight of the monitor".into(),
                }),
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
