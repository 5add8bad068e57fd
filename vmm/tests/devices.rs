//! Devices that are changed and watched over the control socket, on the real /dev/kvm, inside jail and system call filters
//! where that is possible. Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{PATIENCE, Setup, counter, is_root, no_kvm};
use lq_vmm::control::ask::Asker;
use std::{
    fs,
    io::{BufRead, Read},
    os::fd::AsFd,
    time::{Duration, Instant},
};

/// Guests that say that they have panicked, and that do not feed their watchdog.
mod guests {
    std::arch::global_asm!(
        ".pushsection .rodata.device_guests, \"a\"",
        ".code64",
        // Two bytes written to the port that knows three events, then nothing more.
        ".global panics_start",
        "panics_start:",
        "mov dx, 0x505",
        "in al, dx",
        "cmp al, 3",
        "jne 2f",
        "mov al, 1",
        "out dx, al",
        "out dx, al",
        "mov al, 0x50",
        "jmp 3f",
        "2: mov al, 0x21",
        "3: mov dx, 0x3f8",
        "out dx, al",
        "4: hlt",
        "jmp 4b",
        ".global panics_end",
        "panics_end:",
        // The watchdog is in slot 2, behind the random number source.
        ".global hangs_start",
        "hangs_start:",
        "mov esp, 0x90000",
        "mov eax, 0x80001010",
        "mov dx, 0xcf8",
        "out dx, eax",
        "mov dx, 0xcfc",
        "in eax, dx",
        "and eax, 0xfffffff0",
        "mov ebx, eax",
        // It has run out before: say so, and do not begin again.
        "mov al, 0x54",
        "test byte ptr [rbx + 13], 2",
        "jnz 3f",
        "mov eax, 0x80001060",
        "mov dx, 0xcf8",
        "out dx, eax",
        "mov dx, 0xcfc",
        "mov ax, 3",
        "out dx, ax",
        "xor edi, edi",
        "call 5f",
        "mov edi, 4",
        "call 5f",
        "mov eax, 0x80001068",
        "mov dx, 0xcf8",
        "out dx, eax",
        "mov dx, 0xcfc",
        "mov al, 2",
        "out dx, al",
        "mov al, 0x57",
        "3: mov dx, 0x3f8",
        "out dx, al",
        "4: hlt",
        "jmp 4b",
        // 300 ticks into the timer at EDI.
        "5: mov dword ptr [rbx + 12], 0x80",
        "mov dword ptr [rbx + 12], 0x86",
        "mov dword ptr [rbx + rdi], 300",
        "ret",
        ".global hangs_end",
        "hangs_end:",
        ".popsection",
    );
    unsafe extern "C" {
        static panics_start: u8;
        static panics_end: u8;
        static hangs_start: u8;
        static hangs_end: u8;
    }

    fn between(start: *const u8, end: *const u8) -> &'static [u8] {
        // SAFETY: both are symbols of the block above, in this order, in one section of constants.
        unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
    }

    pub(super) fn panics() -> &'static [u8] {
        between(&raw const panics_start, &raw const panics_end)
    }

    pub(super) fn hangs() -> &'static [u8] {
        between(&raw const hangs_start, &raw const hangs_end)
    }
}

