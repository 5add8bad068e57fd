//! The fleet with `LqVmm` against a PID 1 and monitors that speak the real protocols over real sockets.

// Helpers of tests assert as tests do; clippy knows only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fakes;
#[path = "fleet/tpm.rs"]
mod tpm;

use fakes::{FakeInit, Manners, Watcher, desired, eventually, expect, settings};
use lq_api::{
    VmId, VolumeId,
    image::ImageFormat,
    local::{
        init::End,
        vmm::{DiskConfig, DiskImage, ExitReason, ExitRecord, IoLimits, Rate},
    },
    vm::{Disk, PowerState, RestartPolicy, VmState, VmStatus, WaitsFor},
};
use lq_mgmtd::compute::{
    Desired, Fleet,
    lqvmm::{LqVmm, Settings},
};
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncWriteExt;

struct Bench {
    dir: tempfile::TempDir,
    init: FakeInit,
    watcher: Arc<Watcher>,
    fleet: Fleet,
    vm: VmId,
    desired: Desired,
}

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let init = FakeInit::start(dir.path());
    let watcher = Arc::new(Watcher::default());
    let fleet = Fleet::new(Arc::new(LqVmm::with(settings(dir.path()))), watcher.clone());
    fleet.adopt().await.unwrap();
    let vm = VmId::new();
    Bench { dir, init, watcher, fleet, vm, desired: desired(vm) }
}

impl Bench {
    fn wish(&mut self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.desired);
        self.desired.generation += 1;
        self.fleet.sync(vec![self.desired.clone()]);
    }
    async fn until(&self, state: VmState) -> lq_api::vm::VmStatus {
        self.watcher
            .until(self.vm, |s| s.state == state && s.observed_generation == self.desired.generation)
            .await
    }
    fn unit(&self) -> String {
        format!("vm-{}", self.vm)
    }
    fn run_dirs(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("vms")).map_or(0, Iterator::count)
    }
}

fn states(bench: &Bench) -> Vec<VmState> {
    let mut states: Vec<_> = bench.watcher.history(bench.vm).into_iter().map(|s| s.state).collect();
    states.dedup();
    states
}

#[tokio::test]
async fn a_whole_life() {
    let mut bench = bench().await;
    bench.wish(|_| {});
    let status = bench.until(VmState::Running).await;
    assert_eq!(status.pid, bench.init.running().get(&bench.unit()).copied());
    assert!(status.started_at.is_some());

    let mut console = bench.fleet.console(bench.vm).await.unwrap();
    expect(&mut console, "login: ").await;
    console.write_all(b"root\n").await.unwrap();
    expect(&mut console, "root\n").await;
    assert_eq!(bench.fleet.stats(bench.vm).await.unwrap().exits, 42);

    bench.wish(|d| d.spec.power = PowerState::Paused);
    bench.until(VmState::Paused).await;
    bench.wish(|d| d.spec.power = PowerState::Stopped);
    bench.until(VmState::Stopped).await;
    use VmState::{Paused, Running, Starting, Stopped, Stopping};
    assert_eq!(states(&bench), [Starting, Running, Paused, Stopping, Stopped]);
    eventually("PID 1 forgot and the run directory is gone", || {
        (bench.init.known() == 0 && bench.run_dirs() == 0).then_some(())
    })
    .await;
    assert!(bench.fleet.console(bench.vm).await.is_err());

    bench.wish(|d| d.spec.power = PowerState::Running);
    bench.until(VmState::Running).await;
}

#[tokio::test]
async fn a_killed_monitor_is_reported_and_started_again() {
    let mut bench = bench().await;
    bench.wish(|_| {});
    bench.until(VmState::Running).await;
    bench.init.kill(&bench.unit(), End::Killed(9));
    let status = bench.watcher.until(bench.vm, |s| s.restarts == 1 && s.state == VmState::Running).await;
    assert!(status.pid.is_some());
    let told = bench.watcher.events().into_iter().find(|(kind, _)| *kind == "vm.restarting").unwrap().1;
    assert!(told.contains("lq-vmm was killed by signal 9 (SIGKILL)"), "{told}");
}

