//! Snapshots and restores of `lq-vmm` on the real /dev/kvm, of a guest that notices what is lost. Skipped, and says so, where
//! there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{Setup, Vm, counter, is_root, no_kvm};
use lq_vmm::{
    acpi::generation,
    control::ask::Asker,
    memory,
    state::{
        description::Description,
        file::{Reader, decode},
        frame::{self, Kind},
    },
};
use std::{
    fs::{self, File},
    io::Read,
    os::fd::AsFd,
    path::Path,
    thread::sleep,
    time::Duration,
};
use vm_memory::{Bytes, GuestAddress};

fn snapshot(vm: &Vm, file: &Path) {
    Asker::connect(&vm.path("control.sock")).unwrap().snapshot(file).unwrap();
}

/// Ends the monitor; returns what its guest still wrote, and the directory for another one.
fn end(mut vm: Vm) -> (Vec<u8>, tempfile::TempDir) {
    assert!(vm.ask("quit").contains("done"));
    let mut output = Vec::new();
    vm.console.read_to_end(&mut output).unwrap();
    assert!(vm.process.0.wait().unwrap().success());
    (output, vm.directory)
}

/// A machine like `setup`, to begin with the saved machine in `file`.
fn restoring(mut setup: Setup, directory: tempfile::TempDir, file: &Path, copy: bool) -> Setup {
    setup.directory = directory;
    setup.more = format!(r#","start":{{"restore":{{"path":"{}","copy":{copy}}}}}"#, file.display());
    setup
}

/// Moves the counter through `rounds` files, each time after another while.
fn count_through_files(rounds: u64, jail: bool, vcpus: u8) {
    let make = || {
        let mut setup = counter::setup().vcpus(vcpus);
        setup.jail = jail;
        setup
    };
    let first = make();
    let disks = first.disks.clone();
    let mut vm = first.start();
    let mut output = Vec::new();
    for round in 0..rounds {
        output.extend(vm.see(b'\n'));
        // Some place in the middle of whatever the guest does.
        sleep(Duration::from_micros(round * 7919 % 30_000));
        assert!(vm.ask("pause").contains("done"));
        let file = vm.path("machine.lq");
        snapshot(&vm, &file);
        let (rest, directory) = end(vm);
        output.extend(rest);
        let mut again = restoring(make(), directory, &file, false);
        again.disks.clone_from(&disks);
        vm = again.start();
        assert!(vm.ask("resume").contains("done"));
    }
    output.extend(vm.see(b'\n'));
    output.extend(end(vm).0);
    let last = counter::check(&output);
    assert!(u64::from(last) > rounds, "it went on counting: {last}");
}

#[test]
fn a_guest_counts_on_through_many_files() {
    if !no_kvm() {
        count_through_files(10, false, 1);
    }
}

#[test]
fn a_jailed_guest_with_two_processors_counts_on() {
    if no_kvm() {
        return;
    }
    if !is_root() {
        eprintln!("SKIPPED: only root can make a jail");
        return;
    }
    count_through_files(3, true, 2);
}

#[test]
fn a_running_guest_runs_on_and_a_full_disk_harms_nothing() {
    if no_kvm() {
        return;
    }
    let mut vm = counter::setup().start();
    let mut output = vm.see(b'\n');
    snapshot(&vm, &vm.path("machine.lq"));
    assert!(vm.ask("status").contains("running"));
    output.extend(vm.see(b'\n'));
    assert!(!vm.path("machine.lq.unfinished").exists());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let refused = vm.ask_with("\"snapshot\"", Some(full.as_fd()));
    assert!(refused.contains("error") && refused.contains("No space left"), "{refused}");
    assert!(vm.ask("snapshot").contains("no descriptor"));
    output.extend(vm.see(b'\n'));
    output.extend(end(vm).0);
    counter::check(&output);
}

/// The parts of the saved machine in `file`, and its generation id.
fn inspect(file: &Path, bytes: u64) -> (serde_json::Value, [u8; 16]) {
    let memory = memory::create(bytes).unwrap();
    let mut reader = Reader::new(File::open(file).unwrap());
    reader.description().unwrap();
    let state = reader.rest(&memory).unwrap();
    let id = memory.read_obj(GuestAddress(generation::ADDRESS)).unwrap();
    (serde_json::to_value(state).unwrap(), id)
}

fn pending_events(state: &serde_json::Value) -> u64 {
    let parts = state["components"].as_array().unwrap();
    parts.iter().find(|c| c["kind"] == "power").unwrap()["fields"]["events"].as_u64().unwrap()
}

#[test]
fn a_copy_has_another_generation_and_the_same_machine_the_same() {
    if no_kvm() {
        return;
    }
    let setup = counter::setup();
    let (bytes, disks) = (setup.memory, setup.disks.clone());
    let mut vm = setup.start();
    vm.see(b'\n');
    assert!(vm.ask("pause").contains("done"));
    let first = vm.path("first.lq");
    snapshot(&vm, &first);
    let (state, id) = inspect(&first, bytes);
    assert_eq!(pending_events(&state), 0);
    assert_ne!(id, [0; 16]);
    let (_, mut directory) = end(vm);
    for copy in [false, true] {
        let file = directory.path().join("first.lq");
        let mut setup = restoring(counter::setup(), directory, &file, copy);
        setup.disks.clone_from(&disks);
        let mut vm = setup.start();
        let again = vm.path("again.lq");
        // Not before it has been taken up.
        while !vm.ask("status").contains("paused") {
            sleep(Duration::from_millis(5));
        }
        snapshot(&vm, &again);
        let (state, other) = inspect(&again, bytes);
        assert_eq!((pending_events(&state), other != id), if copy { (2, true) } else { (0, false) });
        directory = end(vm).1;
    }
}

#[test]
fn what_cannot_be_taken_up_is_refused_with_the_reason() {
    if no_kvm() {
        return;
    }
    let setup = counter::setup();
    let disks = setup.disks.clone();
    let mut vm = setup.start();
    vm.see(b'\n');
    let file = vm.path("machine.lq");
    snapshot(&vm, &file);
    let (_, mut directory) = end(vm);
    let good = fs::read(&file).unwrap();
    let mut refused = |bytes: &[u8], change: fn(Setup) -> Setup, words: &[&str]| {
        let kept = std::mem::replace(&mut directory, tempfile::tempdir().unwrap());
        fs::write(kept.path().join("machine.lq"), bytes).unwrap();
        let file = kept.path().join("machine.lq");
        let mut setup = restoring(change(counter::setup()), kept, &file, false);
        setup.disks.clone_from(&disks);
        assert_eq!(setup.spawn().wait().unwrap().code(), Some(2), "{words:?}");
        let record = fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
        for word in words.iter().chain(&["machine.lq"]) {
            assert!(record.contains(word), "{word} missing in {record}");
        }
        directory = setup.directory;
    };
    let same: fn(Setup) -> Setup = |setup| setup;
    refused(&good, |s| s.vcpus(2), &["number of virtual CPUs is 1 in the saved machine, 2 here"]);
    refused(&good[..good.len() - 1], same, &["broke off"]);
    refused(&good[..100], same, &["broke off"]);
    refused(b"something else altogether, and quite long", same, &["damaged"]);
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    refused(&flipped, same, &["checksum"]);
    // A processor that can do what this one cannot, and a part that is too new.
    let mut rest = &good[..];
    let (_, hello) = frame::read(&mut rest).unwrap();
    let mut description: Description = decode("description", &hello).unwrap();
    for leaf in description.cpuid.iter_mut().filter(|leaf| (leaf.function, leaf.index) == (7, 0)) {
        leaf.registers = [leaf.registers[0], !0, !0, !0];
    }
    let mut better = Vec::new();
    frame::write(&mut better, Kind::Hello, &serde_json::to_vec(&description).unwrap()).unwrap();
    better.extend(rest);
    refused(&better, same, &["this host's processor lacks"]);
    let mut newer = Vec::new();
    let mut rest = &good[..];
    while let Ok((kind, payload)) = frame::read(&mut rest) {
        let text = String::from_utf8_lossy(&payload)
            .replace(r#""kind":"com1","id":0,"version":1"#, r#""kind":"com1","id":0,"version":9"#);
        let payload = if kind == Kind::State { text.into_bytes() } else { payload };
        frame::write(&mut newer, kind, &payload).unwrap();
    }
    refused(&newer, same, &["com1 0 is saved in version 9, this monitor knows up to 1"]);
}

/// The machine in the file `name` of `tests/golden`, saved as `make` makes it, has these parts and is taken up. `UPDATE_GOLDEN=1`
/// writes it where it is missing: a file that is there is never written again.
fn golden(name: &str, make: fn() -> Setup, pluggable: u64, parts: &[(&str, u32, u32)]) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !golden.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() && !no_kvm() {
        let mut vm = make().start();
        let mut output = Vec::new();
        while output.iter().filter(|byte| **byte == b'\n').count() < 3 {
            output.extend(vm.see(b'\n'));
        }
        assert!(vm.ask("pause").contains("done"));
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        snapshot(&vm, &golden);
        end(vm);
    }
    let memory = memory::create_with(64 << 20, pluggable).unwrap();
    let mut reader = Reader::new(File::open(&golden).unwrap());
    let saved = reader.description().unwrap();
    assert_eq!((saved.format, saved.vcpus, saved.memory_bytes), (1, 1, 64 << 20));
    let state = reader.rest(&memory).unwrap();
    let saved_parts: Vec<_> = state.components().iter().map(|c| (c.kind.as_str(), c.id, c.version)).collect();
    assert_eq!(saved_parts, parts);
    let count: u64 = memory.read_obj(GuestAddress(0x100_0000)).unwrap();
    assert!(count >= 3);
    if no_kvm() {
        return;
    }
    // Taken up, where this processor can do what the one could on which it was saved. Its disk holds what it last wrote.
    let mut setup = make();
    let disk = File::options().write(true).open(setup.directory.path().join("disk.raw")).unwrap();
    for sector in 0..64_u64 {
        let last = (0..=count + 1).rev().find(|n| n % 64 == sector).unwrap_or(0);
        std::os::unix::fs::FileExt::write_all_at(&disk, &last.to_le_bytes(), sector * 512).unwrap();
    }
    setup.more += &format!(r#","start":{{"restore":{{"path":"{}"}}}}"#, golden.display());
    let mut process = common::Process(setup.spawn());
    let resumed = || {
        let directory = setup.directory.path();
        let console = std::os::unix::net::UnixStream::connect(directory.join("console.sock")).ok()?;
        let mut control = Asker::connect(&directory.join("control.sock")).ok()?;
        control.ask(lq_api::local::vmm::Command::Resume, None).ok()?;
        console.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        Some(std::io::BufReader::new(console))
    };
    // It is incoming until it is taken up, and ends where it cannot be.
    let mut console = loop {
        if let Some(console) = resumed() {
            break console;
        }
        if process.0.try_wait().unwrap().is_some() {
            let record = fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
            let another = ["this host's processor lacks", "the time stamp counter runs at", "register"];
            assert!(another.iter().any(|why| record.contains(why)), "{record}");
            eprintln!("SKIPPED: the processor here is another: {record}");
            return;
        }
        sleep(Duration::from_millis(10));
    };
    // The rest of the line it was printing, then the next numbers.
    let mut numbers = Vec::new();
    for _ in 0..4 {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut console, &mut line).unwrap();
        numbers.push(line);
    }
    let number = |text: &str| u64::from_str_radix(text.trim_end(), 16).unwrap();
    assert_eq!(number(&numbers[2]), number(&numbers[1]) + 1, "{numbers:?}");
    assert!(number(&numbers[1]) > count - 1, "{numbers:?}");
}

/// A machine as version 1 of the stream and the first versions of its parts saved it.
#[test]
fn a_machine_saved_by_the_first_version_is_taken_up() {
    let parts = [
        ("vcpu", 0, 1),
        ("platform", 0, 1),
        ("pci-root", 0, 1),
        ("virtio-pci", 1, 1),
        ("virtio-pci", 2, 1),
        ("com1", 0, 1),
        ("clock", 0, 1),
        ("power", 0, 1),
    ];
    golden("machine-1.lq", counter::setup, 0, &parts);
}

/// The same of parts that came later: several queues, streams, memory and processors that come and go.
#[test]
fn what_came_later_is_taken_up_as_its_first_version_saved_it() {
    let make = || {
        let mut setup = counter::setup();
        setup.disks = setup.disks.replacen('{', r#"{"queues":2,"#, 1);
        setup.more = r#","devices":{"cpus":{"most":3},"vsock":{"cid":42},
            "memory":{"most_bytes":268435456,"requested_bytes":4194304}}"#
            .to_owned();
        setup
    };
    let parts = [
        ("vcpu", 0, 1),
        ("platform", 0, 1),
        ("pci-root", 0, 1),
        ("virtio-pci", 1, 1),
        ("virtio-pci", 2, 1),
        ("virtio-pci", 3, 1),
        ("virtio-pci", 4, 1),
        ("com1", 0, 1),
        ("clock", 0, 1),
        ("power", 0, 1),
        ("cpus", 0, 1),
    ];
    golden("machine-2.lq", make, 256 << 20, &parts);
}
