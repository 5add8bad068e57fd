//! Plans, carried out on paper.

use super::*;
use crate::compute::{Fault, Launch, LaunchBoot, Part};
use lq_api::{
    VmId,
    image::ImageFormat,
    local::vmm::{DiskImage, Rate},
    vm::{Cdrom, StopVm, VmSpec},
};
use proptest::prelude::*;
use uuid::Uuid;

fn desired(spec: VmSpec) -> Desired {
    let disks = spec.disks.iter().map(|disk| DiskConfig {
        serial: crate::hardware::serial(disk.volume),
        image: DiskImage { path: format!("/v/{}", disk.volume), format: ImageFormat::Raw, backing: None },
        read_only: disk.read_only,
        limits: disk.limits,
        queues: 1,
        slot: None,
    });
    let nics = spec.nics.iter().map(|nic| LaunchNic {
        bridge: format!("br-{}", nic.network),
        mac: nic.mac.unwrap(),
        connected: nic.connected,
        limits: nic.limits,
        queues: 1,
        slot: None,
    });
    let launch = Launch {
        boot: LaunchBoot::default(),
        disks: disks.collect(),
        nics: nics.collect(),
        cdroms: spec.cdroms.iter().map(|c| c.image.map(|i| format!("/i/{i}"))).collect(),
        tpm: None,
        lease: None,
    };
    Desired {
        vm: VmId::new(),
        name: "web-1".into(),
        generation: 1,
        epoch: 0,
        part: Part::Owner,
        returned: false,
        leased: false,
        spec,
        hardware: None,
        stop: StopVm::default(),
        reset_count: 0,
        fault: None,
        launch,
    }
}

fn volume(n: u8) -> VolumeId {
    VolumeId(Uuid::from_u128(0x0123_4567_89ab_7000_8000_0000_0000_0000 + u128::from(n)))
}

fn limits() -> impl Strategy<Value = IoLimits> {
    let rate = |n: Option<u64>| n.map(|per_second| Rate { per_second, burst: 0 });
    proptest::option::of(1..3u64).prop_map(move |n| IoLimits { bandwidth: rate(n), operations: None })
}

/// Specifications of few different devices, so that two of them have some in common.
fn specs() -> impl Strategy<Value = VmSpec> {
    let disk = (0..6u8, any::<bool>(), limits());
    let disk = disk.prop_map(|(n, read_only, limits)| Disk { volume: volume(n), read_only, limits });
    let nic = (0..5u8, 0..3u128, any::<bool>(), limits()).prop_map(|(n, network, connected, receive)| Nic {
        network: NetworkId(Uuid::from_u128(network)),
        mac: Some(Mac([2, 0, 0, 0, 0, n])),
        connected,
        limits: NicLimits { receive, ..NicLimits::default() },
    });
    let cdrom = proptest::option::of(0..3u128)
        .prop_map(|image| Cdrom { image: image.map(|n| ImageId(Uuid::from_u128(n))) });
    let lists = (
        proptest::collection::vec(disk, 0..5),
        proptest::collection::vec(nic, 0..4),
        proptest::collection::vec(cdrom, 0..3),
    );
    let memory = (1..9u64, proptest::option::of(0..9u64))
        .prop_map(|(now, more)| (128 * now, more.map(|more| Bytes::mib(128 * (now + more)))));
    let vcpus =
        (1..5u8, proptest::option::of(0..5u8)).prop_map(|(now, more)| (now, more.map(|more| now + more)));
    (lists, vcpus, any::<bool>(), memory).prop_map(
        |((mut disks, mut nics, cdroms), (vcpus, vcpus_max), rng, memory)| {
            let mut seen = std::collections::BTreeSet::new();
            disks.retain(|d| seen.insert(d.volume));
            let mut seen = std::collections::BTreeSet::new();
            nics.retain(|n| seen.insert(n.mac));
            let (memory_bytes, memory_max_bytes) = (Bytes::mib(memory.0), memory.1);
            VmSpec {
                disks,
                nics,
                cdroms,
                vcpus,
                vcpus_max,
                rng,
                memory_bytes,
                memory_max_bytes,
                display: Some(false),
                ..VmSpec::default()
            }
        },
    )
}

fn sorted(spec: &VmSpec) -> (Vec<Disk>, Vec<Nic>) {
    let (mut disks, mut nics) = (spec.disks.clone(), spec.nics.clone());
    disks.sort_by_key(|d| d.volume);
    nics.sort_by_key(|n| n.mac);
    (disks, nics)
}

/// The longest plan that can be: every device changed or replaced.
const STEPS: usize = 64;

/// Carries plans out until nothing is left to do.
fn carry_out(mut has: Hardware, wanted: &Desired) -> Hardware {
    for _ in 0..STEPS {
        let Some(step) = plan(&has, wanted).steps.into_iter().next() else { return has };
        let before = has.clone();
        has.take_up(&step);
        has.plugged.iter_mut().for_each(|region| region.taken = region.asked);
        has.cpus.iter_mut().for_each(|cpus| cpus.present = has.vcpus);
        assert_ne!(has, before, "{step:?} changes nothing");
    }
    panic!("it never ends: {:?}", plan(&has, wanted));
}

