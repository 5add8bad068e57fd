//! Leases on the real /dev/kvm: a guest that writes its disk all the time, and witnesses of when it last did. Skipped, and
//! says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{PATIENCE, Setup, Vm, counter, no_kvm, send};
use lq_vmm::lease::fence::now;
use std::{
    fs,
    io::Read,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

const MARGIN: u64 = 200;

fn leased(setup: Setup, epoch: u64, until: &str, grace: u64) -> Setup {
    let more = format!(
        r#","lease":{{"grant":{{"epoch":{epoch},"until":{until}}},"margin_ms":{MARGIN},"grace_ms":{grace}}}"#
    );
    Setup { more: setup.more.clone() + &more, ..setup }
}

fn grant(vm: &mut Vm, epoch: u64, deadline: u64) -> String {
    vm.ask_with(&format!(r#"{{"lease-set":{{"epoch":{epoch},"until":{{"boot-ms":{deadline}}}}}}}"#), None)
}

fn boot_millis() -> u64 {
    now().millis()
}

fn disk(setup: &Setup) -> PathBuf {
    setup.directory.path().join("disk.raw")
}

fn wait_until(deadline: u64) {
    while boot_millis() < deadline {
        sleep(Duration::from_millis(1));
    }
}

/// When the file was written last, in milliseconds of the boot clock.
fn written(file: &PathBuf) -> u64 {
    let age = SystemTime::now().duration_since(fs::metadata(file).unwrap().modified().unwrap());
    boot_millis() - age.unwrap_or_default().as_millis() as u64
}

#[test]
fn an_extended_lease_runs_on_and_one_that_is_not_stops_every_write_before_its_end() {
    if no_kvm() {
        return;
    }
    let setup = counter::setup();
    let file = disk(&setup);
    let mut vm = leased(setup, 7, r#"{"remaining-ms":1000}"#, 4000).start();
    let mut output = vm.see(b'\n');
    // Far beyond the first end.
    let mut deadline = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        deadline = boot_millis() + 1500;
        let answer = grant(&mut vm, 7, deadline);
        assert!(answer.contains("done"), "{answer}");
        sleep(Duration::from_millis(100));
        output.extend(vm.see(b'\n'));
    }
    assert!(vm.ask("status").contains(r#""state":"running""#));
    // Neither shorter nor by an older epoch.
    assert!(grant(&mut vm, 7, deadline - 100).contains("cannot be shortened"));
    assert!(grant(&mut vm, 6, deadline + 9000).contains("epoch 6"));
    assert!(vm.ask("subscribe").contains("done"));
    let stopped = vm.line();
    let seen_at = boot_millis();
    assert!(stopped.contains(r#""event":"lease""#) && stopped.contains("stopped"), "{stopped}");
    let paused = vm.line();
    assert!(paused.contains("paused"), "{paused}");
    assert!(boot_millis() <= deadline + 100, "it stands still {} ms after the end", boot_millis() - deadline);
    assert!(seen_at >= deadline - MARGIN, "not before the margin");
    wait_until(deadline);
    let last = fs::read(&file).unwrap();
    let at = written(&file);
    assert!(at <= deadline, "written {} ms after the end", at - deadline);
    assert!(at >= deadline - MARGIN - 1000, "it wrote until then");
    for command in ["resume", "reset"] {
        assert!(vm.ask(command).contains("lease"), "{command}");
    }
    sleep(Duration::from_millis(700));
    assert!(fs::read(&file).unwrap() == last, "not a byte is written after the end");

    // Granted again in time: it goes on where it stood. Both answer and events come.
    let deadline = boot_millis() + 1200;
    send(
        vm.control.get_ref(),
        &format!(r#"{{"lease-set":{{"epoch":7,"until":{{"boot-ms":{deadline}}}}}}}"#),
        None,
    );
    let lines = [vm.line(), vm.line(), vm.line()].concat();
    for word in [r#""phase":"held""#, "running", "done"] {
        assert!(lines.contains(word), "{lines}");
    }
    output.extend(vm.see(b'\n'));
    wait_until(deadline);
    let last = fs::read(&file).unwrap();
    // And lost.
    let mut rest = Vec::new();
    vm.console.read_to_end(&mut rest).unwrap();
    assert!(boot_millis() >= deadline + 4000, "after the grace");
    output.extend(rest);
    let (status, record) = vm.end();
    assert_eq!(status, Some(5), "{record}");
    assert!(record.contains("lease-lost"), "{record}");
    counter::check(&output);
    drop(last);
}

#[test]
fn a_lease_that_is_given_back_ends_at_once_or_lets_the_machine_run_free() {
    if no_kvm() {
        return;
    }
    let setup = counter::setup();
    let file = disk(&setup);
    let mut vm = setup.start();
    let mut output = vm.see(b'\n');
    assert!(vm.ask_with(r#"{"lease-release":{"epoch":1}}"#, None).contains("no lease"));
    let far = boot_millis() + 3_600_000;
    assert!(grant(&mut vm, 1, far).contains("done"));
    let status = vm.ask("status");
    assert!(
        status.contains(&format!(r#""lease":{{"phase":"held","epoch":1,"deadline_boot_ms":{far}}}"#)),
        "{status}"
    );
    assert!(vm.ask_with(r#"{"lease-release":{"epoch":1}}"#, None).contains("done"));
    assert!(vm.ask("status").contains(r#""state":"paused""#));
    let last = fs::read(&file).unwrap();
    sleep(Duration::from_millis(300));
    assert!(fs::read(&file).unwrap() == last);
    assert!(grant(&mut vm, 1, far).contains("epoch 1"), "what was given back needs a new epoch");
    assert!(grant(&mut vm, 2, far).contains("done"));
    output.extend(vm.see(b'\n'));
    output.extend(vm.see(b'\n'));
    assert!(vm.ask_with(r#"{"lease-release":{"epoch":2,"run_on":true}}"#, None).contains("done"));
    assert!(!vm.ask("status").contains("lease"));
    output.extend(vm.see(b'\n'));
    assert!(vm.ask("quit").contains("done"));
    vm.console.read_to_end(&mut output).unwrap();
    assert_eq!(vm.end().0, Some(0));
    counter::check(&output);
}

#[test]
fn a_guest_paused_by_hand_stays_so_when_its_lease_comes_back() {
    if no_kvm() {
        return;
    }
    let mut vm = leased(counter::setup(), 1, r#"{"remaining-ms":1500}"#, 60_000).start();
    vm.see(b'\n');
    assert!(vm.ask("pause").contains("done"));
    let deadline = Instant::now() + PATIENCE;
    while !vm.ask("status").contains("stopped") {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20));
    }
    assert!(grant(&mut vm, 1, boot_millis() + 3_600_000).contains("done"));
    assert!(vm.ask("status").contains(r#""state":"paused""#));
    assert!(vm.ask("resume").contains("done"));
    assert!(vm.ask("status").contains(r#""state":"running""#));
}

/// A machine that counts, after its lease has ended; and its disk, locked by somebody else.
fn stands_still() -> (Vm, Vec<u8>, fs::File) {
    let setup = counter::setup();
    let file = disk(&setup);
    let mut vm = leased(setup, 1, r#"{"remaining-ms":1500}"#, 60_000).start();
    let output = vm.see(b'\n');
    let other = fs::File::options().read(true).write(true).open(file).unwrap();
    assert!(other.try_lock().is_err(), "it is the machine's while it runs");
    let deadline = Instant::now() + PATIENCE;
    while other.try_lock().is_err() {
        assert!(Instant::now() < deadline, "what stands still keeps its disk from everybody");
        sleep(Duration::from_millis(20));
    }
    assert!(vm.ask("status").contains("paused"));
    (vm, output, other)
}

#[test]
fn what_stands_still_leaves_its_disk_to_others_and_takes_it_back_with_its_lease() {
    if no_kvm() {
        return;
    }
    let (mut vm, mut output, other) = stands_still();
    // Whoever has it is soon done with it.
    let brief = std::thread::spawn(move || {
        sleep(Duration::from_millis(500));
        other.unlock().unwrap();
        other
    });
    assert!(grant(&mut vm, 1, boot_millis() + 3_600_000).contains("done"));
    output.extend(vm.see(b'\n'));
    assert!(brief.join().unwrap().try_lock().is_err(), "it is the machine's again");
    counter::check(&output);
}

#[test]
fn what_cannot_have_its_disk_back_ends() {
    if no_kvm() {
        return;
    }
    let (vm, _, _other) = stands_still();
    let request =
        format!(r#"{{"lease-set":{{"epoch":1,"until":{{"boot-ms":{}}}}}}}"#, boot_millis() + 3_600_000);
    send(vm.control.get_ref(), &request, None);
    let (status, record) = vm.end();
    assert_eq!(status, Some(5), "{record}");
    assert!(record.contains("lease-lost") && record.contains("may be another's"), "{record}");
}

#[test]
fn a_machine_with_a_lease_moves_only_to_where_it_has_one() {
    if no_kvm() {
        return;
    }
    let setup = counter::setup();
    let disks = setup.disks.clone();
    let mut source = leased(setup, 3, r#"{"remaining-ms":3600000}"#, 1000).start();
    let mut output = source.see(b'\n');
    let target = |lease: bool| {
        let mut setup = counter::setup();
        disks.clone_into(&mut setup.disks);
        setup.more = r#","start":"incoming""#.to_owned();
        if lease { leased(setup, 4, r#"{"remaining-ms":3600000}"#, 1000) } else { setup }.start()
    };
    let go = |source: &mut Vm, target: &mut Vm| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(target.control.get_ref(), "\"migrate-in\"", Some(theirs.as_fd()));
        drop(theirs);
        let answer = source.ask_with(r#"{"migrate-out":{}}"#, Some(ours.as_fd()));
        assert!(answer.contains("done"), "{answer}");
    };
    let mut without = target(false);
    go(&mut source, &mut without);
    let (_, record) = without.end();
    assert!(record.contains("has a lease there, and none here"), "{record}");
    output.extend(source.see(b'\n'));
    let mut with = target(true);
    // It may still be putting the first one in order.
    let deadline = Instant::now() + PATIENCE;
    while !source.ask("migrate-status").contains("failed") {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(5));
    }
    go(&mut source, &mut with);
    assert!(with.line().contains("done"));
    source.console.read_to_end(&mut output).unwrap();
    assert_eq!(source.end().0, Some(0));
    output.extend(with.see(b'\n'));
    let status = with.ask("status");
    assert!(status.contains(r#""epoch":4"#), "{status}");
    assert!(with.ask("quit").contains("done"));
    with.console.read_to_end(&mut output).unwrap();
    counter::check(&output);
}