#[tokio::test]
async fn a_monitor_that_cannot_start_says_why() {
    let mut bench = bench().await;
    let record = |reason, detail: &str| ExitRecord { reason, detail: detail.into() };
    let fail = Some((record(ExitReason::Host, "KVM refused"), "kvm: no such ioctl\n"));
    bench.init.manners(Manners { fail, ..Manners::default() });
    bench.wish(|d| d.spec.restart = RestartPolicy::Never);
    let reason = bench.until(VmState::Failed).await.reason.unwrap();
    assert!(reason.contains("KVM refused") && reason.contains("kvm: no such ioctl"), "{reason}");
    assert_eq!((bench.init.known(), bench.run_dirs()), (0, 0));

    // A fault of the definition is not tried again, whatever the policy; a changed definition is.
    let fail = Some((record(ExitReason::Config, "/k is no kernel"), ""));
    bench.init.manners(Manners { fail, ..Manners::default() });
    bench.wish(|d| d.spec.restart = RestartPolicy::Always);
    let reason = bench.until(VmState::Failed).await.reason.unwrap();
    assert_eq!(reason, "/k is no kernel");
    bench.init.manners(Manners::default());
    bench.wish(|_| {});
    bench.until(VmState::Running).await;
}

#[tokio::test]
async fn a_monitor_that_never_answers_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let init = FakeInit::start(dir.path());
    init.manners(Manners { mute: true, ..Manners::default() });
    let watcher = Arc::new(Watcher::default());
    let settings = Settings { ready: Duration::from_millis(100), ..settings(dir.path()) };
    let fleet = Fleet::new(Arc::new(LqVmm::with(settings)), watcher.clone());
    fleet.adopt().await.unwrap();
    let vm = VmId::new();
    let mut desired = desired(vm);
    desired.spec.restart = RestartPolicy::Never;
    fleet.sync(vec![desired]);
    let status = watcher.until(vm, |s| s.state == VmState::Failed).await;
    assert!(status.reason.unwrap().contains("did not answer"));
    assert_eq!(init.known(), 0);
}

