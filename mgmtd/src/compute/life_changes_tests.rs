//! Machines that are changed while they run.

use super::*;
use crate::{compute::adjust, hardware::Fitted};

/// A running machine that has what it was started with, and its first step to become what is wanted now.
fn changed(change: impl FnOnce(&mut Desired)) -> (Bench, Vec<Effect>) {
    let mut bench = Bench::up(PowerState::Running);
    let Want::This(desired) = &bench.want else { unreachable!() };
    let has = desired.starts_with();
    bench.life.set_hardware(Some(has));
    let effects = bench.wish(|desired| {
        desired.generation += 1;
        change(desired);
    });
    (bench, effects)
}

fn without_a_drive(bench: &mut Bench) -> Effect {
    let volume = lq_api::VolumeId::new();
    let Some(mut has) = bench.life.has.clone() else { unreachable!() };
    has.disks = vec![Fitted::new(lq_api::vm::Disk::of(volume), 1)];
    bench.life.set_hardware(Some(has));
    Effect::Adjust(Box::new(adjust::Step::UnplugDisk(volume)))
}

fn pending(bench: &Bench) -> Vec<lq_api::vm::PendingChange> {
    bench.life.status(&bench.want).unwrap().pending
}

#[test]
fn a_change_that_fails_is_told_once_and_tried_again_with_growing_pauses() {
    use lq_api::vm::WaitsFor;
    let (mut bench, none) = changed(|_| {});
    assert_eq!((none, pending(&bench)), (vec![], vec![]));
    let unplug = without_a_drive(&mut bench);
    assert_eq!(bench.see(Seen::Nothing), std::slice::from_ref(&unplug));
    assert_eq!(bench.after(60), [], "one at a time");
    assert_eq!(pending(&bench)[0].waits_for, WaitsFor::Guest);
    let told = bench.see(Seen::Adjusted(Err("the guest clings".into())));
    assert!(matches!(&told[..], [Effect::Event { kind: "vm.change-waits", .. }]), "{told:?}");
    assert!(pending(&bench)[0].reason.contains("the guest clings"));
    for pause in [5, 10, 20, 40, 60, 60] {
        let at = bench.life.wake_at(&bench.want).unwrap();
        assert_eq!(at - bench.now.clock, Duration::from_secs(pause));
        assert_eq!(bench.after(pause - 1), []);
        assert_eq!(bench.after(1), std::slice::from_ref(&unplug));
        assert_eq!(bench.see(Seen::Adjusted(Err("the guest clings".into()))), []);
    }
    let Some(has) = bench.life.has.clone() else { unreachable!() };
    bench.life.set_hardware(Some(Hardware { disks: vec![], ..has }));
    assert_eq!(bench.see(Seen::Nothing), []);
    assert_eq!((pending(&bench), bench.life.wake_at(&bench.want)), (vec![], None));
}

#[test]
fn a_machine_that_stops_moves_or_is_anothers_is_not_changed() {
    let (mut bench, _) = changed(|_| {});
    without_a_drive(&mut bench);
    assert_eq!(bench.wish(|d| d.part = Part::Leaving), []);
    assert!(bench.life.holds(&bench.want).is_none(), "not to be said while it moves");
    assert_eq!(bench.wish(|d| d.part = Part::Still), []);
    bench.wish(|d| (d.part, d.spec.power) = (Part::Owner, PowerState::Stopped));
    assert!(bench.see(Seen::Nothing).iter().all(|e| !matches!(e, Effect::Adjust(_))));
    assert_eq!(pending(&bench), []);
}

#[test]
fn what_a_machine_holds_is_what_it_has_and_what_is_on_its_way() {
    let (mut bench, _) = changed(|_| {});
    let holds = |bench: &Bench| bench.life.holds(&bench.want).map(|h| (h.generation, h.volumes.len()));
    assert_eq!(holds(&bench), Some((2, 0)));
    let volume = lq_api::VolumeId::new();
    let disk = lq_api::vm::Disk::of(volume);
    let plug = bench.wish(|desired| {
        desired.generation += 1;
        desired.launch.disks = vec![lq_api::local::vmm::DiskConfig {
            serial: "s".into(),
            image: lq_api::local::vmm::DiskImage {
                path: "/d".into(),
                format: lq_api::image::ImageFormat::Raw,
                backing: None,
            },
            read_only: false,
            limits: disk.limits,
            queues: 1,
            slot: None,
        }];
        desired.spec.disks = vec![disk];
    });
    assert!(
        matches!(&plug[..], [Effect::Adjust(step)] if matches!(**step, adjust::Step::PlugDisk(..))),
        "{plug:?}"
    );
    // It may come although nobody wants it any more.
    bench.wish(|desired| {
        desired.generation += 1;
        desired.spec.disks.clear();
    });
    assert_eq!(holds(&bench), Some((4, 1)));
    bench.see(Seen::Adjusted(Err("refused".into())));
    assert_eq!(holds(&bench), Some((4, 0)));
    bench.life.set_hardware(None);
    assert_eq!(holds(&bench), None, "an earlier release started it: only its end frees anything");
    bench.end(ExitReason::GuestFault);
    assert_eq!(holds(&bench), Some((4, 0)));
    assert_eq!(Bench::new(PowerState::Running).life.holds(&Want::Unknown), None);
}

#[test]
fn what_a_guest_did_is_told_and_what_it_ejected_is_told_once() {
    let (mut bench, _) = changed(|_| {});
    let told = bench.see(Seen::Notice(Notice::Panicked));
    assert!(matches!(&told[..], [Effect::Event { kind: "vm.panicked", .. }]), "{told:?}");
    let why = || "it hung up".to_owned();
    let told = bench.see(Seen::Notice(Notice::TpmFailed { why: why(), known: false }));
    assert!(matches!(&told[..], [Effect::Event { kind: "vm.tpm-failed", .. }]), "{told:?}");
    assert_eq!(bench.see(Seen::Notice(Notice::TpmFailed { why: why(), known: true })), []);
    let status = bench.life.status(&bench.want).unwrap();
    assert!(status.reason.unwrap().contains("it hung up"));
    let told = bench.see(Seen::Notice(Notice::Room { short: true, known: false }));
    assert!(matches!(&told[..], [Effect::Event { kind: "vm.no-room", .. }]), "{told:?}");
    assert!(bench.life.status(&bench.want).unwrap().reason.unwrap().contains("no room left"));
    let told = bench.see(Seen::Notice(Notice::Room { short: false, known: false }));
    assert!(matches!(&told[..], [Effect::Event { kind: "vm.room", .. }]), "{told:?}");
    assert!(bench.life.status(&bench.want).unwrap().reason.unwrap().contains("it hung up"), "as before");
    let image = ImageId::new();
    let Some(mut has) = bench.life.has.clone() else { unreachable!() };
    has.cdroms = vec![crate::hardware::Drive { image: Some(image), loaded: false }];
    bench.life.set_hardware(Some(has.clone()));
    let told = bench.wish(|desired| desired.spec.cdroms = vec![lq_api::vm::Cdrom { image: Some(image) }]);
    assert!(
        matches!(&told[..], [Effect::Event { kind: "vm.ejected", .. }, Effect::Ejected(0, _)]),
        "{told:?}"
    );
    assert_eq!(bench.see(Seen::Nothing), []);
    // Once the state knows it, the drive is empty for good.
    let known = bench.wish(|desired| {
        desired.spec.cdroms = vec![lq_api::vm::Cdrom::default()];
        desired.launch.cdroms = vec![None];
    });
    assert_eq!(known, [Effect::Adjust(Box::new(adjust::Step::Eject(0)))]);
}
