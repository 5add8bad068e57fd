//! One running `lq-vmm`: its watcher, which follows it until its end, and its face to the driver.
//!
//! ```text
//!   connect ──▶ follow events ──▶ PID 1 says it ended ──▶ clear its place ──▶ Ended
//!      ▲              │
//!      └── lost ──────┘
//! ```

use super::{
    Action, Console, Error, Incoming, Machine, MachineState, Notice,
    adjust::Step,
    changing::{drop_taps, look},
    fittings::Fittings,
    init_client::{EndOf, Init},
    lqvmm::{Shared, unit_name},
    monitor_client::{Events, Monitor},
    passthrough,
    place::Place,
    tpm::{self, Tpm},
};
use crate::{
    hardware::{Hardware, PluggedMemory},
    inventory::{self, Measured},
};
use async_trait::async_trait;
use lq_api::{
    Bytes, Timestamp, VmId,
    local::{
        init::End,
        vmm::{
            Command, DeviceName, Event, ExitRecord, LeaseGrant, LeasePhase, LeaseRelease, MigrateOptions,
            MigrationStatus, RunState, Stats,
        },
    },
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

/// How often it is looked what a guest does that is asked for something, or to give it back.
const SOON: Duration = Duration::from_secs(2);
/// How often it is looked whether a guest has still what it was asked to have: it may restart.
const LATER: Duration = Duration::from_secs(10);
/// As good as never.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The end of the process `pid`; an end of an earlier process of the same unit is passed over.
pub(super) async fn ended(end: &mut watch::Receiver<EndOf>, pid: u32) -> End {
    match end.wait_for(|end| end.is_some_and(|(of, _)| of == pid)).await.map(|end| *end) {
        Ok(Some((_, end))) => end,
        // The client of PID 1 is gone, and with it this daemon.
        _ => std::future::pending().await,
    }
}

/// A monitor that is ending is as it was until its process is gone.
pub(super) fn machine_state(state: RunState, before: MachineState) -> MachineState {
    match state {
        RunState::Running => MachineState::Running,
        RunState::Paused => MachineState::Paused,
        RunState::Incoming => MachineState::Incoming,
        RunState::MovedAway => MachineState::Away,
        RunState::Moving | RunState::Ending => before,
    }
}

/// Follows one monitor until its end, then clears its place.
pub(super) struct Watcher {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
    /// The process behind its TPM, where it has one or may have one.
    pub(super) tpm: Option<Tpm>,
    /// That it has failed was told.
    pub(super) tpm_failed: bool,
    /// That its disks wait for room was told.
    pub(super) short_of_room: bool,
    /// Taps it was started with. Those of what it has are known by that.
    pub(super) taps: Vec<String>,
    pub(super) fittings: Arc<Fittings>,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) uid: Option<u32>,
    pub(super) pid: u32,
    pub(super) monitor: Arc<Monitor>,
    pub(super) end: watch::Receiver<EndOf>,
    pub(super) state: watch::Sender<MachineState>,
    /// Memory and virtual CPUs its limits were last set for, where that was since this daemon started.
    pub(super) limited: Option<(Bytes, u8)>,
}

impl Watcher {
    pub(super) async fn resume(mut self) {
        if let Some(events) = self.connect().await {
            self.run(events).await;
        }
    }

    /// Connects until it succeeds; none where the monitor ended, and that is dealt with.
    async fn connect(&mut self) -> Option<Events> {
        let mut pause = Duration::from_millis(50);
        loop {
            let monitor = self.monitor.clone();
            let attempt = async {
                let connected = monitor.subscribe().await;
                if connected.is_err() {
                    sleep(pause).await;
                }
                connected
            };
            let connected = tokio::select! {
                end = ended(&mut self.end, self.pid) => {
                    self.conclude(end, None).await;
                    return None;
                }
                connected = attempt => connected,
            };
            match connected {
                Ok((events, state)) => {
                    self.tell(state);
                    // What was told while nobody heard it.
                    look(&self.place, &self.monitor, &self.fittings).await;
                    self.look_at_troubles().await;
                    return Some(events);
                }
                Err(_) => pause = (pause * 2).min(Duration::from_secs(5)),
            }
        }
    }

