//! Machines on QEMU: their board, when they change over, and where they can be.

use super::{
    bench::Bench,
    tpm::{KERNEL, VM, refused, with_disk},
    *,
};
use crate::placement;
use lq_api::{
    local::vmm::{DeviceModel, Hypervisor, MachineType},
    vm::FirmwareKind,
};

fn on_qemu(firmware: FirmwareKind) -> VmSpec {
    VmSpec { hypervisor: Hypervisor::Qemu, firmware, ..VmSpec::default() }
}

#[test]
fn it_keeps_the_board_it_was_made_with() {
    let mut bench = with_disk(SHARED, on_qemu(FirmwareKind::Bios));
    let spec = |bench: &Bench| bench.state.vms[&VM].vm.spec.clone();
    let first = spec(&bench);
    assert_eq!(
        (first.machine, first.display, &first.boot),
        (Some(MachineType::I440fxV7_2), Some(true), &None)
    );
    assert_eq!(bench.state.vms[&VM].vars, None, "a BIOS remembers nothing");
    bench.change(VM, |spec| (spec.machine, spec.vcpus) = (None, 2)).unwrap();
    assert_eq!(spec(&bench).machine, Some(MachineType::I440fxV7_2));
    bench.change(VM, |spec| spec.machine = Some(MachineType::Q35V7_2)).unwrap();
    bench.change(VM, |spec| spec.machine = None).unwrap();
    assert_eq!(spec(&bench).machine, Some(MachineType::Q35V7_2));
    // Another firmware is of another time, and UEFI remembers something, beside the first disk.
    bench.change(VM, |spec| (spec.machine, spec.firmware) = (None, FirmwareKind::Uefi)).unwrap();
    assert_eq!(spec(&bench).machine, Some(MachineType::Q35V7_2));
    assert_eq!(bench.state.vms[&VM].vars, Some(SHARED));
}

#[test]
fn it_changes_over_only_while_it_is_off_and_all_that_cannot_be_is_said_at_once() {
    let mut bench = with_disk(POOL, VmSpec::default());
    bench.runs(VM);
    let over = |spec: &mut VmSpec| {
        (spec.hypervisor, spec.firmware) = (Hypervisor::Qemu, FirmwareKind::Bios);
        spec.device_model = DeviceModel::Legacy;
    };
    let before = bench.state.clone();
    let why = bench.change(VM, over).unwrap_err().to_string();
    for field in ["spec.hypervisor", "spec.machine", "spec.firmware", "spec.device_model", "stop it"] {
        assert!(why.contains(field), "{field}: {why}");
    }
    assert_eq!(bench.state, before);
    bench.rests(VM);
    let boot = Boot { kernel: KERNEL, initrd: None, cmdline: String::new() };
    let why = bench.change(VM, |spec| {
        over(spec);
        (spec.boot, spec.vcpus_max) = (Some(boot), Some(4));
    });
    let why = why.unwrap_err().to_string();
    assert!(why.contains("spec.boot") && why.contains("spec.vcpus_max"), "{why}");
    bench.change(VM, over).unwrap();
    // And back, without its board.
    let why = bench.change(VM, |spec| {
        *spec = VmSpec { disks: spec.disks.clone(), machine: spec.machine, ..VmSpec::default() }
    });
    assert!(why.unwrap_err().to_string().contains("spec.machine"));
    bench.change(VM, |spec| *spec = VmSpec { disks: spec.disks.clone(), ..VmSpec::default() }).unwrap();
}

#[test]
fn it_does_not_move_while_it_runs() {
    let mut bench = with_disk(SHARED, on_qemu(FirmwareKind::Bios));
    assert_eq!(refused(&bench), ["", ""]);
    bench.runs(VM);
    let [goes_on, anew] = refused(&bench);
    assert_eq!((goes_on.as_str(), anew.as_str()), (placement::QEMU_STAYS, ""));
}
