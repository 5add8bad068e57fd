//! Machines with a TPM: the process behind it comes and goes with theirs.

use super::*;
use std::path::PathBuf;

/// A bench whose machine has a TPM, and the directory of what that keeps.
async fn with_tpm() -> (Bench, PathBuf) {
    let mut bench = bench().await;
    let state = bench.dir.path().join("vm.tpm");
    bench.desired.spec.tpm = true;
    bench.desired.spec.restart = RestartPolicy::Never;
    bench.desired.launch.tpm = Some(state.to_string_lossy().into_owned());
    (bench, state)
}

async fn nothing_is_left(bench: &Bench) {
    eventually("all traces are gone", || (bench.init.known() == 0 && bench.run_dirs() == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn it_comes_and_goes_with_its_machine_and_what_it_keeps_stays() {
    let (mut bench, state) = with_tpm().await;
    let tpm = format!("tpm-{}", bench.vm);
    for _ in 0..2 {
        bench.wish(|d| d.spec.power = PowerState::Running);
        bench.until(VmState::Running).await;
        assert!(bench.init.running().contains_key(&tpm));
        assert!(!state.join("tpm2-00.volatilestate").exists(), "of a run that is over");
        std::fs::write(state.join("tpm2-00.permall"), "keys").unwrap();
        std::fs::write(state.join("tpm2-00.volatilestate"), "registers").unwrap();
        bench.wish(|d| d.spec.power = PowerState::Stopped);
        bench.until(VmState::Stopped).await;
        assert_eq!(bench.init.running().len(), 0, "the machine has not ended before its TPM has");
        nothing_is_left(&bench).await;
    }
    assert_eq!(std::fs::read(state.join("tpm2-00.permall")).unwrap(), b"keys");
}

#[tokio::test]
async fn without_it_the_machine_does_not_start_and_nothing_is_left() {
    let (mut bench, state) = with_tpm().await;
    bench.init.manners(Manners { no_tpm: Some("swtpm: the state is not readable"), ..Manners::default() });
    bench.wish(|_| {});
    let reason = bench.until(VmState::Failed).await.reason.unwrap();
    assert!(reason.contains("TPM") && reason.contains("the state is not readable"), "{reason}");
    assert_eq!((bench.init.known(), bench.run_dirs()), (0, 0));

    // Where the machine does not start, its TPM does not stay.
    let fail = Some((ExitRecord { reason: ExitReason::Host, detail: "KVM refused".into() }, ""));
    bench.init.manners(Manners { fail, ..Manners::default() });
    bench.wish(|_| {});
    let reason = bench.until(VmState::Failed).await.reason.unwrap();
    assert!(reason.contains("KVM refused"), "{reason}");
    assert_eq!((bench.init.known(), bench.run_dirs()), (0, 0));

    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "no directory").unwrap();
    bench.init.manners(Manners::default());
    bench.wish(|_| {});
    let reason = bench.until(VmState::Failed).await.reason.unwrap();
    assert!(reason.contains("what it keeps cannot be used"), "{reason}");
    assert_eq!((bench.init.known(), bench.run_dirs()), (0, 0));
}

#[tokio::test]
async fn one_that_dies_is_told_of_and_the_machine_runs_on() {
    let (mut bench, _) = with_tpm().await;
    bench.wish(|_| {});
    bench.until(VmState::Running).await;
    bench.init.kill(&format!("tpm-{}", bench.vm), End::Killed(9));
    let told =
        |watcher: &Watcher| watcher.events().iter().filter(|(kind, _)| *kind == "vm.tpm-failed").count();
    let failed = |s: &VmStatus| s.reason.as_ref().is_some_and(|why| why.contains("TPM has failed"));
    let status = bench.watcher.until(bench.vm, failed).await;
    assert_eq!((status.state, told(&bench.watcher)), (VmState::Running, 1));

    // Another daemon knows it too, and does not tell it again.
    let watcher = Arc::new(Watcher::default());
    let fleet = Fleet::new(Arc::new(LqVmm::with(settings(bench.dir.path()))), watcher.clone());
    fleet.adopt().await.unwrap();
    fleet.sync(vec![bench.desired.clone()]);
    watcher.until(bench.vm, failed).await;
    assert_eq!(told(&watcher), 0);
    drop(fleet);

    bench.wish(|d| d.spec.power = PowerState::Stopped);
    bench.until(VmState::Stopped).await;
    nothing_is_left(&bench).await;
    bench.wish(|d| d.spec.power = PowerState::Running);
    assert_eq!(bench.until(VmState::Running).await.reason, None);
}

#[test]
fn one_whose_machine_ended_while_no_daemon_was_there_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let host = tokio::runtime::Runtime::new().unwrap();
    let init = host.block_on(async { FakeInit::start(dir.path()) });
    let mut wanted = desired(VmId::new());
    wanted.spec.tpm = true;
    wanted.launch.tpm = Some(dir.path().join("vm.tpm").to_string_lossy().into_owned());
    let daemon = async |wanted: Desired| {
        let watcher = Arc::new(Watcher::default());
        let fleet = Fleet::new(Arc::new(LqVmm::with(settings(dir.path()))), watcher.clone());
        fleet.adopt().await.unwrap();
        fleet.sync(vec![wanted.clone()]);
        let state = match wanted.spec.power {
            PowerState::Running => VmState::Running,
            _ => VmState::Stopped,
        };
        watcher.until(wanted.vm, |s| s.state == state).await;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(daemon(wanted.clone()));
    runtime.shutdown_background();
    assert_eq!(init.running().len(), 2);
    init.kill(&format!("vm-{}", wanted.vm), End::Killed(9));

    wanted.spec.power = PowerState::Stopped;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        daemon(wanted).await;
        eventually("PID 1 knows neither", || (init.known() == 0).then_some(())).await;
    });
}

#[tokio::test]
async fn a_machine_with_one_is_not_taken_in_while_it_runs() {
    use lq_mgmtd::compute::Hypervisor;
    let (bench, _) = with_tpm().await;
    let hypervisor = LqVmm::with(settings(bench.dir.path()));
    let refused = hypervisor.receive(&bench.desired).await.err().unwrap().to_string();
    assert!(refused.contains("spec.tpm"), "{refused}");
}
