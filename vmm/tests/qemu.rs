//! Machines on QEMU, by a real one that executes the guest itself (TCG): a boot sector under a legacy BIOS, which answers on the
//! serial line. Skipped, and says so, where there is no QEMU (Debian package `qemu-system-x86`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{PATIENCE, Process, Vm, connect, is_root};
use lq_api::local::paths;
use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{fd::AsFd, unix::fs::FileExt},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Says `!`, then what is typed, but for: `q` switch off, `r` reset, `w` write the boot sector to the second one by the BIOS and say
/// `W` (`E`: it failed), `p` panic and say `P`. The power button is answered with `B`, and by switching off.
///
/// Real mode, at 0x7c00, built from AT&T syntax:
/// ```text
/// cli; xor ax, ds es ss; sp = 0x7c00; nop; [0x7000] = dl                      the BIOS takes no byte from it; the drive
/// out 0x3fb, 3; outw 0x602, 0x100; putc '!'                                   8N1; the power button may be told of
/// again: inw 0x600 & 0x100 → button; in 0x3fd & 1 → read, compare, putc       polls both
/// button: putc 'B'; off: outw 0x604, 0x2000; hlt                              S5
/// reset: out 0x64, 0xfe; hlt · write: int 0x13 ax=0x0301 cx=2 · panic: out 0x505, 1
/// ```
const SECTOR: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0x90, 0x88, 0x16, 0x00, 0x70,
    0xba, 0xfb, 0x03, 0xb0, 0x03, 0xee, 0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, 0xb0, 0x21, 0xe8, 0x65,
    0x00, 0xba, 0x00, 0x06, 0xed, 0xa9, 0x00, 0x01, 0x75, 0x21, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74,
    0xef, 0xba, 0xf8, 0x03, 0xec, 0x3c, 0x71, 0x74, 0x16, 0x3c, 0x72, 0x74, 0x1a, 0x3c, 0x77, 0x74, 0x1b,
    0x3c, 0x70, 0x74, 0x33, 0xe8, 0x3d, 0x00, 0xeb, 0xd6, 0xb0, 0x42, 0xe8, 0x36, 0x00, 0xba, 0x04, 0x06,
    0xb8, 0x00, 0x20, 0xef, 0xf4, 0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xb8, 0x01, 0x03, 0xbb, 0x00, 0x7c, 0xb9,
    0x02, 0x00, 0xb6, 0x00, 0x8a, 0x16, 0x00, 0x70, 0xcd, 0x13, 0xb0, 0x57, 0x73, 0x02, 0xb0, 0x45, 0xe8,
    0x0f, 0x00, 0xeb, 0xa8, 0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xb0, 0x50, 0xe8, 0x02, 0x00, 0xeb, 0x9b,
    0x52, 0x88, 0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee,
    0x5a, 0xc3,
];

const DISK: u64 = 8 << 20;

fn no_qemu() -> bool {
    let none = !Path::new(paths::QEMU).exists();
    if none {
        eprintln!("SKIPPED: there is no QEMU here; install it (Debian: apt-get install qemu-system-x86)");
    }
    none
}

/// A machine to be started.
struct Setup {
    directory: tempfile::TempDir,
    machine: &'static str,
    devices: &'static str,
    display: bool,
    jail: bool,
    /// `devices` of the configuration, without braces.
    more: String,
    qcow2: bool,
}