    pub(super) async fn run(mut self, mut events: Events) {
        let mut told = None;
        loop {
            let patience = self.patience();
            let event = tokio::select! {
                end = ended(&mut self.end, self.pid) => return self.conclude(end, told).await,
                event = events.next() => event,
                () = sleep(patience) => {
                    self.look_at_amounts().await;
                    continue;
                }
            };
            match event {
                Ok(Event::State { state }) => self.tell(state),
                Ok(Event::Reset | Event::Lease(_)) => {}
                Ok(Event::Panicked) => self.notice(Notice::Panicked),
                Ok(Event::Watchdog { action }) => self.notice(Notice::Watchdog(action)),
                Ok(Event::TpmFailed { why }) => self.tell_of_tpm(why, false),
                Ok(Event::Room { short }) => self.tell_of_room(short, false),
                Ok(Event::BackEndLost { device, why }) => {
                    tracing::warn!(vm = %self.place.vm, device, why, "a device of the machine has lost its back end");
                }
                Ok(Event::Ejected { cdrom }) => self.fittings.ejected(cdrom),
                Ok(Event::Unplugged { device }) => {
                    self.fittings.gone(&device);
                    if let DeviceName::Nic(mac) = device {
                        let dropped = drop_taps(&self.place, &[mac]).await;
                        if let Err(error) = dropped {
                            tracing::warn!(vm = %self.place.vm, %error, "an interface that is gone left its tap");
                        }
                    }
                }
                Ok(Event::Exit(record)) => told = Some(record),
                // Ended, or it dropped us: PID 1 knows the first, connecting again mends the second.
                Err(_) => {
                    let grace = Instant::now() + Duration::from_millis(200);
                    if let Ok(end) = tokio::time::timeout_at(grace, ended(&mut self.end, self.pid)).await {
                        return self.conclude(end, told).await;
                    }
                    match self.connect().await {
                        Some(again) => events = again,
                        None => return,
                    }
                }
            }
        }
    }

    /// Until it is looked what the guest has taken of what it was asked to have, of which nobody tells.
    fn patience(&self) -> Duration {
        let Some(has) = self.fittings.get() else { return NEVER };
        let waits = has.plugged.is_some_and(|region| region.taken != region.asked)
            || has.cpus.is_some_and(|cpus| cpus.present != has.vcpus);
        match has.plugged.is_some() || has.cpus.is_some() {
            _ if waits => SOON,
            true => LATER,
            false => NEVER,
        }
    }

    /// Looks what the guest has taken. While it moves the monitor cannot tell: what it has is on its way.
    async fn look_at_amounts(&mut self) {
        if !matches!(*self.state.borrow(), MachineState::Running | MachineState::Paused) {
            return;
        }
        let Some(has) = self.fittings.get() else { return };
        let asked = async {
            let taken = match has.plugged {
                Some(_) => self.monitor.memory().await.ok().map(|told| Bytes(told.plugged_bytes)),
                None => None,
            };
            let present = match has.cpus {
                Some(_) => self.monitor.cpus().await.ok().map(|told| told.present),
                None => None,
            };
            (taken, present)
        };
        let Ok((taken, present)) = timeout(SOON, asked).await else { return };
        self.fittings.took(taken, present);
        let Some(has) = self.fittings.get() else { return };
        let needs = Some((has.memory_with(PluggedMemory::needs), has.busy_cpus()));
        if self.limited != needs {
            self.limited = needs;
            self.place.limit(&has);
        }
    }

    /// Whether its TPM has failed, or its disks wait for room, since somebody heard it.
    async fn look_at_troubles(&mut self) {
        let Ok(Ok(status)) = timeout(SOON, self.monitor.status()).await else { return };
        if self.tpm.is_some() && status.tpm_failed {
            self.tell_of_tpm("the process behind it ended or does not answer".into(), true);
        }
        self.tell_of_room(status.short_of_room, true);
    }

    fn tell_of_room(&mut self, short: bool, known: bool) {
        if std::mem::replace(&mut self.short_of_room, short) != short {
            self.notice(Notice::Room { short, known });
        }
    }

    fn tell_of_tpm(&mut self, why: String, known: bool) {
        if !std::mem::replace(&mut self.tpm_failed, true) {
            tracing::warn!(vm = %self.place.vm, why, "the machine's TPM has failed");
            self.notice(Notice::TpmFailed { why, known });
        }
    }

    fn tell(&self, state: RunState) {
        self.state.send_if_modified(|current| {
            let new = machine_state(state, current.clone());
            let changed = *current != new;
            *current = new;
            changed
        });
    }

    fn notice(&self, notice: Notice) {
        if let Err(error) = self.notices.try_send(notice) {
            tracing::warn!(vm = %self.place.vm, notice = ?error.into_inner(), "nobody hears what the guest did");
        }
    }

    async fn conclude(&mut self, end: End, told: Option<ExitRecord>) {
        let record = self.place.exit_record(end, told);
        tracing::info!(vm = %self.place.vm, pid = self.pid, reason = ?record.reason, "the monitor ended: {}", record.detail);
        let has = self.fittings.get();
        self.taps.extend(has.map(|has| self.place.taps(&has)).unwrap_or_default());
        self.place.clear(&self.taps).await;
        passthrough::give_back(self.place.functions()).await;
        if let Some(tpm) = &self.tpm {
            tpm.end(tpm::GRACE).await;
        }
        self.shared.free_uid(self.uid.take());
        self.state.send_replace(MachineState::Ended(record));
    }
}

