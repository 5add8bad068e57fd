//! A simulated machine: a serial line with a ticking counter and a small shell.
//!
//! Commands typed on the line: `poweroff`, `crash` (the monitor dies), `deaf` (the power button is ignored), `panic`, `starve` (the
//! watchdog), `eject` (its first CD drive), `cling` (nothing it is asked for is let go of), `release` (all that it was asked for
//! meanwhile, and no clinging any more), `hardware` (what it has); anything else is answered by an echo.
//!
//! It is changed as real ones are ([`super::changing`]).
//! It moves to another host as real ones do ([`super::travel`]).

use super::{
    changing::Slots,
    travel::{self, Journey, Shape},
};
use crate::{
    compute::{
        Action, Console, Desired, Error, Incoming, LaunchBoot, Machine, MachineState, Notice, adjust::Step,
    },
    ha::boot_ms,
    hardware::Hardware,
    inventory::Measured,
};
use async_trait::async_trait;
use lq_api::{
    VmId,
    local::vmm::{
        ExitReason, ExitRecord, IoStats, LeaseConfig, LeaseEnd, LeaseGrant, MigrateOptions, MigrationStatus,
        Stats, WatchdogAction, default_grace,
    },
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::{broadcast, mpsc, watch},
};

/// Scroll-back kept.
const SCROLLBACK: usize = 64 * 1024;
/// Time between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// Time a guest takes to power off.
const POWER_OFF: Duration = Duration::from_millis(100);

pub(super) struct SimMachine {
    vm: VmId,
    pid: u32,
    guest: Arc<Guest>,
    journey: Arc<Journey>,
}

pub(super) struct Guest {
    name: String,
    pub(super) cmdline: String,
    vm: VmId,
    pub(super) state: watch::Sender<MachineState>,
    /// It stands still to change hands.
    pub(super) halted: AtomicBool,
    line: Mutex<VecDeque<u8>>,
    live: broadcast::Sender<Vec<u8>>,
    pub(super) typed: Mutex<Vec<u8>>,
    pub(super) ticks: AtomicU64,
    pub(super) deaf: AtomicBool,
    pub(super) slots: Slots,
    /// Until when it may run, of `CLOCK_BOOTTIME` in milliseconds, and the grace after that; without one for ever.
    lease: watch::Sender<Option<(u64, u32)>>,
}

impl SimMachine {
    /// One that boots, or one that waits for a machine that moves here.
    pub(super) fn start(desired: &Desired, pid: u32, waits: bool) -> Self {
        let guest = Arc::new(Guest {
            name: desired.name.clone(),
            cmdline: match &desired.launch.boot {
                LaunchBoot::Direct(files) => files.cmdline.clone(),
                LaunchBoot::Firmware { .. } | LaunchBoot::Bios => "by firmware".to_owned(),
            },
            vm: desired.vm,
            state: watch::Sender::new(if waits { MachineState::Incoming } else { MachineState::Running }),
            halted: AtomicBool::new(false),
            line: Mutex::default(),
            live: broadcast::Sender::new(256),
            typed: Mutex::default(),
            ticks: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
            slots: Slots::new(desired),
            lease: watch::Sender::new(None),
        });
        if let Some(LeaseConfig { grant, grace_ms, .. }) = desired.launch.lease {
            guest.lease.send_replace(Some((end(grant), grace_ms)));
        }
        if !waits {
            guest.boot();
        }
        tokio::spawn(tick(guest.clone()));
        tokio::spawn(obey(guest.clone()));
        Self { vm: desired.vm, pid, guest, journey: Arc::default() }
    }
}

/// When a lease ends, of `CLOCK_BOOTTIME` in milliseconds.
fn end(grant: LeaseGrant) -> u64 {
    match grant.until {
        LeaseEnd::BootMs(until) => until,
        LeaseEnd::RemainingMs(rest) => boot_ms().saturating_add(rest),
    }
}

/// Stands still once its lease is over, goes on with the next one, and ends when none comes.
async fn obey(guest: Arc<Guest>) {
    let mut lease = guest.lease.subscribe();
    let mut halted = false;
    loop {
        let now = boot_ms();
        let held = *lease.borrow_and_update();
        let next = match held {
            Some((until, grace)) if now >= until => {
                // What waits or was let go of stands still already.
                if *guest.state.borrow() == MachineState::Running {
                    halted |= guest.set(MachineState::Paused);
                }
                let lost = until.saturating_add(grace.into());
                if now >= lost {
                    guest.end(ExitReason::LeaseLost, "the lease of the machine ran out");
                }
                Some(lost)
            }
            held => {
                if std::mem::take(&mut halted) {
                    guest.set(MachineState::Running);
                }
                held.map(|(until, _)| until)
            }
        };
        if matches!(*guest.state.borrow(), MachineState::Ended(_)) {
            return;
        }
        let pause = next.map_or(TICK, |next| Duration::from_millis(next.saturating_sub(now).max(1)));
        tokio::select! {
            _ = lease.changed() => {}
            () = tokio::time::sleep(pause.min(TICK)) => {}
        }
    }
}

