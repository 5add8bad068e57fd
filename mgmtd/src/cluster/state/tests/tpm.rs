//! Machines with a TPM: when it comes and goes, where what it keeps is, and where the machine can be for it.

use super::{bench::Bench, *};
use crate::placement::{self, Request};

const OTHER: HostId = HostId(Uuid::from_u128(8));
pub(super) const VM: VmId = VmId(Uuid::from_u128(200));
const VOLUME: VolumeId = VolumeId(Uuid::from_u128(300));
pub(super) const KERNEL: ImageId = ImageId(Uuid::from_u128(400));

/// Two hosts, and a machine at rest on the first, with a disk in a pool of both or of its host alone.
pub(super) fn with_disk(pool: PoolId, spec: VmSpec) -> Bench {
    let mut bench = Bench::start();
    bench.must(Op::SimulateHosts { hosts: vec![(OTHER, "o".into())] });
    bench.must(Op::CreatePool { id: SHARED, create: shared_pool("s") });
    bench.must(stands(HOST, true));
    bench.must(stands(OTHER, true));
    let kernel =
        ImageSpec { kind: ImageKind::Kernel, format: ImageFormat::Raw, pool: None, sha256: None, boot: None };
    let create = CreateImage { name: "k".into(), labels: BTreeMap::new(), spec: kernel };
    bench.must(Op::CreateImage { id: KERNEL, create });
    let size = Bytes::mib(1);
    let volume =
        VolumeSpec { size_bytes: Some(size), pool: Some(pool), format: ImageFormat::Raw, source: None };
    let create = CreateVolume { name: "d".into(), labels: BTreeMap::new(), spec: volume };
    bench.must(Op::CreateVolume { id: VOLUME, create });
    bench.must(Op::VolumeReady { id: VOLUME, size, by: None });
    let spec = VmSpec { disks: vec![Disk::of(VOLUME)], ..spec };
    let create = CreateVm { name: "w".into(), labels: BTreeMap::new(), spec };
    bench.must(Op::CreateVm { id: VM, host: HOST, create });
    bench
}

/// Why it cannot be on the other host: going on there, and started anew there.
pub(super) fn refused(bench: &Bench) -> [String; 2] {
    let (vm, other) = (&bench.state.vms[&VM].vm, &bench.state.hosts[&OTHER]);
    [Request::going_on(vm), Request::anew(vm)]
        .map(|request| placement::refusals(&bench.state, other, request).join("; "))
}

fn with_tpm(boot: Option<Boot>) -> VmSpec {
    VmSpec { tpm: true, boot, ..VmSpec::default() }
}

#[test]
fn it_comes_and_goes_only_while_the_machine_is_off() {
    let mut bench = with_disk(SHARED, VmSpec::default());
    bench.runs(VM);
    for state in [VmState::Running, VmState::Paused, VmState::Starting, VmState::Failed] {
        bench.see(VM, state);
        let before = bench.state.clone();
        let why = bench.change(VM, |spec| spec.tpm = true).unwrap_err().to_string();
        assert!(why.contains("spec.tpm") && why.contains("stop it"), "{why}");
        assert_eq!(bench.state, before);
    }
    bench.rests(VM);
    bench.change(VM, |spec| spec.tpm = true).unwrap();
    bench.runs(VM);
    bench.change(VM, |spec| spec.autostart = false).unwrap();
    assert!(bench.change(VM, |spec| spec.tpm = false).is_err());
    bench.rests(VM);
    bench.change(VM, |spec| (spec.tpm, spec.power) = (false, PowerState::Running)).unwrap();
}

#[test]
fn in_a_shared_pool_it_follows_its_machine_but_not_while_that_runs() {
    let mut bench = with_disk(SHARED, with_tpm(None));
    assert_eq!(bench.state.vms[&VM].vars, Some(SHARED));
    assert_eq!(refused(&bench), ["", ""]);
    bench.runs(VM);
    let [goes_on, anew] = refused(&bench);
    assert_eq!((goes_on.as_str(), anew.as_str()), (placement::TPM_STAYS, ""));
    let moves = Op::BeginMove { id: VM, expect: None, moving: Uuid::from_u128(1), to: OTHER, hardware: None };
    let why = bench.apply(moves).unwrap_err().to_string();
    assert!(why.contains("spec.tpm"), "{why}");
    // Where the pool is not reached nothing of it is.
    bench.must(stands(OTHER, false));
    let refused = refused(&bench);
    assert!(refused.iter().all(|why| why.contains("what its firmware remembers")), "{refused:?}");
}

#[test]
fn on_its_host_alone_it_is_lost_with_it() {
    let bench = with_disk(POOL, with_tpm(None));
    assert_eq!(bench.state.vms[&VM].vars, None);
    let [goes_on, anew] = refused(&bench);
    assert!(anew.contains("what its TPM keeps is on its host alone") && !goes_on.contains("TPM"), "{anew}");
}

#[test]
fn of_a_machine_without_firmware_it_is_beside_the_first_disk_from_when_it_came() {
    let boot = Some(Boot { kernel: KERNEL, initrd: None, cmdline: String::new() });
    let bench = with_disk(SHARED, with_tpm(boot.clone()));
    assert_eq!(bench.state.vms[&VM].vars, Some(SHARED));
    let mut bench = with_disk(SHARED, VmSpec { boot, ..VmSpec::default() });
    assert_eq!(bench.state.vms[&VM].vars, None);
    bench.change(VM, |spec| spec.tpm = true).unwrap();
    assert_eq!(bench.state.vms[&VM].vars, Some(SHARED));
    // What it keeps stays where it is.
    bench.change(VM, |spec| spec.disks.clear()).unwrap();
    bench.change(VM, |spec| spec.tpm = false).unwrap();
    bench.change(VM, |spec| spec.tpm = true).unwrap();
    assert_eq!(bench.state.vms[&VM].vars, Some(SHARED));
}