impl Setup {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            machine: "pc-i440fx-7.2",
            devices: "virtio",
            display: false,
            jail: false,
            more: String::new(),
            qcow2: false,
        }
    }

    fn disk(&self) -> File {
        let path = self.directory.path().join("disk");
        let disk = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        disk.set_len(DISK).unwrap();
        disk.write_all_at(SECTOR, 0).unwrap();
        disk.write_all_at(&[0x55, 0xaa], 510).unwrap();
        disk
    }

    /// A qcow2 file on top of the raw disk.
    fn overlay(&self) {
        let path = self.directory.path().join("overlay");
        let overlay = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let options = lq_qcow2::CreateOptions {
            virtual_size: DISK,
            cluster_bits: lq_qcow2::DEFAULT_CLUSTER_BITS,
            backing: Some(("disk".into(), lq_qcow2::BackingFormat::Raw)),
        };
        lq_qcow2::create(&overlay, &options).unwrap();
    }

    fn write(&self) {
        let here = self.directory.path().display();
        let raw = format!(r#"{{"path":"{here}/disk","format":"raw"}}"#);
        let image = if self.qcow2 {
            format!(r#"{{"path":"{here}/overlay","format":"qcow2","backing":{raw}}}"#)
        } else {
            raw
        };
        let jail = if self.jail { r#","jail":{"uid":231009,"gid":231009}"# } else { "" };
        let (machine, devices, display, more) = (self.machine, self.devices, self.display, &self.more);
        let text = format!(
            r#"{{"version":1,"vm":"018f3a5e-0000-7000-8000-000000000001","name":"old, but good","vcpus":1,
                "memory_bytes":134217728,"boot":"bios","rng":true,"display":{display},
                "disks":[{{"serial":"root","image":{image}}}],"devices":{{"panic":true{more}}},
                "run_dir":"{here}","qemu":{{"machine":"{machine}","devices":"{devices}"}}{jail}}}"#
        );
        fs::write(self.directory.path().join("vmm.json"), text).unwrap();
    }

    fn spawn(&self) -> Process {
        self.write();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lq-vmm"));
        command
            .args(["qemu", "--accelerator", "tcg", "--config"])
            .arg(self.directory.path().join("vmm.json"));
        Process(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn start(self) -> Vm {
        self.disk();
        if self.qcow2 {
            self.overlay();
        }
        let process = self.spawn();
        let console = connect(&self.directory.path().join("console.sock"));
        let control = connect(&self.directory.path().join("control.sock"));
        Vm { process, directory: self.directory, console, control }
    }
}

/// QEMU of a machine: what the supervisor has started.
fn qemu_of(vm: &Vm) -> u32 {
    let parent = vm.process.0.id();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    children.trim().parse().unwrap()
}

fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until what is asked is answered so.
fn wait_for_answer(vm: &mut Vm, command: &str, part: &str) {
    wait_for(part, || vm.ask(command).contains(part));
}

#[test]
fn a_bios_boots_and_all_of_its_life_is_ours() {
    if no_qemu() {
        return;
    }
    let mut vm = Setup { display: true, ..Setup::new() }.start();
    vm.see(b'!');
    vm.type_in(b"x");
    vm.see(b'x');
    assert!(vm.ask("status").contains(r#""state":"running""#));

    assert!(vm.ask("pause").contains("done"));
    wait_for_answer(&mut vm, "status", r#""state":"paused""#);
    assert!(vm.ask("power-button").contains("the guest is paused and cannot react"));
    assert!(vm.ask("resume").contains("done"));
    wait_for_answer(&mut vm, "status", r#""state":"running""#);

    // What it writes is on the disk, and counted.
    vm.type_in(b"w");
    vm.see(b'W');
    let disk = fs::read(vm.path("disk")).unwrap();
    assert_eq!(disk[512..512 + SECTOR.len()], *SECTOR);
    let stats = vm.ask("stats");
    assert!(stats.contains(r#""written_bytes":512,"#) && stats.contains(r#""writes":1,"#), "{stats}");

    // Both of its resets.
    vm.type_in(b"r");
    vm.see(b'!');
    assert!(vm.ask("reset").contains("done"));
    vm.see(b'!');
    let status = vm.ask("status");
    // The BIOS resets once more by itself where it was the processor alone that was reset.
    assert!(!status.contains(r#""resets":0"#) && !status.contains(r#""resets":1,"#), "{status}");

    // Each viewer of the screen is greeted by an RFB server.
    for _ in 0..2 {
        let mut screen = connect(&vm.path("display.sock"));
        let mut greeting = [0; 12];
        screen.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"RFB 003.008\n");
    }

    // A new reader sees what was before.
    let mut late = connect(&vm.path("console.sock"));
    let mut seen = [0; 5];
    late.read_exact(&mut seen).unwrap();
    assert!(String::from_utf8_lossy(&seen).contains('!') || seen != [0; 5], "{seen:?}");

    let qemu = qemu_of(&vm);
    assert!(vm.ask("power-button").contains("done"));
    vm.see(b'B');
    let (status, record) = vm.end();
    assert_eq!(status, Some(0));
    assert!(record.contains("guest-power-off"), "{record}");
    assert!(!runs(qemu));
}

#[test]
fn events_are_told_and_a_panic_with_them() {
    if no_qemu() {
        return;
    }
    let mut vm = Setup::new().start();
    let mut events = connect(&vm.path("control.sock"));
    common::send(events.get_ref(), "\"subscribe\"", None);
    let mut told = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut events, &mut line).unwrap();
        line
    };
    assert!(told().contains("done"));
    vm.see(b'!');
    vm.type_in(b"p");
    vm.see(b'P');
    assert!(told().contains(r#""event":"panicked""#));
    assert!(vm.ask("status").contains(r#""panicked":true"#));
    vm.type_in(b"r");
    assert!(told().contains(r#""event":"reset""#));
    vm.see(b'!');
    assert!(vm.ask("status").contains(r#""panicked":false"#));
    vm.ask("pause");
    // The BIOS resets once more by itself.
    let mut next = told();
    while next.contains(r#""event":"reset""#) {
        next = told();
    }
    assert!(next.contains(r#""state":"paused""#), "{next}");
    vm.ask("resume");
    assert!(told().contains(r#""state":"running""#));
    vm.type_in(b"q");
    assert!(told().contains(r#""state":"ending""#));
    let last = told();
    assert!(last.contains("exit") && last.contains("guest-power-off"), "{last}");
    vm.end();
}

#[test]
fn it_ends_when_it_is_told_and_qemu_never_outlives_it() {
    if no_qemu() {
        return;
    }
    let mut vm = Setup::new().start();
    vm.see(b'!');
    let qemu = qemu_of(&vm);
    assert!(vm.ask("quit").contains("done"));
    let (status, record) = vm.end();
    assert_eq!(status, Some(0), "{record}");
    assert!(record.contains("told to end") && !runs(qemu), "{record}");

    // However it ends.
    let mut vm = Setup::new().start();
    vm.see(b'!');
    let qemu = qemu_of(&vm);
    vm.signal(libc::SIGKILL);
    wait_for("QEMU ends with its supervisor", || !runs(qemu));
    drop(vm);

    // And the other way round, told as what it is.
    let mut vm = Setup::new().start();
    vm.see(b'!');
    // SAFETY: a process of this test's own.
    assert_eq!(unsafe { libc::kill(qemu_of(&vm) as i32, libc::SIGKILL) }, 0);
    let (status, record) = vm.end();
    assert_eq!(status, Some(3), "{record}");
    assert!(record.contains("QEMU was killed by signal 9"), "{record}");

    // SIGTERM is the power button.
    let mut vm = Setup::new().start();
    vm.see(b'!');
    vm.signal(libc::SIGTERM);
    vm.see(b'B');
    assert!(vm.end().1.contains("guest-power-off"));
}

#[test]
fn locked_in_it_does_the_same() {
    if no_qemu() || !is_root() {
        eprintln!("SKIPPED where there is no root");
        return;
    }
    let mut vm = Setup { jail: true, display: true, qcow2: true, ..Setup::new() }.start();
    vm.see(b'!');
    for pid in [vm.process.0.id(), qemu_of(&vm)] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!((field("Uid:"), field("Gid:")), ("231009".to_owned(), "231009".to_owned()));
        for capabilities in ["CapEff:", "CapPrm:", "CapInh:", "CapBnd:", "CapAmb:"] {
            assert_eq!(u64::from_str_radix(&field(capabilities), 16).unwrap(), 0, "{capabilities}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        for kind in ["mnt", "net", "ipc", "uts"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            assert_ne!(of(&pid.to_string()), of("self"), "{kind}");
        }
        let mut root: Vec<_> =
            fs::read_dir(format!("/proc/{pid}/root")).unwrap().map(|e| e.unwrap().file_name()).collect();
        root.sort();
        assert_eq!(root, ["lib", "lib64", "usr"]);
        for place in ["", "usr", "usr/lib"] {
            let made = fs::write(format!("/proc/{pid}/root/{place}/x"), "");
            assert_eq!(made.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{place}");
        }
    }
    // QEMU's own filter.
    let status = fs::read_to_string(format!("/proc/{}/status", qemu_of(&vm))).unwrap();
    assert!(status.lines().any(|line| line == "Seccomp:\t2"), "{status}");
    vm.type_in(b"w");
    vm.see(b'W');
    let mut screen = connect(&vm.path("display.sock"));
    let mut greeting = [0; 12];
    screen.read_exact(&mut greeting).unwrap();
    vm.type_in(b"q");
    let (overlay, disk) = (vm.path("overlay"), vm.path("disk"));
    let directory = tempfile::tempdir().unwrap();
    for (from, to) in [(&overlay, "overlay"), (&disk, "disk")] {
        // The machine's directory goes with it.
        fs::hard_link(from, directory.path().join(to))
            .or_else(|_| fs::copy(from, directory.path().join(to)).map(drop))
            .unwrap();
    }
    assert!(vm.end().1.contains("guest-power-off"));
    // What was written is in the overlay, which our own gate takes; nothing is in what is under it.
    let overlay = File::open(directory.path().join("overlay")).unwrap();
    let limits = lq_qcow2::Limits { allow_backing: true, ..lq_qcow2::Limits::default() };
    lq_qcow2::check(&overlay, &limits).unwrap();
    assert!(overlay.metadata().unwrap().len() > 64 << 10);
    let under = fs::read(directory.path().join("disk")).unwrap();
    assert!(under[512..1024].iter().all(|byte| *byte == 0));
}

#[test]
fn media_come_and_go_and_a_disk_grows() {
    if no_qemu() {
        return;
    }
    let mut setup = Setup::new();
    setup.more = r#","cdroms":[{},{}]"#.to_owned();
    let mut vm = setup.start();
    vm.see(b'!');
    let iso = vm.path("cd.iso");
    fs::write(&iso, vec![1; 1 << 20]).unwrap();
    let loaded = |vm: &mut Vm, which: &str| {
        let status = vm.ask("status");
        assert!(status.contains(&format!(r#""cdroms":{which}"#)), "{status}");
    };
    loaded(&mut vm, "[false,false]");
    for _ in 0..3 {
        let file = File::open(&iso).unwrap();
        let done = vm.ask_with(r#"{"cdrom-insert":{"cdrom":1}}"#, Some(file.as_fd()));
        assert!(done.contains("done"), "{done}");
        loaded(&mut vm, "[false,true]");
        let again = vm.ask_with(r#"{"cdrom-insert":{"cdrom":1}}"#, Some(file.as_fd()));
        assert!(again.contains("eject it first"), "{again}");
        let done = vm.ask_with(r#"{"cdrom-eject":{"cdrom":1}}"#, None);
        assert!(done.contains("done"), "{done}");
        loaded(&mut vm, "[false,false]");
    }
    // Nothing of them stays open.
    let qemu = qemu_of(&vm);
    let open = || {
        let all = fs::read_dir(format!("/proc/{qemu}/fd")).unwrap();
        all.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == iso)).count()
    };
    wait_for("the media are closed", || open() == 0);
    assert!(vm.ask_with(r#"{"cdrom-eject":{"cdrom":2}}"#, None).contains("there is no CD drive 2"));

    let grown = vm.ask_with(&format!(r#"{{"disk-resize":{{"disk":0,"size_bytes":{}}}}}"#, 2 * DISK), None);
    assert!(grown.contains("done"), "{grown}");
    assert_eq!(fs::metadata(vm.path("disk")).unwrap().len(), 2 * DISK);
    let limits = r#"{"disk-limits":{"disk":0,"limits":{"operations":{"per_second":100,"burst":200}}}}"#;
    let limited = vm.ask_with(limits, None);
    assert!(limited.contains("done"), "{limited}");
    assert!(vm.ask("config").contains(r#""operations":{"per_second":100,"burst":200}"#));
    vm.type_in(b"w");
    vm.see(b'W');
    let refused = vm.ask("balloon-status");
    assert!(refused.contains("is not done on QEMU"), "{refused}");
    vm.ask("quit");
    vm.end();
}

#[test]
fn old_devices_and_both_boards() {
    if no_qemu() {
        return;
    }
    for (machine, devices) in
        [("pc-i440fx-7.2", "legacy"), ("pc-q35-7.2", "legacy"), ("pc-q35-7.2", "virtio")]
    {
        let mut vm = Setup { machine, devices, ..Setup::new() }.start();
        vm.see(b'!');
        vm.type_in(b"w");
        vm.see(b'W');
        vm.type_in(b"q");
        let (status, record) = vm.end();
        assert!(status == Some(0) && record.contains("guest-power-off"), "{machine} {devices}: {record}");
    }
}

#[test]
fn a_disk_that_is_in_use_and_what_is_not_done_are_refused_in_words() {
    if no_qemu() {
        return;
    }
    let setup = Setup::new();
    let disk = setup.disk();
    disk.lock().unwrap();
    let mut process = setup.spawn();
    assert_eq!(process.0.wait().unwrap().code(), Some(2));
    let record = fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
    assert!(record.contains("in use by another process"), "{record}");

    let mut setup = Setup::new();
    setup.more = r#","cpus":{"most":4},"vsock":{"cid":3}"#.to_owned();
    setup.disk();
    let mut process = setup.spawn();
    assert_eq!(process.0.wait().unwrap().code(), Some(2));
    let record = fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
    assert!(record.contains("devices.vsock") && record.contains("devices.cpus"), "{record}");

    // Ours does not take it for one of its own.
    let mut command = Command::new(env!("CARGO_BIN_EXE_lq-vmm"));
    setup.more.clear();
    setup.write();
    let config = setup.directory.path().join("vmm.json");
    let status = command.args(["run", "--config"]).arg(config).status().unwrap();
    assert_eq!(status.code(), Some(2));
    let record = fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
    assert!(record.contains("lq-vmm qemu"), "{record}");
}

#[test]
fn two_hold_their_disk_against_each_other() {
    if no_qemu() {
        return;
    }
    let mut vm = Setup::new().start();
    vm.see(b'!');
    let disk = File::open(vm.path("disk")).unwrap();
    assert!(disk.try_lock().is_err(), "the lock is QEMU's");
    vm.ask("force-quit");
    wait_for("the disk is free", || disk.try_lock().is_ok());
    let (_, record) = vm.end();
    assert!(record.contains("at once"), "{record}");
    let _ = std::io::stdout().flush();
}
