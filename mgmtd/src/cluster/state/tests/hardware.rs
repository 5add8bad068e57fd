//! Volumes and addresses of machines that are changed while they run: nobody else has them before their guest lets go.

use super::{bench::Bench, *};
use lq_api::vm::Mac;

const VM: VmId = VmId(Uuid::from_u128(200));
const OTHER: VmId = VmId(Uuid::from_u128(201));
const VOLUME: VolumeId = VolumeId(Uuid::from_u128(300));
const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// A running machine with a disk and an interface, and one at rest with neither.
fn two_machines() -> Bench {
    let mut bench = Bench::start();
    let kernel = ImageSpec { kind: ImageKind::Kernel, ..disk_image() };
    let image = ImageId(Uuid::from_u128(400));
    let create = CreateImage { name: "k".into(), labels: BTreeMap::new(), spec: kernel };
    bench.must(Op::CreateImage { id: image, create });
    let spec =
        VolumeSpec { size_bytes: Some(Bytes::mib(1)), pool: None, format: ImageFormat::Raw, source: None };
    let create = CreateVolume { name: "data".into(), labels: BTreeMap::new(), spec };
    bench.must(Op::CreateVolume { id: VOLUME, create });
    bench.must(Op::VolumeReady { id: VOLUME, size: Bytes::mib(1), by: None });
    for (id, name, power) in [(VM, "w", PowerState::Running), (OTHER, "o", PowerState::Stopped)] {
        let boot = Some(Boot { kernel: image, initrd: None, cmdline: String::new() });
        let spec = VmSpec { boot, power, ..VmSpec::default() };
        let create = CreateVm { name: name.into(), labels: BTreeMap::new(), spec };
        bench.must(Op::CreateVm { id, host: HOST, create });
    }
    bench
        .change(VM, |spec| {
            spec.disks = vec![Disk::of(VOLUME)];
            spec.nics = vec![Nic { mac: Some(MAC), ..Nic::on(NETWORK) }];
        })
        .unwrap();
    bench.see(VM, VmState::Running);
    bench.see(OTHER, VmState::Stopped);
    bench
}

impl Bench {
    fn generation(&self) -> u64 {
        self.state.vms[&VM].vm.meta.generation
    }

    fn holds(&mut self, generation: u64, volumes: &[VolumeId]) {
        let volumes = volumes.iter().copied().collect();
        self.must(Op::LetGo { id: VM, by: (HOST, 0), generation, volumes, nics: BTreeSet::new() });
    }

    fn owner(&self) -> Option<VmId> {
        self.state.volumes[&VOLUME].status.attached_to
    }
}

fn disk_image() -> ImageSpec {
    ImageSpec { kind: ImageKind::Disk, format: ImageFormat::Raw, pool: None, sha256: None, boot: None }
}

fn takes(spec: &mut VmSpec) {
    spec.disks = vec![Disk::of(VOLUME)];
}

#[test]
fn a_disk_that_is_cut_is_the_machines_until_its_guest_lets_go() {
    let mut bench = two_machines();
    bench.change(VM, |spec| spec.disks.clear()).unwrap();
    let cut = bench.generation();
    assert_eq!(bench.owner(), Some(VM));
    let why = |outcome: Outcome| outcome.unwrap_err().to_string();
    let refusals = [
        why(bench.change(OTHER, takes)),
        why(bench.apply(Op::DeleteVolume { id: VOLUME, expect: None })),
        why(bench.apply(Op::GrowVolume { id: VOLUME, expect: None, size: Bytes::mib(2) })),
    ];
    for why in refusals {
        assert!(why.contains("the guest of the machine `w` has not released the volume `data` yet"), "{why}");
    }
    // The host says what it has as of before, then that the guest has it still.
    bench.holds(cut - 1, &[]);
    bench.holds(cut, &[VOLUME]);
    assert_eq!(bench.owner(), Some(VM));
    let stranger =
        Op::LetGo { id: VM, by: (HOST, 7), generation: cut, volumes: BTreeSet::new(), nics: BTreeSet::new() };
    bench.must(stranger);
    assert_eq!(bench.owner(), Some(VM), "the word of another epoch");
    bench.holds(cut, &[]);
    assert_eq!(bench.owner(), None);
    bench.change(OTHER, takes).unwrap();
    assert_eq!(bench.owner(), Some(OTHER));
}

#[test]
fn a_word_that_comes_late_frees_nothing_that_is_in_use_again() {
    let mut bench = two_machines();
    bench.change(VM, |spec| spec.disks.clear()).unwrap();
    let first = bench.generation();
    bench.change(VM, takes).unwrap();
    bench.holds(first, &[]);
    assert_eq!(bench.owner(), Some(VM), "it is wanted again");
    bench.change(VM, |spec| spec.disks.clear()).unwrap();
    bench.holds(first, &[]);
    assert_eq!(bench.owner(), Some(VM), "it was cut anew since");
    bench.holds(bench.generation(), &[]);
    assert_eq!(bench.owner(), None);
}

