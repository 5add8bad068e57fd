//! Devices that are changed and watched over the control socket, on the real /dev/kvm, inside jail and system call filters
//! where that is possible. Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{Setup, counter, is_root, no_kvm};
use std::{
    fs,
    io::Read,
    time::{Duration, Instant},
};

/// In a jail, where the test may make one.
fn jailed(setup: Setup) -> Setup {
    if is_root() { setup.jailed() } else { setup }
}

#[test]
fn a_disk_is_limited_and_grows_while_its_guest_uses_it() {
    if no_kvm() {
        return;
    }
    let setup = jailed(counter::setup());
    let file = setup.directory.path().join("disk.raw");
    let mut vm = setup.start();
    let mut output = vm.see(b'\n');
    // Two requests a round.
    let slow = r#"{"disk-limits":{"disk":0,"limits":{"operations":{"per_second":20,"burst":1}}}}"#;
    assert!(vm.ask_with(slow, None).contains("done"));
    output.extend(vm.see(b'\n'));
    let begin = Instant::now();
    for _ in 0..10 {
        output.extend(vm.see(b'\n'));
    }
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    assert!(vm.ask_with(r#"{"disk-limits":{"disk":0,"limits":{}}}"#, None).contains("done"));
    assert!(vm.ask_with(r#"{"disk-resize":{"disk":0,"size_bytes":2097152}}"#, None).contains("done"));
    assert_eq!(fs::metadata(&file).unwrap().len(), 2 << 20);
    for (bad, word) in [
        (r#"{"disk-resize":{"disk":0,"size_bytes":1048576}}"#, "not smaller"),
        (r#"{"disk-resize":{"disk":1,"size_bytes":4194304}}"#, "no disk 1"),
        (r#"{"nic-link":{"nic":0,"up":false}}"#, "no interface 0"),
        (r#"{"disk-limits":{"disk":0,"limits":{"bandwidth":{"per_second":0}}}}"#, "nothing would ever pass"),
    ] {
        let answer = vm.ask_with(bad, None);
        assert!(answer.contains("error") && answer.contains(word), "{answer}");
    }
    // It counts on.
    output.extend(vm.see(b'\n'));
    assert!(vm.ask("quit").contains("done"));
    vm.console.read_to_end(&mut output).unwrap();
    let (status, record) = vm.end();
    assert_eq!(status, Some(0), "{record}");
    counter::check(&output);
}
