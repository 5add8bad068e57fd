//! A PID 1 and monitors that speak the real protocols over real sockets, as tasks of the test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]
#![allow(dead_code)] // Each test uses a part.

mod tpm;

use lq_api::{
    Bytes, VmId,
    event::EventLevel,
    local::{
        init::{End, InitAnswer, InitEvent, InitRequest, UnitState},
        paths,
        vmm::{
            BootFiles, Command, CpuStatus, DeviceName, Event, ExitReason, ExitRecord, LeaseConfig, LeaseEnd,
            LeaseGrant, MemoryConfig, MemoryStatus, Outcome, Request, Response, RunState, Stats, Status,
            VmmConfig,
        },
    },
    vm::{PowerState, StopVm, VmSpec, VmStatus},
};
use lq_mgmtd::compute::{Desired, Firmware, Holds, Launch, LaunchBoot, Observer, Part, lqvmm::Settings};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{broadcast, watch},
    task::JoinHandle,
};

/// How monitors started from now on behave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manners {
    /// Ends at once with this record and this line in its log.
    pub(crate) fail: Option<(ExitRecord, &'static str)>,
    /// Powers off when the button is pressed.
    pub(crate) obedient: bool,
    /// Never answers.
    pub(crate) mute: bool,
    /// The process behind its TPM ends at once, with this in its log.
    pub(crate) no_tpm: Option<&'static str>,
    /// Its guest lets go of nothing.
    pub(crate) clings: bool,
}

/// PID 1.
#[derive(Clone)]
pub(crate) struct FakeInit(Arc<Inner>);

struct Inner {
    socket: PathBuf,
    manners: Mutex<Manners>,
    units: Mutex<BTreeMap<String, Entry>>,
    events: broadcast::Sender<InitEvent>,
    connections: Mutex<Vec<JoinHandle<()>>>,
    server: Mutex<Option<JoinHandle<()>>>,
    next_pid: Mutex<u32>,
}

struct Entry {
    pid: u32,
    end: Option<End>,
    task: Option<JoinHandle<()>>,
}

async fn say(writer: &mut OwnedWriteHalf, message: &impl Serialize) -> bool {
    let mut line = serde_json::to_vec(message).unwrap();
    line.push(b'\n');
    writer.write_all(&line).await.is_ok()
}

impl FakeInit {
    pub(crate) fn start(dir: &Path) -> Self {
        let init = Self(Arc::new(Inner {
            socket: dir.join("init.sock"),
            manners: Mutex::new(Manners { obedient: true, ..Manners::default() }),
            units: Mutex::default(),
            events: broadcast::channel(64).0,
            connections: Mutex::default(),
            server: Mutex::default(),
            next_pid: Mutex::new(1000),
        }));
        init.open();
        init
    }