proptest! {
    #[test]
    fn plans_end_in_what_is_wanted_but_for_what_is_pending(from in specs(), to in specs()) {
        let wanted = desired(to.clone());
        let has = carry_out(Hardware::of(&from), &wanted);
        let now = has.spec(&to);
        prop_assert_eq!(sorted(&now), sorted(&to));
        let drives = from.cdroms.len().min(to.cdroms.len());
        prop_assert_eq!(&now.cdroms[..drives], &to.cdroms[..drives]);
        let pending = plan(&has, &wanted).pending;
        let waits = |field: &str| pending.iter().any(|p| p.field == field);
        prop_assert!(pending.iter().all(|p| p.waits_for == WaitsFor::Start));
        let vcpus = from.vcpus_max.filter(|most| *most > from.vcpus).map_or(from.vcpus, |most| to.vcpus.min(most));
        prop_assert_eq!(has.vcpus, vcpus);
        prop_assert_eq!(waits("spec.vcpus"), vcpus != to.vcpus);
        prop_assert_eq!(waits("spec.rng"), from.rng != to.rng);
        // Memory is never more than it may be, nor less than it was started with, and else as is wanted.
        let memory = has.memory_with(|region| region.taken);
        let most = from.memory_max_bytes.unwrap_or(from.memory_bytes);
        prop_assert_eq!(memory, to.memory_bytes.clamp(from.memory_bytes, most));
        prop_assert_eq!(waits("spec.memory_bytes"), memory != to.memory_bytes);
        prop_assert!(waits("spec.memory_max_bytes") || to.memory_max_bytes.is_none_or(|to| to == most));
        prop_assert_eq!(waits("spec.cdroms"), from.cdroms.len() != to.cdroms.len());
        prop_assert_eq!(waits("spec.disks"), now.disks.iter().map(|d| d.volume).ne(to.disks.iter().map(|d| d.volume)));
        prop_assert_eq!(waits("spec.nics"), now.nics.iter().map(|n| n.mac).ne(to.nics.iter().map(|n| n.mac)));
    }

    #[test]
    fn a_machine_that_is_as_wanted_is_left_alone(spec in specs()) {
        prop_assert_eq!(plan(&Hardware::of(&spec), &desired(spec)), Plan::default());
    }

    #[test]
    fn nothing_comes_or_goes_where_nothing_may(from in specs(), to in specs()) {
        let wanted = desired(to.clone());
        let has = carry_out(Hardware { hotplug: false, ..Hardware::of(&from) }, &wanted);
        let plugged = |spec: &VmSpec| spec.disks.iter().map(|d| (d.volume, d.read_only)).collect::<Vec<_>>();
        prop_assert_eq!(plugged(&has.spec(&to)), plugged(&from));
        let pending = plan(&has, &wanted).pending;
        let differ = {
            let (mut a, mut b) = (plugged(&from), plugged(&to));
            a.sort();
            b.sort();
            a != b
        };
        prop_assert!(!differ || pending.iter().any(|p| p.field == "spec.disks"));
    }

    #[test]
    fn what_cannot_be_told_is_not_touched(from in specs(), to in specs()) {
        let wanted = Desired { fault: Some(Fault::Wait("the volume is being made".into())), ..desired(to.clone()) };
        let plan = plan(&Hardware::of(&from), &wanted);
        prop_assert_eq!(plan.steps, vec![]);
        prop_assert_eq!(plan.pending.is_empty(), Hardware::of(&from) == Hardware::of(&to));
    }
}

#[test]
fn a_disk_that_is_to_be_written_to_goes_before_it_comes_again() {
    let disk = Disk { read_only: true, ..Disk::of(volume(1)) };
    let has = Hardware::of(&VmSpec { disks: vec![disk], ..VmSpec::default() });
    let wanted =
        desired(VmSpec { disks: vec![Disk::of(volume(1))], display: Some(false), ..VmSpec::default() });
    assert_eq!(plan(&has, &wanted).steps, [Step::UnplugDisk(volume(1))]);
    assert!(!carry_out(has, &wanted).disks[0].device.read_only);
}