#[test]
fn what_does_not_run_holds_nothing() {
    let mut bench = two_machines();
    bench.change(OTHER, |spec| spec.nics = vec![Nic::on(NETWORK)]).unwrap();
    bench.must(Op::PowerVm { id: VM, expect: None, power: Power::Stop(StopVm::default()) });
    bench.change(VM, |spec| spec.disks.clear()).unwrap();
    assert_eq!(bench.owner(), Some(VM), "it was told to stop, and has not");
    bench.see(VM, VmState::Stopped);
    bench.holds(bench.generation(), &[]);
    assert_eq!(bench.owner(), None);
    bench.change(VM, takes).unwrap();
    bench.see(VM, VmState::Stopped);
    bench.change(VM, |spec| spec.disks.clear()).unwrap();
    assert_eq!(bench.owner(), None, "at rest, and its host has said so");
    // A boot of the host ends all that ran.
    let mut bench = two_machines();
    bench.change(VM, |spec| spec.disks.clear()).unwrap();
    bench.must(Op::HostStarted { host: HOST, name: "h".into(), boot: Uuid::from_u128(77) });
    assert_eq!(bench.owner(), None);
    // So does its end.
    let mut bench = two_machines();
    bench.change(VM, |spec| spec.disks.clear()).unwrap();
    bench.see(VM, VmState::Stopped);
    bench.must(Op::DeleteVm { id: VM, expect: None });
    bench.must(Op::ForgetVm { id: VM });
    assert_eq!(bench.owner(), None);
}

#[test]
fn an_address_that_is_cut_is_nobody_elses_yet() {
    let mut bench = two_machines();
    bench.change(VM, |spec| spec.nics.clear()).unwrap();
    let takes = |spec: &mut VmSpec| spec.nics = vec![Nic { mac: Some(MAC), ..Nic::on(NETWORK) }];
    assert!(bench.change(OTHER, takes).unwrap_err().to_string().contains("is in use"));
    bench.holds(bench.generation(), &[VOLUME]);
    bench.change(OTHER, takes).unwrap();
}

#[test]
fn a_machine_moves_with_what_it_has_and_not_while_that_changes() {
    let mut bench = two_machines();
    let to = HostId(Uuid::from_u128(8));
    bench.must(Op::SimulateHosts { hosts: vec![(to, "o".into())] });
    let begin = |hardware| Op::BeginMove { id: VM, expect: None, moving: Uuid::from_u128(1), to, hardware };
    let without_disks = |bench: &mut Bench| {
        bench.change(VM, |spec| spec.disks.clear()).unwrap();
        bench.see(VM, VmState::Running);
    };
    without_disks(&mut bench);
    let refused = bench.apply(begin(None)).unwrap_err().to_string();
    assert!(refused.contains("has not released the volume"), "{refused}");
    bench.holds(bench.generation(), &[]);
    bench.change(VM, |spec| spec.vcpus = 2).unwrap();
    bench.see(VM, VmState::Running);
    let has = Arc::new(Hardware { vcpus: 1, ..Hardware::of(&bench.state.vms[&VM].vm.spec) });
    bench.must(begin(Some(has.clone())));
    assert_eq!(bench.state.vms[&VM].hardware, Some(has));
    assert!(bench.change(VM, takes).is_err(), "changes wait for the move");
    bench.must(Op::EndMove { id: VM, moving: Uuid::from_u128(1) });
    assert_eq!(bench.state.vms[&VM].hardware, None);
}

#[test]
fn a_volume_of_a_running_machine_grows_and_is_not_moved_meanwhile() {
    let mut bench = two_machines();
    bench.must(Op::GrowVolume { id: VOLUME, expect: None, size: Bytes::mib(2) });
    let to = HostId(Uuid::from_u128(8));
    bench.must(Op::SimulateHosts { hosts: vec![(to, "o".into())] });
    let begin = Op::BeginMove { id: VM, expect: None, moving: Uuid::from_u128(1), to, hardware: None };
    assert!(bench.apply(begin).is_err());
    bench.must(Op::VolumeReady { id: VOLUME, size: Bytes::mib(2), by: Some(HOST) });
}

#[test]
fn a_medium_the_guest_ejected_is_not_wanted_any_more() {
    let mut bench = two_machines();
    let iso = ImageId(Uuid::from_u128(500));
    let create = CreateImage {
        name: "cd".into(),
        labels: BTreeMap::new(),
        spec: ImageSpec { kind: ImageKind::Iso, ..disk_image() },
    };
    bench.must(Op::CreateImage { id: iso, create });
    bench.change(VM, |spec| spec.cdroms = vec![Cdrom { image: Some(iso) }]).unwrap();
    let generation = bench.generation();
    let ejected = |image, epoch| Op::MediumEjected { id: VM, by: (HOST, epoch), drive: 0, image };
    bench.must(ejected(ImageId(Uuid::from_u128(501)), 0));
    bench.must(ejected(iso, 3));
    assert_eq!(bench.state.vms[&VM].vm.spec.cdroms[0].image, Some(iso));
    bench.must(ejected(iso, 0));
    assert_eq!(bench.state.vms[&VM].vm.spec.cdroms[0].image, None);
    assert_eq!(bench.generation(), generation + 1);
}