    /// Listens (again).
    pub(crate) fn open(&self) {
        let _ = std::fs::remove_file(&self.0.socket);
        let listener = UnixListener::bind(&self.0.socket).unwrap();
        let init = self.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = tokio::spawn(init.clone().serve(stream));
                init.0.connections.lock().unwrap().push(connection);
            }
        });
        *self.0.server.lock().unwrap() = Some(server);
    }

    /// Drops every connection and listens no more.
    pub(crate) fn close(&self) {
        if let Some(server) = self.0.server.lock().unwrap().take() {
            server.abort();
        }
        for connection in self.0.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
        let _ = std::fs::remove_file(&self.0.socket);
    }

    pub(crate) fn manners(&self, manners: Manners) {
        *self.0.manners.lock().unwrap() = manners;
    }

    pub(crate) fn go_down(&self) {
        let _ = self.0.events.send(InitEvent::GoingDown { reboot: false });
    }

    /// Processes that run, by unit.
    pub(crate) fn running(&self) -> BTreeMap<String, u32> {
        let units = self.0.units.lock().unwrap();
        units.iter().filter(|(_, e)| e.end.is_none()).map(|(n, e)| (n.clone(), e.pid)).collect()
    }

    /// Units known, running or not.
    pub(crate) fn known(&self) -> usize {
        self.0.units.lock().unwrap().len()
    }

    /// The process ended; everything about it is gone.
    pub(crate) fn kill(&self, name: &str, end: End) {
        let mut units = self.0.units.lock().unwrap();
        let Some(entry) = units.get_mut(name).filter(|e| e.end.is_none()) else { return };
        entry.end = Some(end);
        let task = entry.task.take();
        let pid = entry.pid;
        let _ = self.0.events.send(InitEvent::Ended { name: name.to_owned(), pid, end });
        // Last: it may be the very task that calls.
        drop(units);
        if let Some(task) = task {
            task.abort();
        }
    }

    async fn serve(self, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match serde_json::from_str(&line).unwrap() {
                InitRequest::Spawn(unit) => self.spawn(unit),
                InitRequest::Signal { name, signal } => {
                    self.kill(&name, End::Killed(signal));
                    InitAnswer::Done
                }
                InitRequest::List => {
                    let units = self.0.units.lock().unwrap();
                    let state = |(name, e): (&String, &Entry)| UnitState {
                        name: name.clone(),
                        pid: e.pid,
                        end: e.end,
                    };
                    InitAnswer::Units { units: units.iter().map(state).collect() }
                }
                InitRequest::Forget { name } => {
                    let mut units = self.0.units.lock().unwrap();
                    if units.get(&name).is_some_and(|e| e.end.is_some()) {
                        units.remove(&name);
                        InitAnswer::Done
                    } else {
                        InitAnswer::Error { reason: "unknown".into() }
                    }
                }
                InitRequest::Subscribe => return self.tell(writer).await,
                InitRequest::Shutdown { .. } | InitRequest::Watch { .. } => InitAnswer::Done,
                other => InitAnswer::Error { reason: format!("this PID 1 does not know {other:?}") },
            };
            if !say(&mut writer, &answer).await {
                return;
            }
        }
    }

    async fn tell(self, mut writer: OwnedWriteHalf) {
        let (mut events, backlog) = {
            let units = self.0.units.lock().unwrap();
            let ended = units.iter().filter_map(|(name, e)| {
                Some(InitEvent::Ended { name: name.clone(), pid: e.pid, end: e.end? })
            });
            (self.0.events.subscribe(), ended.collect::<Vec<_>>())
        };
        for event in backlog {
            say(&mut writer, &event).await;
        }
        while let Ok(event) = events.recv().await {
            if !say(&mut writer, &event).await {
                return;
            }
        }
    }

    fn spawn(&self, unit: lq_api::local::init::Unit) -> InitAnswer {
        let mut units = self.0.units.lock().unwrap();
        if units.contains_key(&unit.name) {
            return InitAnswer::Error { reason: format!("{} exists", unit.name) };
        }
        let pid = {
            let mut next = self.0.next_pid.lock().unwrap();
            *next += 1;
            *next
        };
        let manners = self.0.manners.lock().unwrap().clone();
        if unit.argv[1] == "tpm" {
            let task = Some(tokio::spawn(tpm::run(self.clone(), unit.clone(), manners.no_tpm)));
            units.insert(unit.name, Entry { pid, end: None, task });
            return InitAnswer::Spawned { pid };
        }
        assert_eq!(unit.argv[1..3], ["run", "--config"]);
        let config: VmmConfig = serde_json::from_slice(&std::fs::read(&unit.argv[3]).unwrap()).unwrap();
        let monitor = Monitor {
            init: self.clone(),
            name: unit.name.clone(),
            run_dir: config.run_dir.clone().into(),
            vm: config.vm,
            config: Mutex::new(config.clone()),
            taken: AtomicU64::new(0),
            cpus: AtomicU8::new(config.vcpus),
            clings: manners.clings,
            tpm_failed: AtomicBool::new(false),
            events: broadcast::channel(16).0,
            obedient: manners.obedient,
            state: watch::Sender::new(RunState::Running),
        };
        let task = tokio::spawn(async move {
            if let Some((record, line)) = manners.fail {
                std::fs::write(unit.log.unwrap(), line).unwrap();
                monitor.end(record);
            } else if manners.mute {
                std::future::pending().await
            } else {
                Arc::new(monitor).run().await
            }
        });
        units.insert(unit.name, Entry { pid, end: None, task: Some(task) });
        InitAnswer::Spawned { pid }
    }
}

/// One monitor.
struct Monitor {
    init: FakeInit,
    name: String,
    run_dir: PathBuf,
    vm: VmId,
    /// What it has.
    config: Mutex<VmmConfig>,
    /// Bytes of memory its guest has taken besides its own.
    taken: AtomicU64,
    /// Virtual CPUs there are.
    cpus: AtomicU8,
    clings: bool,
    tpm_failed: AtomicBool,
    events: broadcast::Sender<Event>,
    obedient: bool,
    state: watch::Sender<RunState>,
}

