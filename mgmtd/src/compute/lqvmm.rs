//! `lq-vmm` monitors, owned by PID 1. One that stands before QEMU is started by another word, and in all else a monitor like any.
//!
//! Owns: the run directory, cgroup, taps and user id of every monitor of this host, from before its start until after its
//! end. A monitor outlives this daemon; [`LqVmm::adopt`] finds it again by PID 1's list of units and the configuration in
//! its run directory.
//!
//! Invariant: a machine's state becomes [`MachineState::Ended`] only after its process is gone and its taps and cgroup are
//! removed, so that the next launch starts from nothing.

use super::{
    Desired, Error, Found, Hypervisor, Machine, MachineState,
    fittings::Fittings,
    init_client::{EndOf, Init},
    machine::{LqMachine, Watcher, ended, machine_state},
    monitor_client::{Events, Monitor},
    passthrough,
    place::{Firmware, Place, TPM_CGROUP, remove_cgroup, remove_taps},
    tpm::{self, Tpm},
};
use crate::network::{link::Links, tap};
use async_trait::async_trait;
use lq_api::{
    Bytes, VmId,
    local::{
        init::Unit,
        paths,
        vmm::{ExitReason, ExitRecord, Jail, RunState, Start},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// So much memory a host pins for functions of its PCI bus in a second, at the very least.
const PINNED_BY_SECOND: Bytes = Bytes(256 * Bytes::MIB);

/// What guests did that waits for its driver; more is not told.
const NOTICES: usize = 64;

/// Where things are. The defaults are those of an appliance; tests use others.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Socket of PID 1.
    pub init_socket: PathBuf,
    /// Parent of the run directories.
    pub run_vms: PathBuf,
    /// Parent of the cgroups; none: no limits.
    pub cgroup_vms: Option<PathBuf>,
    /// The monitor.
    pub program: PathBuf,
    /// What carries out the commands of their TPMs.
    pub swtpm: PathBuf,
    /// Firmware of machines that boot by it.
    pub firmware: Firmware,
    /// Monitors give up their privileges.
    pub jail: bool,
    /// A monitor must answer within this time after its start.
    pub ready: Duration,
}

impl Settings {
    /// Those of an appliance, with PID 1 at this socket.
    #[must_use]
    pub fn appliance(init_socket: PathBuf) -> Self {
        Self {
            init_socket,
            run_vms: paths::RUN_VMS.into(),
            cgroup_vms: Some(paths::CGROUP_VMS.into()),
            program: paths::LQ_VMM.into(),
            swtpm: paths::SWTPM.into(),
            firmware: Firmware { code: paths::FIRMWARE_CODE.into(), vars: paths::FIRMWARE_VARS.into() },
            jail: true,
            // Under emulation on a loaded machine a start takes many seconds.
            ready: Duration::from_secs(60),
        }
    }
}

/// Starts monitors through PID 1.
pub struct LqVmm {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    settings: Settings,
    init: Arc<Init>,
    /// Offsets from `VM_UID_BASE` in use.
    uids: Mutex<BTreeSet<u32>>,
}

impl LqVmm {
    /// Speaks to PID 1 at this socket.
    #[must_use]
    pub fn new(init_socket: PathBuf) -> Self {
        Self::with(Settings::appliance(init_socket))
    }

    /// With other places.
    #[must_use]
    pub fn with(settings: Settings) -> Self {
        let init = Init::new(settings.init_socket.clone());
        Self { shared: Arc::new(Shared { settings, init, uids: Mutex::default() }) }
    }
}

/// PID 1's name of a VM's monitor.
pub(super) fn unit_name(vm: VmId) -> String {
    format!("vm-{vm}")
}

impl Shared {
    fn place(&self, vm: VmId) -> Place {
        Place {
            vm,
            run_dir: self.settings.run_vms.join(vm.to_string()),
            cgroup: self.settings.cgroup_vms.as_ref().map(|parent| parent.join(vm.to_string())),
        }
    }

    /// The process behind the TPM of the machine of this place.
    fn tpm(&self, place: &Place) -> Tpm {
        Tpm { init: self.init.clone(), place: place.clone() }
    }

    fn uids(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.uids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lowest free user id.
    fn take_uid(&self) -> u32 {
        let mut uids = self.uids();
        let n = (0..).find(|n| !uids.contains(n)).unwrap_or(u32::MAX);
        uids.insert(n);
        n
    }

    pub(super) fn free_uid(&self, uid: Option<u32>) {
        if let Some(n) = uid {
            self.uids().remove(&n);
        }
    }

    /// Starts the process and waits until it answers.
    async fn start(
        self: &Arc<Self>,
        place: &Place,
        hypervisor: lq_api::local::vmm::Hypervisor,
        uid: Option<u32>,
        patience: Duration,
    ) -> Result<Started, Error> {
        let name = unit_name(place.vm);
        // A record of the last end would keep the name taken.
        self.init.forget(&name).await?;
        let mut end = self.init.watch(&name);
        let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let unit = Unit {
            name: name.clone(),
            argv: vec![
                path(&self.settings.program),
                if hypervisor.is_own() { "run".into() } else { "qemu".into() },
                "--config".into(),
                path(&place.config_path()),
            ],
            env: BTreeMap::from([("RUST_BACKTRACE".to_owned(), "1".to_owned())]),
            cgroup: place.cgroup.as_deref().map(path),
            new_pid_namespace: uid.is_some(),
            log: Some(path(&place.log_path())),
            stop_seconds: 90,
        };
        let pid = self.init.spawn(unit).await?;
        let monitor = Monitor::new(&place.run_dir);
        let ready = async {
            loop {
                match monitor.subscribe().await {
                    Ok(events) => return events,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::select! {
            end = ended(&mut end, pid) => Err(failed_at_start(&place.exit_record(end, None), &place.log_tail())),
            ready = timeout(patience, ready) => match ready {
                Ok((events, state)) => Ok(Started { pid, monitor, events, state, end }),
                Err(_) => {
                    self.init.signal(&name, libc::SIGKILL).await?;
                    // PID 1 reaps it; without a word of that the name stays taken and the next start says so.
                    let _ = timeout(self.settings.ready, ended(&mut end, pid)).await;
                    let context =
                        format!("lq-vmm did not answer within {} s of its start", patience.as_secs());
                    Err(Error::Io { context, source: io::Error::other(place.log_tail()) })
                }
            },
        }
    }

    fn machine(
        self: &Arc<Self>,
        (place, fittings): (Place, Fittings),
        (taps, has_tpm): (Vec<String>, bool),
        uid: Option<u32>,
        started: Started,
    ) -> Arc<dyn Machine> {
        let (tell, notices) = mpsc::channel(NOTICES);
        let fittings = Arc::new(fittings);
        let (sender, state) = watch::channel(machine_state(started.state, MachineState::Running));
        let monitor = Arc::new(started.monitor);
        let machine = LqMachine {
            vm: place.vm,
            pid: started.pid,
            started_at: place.started_at(),
            epoch: None,
            state,
            monitor: monitor.clone(),
            init: self.init.clone(),
            place: place.clone(),
            fittings: fittings.clone(),
            notices: Mutex::new(Some(notices)),
        };
        let watcher = Watcher {
            shared: self.clone(),
            tpm: has_tpm.then(|| self.tpm(&place)),
            tpm_failed: false,
            short_of_room: false,
            place,
            taps,
            fittings,
            notices: tell,
            uid,
            pid: started.pid,
            monitor,
            end: started.end,
            state: sender,
            limited: None,
        };
        tokio::spawn(watcher.run(started.events));
        Arc::new(machine)
    }

    /// Removes what belongs to no unit of PID 1.
    async fn sweep(&self, units: &BTreeSet<VmId>, taps_in_use: &BTreeSet<String>) -> Result<(), Error> {
        let stray = |dir: &std::path::Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            let id = |name: &std::ffi::OsStr| {
                let name = name.to_str()?;
                name.strip_suffix(TPM_CGROUP).unwrap_or(name).parse::<VmId>().ok()
            };
            entries
                .filter(|e| id(&e.file_name()).is_some_and(|vm| !units.contains(&vm)))
                .map(|e| e.path())
                .collect()
        };
        for dir in stray(&self.settings.run_vms) {
            if let Err(error) = fs::remove_dir_all(&dir) {
                tracing::warn!(%error, "cannot remove {}", dir.display());
            }
        }
        // Without cgroups of our own we run beside other things: their devices are not ours to remove.
        let Some(cgroups) = &self.settings.cgroup_vms else { return Ok(()) };
        for dir in stray(cgroups) {
            remove_cgroup(&dir).await;
        }
        let swept = async {
            let links = Links::open()?.all().await?;
            let names = links.into_iter().map(|link| link.name);
            let stray: Vec<_> =
                names.filter(|name| tap::is_ours(name) && !taps_in_use.contains(name)).collect();
            remove_taps(&stray).await
        };
        swept.await.map_err(|e: crate::network::Error| Error::Io {
            context: "removing the interfaces of machines that are gone".into(),
            source: io::Error::other(e),
        })
    }
}

struct Started {
    pid: u32,
    monitor: Monitor,
    events: Events,
    state: RunState,
    end: watch::Receiver<EndOf>,
}

/// Why a start failed: a fault of the definition will not go away by itself, what is in use is let go of some time.
fn failed_at_start(record: &ExitRecord, log: &str) -> Error {
    let ExitRecord { reason, detail } = record;
    match reason {
        ExitReason::Config => return Error::Refused(detail.clone()),
        ExitReason::Busy => return Error::Busy(detail.clone()),
        _ => {}
    }
    let source = if log.is_empty() || detail.contains(log) {
        io::Error::other(detail.clone())
    } else {
        io::Error::other(format!("{detail}; the end of its log: {log}"))
    };
    Error::Io { context: "lq-vmm ended while it started".into(), source }
}

impl LqVmm {
    async fn start(&self, desired: &Desired, start: Start) -> Result<Arc<dyn Machine>, Error> {
        let shared = &self.shared;
        shared.init.listen();
        let place = shared.place(desired.vm);
        let taps: Vec<_> = desired.launch.nics.iter().map(|nic| place.tap(nic.mac)).collect();
        let uid = shared.settings.jail.then(|| shared.take_uid());
        let jail = uid.map(|n| Jail { uid: paths::VM_UID_BASE + n, gid: paths::VM_UID_BASE + n });
        let (state, tpm) = (desired.launch.tpm.as_deref(), shared.tpm(&place));
        let functions: Vec<_> = desired.spec.passthrough.iter().map(|one| one.address).collect();
        let mut taken = Vec::new();
        let started = async {
            let fittings = place.prepare(desired, jail, &shared.settings.firmware, start).await?;
            passthrough::take(functions.clone()).await?;
            taken = functions;
            if let Some(state) = state {
                tpm.start(&shared.settings, state, uid).await?;
            }
            // All memory of such a machine is taken at its start.
            let pinned = if taken.is_empty() { Bytes(0) } else { desired.spec.memory_bytes };
            let patience = shared.settings.ready + Duration::from_secs(pinned.get() / PINNED_BY_SECOND.get());
            Ok((fittings, shared.start(&place, desired.spec.hypervisor, uid, patience).await?))
        };
        match started.await {
            Ok((fittings, started)) => {
                Ok(shared.machine((place, fittings), (taps, state.is_some()), uid, started))
            }
            Err(mut error) => {
                let log = place.log_tail();
                tracing::warn!(vm = %desired.vm, %error, log, "the monitor did not start");
                if state.is_some() {
                    error = tpm.explain(error);
                    tpm.end(Duration::ZERO).await;
                }
                place.clear(&taps).await;
                place.forget();
                passthrough::give_back(taken).await;
                shared.free_uid(uid);
                if let Err(error) = shared.init.forget(&unit_name(desired.vm)).await {
                    tracing::warn!(vm = %desired.vm, %error, "PID 1 still remembers the failed start");
                }
                Err(error)
            }
        }
    }
}

#[async_trait]
impl Hypervisor for LqVmm {
    async fn launch(&self, desired: &Desired) -> Result<Arc<dyn Machine>, Error> {
        self.start(desired, Start::Boot).await
    }

    async fn receive(&self, desired: &Desired) -> Result<Arc<dyn Machine>, Error> {
        if desired.launch.tpm.is_some() {
            return Err(Error::Refused(crate::placement::TPM_STAYS.into()));
        }
        if !desired.spec.hypervisor.is_own() {
            return Err(Error::Refused(crate::placement::QEMU_STAYS.into()));
        }
        if !desired.spec.passthrough.is_empty() {
            return Err(Error::Refused(crate::placement::passthrough::STAYS.into()));
        }
        self.start(desired, Start::Incoming).await
    }

    async fn adopt(&self) -> Result<Vec<Found>, Error> {
        let shared = &self.shared;
        let units: Vec<_> = shared.init.list().await?;
        let mut found = Vec::new();
        let (mut known, mut taps_in_use) = (BTreeSet::new(), BTreeSet::new());
        let mut functions = BTreeSet::new();
        let mut tpms: BTreeSet<VmId> = units.iter().filter_map(|unit| tpm::vm_of(&unit.name)).collect();
        for unit in units {
            let Some(vm) = unit.name.strip_prefix("vm-").and_then(|id| id.parse::<VmId>().ok()) else {
                continue;
            };
            known.insert(vm);
            let place = shared.place(vm);
            let config = place.config();
            let fittings = Fittings::found(place.hardware_path());
            let mut taps: Vec<_> =
                config.as_ref().map(|c| c.nics.iter().map(|n| n.tap.clone()).collect()).unwrap_or_default();
            taps.extend(fittings.get().map(|has| place.taps(&has)).unwrap_or_default());
            if let Some(end) = unit.end {
                let record = place.exit_record(end, None);
                place.clear(&taps).await;
                passthrough::give_back(place.functions()).await;
                let epoch = config.ok().and_then(|config| config.lease).map(|lease| lease.grant.epoch);
                found.push(Found::Ended(vm, record, epoch));
                continue;
            }
            let config = config.map_err(|source| Error::Io {
                context: format!("reading what the running machine {vm} was started with"),
                source,
            });
            // Without it the machine still runs and can be stopped; only its user id and taps are not known.
            let config = config.inspect_err(|error| tracing::warn!("{}", crate::causes::chain(error))).ok();
            tpms.remove(&vm);
            let has_tpm = config.as_ref().is_none_or(|config| config.devices.tpm.is_some());
            let uid = config.and_then(|c| c.jail).and_then(|j| j.uid.checked_sub(paths::VM_UID_BASE));
            shared.uids().extend(uid);
            taps_in_use.extend(taps.iter().cloned());
            functions.extend(place.functions());
            // Watched before PID 1 repeats the ends it remembers: one that happens now is heard.
            let end = shared.init.watch(&unit.name);
            let machine = shared.readopt((place, fittings), (taps, has_tpm), uid, unit.pid, end).await;
            found.push(Found::Running(machine));
        }
        // Of machines that do not run: their monitors ended, or never came to be.
        for vm in tpms {
            shared.tpm(&shared.place(vm)).end(Duration::ZERO).await;
        }
        shared.init.listen();
        shared.sweep(&known, &taps_in_use).await?;
        if shared.settings.cgroup_vms.is_some() {
            passthrough::sweep(&functions).await;
        }
        Ok(found)
    }

    async fn forget(&self, vm: VmId) {
        if let Err(error) = self.shared.init.forget(&unit_name(vm)).await {
            tracing::warn!(%vm, %error, "PID 1 still remembers the machine's end");
        }
        self.shared.place(vm).forget();
    }

    fn going_down(&self) -> watch::Receiver<bool> {
        self.shared.init.listen();
        self.shared.init.going_down()
    }
}

impl Shared {
    /// Takes over a monitor that runs. One that does not answer is watched all the same: it may be busy.
    async fn readopt(
        self: &Arc<Self>,
        (place, fittings): (Place, Fittings),
        (taps, has_tpm): (Vec<String>, bool),
        uid: Option<u32>,
        pid: u32,
        end: watch::Receiver<EndOf>,
    ) -> Arc<dyn Machine> {
        let monitor = Monitor::new(&place.run_dir);
        let (tell, notices) = mpsc::channel(NOTICES);
        let fittings = Arc::new(fittings);
        let (state, lease) = match monitor.status().await {
            Ok(status) => {
                (machine_state(status.state, MachineState::Running), status.lease.map(|lease| lease.epoch))
            }
            Err(error) => {
                tracing::warn!(vm = %place.vm, %error, "a running monitor does not answer");
                let config = place.config().ok().and_then(|config| config.lease);
                (MachineState::Running, config.map(|lease| lease.grant.epoch))
            }
        };
        let (sender, state) = watch::channel(state);
        let monitor = Arc::new(monitor);
        let machine = LqMachine {
            vm: place.vm,
            pid,
            started_at: place.started_at(),
            epoch: lease,
            state,
            monitor: monitor.clone(),
            init: self.init.clone(),
            place: place.clone(),
            fittings: fittings.clone(),
            notices: Mutex::new(Some(notices)),
        };
        // Before anything is planned.
        machine.look().await;
        let watcher = Watcher {
            shared: self.clone(),
            tpm: has_tpm.then(|| self.tpm(&place)),
            tpm_failed: false,
            short_of_room: false,
            place,
            taps,
            fittings,
            notices: tell,
            uid,
            pid,
            monitor,
            end,
            state: sender,
            limited: None,
        };
        tokio::spawn(watcher.resume());
        Arc::new(machine)
    }
}
