//! Machines that boot by firmware, on the real /dev/kvm, with firmware of a few instructions: flash, fw_cfg, keyboard and
//! screen, on one host, in a file and on the way to another. Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{Setup, Vm, connect, is_root, no_kvm, send};
use lq_vmm::control::ask::Asker;
use std::{
    fs,
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
};

/// Firmware of 4 KiB that ends at the reset vector, 16-bit code: tells the first byte of the variables under it, stores its
/// successor, tells what it reads then and the first byte of fw_cfg's signature, waits for a key, tells it and the second byte
/// of the signature, and switches off.
const FIRMWARE: &[u8] = &[
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0x2e, 0xa0, 0x00, 0xe0, 0xee, // mov al, [cs:0xe000]; out dx, al
    0x88, 0xc4, 0xfe, 0xc4, // mov ah, al; inc ah
    0x2e, 0xc6, 0x06, 0x00, 0xe0, 0x10, // mov byte [cs:0xe000], 0x10
    0x2e, 0x88, 0x26, 0x00, 0xe0, // mov [cs:0xe000], ah
    0x2e, 0xc6, 0x06, 0x00, 0xe0, 0xff, // mov byte [cs:0xe000], 0xff
    0x2e, 0xa0, 0x00, 0xe0, 0xee, // mov al, [cs:0xe000]; out dx, al
    0xba, 0x10, 0x05, 0x31, 0xc0, 0xef, // mov dx, 0x510; xor ax, ax; out dx, ax
    0x42, 0xec, 0xba, 0xf8, 0x03, 0xee, // inc dx; in al, dx; mov dx, 0x3f8; out dx, al
    0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, // key: in al, 0x64; test al, 1; jz key
    0xe4, 0x60, 0xee, // in al, 0x60; out dx, al
    0xba, 0x11, 0x05, 0xec, 0xba, 0xf8, 0x03,
    0xee, // mov dx, 0x511; in al, dx; mov dx, 0x3f8; out dx, al
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, // mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt
];
/// The scan code of the key [`screen`] presses.
const KEY: u8 = 0x1e;

/// A machine with [`FIRMWARE`], and variables that begin with `first`.
fn setup(first: u8) -> Setup {
    let mut setup = Setup::new(&[]).vcpus(2);
    setup.memory = 128 << 20;
    setup.jail = is_root();
    let mut code = FIRMWARE.to_vec();
    code.resize(0xff0, 0);
    code.extend([0xe9, 0x0d, 0xf0]); // jmp to the begin
    code.resize(4096, 0);
    let here = setup.directory.path();
    fs::write(here.join("code.fd"), code).unwrap();
    let mut vars = vec![0xff; 4096];
    vars[0] = first;
    fs::write(here.join("vars.fd"), vars).unwrap();
    boots_from(&mut setup);
    setup
}