/// A monitor that runs.
pub(super) struct LqMachine {
    pub(super) vm: VmId,
    pub(super) pid: u32,
    pub(super) started_at: Option<Timestamp>,
    /// Of its lease, when it was found.
    pub(super) epoch: Option<u64>,
    pub(super) state: watch::Receiver<MachineState>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) init: Arc<Init>,
    pub(super) place: Place,
    pub(super) fittings: Arc<Fittings>,
    pub(super) notices: Mutex<Option<mpsc::Receiver<Notice>>>,
}

impl LqMachine {
    fn running(&self) -> Result<(), Error> {
        if matches!(*self.state.borrow(), MachineState::Ended(_)) { Err(Error::NotRunning) } else { Ok(()) }
    }

    /// Asks it to end; kills it where it does not within a few seconds.
    async fn kill(&self) -> Result<(), Error> {
        let orderly = async {
            self.monitor.ask(Command::Quit).await?;
            let mut state = self.state.clone();
            let _ = state.wait_for(|state| matches!(state, MachineState::Ended(_))).await;
            Ok::<_, Error>(())
        };
        match timeout(Duration::from_secs(5), orderly).await {
            Ok(Ok(())) => Ok(()),
            _ if self.running().is_err() => Ok(()),
            _ => self.init.signal(&unit_name(self.vm), libc::SIGKILL).await,
        }
    }
}

#[async_trait]
impl Machine for LqMachine {
    fn vm(&self) -> VmId {
        self.vm
    }
    fn pid(&self) -> Option<u32> {
        Some(self.pid)
    }
    fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }
    fn epoch(&self) -> Option<u64> {
        self.epoch
    }
    fn state(&self) -> watch::Receiver<MachineState> {
        self.state.clone()
    }
    fn usage(&self) -> (Measured, Measured) {
        match self.fittings.get() {
            // What it uses is used by QEMU, its child.
            Some(has) if !has.hypervisor.is_own() => inventory::process_with_children(self.pid),
            _ => inventory::process(self.pid),
        }
    }
    async fn act(&self, action: Action) -> Result<(), Error> {
        self.running()?;
        let command = match action {
            Action::Pause => Command::Pause,
            Action::Resume => Command::Resume,
            Action::Reset => Command::Reset,
            Action::PowerButton => Command::PowerButton,
            Action::Kill => return self.kill().await,
            Action::CancelMove => Command::MigrateCancel,
            Action::Reclaim => Command::MigrateReclaim,
        };
        self.monitor.ask(command).await.map(|_| ())
    }
    async fn lease(&self, grant: LeaseGrant) -> Result<(), Error> {
        self.running()?;
        self.monitor.ask(Command::LeaseSet(grant)).await.map(|_| ())
    }
    async fn unlease(&self, grant: Option<LeaseGrant>) -> Result<(), Error> {
        self.running()?;
        let Some(lease) = self.monitor.status().await?.lease else { return Ok(()) };
        let epoch = lease.epoch;
        if lease.phase == LeasePhase::Stopped {
            let LeaseGrant { until, .. } = grant.ok_or(Error::NoLease)?;
            self.monitor.ask(Command::LeaseSet(LeaseGrant { epoch, until })).await?;
        }
        self.monitor.ask(Command::LeaseRelease(LeaseRelease { epoch, run_on: true })).await.map(|_| ())
    }
    fn hardware(&self) -> watch::Receiver<Option<Hardware>> {
        self.fittings.subscribe()
    }
    async fn inventory(&self) -> Result<Option<Hardware>, Error> {
        self.running()?;
        let told = self.monitor.told().await?;
        Ok(self.fittings.get().map(|has| has.as_told(&told)))
    }
    async fn adjust(&self, step: &Step) -> Result<(), Error> {
        self.running()?;
        self.change(step).await
    }
    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
    async fn stats(&self) -> Result<Stats, Error> {
        self.running()?;
        self.monitor.stats().await
    }
    async fn console(&self) -> Result<Box<dyn Console>, Error> {
        self.running()?;
        Ok(Box::new(self.monitor.console().await?))
    }
    async fn display(&self) -> Result<Box<dyn Console>, Error> {
        self.running()?;
        Ok(Box::new(self.monitor.display().await?))
    }
    async fn move_out(&self, options: MigrateOptions) -> Result<Box<dyn Console>, Error> {
        self.running()?;
        Ok(Box::new(self.monitor.move_out(options).await?))
    }
    async fn move_in(&self) -> Result<Incoming, Error> {
        self.running()?;
        self.monitor.move_in().await
    }
    async fn migration(&self) -> Result<MigrationStatus, Error> {
        self.running()?;
        self.monitor.migration().await
    }
}