async fn tick(guest: Arc<Guest>) {
    loop {
        tokio::time::sleep(TICK).await;
        let state = guest.state.borrow().clone();
        match state {
            MachineState::Running if !guest.halted.load(Ordering::SeqCst) => {
                let n = guest.ticks.fetch_add(1, Ordering::Relaxed) + 1;
                guest.print(&format!("tick {n}\r\n"));
            }
            MachineState::Running | MachineState::Paused | MachineState::Incoming | MachineState::Away => {}
            MachineState::Ended(_) => return,
        }
    }
}

impl Guest {
    /// What a machine that waits has to be like so that it can be this one.
    pub(super) fn shape(&self) -> Shape {
        let has = self.slots.get();
        let disks = has.disks.iter().map(|d| d.device.volume).collect();
        let nics = has.nics.iter().filter_map(|n| n.device.mac).collect();
        Shape { vm: self.vm, vcpus: has.vcpus, memory: has.memory_bytes, disks, nics }
    }

    fn boot(&self) {
        self.ticks.store(0, Ordering::Relaxed);
        let (name, cmdline) = (&self.name, &self.cmdline);
        self.print(&format!("[    0.000000] Simulated guest\r\n[    0.000000] Command line: {cmdline}\r\n"));
        self.print(&format!("\r\nWelcome to {name}!\r\n\r\n# "));
    }

    pub(super) fn print(&self, text: &str) {
        self.print_bytes(text.as_bytes());
    }

    fn print_bytes(&self, bytes: &[u8]) {
        // Under the lock, so that a new client gets every byte exactly once.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.extend(bytes);
        let surplus = line.len().saturating_sub(SCROLLBACK);
        line.drain(..surplus);
        let _ = self.live.send(bytes.to_vec());
    }

    fn type_in(self: &Arc<Self>, bytes: &[u8]) {
        if *self.state.borrow() != MachineState::Running {
            return;
        }
        for byte in bytes {
            let complete = {
                let mut typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
                if matches!(byte, b'\r' | b'\n') {
                    Some(std::mem::take(&mut *typed))
                } else {
                    if typed.len() < 256 {
                        typed.push(*byte);
                    }
                    None
                }
            };
            match complete {
                None => self.print_bytes(&[*byte]),
                Some(command) => {
                    self.print("\r\n");
                    match command.as_slice() {
                        b"" => {}
                        b"poweroff" => self.end(ExitReason::GuestPowerOff, "the guest switched itself off"),
                        b"crash" => self.end(ExitReason::Internal, "crashed because it was asked to"),
                        b"deaf" => self.deaf.store(true, Ordering::Relaxed),
                        b"panic" => self.slots.notice(Notice::Panicked),
                        b"starve" => self.slots.notice(Notice::Watchdog(WatchdogAction::Report)),
                        b"eject" => self.slots.eject(),
                        b"cling" => self.slots.cling(),
                        b"release" => self.slots.release(),
                        b"hardware" => self.print(&self.slots.to_string()),
                        other => self.print(&format!("echo: {}\r\n", String::from_utf8_lossy(other))),
                    }
                    self.print("# ");
                }
            }
        }
    }

    /// Changes its state, unless it has ended; whether that was a change.
    pub(super) fn set(&self, to: MachineState) -> bool {
        self.state.send_if_modified(|state| {
            let changed = *state != to && !matches!(state, MachineState::Ended(_));
            if changed {
                *state = to;
            }
            changed
        })
    }

    pub(super) fn end(&self, reason: ExitReason, detail: &str) {
        self.state.send_if_modified(|state| {
            let first = !matches!(state, MachineState::Ended(_));
            if first {
                *state = MachineState::Ended(ExitRecord { reason, detail: detail.into() });
            }
            first
        });
    }
}

#[async_trait]
impl Machine for SimMachine {
    fn vm(&self) -> VmId {
        self.vm
    }
    fn pid(&self) -> Option<u32> {
        Some(self.pid)
    }
    fn state(&self) -> watch::Receiver<MachineState> {
        self.guest.state.subscribe()
    }