#[tokio::test]
async fn a_deaf_guest_is_ended_by_force_when_told_so() {
    let mut bench = bench().await;
    bench.init.manners(Manners::default());
    bench.wish(|_| {});
    bench.until(VmState::Running).await;
    bench.wish(|d| (d.spec.power, d.stop.timeout_seconds) = (PowerState::Stopped, 1));
    bench.until(VmState::Stopped).await;
    assert!(bench.watcher.events().iter().any(|(kind, _)| *kind == "vm.forced"));
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_killed_and_gone() {
    let mut bench = bench().await;
    bench.wish(|_| {});
    bench.until(VmState::Running).await;
    bench.fleet.sync(vec![]);
    bench.fleet.gone(bench.vm).await;
    assert!(bench.init.running().is_empty());
    eventually("all traces are gone", || (bench.init.known() == 0 && bench.run_dirs() == 0).then_some(()))
        .await;
    // Never wanted: nothing to wait for. Wanted again at once: a new life.
    bench.fleet.gone(VmId::new()).await;
    bench.fleet.sync(vec![bench.desired.clone()]);
    eventually("it runs again", || (bench.init.running().len() == 1).then_some(())).await;
}

#[tokio::test]
async fn gone_waits_for_a_launch_under_way() {
    let bench = bench().await;
    for _ in 0..20 {
        bench.fleet.sync(vec![bench.desired.clone()]);
        tokio::task::yield_now().await;
        bench.fleet.sync(vec![]);
        bench.fleet.gone(bench.vm).await;
        assert!(bench.init.running().is_empty());
    }
}

#[tokio::test]
async fn a_lost_connection_to_pid_1_loses_no_end() {
    let mut bench = bench().await;
    bench.wish(|d| d.spec.restart = RestartPolicy::Never);
    bench.until(VmState::Running).await;
    bench.init.close();
    bench.init.kill(&bench.unit(), End::Killed(11));
    bench.init.open();
    let status = bench.until(VmState::Failed).await;
    assert_eq!(status.reason.unwrap(), "lq-vmm was killed by signal 11 (SIGSEGV)");
}

#[tokio::test]
async fn a_host_going_down_restarts_nothing() {
    let mut bench = bench().await;
    bench.wish(|d| d.spec.restart = RestartPolicy::Always);
    bench.until(VmState::Running).await;
    bench.init.go_down();
    // The order of the two events on one connection is kept.
    bench.init.kill(&bench.unit(), End::Killed(15));
    let status = bench.until(VmState::Stopped).await;
    assert_eq!(status.reason.as_deref(), Some("the host is going down"));
    assert!(bench.init.running().is_empty());
}

#[test]
fn machines_are_adopted_after_a_crash_of_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (runs, ends, off) = (VmId::new(), VmId::new(), VmId::new());
    // The host lives on while daemons come and go.
    let host = tokio::runtime::Runtime::new().unwrap();
    let init = host.block_on(async { FakeInit::start(dir.path()) });
    let daemon = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let watcher = Arc::new(Watcher::default());
        let fleet = runtime.block_on(async {
            let fleet = Fleet::new(Arc::new(LqVmm::with(settings(dir.path()))), watcher.clone());
            fleet.adopt().await.unwrap();
            fleet
        });
        (runtime, watcher, fleet)
    };
    let wanted = || vec![desired(runs), desired(ends), desired(off)];

    let (runtime, watcher, fleet) = daemon();
    let before = runtime.block_on(async {
        fleet.sync(wanted());
        for vm in [runs, ends, off] {
            watcher.until(vm, |s| s.state == VmState::Running).await;
        }
        watcher.last(runs).unwrap()
    });
    drop(fleet);
    runtime.shutdown_background();

    init.kill(&format!("vm-{ends}"), End::Killed(9));
    let record = ExitRecord { reason: ExitReason::GuestPowerOff, detail: "S5".into() };
    std::fs::write(dir.path().join(format!("vms/{off}/exit.json")), serde_json::to_vec(&record).unwrap())
        .unwrap();
    init.kill(&format!("vm-{off}"), End::Exited(0));
    // Of a machine nobody knows any more.
    std::fs::create_dir(dir.path().join(format!("vms/{}", VmId::new()))).unwrap();

    let (runtime, watcher, fleet) = daemon();
    assert_eq!(init.running().len(), 1, "nothing is started before it is known what is wanted");
    runtime.block_on(async {
        fleet.sync(wanted());
        let after = watcher.until(runs, |s| s.state == VmState::Running).await;
        assert_eq!((after.pid, after.started_at), (before.pid, before.started_at));
        let restarted = watcher.until(ends, |s| s.state == VmState::Running).await;
        assert_eq!(restarted.restarts, 1);
        let rests = watcher.until(off, |s| s.state == VmState::Stopped).await;
        assert_eq!(rests.reason.as_deref(), Some("the guest powered itself off"));
        let mut console = fleet.console(runs).await.unwrap();
        expect(&mut console, "login: ").await;
    });
    let dirs = std::fs::read_dir(dir.path().join("vms")).unwrap().count();
    assert_eq!(dirs, 3, "strays are removed");

    // Once more: the guest that powered itself off stays off after another restart of the daemon.
    drop(fleet);
    runtime.shutdown_background();
    let (runtime, watcher, fleet) = daemon();
    runtime.block_on(async {
        fleet.sync(wanted());
        watcher.until(off, |s| s.state == VmState::Stopped).await;
        watcher.until(runs, |s| s.state == VmState::Running).await;
    });
    assert_eq!(init.running().len(), 2);
}

/// The daemon comes back late: its machine was another host's meanwhile and is this one's again, since that one is lost too.
#[tokio::test]
async fn how_a_machine_of_an_earlier_epoch_ended_keeps_nobody_from_starting_it() {
    let mut bench = bench().await;
    bench.wish(|d| (d.leased, d.spec.restart) = (true, RestartPolicy::Never));
    let before = bench.until(VmState::Running).await.pid;
    let record = ExitRecord { reason: ExitReason::GuestPowerOff, detail: "S5".into() };
    let file = bench.dir.path().join(format!("vms/{}/exit.json", bench.vm));
    std::fs::write(file, serde_json::to_vec(&record).unwrap()).unwrap();
    bench.init.kill(&bench.unit(), End::Exited(0));
    bench.until(VmState::Stopped).await;
    let watcher = Arc::new(Watcher::default());
    let fleet = Fleet::new(Arc::new(LqVmm::with(settings(bench.dir.path()))), watcher.clone());
    fleet.adopt().await.unwrap();
    fleet.sync(vec![Desired { epoch: 4, ..bench.desired.clone() }]);
    let after = watcher.until(bench.vm, |s| s.state == VmState::Running).await;
    assert_ne!(after.pid, before);
}

