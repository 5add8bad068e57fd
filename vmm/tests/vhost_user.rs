//! A machine whose disk another program serves, on the real /dev/kvm, inside jail and system call filters where that is possible.
//! Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{PATIENCE, Process, Setup, Vm, counter, is_root, no_kvm};
use std::{
    fs::File,
    io::Read,
    os::fd::AsFd,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The guest that counts, and the back end of its disk.
fn counting() -> (Vm, Process) {
    let mut setup = counter::setup();
    setup.disks.clear();
    let here = setup.directory.path().display();
    setup.more = format!(
        r#","devices":{{"vhost_user":[{{"name":"scratch","socket":"{here}/back.sock","device":{{"block":{{}}}},"slot":1}}]}}"#
    );
    setup.jail = is_root();
    let file = format!("driver=file,node-name=disk,filename={here}/disk.raw");
    let export = format!(
        "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={here}/back.sock,writable=on"
    );
    let back_end = Command::new("qemu-storage-daemon")
        .args(["--blockdev", &file, "--export", &export])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let back_end = Process(back_end);
    let deadline = Instant::now() + PATIENCE;
    while !setup.directory.path().join("back.sock").exists() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    (setup.start(), back_end)
}

#[test]
fn a_guest_counts_on_a_disk_that_another_program_serves() {
    if no_kvm() {
        return;
    }
    let (mut vm, _back_end) = counting();
    let mut output = vm.see(b'\n');
    for _ in 0..5 {
        assert!(vm.ask("pause").contains("done"));
        assert!(vm.ask("resume").contains("done"));
        output.extend(vm.see(b'\n'));
    }
    // It cannot leave its back end, and that is said before anything is begun.
    let file = File::create(vm.path("saved")).unwrap();
    let refused = vm.ask_with("\"snapshot\"", Some(file.as_fd()));
    assert!(refused.contains("error") && refused.contains("scratch"), "{refused}");
    let refused = vm.ask_with(r#"{"migrate-out":{}}"#, Some(file.as_fd()));
    assert!(refused.contains("error") && refused.contains("scratch"), "{refused}");
    let refused = vm.ask_with(r#"{"lease-set":{"epoch":1,"until":{"remaining-ms":60000}}}"#, None);
    assert!(refused.contains("error") && refused.contains("scratch"), "{refused}");
    let config = vm.ask("config");
    assert!(config.contains(r#""name":"scratch""#) && config.contains(r#""slot":1"#), "{config}");
    output.extend(vm.see(b'\n'));
    assert!(vm.ask("quit").contains("done"));
    vm.console.read_to_end(&mut output).unwrap();
    let (status, record) = vm.end();
    assert_eq!(status, Some(0), "{record}");
    counter::check(&output);
}

#[test]
fn a_machine_lives_on_without_its_back_end() {
    if no_kvm() {
        return;
    }
    let (mut vm, mut back_end) = counting();
    vm.see(b'\n');
    assert!(vm.ask("subscribe").contains("done"));
    back_end.0.kill().unwrap();
    let told = vm.line();
    assert!(told.contains(r#""event":"back-end-lost","device":"scratch""#), "{told}");
    let status = vm.ask("status");
    assert!(status.contains(r#""back_ends_lost":["scratch"]"#) && status.contains("running"), "{status}");
    assert!(vm.ask("quit").contains("done"));
    vm.line();
    assert_eq!(vm.end().0, Some(0));
}

#[test]
fn a_back_end_that_is_not_there_is_named() {
    if no_kvm() {
        return;
    }
    let mut setup = Setup::new(common::GUEST);
    setup.more =
        r#","devices":{"vhost_user":[{"name":"gone","socket":"/dev/null/gone.sock","device":{"block":{}}}]}"#
            .to_owned();
    let mut process = Process(setup.spawn());
    assert_eq!(process.0.wait().unwrap().code(), Some(2));
    let record = std::fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
    assert!(record.contains("gone") && record.contains("/dev/null/gone.sock"), "{record}");
}
