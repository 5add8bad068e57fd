//! `lq-vmm` itself on the real /dev/kvm, with a guest of a few instructions: life cycle, console, control, jail.
//!
//! Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{GUEST, Setup, connect, is_root, no_kvm, pvh_elf};
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// 32-bit code that writes the first byte of its command line if the machine is as the PVH protocol says, else `!`,
/// and powers off when it is answered.
mod pvh_guest {
    std::arch::global_asm!(
        ".pushsection .rodata.pvh_guest, \"a\"",
        ".code32",
        ".global pvh_guest_start",
        "pvh_guest_start:",
        // The start info is where EBX says; protected mode is on, paging off.
        "cmp dword ptr [ebx], 0x336ec578",
        "jne 2f",
        "mov eax, cr0",
        "test eax, 0x80000000",
        "jnz 2f",
        "test al, 1",
        "jz 2f",
        // It names the ACPI tables, a memory map and the command line.
        "mov eax, [ebx + 32]",
        "cmp dword ptr [eax], 0x20445352",
        "jne 2f",
        "cmp dword ptr [ebx + 48], 4",
        "jb 2f",
        "mov eax, [ebx + 24]",
        "mov al, [eax]",
        "jmp 3f",
        "2: mov al, 0x21",
        "3: mov dx, 0x3f8",
        "out dx, al",
        // It waits for a byte, else it could be gone before the test has its console.
        "mov dx, 0x3fd",
        "4: in al, dx",
        "test al, 1",
        "jz 4b",
        "mov dx, 0x600",
        "mov al, 0x34",
        "out dx, al",
        "hlt",
        ".global pvh_guest_end",
        "pvh_guest_end:",
        ".code64",
        ".popsection",
    );
    unsafe extern "C" {
        static pvh_guest_start: u8;
        static pvh_guest_end: u8;
    }

    pub(super) fn code() -> &'static [u8] {
        // SAFETY: both symbols are of the block above, in this order, in one section of constants.
        unsafe {
            let length = (&raw const pvh_guest_end).offset_from_unsigned(&raw const pvh_guest_start);
            std::slice::from_raw_parts(&raw const pvh_guest_start, length)
        }
    }
}

#[test]
fn an_elf_kernel_begins_as_the_pvh_protocol_says() {
    if no_kvm() {
        return;
    }
    let mut setup = Setup::new(GUEST);
    setup.kernel = pvh_elf(pvh_guest::code());
    setup.cmdline = "pvh".to_owned();
    let mut vm = setup.start();
    vm.see(b'p');
    vm.type_in(b"q");
    let (status, record) = vm.end();
    assert_eq!(status, Some(0));
    assert!(record.contains("guest-power-off"), "{record}");
}

#[test]
fn a_guest_lives_through_pause_reset_and_power_button() {
    if no_kvm() {
        return;
    }
    let mut vm = Setup::new(GUEST).vcpus(2).start();
    vm.see(b'U');
    vm.type_in(b"x");
    vm.see(b'x');
    assert!(vm.ask("status").contains(r#""state":"running","resets":0"#));
    assert!(vm.ask("pause").contains("done"));
    assert!(vm.ask("pause").contains("done"), "pausing twice is no fault");
    let paused_at = vm.ask("stats");
    vm.type_in(b"y");
    assert!(vm.ask("status").contains("paused"));
    assert_eq!(vm.ask("stats"), paused_at, "no exits while paused");
    assert!(vm.ask("power-button").contains("error"));
    assert!(vm.ask("resume").contains("done"));
    vm.see(b'y');
    assert!(vm.ask("reset").contains("done"));
    vm.see(b'U');
    vm.type_in(b"r");
    vm.see(b'U');
    vm.type_in(b"t");
    vm.see(b'U');
    // The guest can be faster than the word that it was reset.
    while !vm.ask("status").contains(r#""resets":3"#) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    vm.type_in(b"zb");
    vm.see(b'z');
    vm.signal(libc::SIGTERM);
    let (status, record) = vm.end();
    assert_eq!(status, Some(0));
    assert!(record.contains("guest-power-off"), "{record}");
}

#[test]
fn subscribers_are_told_and_nonsense_is_answered() {
    if no_kvm() {
        return;
    }
    let mut vm = Setup::new(GUEST).start();
    vm.see(b'U');
    assert!(vm.ask("subscribe").contains("done"));
    vm.control.get_mut().write_all(b"\x00\xff nonsense\n").unwrap();
    assert!(vm.line().contains("error"));
    assert!(vm.ask("dance").contains("error"));
    let mut other = connect(&vm.directory.path().join("control.sock"));
    other.get_mut().write_all(b"{\"version\":1,\"id\":1,\"command\":\"reset\"}\n").unwrap();
    assert!(vm.line().contains(r#""event":"reset""#));
    // Closed with a request half written: nobody else notices.
    other.get_mut().write_all(b"{\"version\":1,").unwrap();
    drop(other);
    // A second viewer gets the scroll-back, the first goes on.
    vm.see(b'U');
    let mut viewer = connect(&vm.directory.path().join("console.sock"));
    let mut seen = [0; 2];
    viewer.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"UU");
    let answer = vm.ask("quit");
    assert!(answer.contains("done"), "{answer}");
    assert!(vm.line().contains("ending"));
    assert!(vm.line().contains(r#""reason":"told""#));
    let (status, record) = vm.end();
    assert_eq!(status, Some(0));
    assert!(record.contains("told"), "{record}");
}

#[test]
fn a_jailed_monitor_has_no_way_out() {
    if no_kvm() {
        return;
    }
    if !is_root() {
        eprintln!("SKIPPED: only root can make a jail");
        return;
    }
    let mut vm = Setup::new(GUEST).vcpus(2).jailed().start();
    vm.see(b'U');
    let process = PathBuf::from(format!("/proc/{}", vm.process.0.id()));
    for task in fs::read_dir(process.join("task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for line in [
            "Uid:\t100000\t100000\t100000\t100000",
            "Gid:\t100000\t100000\t100000\t100000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(line), "{line} missing in:\n{status}");
        }
    }
    for kind in ["mnt", "net", "ipc", "uts"] {
        let of = |process: &Path| fs::read_link(process.join("ns").join(kind)).unwrap();
        assert_ne!(of(&process), of(Path::new("/proc/self")), "{kind}");
    }
    assert_eq!(fs::read_dir(process.join("root")).unwrap().count(), 0, "its root is empty");
    let socket = fs::metadata(vm.directory.path().join("control.sock")).unwrap();
    assert_eq!((socket.uid(), socket.mode() & 0o777), (0, 0o600));
    assert!(vm.ask("reset").contains("done"), "the boot files are loaded again from inside");
    vm.see(b'U');
    vm.type_in(b"q");
    let (status, record) = vm.end();
    assert_eq!(status, Some(0));
    assert!(record.contains("guest-power-off"), "{record}");
}

#[test]
fn faults_of_the_configuration_are_told_and_recorded() {
    let setup = Setup::new(GUEST).vcpus(65);
    assert_eq!(setup.spawn().wait().unwrap().code(), Some(2));
    let directory = setup.directory.path();
    let record = fs::read_to_string(directory.join("exit.json")).unwrap();
    assert!(record.contains(r#""reason":"config""#) && record.contains("vcpus is 65"), "{record}");
    let setup = Setup::new(GUEST);
    assert_eq!(setup.spawn_without_kernel().wait().unwrap().code(), Some(2));
    let record = fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
    assert!(record.contains("cannot open the kernel") && record.contains("No such file"), "{record}");
}