fn with_devices(code: &[u8], devices: &str) -> Setup {
    let mut setup = jailed(Setup::new(code));
    setup.more = format!(r#","devices":{{{devices}}}"#);
    setup
}

#[test]
fn a_panic_is_told_and_remembered() {
    if no_kvm() {
        return;
    }
    let mut vm = with_devices(guests::panics(), r#""panic":true"#).start();
    vm.see(b'P');
    while !vm.ask("status").contains(r#""panicked":true"#) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(vm.ask("subscribe").contains("done"));
    // The next one panics too, and is told of once.
    let lines = vm.ask("reset") + &vm.line() + &vm.line();
    for word in ["done", r#""event":"reset""#, r#""event":"panicked""#] {
        assert_eq!(lines.matches(word).count(), 1, "{lines}");
    }
    assert!(vm.ask("quit").contains("done"));
    assert!(vm.line().contains("ending"));
    let (status, record) = vm.end();
    assert_eq!(status, Some(0));
    assert!(record.contains("told to end; the guest's kernel had panicked"), "{record}");
}

#[test]
fn without_the_port_nobody_panics() {
    if no_kvm() {
        return;
    }
    let mut vm = Setup::new(guests::panics()).start();
    vm.see(b'!');
    assert!(vm.ask("status").contains(r#""panicked":false"#));
}

#[test]
fn a_guest_that_does_not_feed_its_watchdog_is_dealt_with_as_was_said() {
    if no_kvm() {
        return;
    }
    let mut vm = with_devices(guests::hangs(), r#""watchdog":"reset""#).start();
    vm.see(b'W');
    assert!(vm.ask("subscribe").contains("done"));
    // While it stands still, no time passes for it.
    assert!(vm.ask("pause").contains("paused"));
    assert!(vm.line().contains("done"));
    vm.control.get_ref().set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    assert!(vm.control.read_line(&mut String::new()).is_err(), "no event");
    vm.control.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(vm.ask("resume").contains("running"));
    assert!(vm.line().contains("done"));
    let told = vm.line();
    assert!(told.contains(r#""event":"watchdog","action":"reset""#), "{told}");
    assert!(vm.line().contains(r#""event":"reset""#));
    vm.see(b'T');

    let mut vm = with_devices(guests::hangs(), r#""watchdog":"pause""#).start();
    vm.see(b'W');
    let deadline = Instant::now() + PATIENCE;
    while !vm.ask("status").contains("paused") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }

    let vm = with_devices(guests::hangs(), r#""watchdog":"power-off""#).start();
    let (status, record) = vm.end();
    assert_eq!(status, Some(4));
    assert!(record.contains("watchdog"), "{record}");
}

#[test]
fn media_of_cd_drives_are_changed_from_outside() {
    if no_kvm() {
        return;
    }
    let mut setup = with_devices(common::GUEST, "");
    let iso = setup.directory.path().join("installer.iso");
    fs::write(&iso, vec![1; 294_912]).unwrap();
    setup.more = format!(r#","devices":{{"cdroms":[{{"image":"{}"}},{{}}],"balloon":{{}}}}"#, iso.display());
    let mut vm = setup.start();
    vm.see(b'U');
    assert!(vm.ask("status").contains(r#""cdroms":[true,false]"#));
    assert!(vm.ask_with(r#"{"cdrom-eject":{"cdrom":0}}"#, None).contains("done"));
    let file = fs::File::open(&iso).unwrap();
    let insert = |vm: &mut common::Vm, number: u32, with: bool| {
        vm.ask_with(&format!(r#"{{"cdrom-insert":{{"cdrom":{number}}}}}"#), with.then(|| file.as_fd()))
    };
    assert!(insert(&mut vm, 1, true).contains("done"));
    assert!(vm.ask("status").contains(r#""cdroms":[false,true]"#));
    assert!(insert(&mut vm, 2, true).contains("no CD drive 2"));
    assert!(insert(&mut vm, 0, false).contains("no descriptor"));
    // Whoever wants to write it is refused meanwhile.
    let writer = fs::File::options().write(true).open(&iso).unwrap();
    assert!(writer.try_lock().is_err());

    assert!(vm.ask_with(r#"{"balloon-target":{"bytes":33554432}}"#, None).contains("done"));
    let status = vm.ask("balloon-status");
    assert!(status.contains(r#""target_bytes":33554432,"actual_bytes":0"#), "{status}");
    assert!(
        vm.ask_with(r#"{"balloon-target":{"bytes":1099511627776}}"#, None)
            .contains("more than the machine has")
    );
    // Everything of them is kept in a saved machine.
    let saved = vm.path("saved");
    let to = fs::File::create(&saved).unwrap();
    assert!(vm.ask_with("\"snapshot\"", Some(to.as_fd())).contains("done"));
    assert!(vm.ask("quit").contains("done"));
    let more = format!(
        r#","devices":{{"cdroms":[{{}},{{"image":"{}"}}],"balloon":{{}}}},"start":{{"restore":{{"path":"{}"}}}}"#,
        iso.display(),
        saved.display()
    );
    let mut again = Setup { more, ..jailed(Setup::new(common::GUEST)) }.start();
    let deadline = Instant::now() + PATIENCE;
    while !again.ask("status").contains("paused") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(again.ask("status").contains(r#""cdroms":[false,true]"#));
    assert!(again.ask("balloon-status").contains(r#""target_bytes":33554432"#));
    assert!(again.ask("resume").contains("done"));
    again.type_in(b"x");
    again.see(b'x');
}

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
    let mut requests = || -> u64 {
        let stats: serde_json::Value = serde_json::from_str(&vm.ask("stats")).unwrap();
        let disk = &stats["outcome"]["stats"]["disks"][0];
        disk["reads"].as_u64().unwrap() + disk["writes"].as_u64().unwrap()
    };
    let (begin, before) = (Instant::now(), requests());
    std::thread::sleep(Duration::from_secs(1));
    let (did, most) = (requests() - before, 2 + begin.elapsed().as_millis() as u64 / 50);
    assert!((5..=most).contains(&did), "{did} requests, {most} were allowed");
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

#[test]
fn memory_that_can_be_plugged_and_streams_are_there_and_taken_up_again() {
    if no_kvm() {
        return;
    }
    let devices =
        r#""devices":{"vsock":{"cid":5},"memory":{"most_bytes":268435456,"requested_bytes":4194304}}"#;
    let mut setup = jailed(counter::setup());
    setup.more = format!(",{devices}");
    let disks = setup.disks.clone();
    let mut vm = setup.start();
    let mut output = vm.see(b'\n');
    let stands = vm.ask("memory-status");
    let wanted = r#"{"memory":{"most_bytes":268435456,"requested_bytes":4194304,"plugged_bytes":0}}"#;
    assert!(stands.contains(wanted), "{stands}");
    assert!(vm.ask_with(r#"{"memory-target":{"bytes":8388608}}"#, None).contains("done"));
    for bad in ["1048576", "270532608"] {
        let answer = vm.ask_with(&format!(r#"{{"memory-target":{{"bytes":{bad}}}}}"#), None);
        assert!(
            answer.contains("error") && answer.contains("a multiple of 2 MiB up to 268435456"),
            "{answer}"
        );
    }
    assert!(vm.ask("config").contains(r#""requested_bytes":8388608"#));
    // A guest that looks at no device answers nobody; who asks waits, and harms nothing.
    let mut program = std::os::unix::net::UnixStream::connect(vm.path("vsock.sock")).unwrap();
    std::io::Write::write_all(&mut program, b"CONNECT 1\n").unwrap();
    output.extend(vm.see(b'\n'));
    assert!(vm.ask("pause").contains("done"));
    let file = vm.path("machine.lq");
    Asker::connect(&vm.path("control.sock")).unwrap().snapshot(&file).unwrap();
    assert!(vm.ask("quit").contains("done"));
    vm.console.read_to_end(&mut output).unwrap();
    vm.process.0.wait().unwrap();
    let mut again = jailed(counter::setup());
    again.directory = vm.directory;
    again.disks = disks;
    again.more = format!(r#",{devices},"start":{{"restore":{{"path":"{}"}}}}"#, file.display());
    let mut again = again.start();
    let deadline = Instant::now() + PATIENCE;
    while !again.ask("status").contains("paused") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(again.ask("memory-status").contains(r#""requested_bytes":8388608"#));
    assert!(again.ask("resume").contains("done"));
    output.extend(again.see(b'\n'));
    assert!(again.ask("quit").contains("done"));
    again.console.read_to_end(&mut output).unwrap();
    counter::check(&output);
    let mut without = counter::setup().start();
    assert!(without.ask("memory-status").contains("devices.memory"));
}