#[test]
fn what_a_guest_ejected_is_not_put_in_again() {
    let (one, two) = (ImageId::new(), ImageId::new());
    let with = |image| VmSpec { cdroms: vec![Cdrom { image }], display: Some(false), ..VmSpec::default() };
    let ejected =
        Hardware { cdroms: vec![Drive { image: Some(one), loaded: false }], ..Hardware::of(&with(None)) };
    assert_eq!(plan(&ejected, &desired(with(Some(one)))).steps, []);
    // Once that is known it is forgotten, and can be put in again.
    assert_eq!(plan(&ejected, &desired(with(None))).steps, [Step::Eject(0)]);
    let again = carry_out(ejected.clone(), &desired(with(None)));
    assert_eq!(carry_out(again, &desired(with(Some(one)))).cdroms, [Drive::of(Some(one))]);
    assert_eq!(carry_out(ejected, &desired(with(Some(two)))).cdroms, [Drive::of(Some(two))]);
    let unknown = Hardware { cdroms: vec![Drive { image: None, loaded: true }], ..Hardware::of(&with(None)) };
    assert_eq!(carry_out(unknown, &desired(with(Some(one)))).cdroms, [Drive::of(Some(one))]);
}

#[test]
fn what_the_guest_has_not_taken_or_given_back_is_said() {
    let mib = Bytes::mib;
    let spec = |now| VmSpec {
        memory_bytes: mib(now),
        memory_max_bytes: Some(mib(1024)),
        display: Some(false),
        ..VmSpec::default()
    };
    let mut has = Hardware::of(&spec(256));
    let pending = |has: &Hardware, wanted: u64| {
        let Plan { steps, pending } = plan(has, &desired(spec(wanted)));
        assert_eq!(steps, []);
        pending.into_iter().map(|p| (p.waits_for, p.reason)).collect::<Vec<_>>()
    };
    assert_eq!(plan(&has, &desired(spec(1024))).steps, [Step::Memory(mib(768))]);
    has.take_up(&Step::Memory(mib(768)));
    let waits = pending(&has, 1024);
    assert!(
        waits[0].0 == WaitsFor::Guest && waits[0].1.starts_with("the guest has 256 MiB of 1 GiB so far"),
        "{waits:?}"
    );
    has.plugged.as_mut().unwrap().taken = mib(768);
    assert_eq!(pending(&has, 1024), []);
    has.take_up(&Step::Memory(mib(128)));
    let waits = pending(&has, 384);
    assert_eq!(waits[0].1, "the guest has 1 GiB still, of which it is to give back 640 MiB");
    // Below what it was started with: as near to it as can be, and the rest at the next start.
    assert_eq!(plan(&has, &desired(spec(128))).steps, [Step::Memory(Bytes(0))]);
    has.plugged.as_mut().unwrap().asked = Bytes(0);
    has.plugged.as_mut().unwrap().taken = Bytes(0);
    assert_eq!(pending(&has, 128).into_iter().map(|p| p.0).collect::<Vec<_>>(), [WaitsFor::Start]);
}

#[test]
fn what_is_plugged_in_has_the_queues_the_machine_can_have_now() {
    let with = |vcpus, disks| VmSpec { vcpus, disks, display: Some(false), ..VmSpec::default() };
    let mut wanted = desired(with(8, vec![Disk::of(volume(1))]));
    wanted.launch.disks[0].queues = 4;
    for (vcpus, queues) in [(1, 1), (3, 3), (8, 4)] {
        let mut has = Hardware::of(&with(vcpus, vec![]));
        let step = plan(&has, &wanted).steps.remove(0);
        assert!(matches!(&step, Step::PlugDisk(_, config) if config.queues == queues), "{step:?}");
        has.take_up(&step);
        assert_eq!(has.disks[0].queues, queues);
    }
}

#[test]
fn processors_come_at_once_and_are_waited_for_when_they_go() {
    let spec = |vcpus| VmSpec { vcpus, vcpus_max: Some(8), display: Some(false), ..VmSpec::default() };
    let mut has = Hardware::of(&spec(2));
    assert_eq!(plan(&has, &desired(spec(8))).steps, [Step::Cpus(8)]);
    has.take_up(&Step::Cpus(8));
    has.cpus.as_mut().unwrap().present = 8;
    assert_eq!(plan(&has, &desired(spec(8))), Plan::default());
    has.take_up(&Step::Cpus(1));
    let Plan { steps, pending } = plan(&has, &desired(spec(1)));
    assert_eq!((steps, pending[0].waits_for), (vec![], WaitsFor::Guest));
    assert_eq!(pending[0].reason, "the guest has 8 virtual CPUs still, of which it is to release 7");
}

#[test]
fn what_a_machine_on_qemu_gets_waits_for_its_next_start_and_says_why() {
    let from = VmSpec { hypervisor: lq_api::local::vmm::Hypervisor::Qemu, ..VmSpec::default() };
    let has = Hardware::of(&from);
    assert!(!has.hotplug);
    let wanted = desired(VmSpec { disks: vec![Disk::of(volume(1))], ..from });
    let Plan { steps, pending } = plan(&has, &wanted);
    assert_eq!(steps, []);
    let [waits] = pending.as_slice() else { panic!("{pending:?}") };
    assert_eq!((waits.field.as_str(), waits.waits_for), ("spec.disks", WaitsFor::Start));
    assert!(waits.reason.contains("QEMU"), "{}", waits.reason);
}