fn boots_from(setup: &mut Setup) {
    let here = setup.directory.path().display();
    setup.boot = Some(format!(r#"{{"firmware":{{"code":"{here}/code.fd","vars":"{here}/vars.fd"}}}}"#));
    setup.more = r#","display":true"#.to_owned();
}

fn variable(vm: &Path) -> u8 {
    fs::read(vm.join("vars.fd")).unwrap()[0]
}

fn told<const N: usize>(vm: &mut Vm) -> [u8; N] {
    let mut told = [0; N];
    vm.console.read_exact(&mut told).unwrap();
    told
}

/// Looks at the screen as a viewer does, and presses a key.
fn screen(vm: &Vm) {
    let mut screen = connect(&vm.path("display.sock"));
    let mut greeting = [0; 12];
    screen.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"RFB 003.008\n");
    screen.get_mut().write_all(b"RFB 003.008\n\x01\x01").unwrap();
    let mut rest = [0; 2 + 4 + 24 + 4];
    screen.read_exact(&mut rest).unwrap();
    assert_eq!(&rest[30..], b"tiny");
    // A picture, compressed, before the key.
    screen.get_mut().write_all(b"\x02\0\0\x01\0\0\0\x10\x03\0\0\0\0\0\x02\x80\x01\xe0").unwrap();
    let mut header = [0; 16];
    screen.read_exact(&mut header).unwrap();
    assert_eq!(header, [0, 0, 0, 1, 0, 0, 0, 0, 2, 128, 1, 224, 0, 0, 0, 16]);
    screen.get_mut().write_all(b"\x04\x01\0\0\0\0\0a").unwrap();
}

/// The machine goes on from where it waits for a key, to its end.
fn goes_on(mut vm: Vm) {
    screen(&vm);
    assert_eq!(told(&mut vm), [KEY, b'E'], "the key, and where fw_cfg stood");
    let (status, record) = vm.end();
    assert_eq!(status, Some(0), "{record}");
    assert!(record.contains("guest-power-off"), "{record}");
}

#[test]
fn firmware_stores_variables_and_is_typed_to_through_the_screen() {
    if no_kvm() {
        return;
    }
    let mut setup = setup(b'A');
    for seen in [*b"ABQ", *b"BCQ"] {
        let mut vm = setup.start();
        assert_eq!(told(&mut vm), seen);
        assert_eq!(variable(vm.directory.path()), seen[1], "stored before the guest went on");
        assert!(vm.ask("status").contains("running"));
        let directory = std::mem::replace(&mut vm.directory, tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(directory.path().join("exit.json"), vm.path("exit.json")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("display.sock"), vm.path("display.sock")).unwrap();
        goes_on(vm);
        setup = Setup::new(&[]).vcpus(2);
        (setup.memory, setup.jail, setup.directory) = (128 << 20, is_root(), directory);
        boots_from(&mut setup);
    }
    fs::write(setup.directory.path().join("vars.fd"), [0; 100]).unwrap();
    assert_eq!(setup.spawn().wait().unwrap().code(), Some(2));
    let record = fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
    assert!(record.contains("variables of 100 bytes"), "{record}");
}

#[test]
fn a_saved_machine_brings_its_variables_its_keyboard_and_its_place_in_fw_cfg() {
    if no_kvm() {
        return;
    }
    let mut vm = setup(b'A').start();
    assert_eq!(told(&mut vm), *b"ABQ");
    let file = vm.path("machine.lq");
    Asker::connect(&vm.path("control.sock")).unwrap().snapshot(&file).unwrap();
    let mut other = setup(b'x');
    other.more += &format!(r#","start":{{"restore":{{"path":"{}"}}}}"#, file.display());
    let mut restored = other.start();
    while !restored.ask("status").contains("paused") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(variable(restored.directory.path()), b'B', "as they were, whatever the file had");
    assert!(restored.ask("resume").contains("done"));
    goes_on(restored);
    goes_on(vm);
}

#[test]
fn a_machine_with_firmware_moves_and_takes_its_variables_along() {
    if no_kvm() {
        return;
    }
    let mut source = setup(b'A').start();
    assert_eq!(told(&mut source), *b"ABQ");
    let mut other = setup(b'x');
    other.more += r#","start":"incoming""#;
    let mut target = other.start();
    let (ours, theirs) = UnixStream::pair().unwrap();
    send(target.control.get_ref(), "\"migrate-in\"", Some(theirs.as_fd()));
    drop(theirs);
    let answer = source.ask_with(r#"{"migrate-out":{}}"#, Some(ours.as_fd()));
    assert!(answer.contains("done"), "{answer}");
    drop(ours);
    let answer = target.line();
    assert!(answer.contains("done"), "{answer}");
    assert!(source.end().1.contains("migrated"));
    assert_eq!(variable(target.directory.path()), b'B');
    goes_on(target);
}

#[test]
fn firmware_of_another_size_is_an_obstacle_with_a_name() {
    if no_kvm() {
        return;
    }
    let mut vm = setup(b'A').start();
    assert_eq!(told(&mut vm), *b"ABQ");
    let file = vm.path("machine.lq");
    Asker::connect(&vm.path("control.sock")).unwrap().snapshot(&file).unwrap();
    let mut other = setup(b'x');
    fs::write(other.directory.path().join("vars.fd"), [0xff; 8192]).unwrap();
    other.more += &format!(r#","start":{{"restore":{{"path":"{}"}}}}"#, file.display());
    assert_eq!(other.spawn().wait().unwrap().code(), Some(2));
    let record = fs::read_to_string(other.directory.path().join("exit.json")).unwrap();
    assert!(record.contains("4096 bytes of variables in the saved machine"), "{record}");
    assert!(vm.ask("quit").contains("done"));
}