    async fn act(&self, action: Action) -> Result<(), Error> {
        let guest = &self.guest;
        let state = guest.state.borrow().clone();
        match (&state, action) {
            (MachineState::Ended(_), _) => return Err(Error::NotRunning),
            (MachineState::Running | MachineState::Paused, _) if !guest.halted.load(Ordering::SeqCst) => {}
            (_, Action::Kill | Action::CancelMove | Action::Reclaim) => {}
            _ => return Err(Error::Refused(format!("it is {state:?} and cannot do that now"))),
        }
        let over = || guest.lease.borrow().is_some_and(|(until, _)| boot_ms() >= until);
        match action {
            Action::Pause => drop(guest.set(MachineState::Paused)),
            Action::Resume | Action::Reclaim if over() => return Err(Error::NoLease),
            Action::Resume => drop(guest.set(MachineState::Running)),
            Action::CancelMove => self.journey.cancel()?,
            Action::Reclaim => self.journey.reclaim(guest)?,
            Action::Reset => guest.boot(),
            Action::PowerButton => {
                let guest = guest.clone();
                tokio::spawn(async move {
                    if !guest.deaf.load(Ordering::Relaxed) {
                        guest.print("\r\nPower button pressed: the system is going down\r\n");
                        tokio::time::sleep(POWER_OFF).await;
                        guest.end(ExitReason::GuestPowerOff, "the guest switched itself off");
                    }
                });
            }
            Action::Kill => guest.end(ExitReason::Told, "ended by force"),
        }
        Ok(())
    }

    async fn lease(&self, grant: LeaseGrant) -> Result<(), Error> {
        self.guest.lease.send_modify(|lease| {
            *lease = Some((end(grant), lease.map_or(default_grace(), |(_, grace)| grace)));
        });
        Ok(())
    }
    async fn unlease(&self, _grant: Option<LeaseGrant>) -> Result<(), Error> {
        self.guest.lease.send_replace(None);
        Ok(())
    }

    fn usage(&self) -> (Measured, Measured) {
        // As if each tick took a third of the time to the next.
        let busy = TICK.as_secs_f64() / 3.0 * self.guest.ticks.load(Ordering::Relaxed) as f64;
        (Measured::Counter(busy), Measured::Level(256.0 * 1024.0 * 1024.0))
    }

    async fn stats(&self) -> Result<Stats, Error> {
        if matches!(*self.guest.state.borrow(), MachineState::Ended(_)) {
            return Err(Error::NotRunning);
        }
        let n = self.guest.ticks.load(Ordering::Relaxed);
        let io = IoStats { read_bytes: n * 4096, written_bytes: n * 512, reads: n, writes: n / 8, errors: 0 };
        let has = self.guest.slots.get();
        Ok(Stats { exits: n * 100, disks: vec![io; has.disks.len()], nics: vec![io; has.nics.len()] })
    }

    fn hardware(&self) -> watch::Receiver<Option<Hardware>> {
        self.guest.slots.subscribe()
    }

    async fn adjust(&self, step: &Step) -> Result<(), Error> {
        match &*self.guest.state.borrow() {
            MachineState::Running | MachineState::Paused => {}
            MachineState::Ended(_) => return Err(Error::NotRunning),
            state => return Err(Error::Refused(format!("it is {state:?} and cannot be changed now"))),
        }
        if self.journey.is_under_way() {
            return Err(Error::Refused("the machine is moving: what it has must stay as it is".into()));
        }
        self.guest.slots.adjust(step)
    }

    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        self.guest.slots.notices()
    }

    async fn console(&self) -> Result<Box<dyn Console>, Error> {
        let (ours, theirs) = tokio::io::duplex(SCROLLBACK);
        let (kept, live) = {
            let line = self.guest.line.lock().unwrap_or_else(PoisonError::into_inner);
            (line.iter().copied().collect::<Vec<u8>>(), self.guest.live.subscribe())
        };
        tokio::spawn(serve(self.guest.clone(), ours, kept, live));
        Ok(Box::new(theirs))
    }

    async fn move_out(&self, options: MigrateOptions) -> Result<Box<dyn Console>, Error> {
        self.journey.begin(&self.guest, options)
    }

    async fn move_in(&self) -> Result<Incoming, Error> {
        travel::arrive(&self.guest)
    }

    async fn migration(&self) -> Result<MigrationStatus, Error> {
        Ok(self.journey.status())
    }
}

async fn serve(guest: Arc<Guest>, line: DuplexStream, kept: Vec<u8>, mut live: broadcast::Receiver<Vec<u8>>) {
    let mut state = guest.state.subscribe();
    let (mut typed, mut shown) = tokio::io::split(line);
    if shown.write_all(&kept).await.is_err() {
        return;
    }
    let mut buffer = [0; 1024];
    loop {
        tokio::select! {
            text = live.recv() => match text {
                Ok(text) => if shown.write_all(&text).await.is_err() { return },
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            read = typed.read(&mut buffer) => match read {
                Ok(n) if n > 0 => guest.type_in(buffer.get(..n).unwrap_or_default()),
                _ => return,
            },
            () = async { let _ = state.wait_for(|s| matches!(s, MachineState::Ended(_))).await; } => {
                while let Ok(text) = live.try_recv() {
                    let _ = shown.write_all(&text).await;
                }
                return;
            }
        }
    }
}
