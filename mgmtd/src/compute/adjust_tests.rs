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
        slot: None,
    });
    let launch = Launch {
        boot: LaunchBoot::default(),
        disks: disks.collect(),
        nics: nics.collect(),
        cdroms: spec.cdroms.iter().map(|c| c.image.map(|i| format!("/i/{i}"))).collect(),
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
    (lists, 1..3u8, any::<bool>()).prop_map(|((mut disks, mut nics, cdroms), vcpus, rng)| {
        let mut seen = std::collections::BTreeSet::new();
        disks.retain(|d| seen.insert(d.volume));
        let mut seen = std::collections::BTreeSet::new();
        nics.retain(|n| seen.insert(n.mac));
        VmSpec { disks, nics, cdroms, vcpus, rng, display: Some(false), ..VmSpec::default() }
    })
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
        prop_assert_eq!(waits("spec.vcpus"), from.vcpus != to.vcpus);
        prop_assert_eq!(waits("spec.rng"), from.rng != to.rng);
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