impl Monitor {
    async fn run(self: Arc<Self>) {
        let tpm = self.config.lock().unwrap().devices.tpm.clone();
        let mut tpm = match tpm {
            Some(tpm) => Some(UnixStream::connect(tpm.socket).await.unwrap()),
            None => None,
        };
        let control = UnixListener::bind(self.run_dir.join(paths::VM_CONTROL)).unwrap();
        let console = UnixListener::bind(self.run_dir.join(paths::VM_CONSOLE)).unwrap();
        // Its connections end with it.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let hung_up = async {
                match &mut tpm {
                    Some(tpm) => tpm.read(&mut [0]).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = hung_up => {
                    tpm = None;
                    self.tpm_failed.store(true, Ordering::SeqCst);
                    let _ = self.events.send(Event::TpmFailed { why: "it hung up".into() });
                }
                Ok((stream, _)) = control.accept() => { connections.spawn(self.clone().serve(stream)); }
                Ok((mut stream, _)) = console.accept() => {
                    connections.spawn(async move {
                        let _ = stream.write_all(b"login: ").await;
                        let (mut reader, mut writer) = stream.split();
                        let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    });
                }
            }
        }
    }

    fn end(&self, record: ExitRecord) {
        std::fs::write(self.run_dir.join(paths::VM_EXIT), serde_json::to_vec(&record).unwrap()).unwrap();
        self.init.kill(&self.name, End::Exited(record.reason.status().into()));
    }

    async fn serve(self: Arc<Self>, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Request = serde_json::from_str(&line).unwrap();
            let mut end = None;
            let outcome = match request.command {
                Command::Status => Outcome::Status(Status {
                    version: "fake".into(),
                    vm: self.vm,
                    state: *self.state.borrow(),
                    resets: 0,
                    panicked: false,
                    tpm_failed: self.tpm_failed.load(Ordering::SeqCst),
                    short_of_room: false,
                    back_ends_lost: Vec::new(),
                    cdroms: Vec::new(),
                    lease: None,
                }),
                Command::Stats => Outcome::Stats(Stats { exits: 42, ..Stats::default() }),
                Command::Pause => self.become_(RunState::Paused),
                Command::Resume => self.become_(RunState::Running),
                Command::Reset => Outcome::Done,
                Command::PowerButton => {
                    if self.obedient && *self.state.borrow() == RunState::Running {
                        end = Some(ExitReason::GuestPowerOff);
                    }
                    Outcome::Done
                }
                Command::Quit | Command::ForceQuit => {
                    end = Some(ExitReason::Told);
                    Outcome::Done
                }
                Command::Subscribe => Outcome::Done,
                Command::Config => Outcome::Config(Box::new(self.config.lock().unwrap().clone())),
                Command::CpuStatus => {
                    let config = self.config.lock().unwrap();
                    let most = config.devices.cpus.unwrap().most;
                    // Its guest releases none.
                    let present = self.cpus.fetch_max(config.vcpus, Ordering::SeqCst).max(config.vcpus);
                    Outcome::Cpus(CpuStatus { most, wanted: config.vcpus, present })
                }
                Command::MemoryStatus => match self.config.lock().unwrap().devices.memory {
                    Some(MemoryConfig { most_bytes, requested_bytes }) => Outcome::Memory(MemoryStatus {
                        most_bytes,
                        requested_bytes,
                        plugged_bytes: self.taken.load(Ordering::SeqCst),
                    }),
                    None => Outcome::Error("there is none".into()),
                },
                ref change if self.change(change) => Outcome::Done,
                Command::Unplug(_) => Outcome::Error("the guest has not let go of it".into()),
                ref other => Outcome::Error(format!("nobody asks this monitor for {other:?}")),
            };
            if !say(&mut writer, &Response { id: request.id, outcome }).await {
                return;
            }
            if let Some(reason) = end {
                self.end(ExitRecord { reason, detail: "as told".into() });
            }
            if request.command == Command::Subscribe {
                let (mut state, mut events) = (self.state.subscribe(), self.events.subscribe());
                loop {
                    let event = tokio::select! {
                        Ok(()) = state.changed() => Event::State { state: *state.borrow_and_update() },
                        Ok(event) = events.recv() => event,
                        else => return,
                    };
                    if !say(&mut writer, &event).await {
                        return;
                    }
                }
            }
        }
    }

    /// Changes what it has; false where that cannot be done.
    fn change(&self, change: &Command) -> bool {
        let config = &mut *self.config.lock().unwrap();
        match change {
            Command::DiskPlug(plug) => config.disks.push(plug.disk.clone()),
            Command::NicPlug(plug) => config.nics.push(plug.nic.clone()),
            Command::Unplug(unplug) if !self.clings => {
                match &unplug.device {
                    DeviceName::Disk(serial) => config.disks.retain(|d| d.serial != *serial),
                    DeviceName::Nic(mac) => config.nics.retain(|n| n.mac != *mac),
                }
                let _ = self.events.send(Event::Unplugged { device: unplug.device.clone() });
            }
            Command::DiskLimits(change) => config.disks[change.disk as usize].limits = change.limits,
            Command::NicLimits(change) => config.nics[change.nic as usize].limits = change.limits,
            Command::NicLink(link) => config.nics[link.nic as usize].link_down = !link.up,
            Command::CpuTarget(target) => config.vcpus = target.count,
            Command::MemoryTarget(target) => {
                let Some(region) = &mut config.devices.memory else { return false };
                // Its guest never takes the last of it.
                self.taken.store(target.bytes.min(region.most_bytes - (128 << 20)), Ordering::SeqCst);
                region.requested_bytes = target.bytes;
            }
            Command::DiskResize(resize) => assert!((resize.disk as usize) < config.disks.len()),
            _ => return false,
        }
        true
    }

    fn become_(&self, state: RunState) -> Outcome {
        self.state.send_replace(state);
        Outcome::Done
    }
}

