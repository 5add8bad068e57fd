//! Machines that move between two `lq-vmm` on the real /dev/kvm, of a guest that notices what is lost; and connections that
//! break at every message. Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{PATIENCE, Setup, Vm, counter, is_root, no_kvm, send};
use lq_vmm::state::frame::{self, Kind};
use std::{
    io::Read,
    os::{fd::AsFd, unix::net::UnixStream},
    thread::{self, sleep},
    time::{Duration, Instant},
};

/// The target for a machine with `disks`, waiting.
fn target(disks: &str, change: impl Fn(Setup) -> Setup) -> Vm {
    let mut setup = change(counter::setup());
    disks.clone_into(&mut setup.disks);
    setup.more = r#","start":"incoming""#.to_owned();
    let mut vm = setup.start();
    assert!(vm.ask("status").contains("incoming"));
    vm
}

fn status(vm: &mut Vm) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(&vm.ask("migrate-status")).unwrap()["outcome"]["migration"]
        .take()
}

/// Asks until the migration is in `wanted`.
fn wait_for(vm: &mut Vm, wanted: &str) -> serde_json::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(vm);
        if status["phase"] == wanted {
            return status;
        }
        assert!(Instant::now() < deadline, "{status}");
        sleep(Duration::from_millis(5));
    }
}

fn move_out(source: &mut Vm, stream: &UnixStream, options: &str) {
    let command = format!(r#"{{"migrate-out":{{{options}}}}}"#);
    let answer = source.ask_with(&command, Some(stream.as_fd()));
    assert!(answer.contains("done"), "{answer}");
}

/// What its guest still wrote, and how it ended.
fn rest(mut vm: Vm) -> (Vec<u8>, Option<i32>, String) {
    let mut output = Vec::new();
    vm.console.read_to_end(&mut output).unwrap();
    let (status, record) = vm.end();
    (output, status, record)
}

/// Lets a machine move from `source` to `target`; returns what it wrote there still.
fn moved(mut source: Vm, target: &mut Vm) -> Vec<u8> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    send(target.control.get_ref(), "\"migrate-in\"", Some(theirs.as_fd()));
    drop(theirs);
    move_out(&mut source, &ours, "");
    drop(ours);
    let answer = target.line();
    assert!(answer.contains("done"), "{answer}");
    let (output, status, record) = rest(source);
    assert_eq!(status, Some(0), "{record}");
    assert!(record.contains("migrated"), "{record}");
    output
}

fn travel(rounds: usize, change: impl Fn(Setup) -> Setup) {
    let setup = change(counter::setup());
    let disks = setup.disks.clone();
    // It stays until the last machine is gone: the disk is in it.
    let mut homes = Vec::new();
    let mut vm = setup.start();
    let mut output = Vec::new();
    for _ in 0..rounds {
        output.extend(vm.see(b'\n'));
        let mut next = target(&disks, &change);
        let home = std::mem::replace(&mut vm.directory, tempfile::tempdir().unwrap());
        // The exit record is read from there.
        std::os::unix::fs::symlink(home.path().join("exit.json"), vm.path("exit.json")).unwrap();
        homes.push(home);
        output.extend(moved(vm, &mut next));
        vm = next;
    }
    output.extend(vm.see(b'\n'));
    assert!(vm.ask("status").contains("running"));
    assert!(vm.ask("quit").contains("done"));
    output.extend(rest(vm).0);
    assert!(counter::check(&output) as usize > rounds);
}

#[test]
fn a_guest_counts_on_through_many_moves() {
    if !no_kvm() {
        travel(8, |setup| setup);
    }
}

#[test]
fn a_jailed_guest_with_two_processors_moves() {
    if no_kvm() {
        return;
    }
    if !is_root() {
        eprintln!("SKIPPED: only root can make a jail");
        return;
    }
    travel(2, |setup| setup.vcpus(2).jailed());
}