/// A host that was silent for long enough finds its machine gone to another host and come back: what runs here is of the past.
#[tokio::test]
async fn what_runs_of_an_earlier_epoch_is_never_to_have_a_lease() {
    let mut bench = bench().await;
    bench.wish(|_| {});
    bench.until(VmState::Running).await;
    let leased = |bench: &Bench| bench.fleet.leased().into_iter().map(|(_, epoch)| epoch).collect::<Vec<_>>();
    assert_eq!(leased(&bench), [None]);
    bench.wish(|d| d.leased = true);
    assert_eq!(leased(&bench), [Some(0)]);
    // Nothing has been awaited: the driver has not even begun to end it.
    bench.wish(|d| d.epoch = 2);
    assert_eq!(leased(&bench), []);
    bench.wish(|d| d.leased = false);
    assert_eq!(leased(&bench), [], "nor is it freed to run on without one");
    bench.until(VmState::Running).await;
    assert_eq!(leased(&bench), [None], "what runs now is of this epoch");
}

/// A disk of a file that is there.
fn disk(dir: &std::path::Path, name: &str) -> (Disk, DiskConfig) {
    let disk = Disk::of(VolumeId::new());
    let path = dir.join(name);
    std::fs::write(&path, [0; 512]).unwrap();
    let config = DiskConfig {
        serial: lq_mgmtd::hardware::serial(disk.volume),
        image: DiskImage {
            path: path.to_string_lossy().into_owned(),
            format: ImageFormat::Raw,
            backing: None,
        },
        read_only: false,
        limits: disk.limits,
        queues: 1,
        slot: None,
    };
    (disk, config)
}