/// Keeps what was observed.
#[derive(Default)]
pub(crate) struct Watcher {
    statuses: Mutex<BTreeMap<VmId, Vec<VmStatus>>>,
    events: Mutex<Vec<(&'static str, String)>>,
    holds: Mutex<BTreeMap<VmId, Holds>>,
}

#[async_trait::async_trait]
impl Observer for Watcher {
    async fn observed(&self, vm: VmId, _epoch: u64, status: VmStatus) {
        self.statuses.lock().unwrap().entry(vm).or_default().push(status);
    }
    async fn holds(&self, vm: VmId, holds: Holds) {
        self.holds.lock().unwrap().insert(vm, holds);
    }
    async fn event(&self, _vm: VmId, _level: EventLevel, kind: &'static str, message: String) {
        self.events.lock().unwrap().push((kind, message));
    }
    fn lease(&self, _vm: VmId, epoch: u64) -> Option<LeaseConfig> {
        let grant = LeaseGrant { epoch, until: LeaseEnd::RemainingMs(3_600_000) };
        Some(LeaseConfig { grant, margin_ms: 250, grace_ms: 600_000 })
    }
}

impl Watcher {
    pub(crate) fn last(&self, vm: VmId) -> Option<VmStatus> {
        self.statuses.lock().unwrap().get(&vm)?.last().cloned()
    }
    /// The devices it was last said to have.
    pub(crate) fn holds(&self, vm: VmId) -> Option<Holds> {
        self.holds.lock().unwrap().get(&vm).cloned()
    }
    pub(crate) fn history(&self, vm: VmId) -> Vec<VmStatus> {
        self.statuses.lock().unwrap().get(&vm).cloned().unwrap_or_default()
    }
    pub(crate) fn events(&self) -> Vec<(&'static str, String)> {
        self.events.lock().unwrap().clone()
    }
    /// Waits until the last status is so.
    pub(crate) async fn until(&self, vm: VmId, what: impl Fn(&VmStatus) -> bool) -> VmStatus {
        eventually(&format!("{:?}", self.history(vm)), || self.last(vm).filter(&what)).await
    }
}

/// Waits for a condition.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(value) = condition() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

/// Reads exactly this.
pub(crate) async fn expect(stream: &mut (impl tokio::io::AsyncRead + Unpin), text: &str) {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), text);
}

/// A machine that is to run.
pub(crate) fn desired(vm: VmId) -> Desired {
    let kernel = BootFiles { kernel: "/k".into(), initrd: None, cmdline: String::new() };
    Desired {
        vm,
        name: "web".into(),
        generation: 1,
        epoch: 0,
        part: Part::Owner,
        returned: false,
        leased: false,
        spec: VmSpec { memory_bytes: Bytes::mib(64), power: PowerState::Running, ..VmSpec::default() },
        hardware: None,
        stop: StopVm::default(),
        reset_count: 0,
        fault: None,
        launch: Launch { boot: LaunchBoot::Direct(kernel), ..Launch::default() },
    }
}

/// Everything below `dir`, without privileges.
pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        init_socket: dir.join("init.sock"),
        run_vms: dir.join("vms"),
        cgroup_vms: None,
        program: "/usr/lib/limiquantix/lq-vmm".into(),
        swtpm: "/usr/bin/swtpm".into(),
        firmware: Firmware { code: dir.join("code.fd"), vars: dir.join("vars.fd") },
        jail: false,
        ready: Duration::from_secs(20),
    }
}