/// Passes frames between two streams, until one of kind `last` comes: that one is lost, and the connection with it.
fn wire(last: Kind) -> (UnixStream, UnixStream) {
    let (source, ours) = UnixStream::pair().unwrap();
    let (target, theirs) = UnixStream::pair().unwrap();
    for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || {
            while let Ok((kind, payload)) = frame::read(&mut from) {
                if kind == last || frame::write(&mut to, kind, &payload).is_err() {
                    break;
                }
            }
            for stream in [from, to] {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
    }
    (source, target)
}

#[test]
fn whatever_message_is_lost_one_owner_is_left() {
    if no_kvm() {
        return;
    }
    for last in
        [Kind::Hello, Kind::Accept, Kind::Memory, Kind::State, Kind::Ready, Kind::Commit, Kind::Running]
    {
        let setup = counter::setup();
        let disks = setup.disks.clone();
        let mut source = setup.start();
        let mut output = source.see(b'\n');
        let mut target = target(&disks, |setup| setup);
        let (to_source, to_target) = wire(last);
        send(target.control.get_ref(), "\"migrate-in\"", Some(to_target.as_fd()));
        drop(to_target);
        move_out(&mut source, &to_source, "");
        drop(to_source);
        match last {
            Kind::Running => {
                // It runs there; here it stands still, and nobody but one who knows better brings it back.
                assert!(target.line().contains("done"));
                wait_for(&mut source, "in-doubt");
                assert!(source.ask("resume").contains("error"));
                assert!(source.ask("reset").contains("error"));
                assert!(source.ask("status").contains("moved-away"));
                assert!(source.ask("quit").contains("done"));
                let mut seen = Vec::new();
                source.console.read_to_end(&mut seen).unwrap();
                output.extend(seen);
                output.extend(target.see(b'\n'));
                output.extend(target.see(b'\n'));
                assert!(target.ask("quit").contains("done"));
                output.extend(rest(target).0);
            }
            _ => {
                let (never, status, record) = rest(target);
                assert_eq!((never.len(), status), (0, Some(6)), "{record}");
                if last == Kind::Commit {
                    // The target may have got it, as far as the source knows. We know that it has ended.
                    wait_for(&mut source, "in-doubt");
                    assert!(source.ask("resume").contains("error"));
                    assert!(source.ask("migrate-reclaim").contains("done"));
                }
                let status = wait_for(&mut source, "failed");
                assert!(status["error"].is_string(), "{status}");
                assert!(source.ask("migrate-reclaim").contains("error"));
                // It runs on, and can move again.
                output.extend(source.see(b'\n'));
                output.extend(source.see(b'\n'));
                assert!(source.ask("quit").contains("done"));
                output.extend(rest(source).0);
            }
        }
        counter::check(&output);
    }
}

#[test]
fn a_move_can_be_called_off_and_refused_without_harm() {
    if no_kvm() {
        return;
    }
    let setup = counter::setup();
    let disks = setup.disks.clone();
    let mut source = setup.start();
    let mut output = source.see(b'\n');
    // Another machine than this one.
    let other = target(&disks, |setup| setup.vcpus(2));
    let (ours, theirs) = UnixStream::pair().unwrap();
    send(other.control.get_ref(), "\"migrate-in\"", Some(theirs.as_fd()));
    drop(theirs);
    move_out(&mut source, &ours, "");
    let status = wait_for(&mut source, "failed");
    assert!(
        status["error"].as_str().unwrap().contains("virtual CPUs is 1 in the saved machine, 2 here"),
        "{status}"
    );
    // Whoever finds it ended knows that it never ran.
    let (_, status, record) = rest(other);
    assert!(record.contains("not-arrived") && record.contains("did not move here"), "{record}");
    assert_eq!(status, Some(6));
    output.extend(source.see(b'\n'));

    // A peer that takes nothing in: called off while it copies, and a second one refused meanwhile.
    let (ours, silent) = UnixStream::pair().unwrap();
    move_out(&mut source, &ours, r#""bandwidth":1048576"#);
    wait_for(&mut source, "copying");
    let second = source.ask_with(r#"{"migrate-out":{}}"#, Some(ours.as_fd()));
    assert!(second.contains("moving already"), "{second}");
    assert!(source.ask("migrate-cancel").contains("done"));
    let status = wait_for(&mut source, "failed");
    assert!(status["error"].as_str().unwrap().contains("called off"), "{status}");
    assert!(source.ask("migrate-cancel").contains("error"));
    drop(silent);
    let slow = source.ask_with(r#"{"migrate-out":{"bandwidth":5}}"#, Some(ours.as_fd()));
    assert!(slow.contains("bandwidth"), "{slow}");
    output.extend(source.see(b'\n'));

    // One that sends nonsense, and one that waits for a machine and gets nonsense.
    let (ours, mut nonsense) = UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut nonsense, &[0x55; 4096]).unwrap();
    move_out(&mut source, &ours, "");
    let status = wait_for(&mut source, "failed");
    assert!(status["error"].as_str().unwrap().contains("damaged"), "{status}");
    let waiting = target(&disks, |setup| setup);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    send(waiting.control.get_ref(), "\"migrate-in\"", Some(theirs.as_fd()));
    frame::write(&mut ours, Kind::Hello, b"{}").unwrap();
    let (kind, why) = frame::read(&mut ours).unwrap();
    assert_eq!(kind, Kind::Refuse, "{}", String::from_utf8_lossy(&why));
    assert_eq!(rest(waiting).1, Some(6));

    output.extend(source.see(b'\n'));
    assert!(source.ask("quit").contains("done"));
    output.extend(rest(source).0);
    counter::check(&output);
}

#[test]
fn a_paused_guest_moves_paused_and_the_pause_is_told() {
    if no_kvm() {
        return;
    }
    let setup = counter::setup();
    let disks = setup.disks.clone();
    let mut source = setup.start();
    let mut output = source.see(b'\n');
    assert!(source.ask("subscribe").contains("done"));
    assert!(source.ask("pause").contains("paused"));
    assert!(source.line().contains("done"));
    let mut target = target(&disks, |setup| setup);
    let (ours, theirs) = UnixStream::pair().unwrap();
    send(target.control.get_ref(), "\"migrate-in\"", Some(theirs.as_fd()));
    move_out(&mut source, &ours, r#""max_pause_ms":50"#);
    let mut events = String::new();
    source.control.read_to_string(&mut events).unwrap();
    assert!(events.contains("moved-away") && events.contains("migrated"), "{events}");
    output.extend(rest(source).0);
    assert!(target.line().contains("done"));
    assert!(target.ask("status").contains("paused"));
    assert!(target.ask("resume").contains("done"));
    output.extend(target.see(b'\n'));
    assert!(target.ask("quit").contains("done"));
    output.extend(rest(target).0);
    counter::check(&output);
}