#[tokio::test]
async fn a_running_machine_is_changed_also_by_the_next_daemon() {
    let mut bench = bench().await;
    let (disk, config) = disk(bench.dir.path(), "more.raw");
    bench.wish(|_| {});
    bench.until(VmState::Running).await;
    bench.wish(|d| {
        d.spec.disks = vec![disk.clone()];
        d.launch.disks = vec![config.clone()];
        d.spec.vcpus = 2;
    });
    let generation = bench.desired.generation;
    let fields = |s: &VmStatus| s.pending.iter().map(|p| p.field.clone()).collect::<Vec<_>>();
    let status =
        bench.watcher.until(bench.vm, |s| s.observed_generation == generation && fields(s) == ["spec.vcpus"]);
    assert_eq!(status.await.pending[0].waits_for, WaitsFor::Start);
    let has = bench.fleet.machine(bench.vm).unwrap().inventory().await.unwrap().unwrap();
    assert_eq!((has.disk(disk.volume), has.vcpus, has.hotplug), (Some(&disk), 1, true));
    assert!(bench.watcher.holds(bench.vm).unwrap().volumes.contains(&disk.volume));

    // The daemon is started again: it knows what the machine has, and goes on from there.
    let watcher = Arc::new(Watcher::default());
    let next = Fleet::new(Arc::new(LqVmm::with(settings(bench.dir.path()))), watcher.clone());
    next.adopt().await.unwrap();
    let rate = Rate { per_second: 7, burst: 0 };
    let limits = IoLimits { operations: Some(rate), bandwidth: None };
    bench.desired.spec.disks[0].limits = limits;
    bench.desired.launch.disks[0].limits = limits;
    bench.desired.generation += 1;
    next.sync(vec![bench.desired.clone()]);
    let generation = bench.desired.generation;
    watcher.until(bench.vm, |s| s.observed_generation == generation && fields(s) == ["spec.vcpus"]).await;
    let has = next.machine(bench.vm).unwrap().inventory().await.unwrap().unwrap();
    assert_eq!(has.disk(disk.volume).map(|d| d.limits), Some(limits));
    bench.desired.spec.disks.clear();
    bench.desired.launch.disks.clear();
    bench.desired.generation += 1;
    next.sync(vec![bench.desired.clone()]);
    eventually("the disk is let go of", || watcher.holds(bench.vm).filter(|h| h.volumes.is_empty())).await;
    let told: Vec<_> = watcher.events().into_iter().filter(|(kind, _)| *kind == "vm.changed").collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn memory_grows_and_shrinks_as_far_as_the_guest_goes() {
    let mut bench = bench().await;
    let mib = lq_api::Bytes::mib;
    bench.wish(|d| {
        d.spec.memory_bytes = mib(256);
        d.spec.memory_max_bytes = Some(mib(1024));
    });
    let has = |memory: u64| move |s: &VmStatus| s.memory_bytes == Some(mib(memory));
    let status = bench.watcher.until(bench.vm, has(256)).await;
    assert_eq!(status.pending, []);
    bench.wish(|d| d.spec.memory_bytes = mib(512));
    bench.watcher.until(bench.vm, |s| has(512)(s) && s.pending.is_empty()).await;
    bench.wish(|d| d.spec.memory_bytes = mib(1024));
    let waits = bench.watcher.until(bench.vm, |s| has(896)(s) && !s.pending.is_empty()).await;
    assert_eq!(
        (&*waits.pending[0].field, waits.pending[0].waits_for),
        ("spec.memory_bytes", WaitsFor::Guest)
    );

    // The next daemon finds it so, and goes on from there; a place for it elsewhere is made as it was asked for.
    let watcher = Arc::new(Watcher::default());
    let next = Fleet::new(Arc::new(LqVmm::with(settings(bench.dir.path()))), watcher.clone());
    next.adopt().await.unwrap();
    next.sync(vec![bench.desired.clone()]);
    let found = watcher.until(bench.vm, |s| s.state == VmState::Running).await;
    assert_eq!((found.memory_bytes, found.pending.len()), (Some(mib(896)), 1));
    let layout = next.machine(bench.vm).unwrap().inventory().await.unwrap().unwrap().layout();
    let region = layout.plugged.unwrap();
    assert_eq!((layout.memory_bytes, region.most, region.asked), (mib(256), mib(768), mib(768)));
    bench.desired.spec.memory_bytes = mib(128);
    bench.desired.generation += 1;
    next.sync(vec![bench.desired.clone()]);
    let generation = bench.desired.generation;
    let shrunk = watcher.until(bench.vm, |s| s.observed_generation == generation && has(256)(s)).await;
    assert_eq!(shrunk.pending.iter().map(|p| p.waits_for).collect::<Vec<_>>(), [WaitsFor::Start]);
}

#[tokio::test]
async fn processors_come_at_once_and_go_when_the_guest_releases_them() {
    let mut bench = bench().await;
    bench.wish(|d| d.spec.vcpus_max = Some(4));
    bench.until(VmState::Running).await;
    bench.wish(|d| d.spec.vcpus = 4);
    let generation = bench.desired.generation;
    bench.watcher.until(bench.vm, |s| s.observed_generation == generation && s.pending.is_empty()).await;
    let has = bench.fleet.machine(bench.vm).unwrap().inventory().await.unwrap().unwrap();
    assert_eq!((has.vcpus, has.cpus.map(|c| (c.most, c.present))), (4, Some((4, 4))));
    bench.wish(|d| d.spec.vcpus = 2);
    let waits =
        bench.watcher.until(bench.vm, |s| s.pending.iter().any(|p| p.waits_for == WaitsFor::Guest)).await;
    assert!(waits.pending[0].reason.contains("has 4 virtual CPUs still"), "{waits:?}");
}

#[tokio::test]
async fn a_guest_that_clings_is_waited_for_and_its_end_frees_what_it_had() {
    let mut bench = bench().await;
    bench.init.manners(Manners { clings: true, ..Manners::default() });
    let (disk, config) = disk(bench.dir.path(), "data.raw");
    bench.wish(|d| {
        d.spec.disks = vec![disk.clone()];
        d.launch.disks = vec![config.clone()];
    });
    bench.until(VmState::Running).await;
    bench.wish(|d| {
        d.spec.disks.clear();
        d.launch.disks.clear();
    });
    let waits = |s: &VmStatus| s.pending.iter().any(|p| p.reason.contains("the guest has not let go of it"));
    let status = bench.watcher.until(bench.vm, waits).await;
    assert_eq!(status.pending[0].waits_for, WaitsFor::Guest);
    let generation = bench.desired.generation;
    let holds = bench.watcher.holds(bench.vm).unwrap();
    assert!(holds.generation == generation && holds.volumes.contains(&disk.volume), "{holds:?}");
    bench.init.kill(&bench.unit(), End::Killed(9));
    eventually("nothing is held", || bench.watcher.holds(bench.vm).filter(|h| h.volumes.is_empty())).await;
}
