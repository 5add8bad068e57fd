//! `lq-vmm` itself on the real /dev/kvm, with a guest of a few instructions: life cycle, console, control, jail.
//!
//! Skipped, and says so, where there is no /dev/kvm.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The guest, 64-bit code: writes `U`, then obeys what is typed. `q` switches off, `r` resets, `t` faults thrice, `b` waits
/// for the power button and then switches off; anything else is echoed.
const GUEST: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, 0xb0, 0x55, 0xee, // mov dx, 0x3f8; mov al, 'U'; out dx, al
    0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74,
    0xf7, // poll: mov dx, 0x3fd; in al, dx; test al, 1; jz poll
    0x66, 0xba, 0xf8, 0x03, 0xec, // mov dx, 0x3f8; in al, dx
    0x3c, 0x71, 0x74, 0x0f, 0x3c, 0x72, 0x74, 0x13, // cmp al, 'q'; je off; cmp al, 'r'; je reset
    0x3c, 0x74, 0x74, 0x22, 0x3c, 0x62, 0x74, 0x13, // cmp al, 't'; je triple; cmp al, 'b'; je button
    0xee, 0xeb, 0xdf, // out dx, al; jmp poll
    0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4, // off: mov dx, 0x600; mov al, 0x34; out dx, al; hlt
    0x66, 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, 0xf4, // reset: mov dx, 0x602; mov al, 1; out dx, al; hlt
    0x66, 0xba, 0x04, 0x06, 0xec, 0xa8, 0x01, 0x74,
    0xf7, // button: mov dx, 0x604; in al, dx; test al, 1; jz button
    0xeb, 0xe5, // jmp off
    0x0f, 0x01, 0x1d, 0x02, 0x00, 0x00, 0x00, 0x0f, 0x0b, // triple: lidt [rip + 2]; ud2
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // an empty interrupt table
];

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn no_kvm() -> bool {
    let missing = fs::File::options().read(true).write(true).open("/dev/kvm").is_err();
    if missing {
        eprintln!("SKIPPED: /dev/kvm cannot be opened here");
    }
    missing
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A bzImage of one setup sector around [`GUEST`].
fn kernel() -> Vec<u8> {
    let mut image = vec![0; 1024 + 0x200];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x211] = 1;
    image[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    image[0x236..0x238].copy_from_slice(&1_u16.to_le_bytes());
    image[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
    image.extend(GUEST);
    image
}

struct Vm {
    process: Child,
    directory: tempfile::TempDir,
    console: BufReader<UnixStream>,
    control: BufReader<UnixStream>,
}

fn connect(path: &Path) -> BufReader<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => panic!("{}: {error}", path.display()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

fn config(directory: &Path, vcpus: u8, jail: bool) -> PathBuf {
    fs::write(directory.join("vmlinuz"), kernel()).unwrap();
    let jail = if jail { r#","jail":{"uid":100000,"gid":100000}"# } else { "" };
    let here = directory.display();
    let text = format!(
        r#"{{"version":1,"vm":"018f3a5e-0000-7000-8000-000000000001","name":"tiny","vcpus":{vcpus},
            "memory_bytes":{},"boot":{{"direct":{{"kernel":"{here}/vmlinuz"}}}},"rng":true,"run_dir":"{here}"{jail}}}"#,
        64 << 20
    );
    let path = directory.join("vmm.json");
    fs::write(&path, text).unwrap();
    path
}

fn start(config: &Path) -> Child {
    let program = env!("CARGO_BIN_EXE_lq-vmm");
    Command::new(program).args(["run", "--config"]).arg(config).stdin(Stdio::null()).spawn().unwrap()
}

impl Vm {
    fn new(vcpus: u8, jail: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = start(&config(directory.path(), vcpus, jail));
        let console = connect(&directory.path().join("console.sock"));
        let control = connect(&directory.path().join("control.sock"));
        Self { process, directory, console, control }
    }

    /// Reads the console up to and with `byte`.
    fn see(&mut self, byte: u8) {
        let mut seen = Vec::new();
        self.console.read_until(byte, &mut seen).unwrap();
        assert_eq!(seen.last(), Some(&byte), "the console ended after {seen:?}");
    }

    fn type_in(&mut self, text: &[u8]) {
        self.console.get_mut().write_all(text).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, command: &str) -> String {
        let request = format!("{{\"version\":1,\"id\":5,\"command\":\"{command}\"}}\n");
        self.control.get_mut().write_all(request.as_bytes()).unwrap();
        self.line()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and not yet waited for.
        assert_eq!(unsafe { libc::kill(self.process.id() as i32, signal) }, 0);
    }

    /// Waits for the end; returns the status and the exit record.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.process.wait().unwrap();
        (status.code(), fs::read_to_string(self.directory.path().join("exit.json")).unwrap())
    }
}

#[test]
fn a_guest_lives_through_pause_reset_and_power_button() {
    if no_kvm() {
        return;
    }
    let mut vm = Vm::new(2, false);
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
    assert!(vm.ask("status").contains(r#""resets":3"#));
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
    let mut vm = Vm::new(1, false);
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
    let mut vm = Vm::new(2, true);
    vm.see(b'U');
    let process = PathBuf::from(format!("/proc/{}", vm.process.id()));
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
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path(), 65, false);
    assert_eq!(start(&path).wait().unwrap().code(), Some(2));
    let record = fs::read_to_string(directory.path().join("exit.json")).unwrap();
    assert!(record.contains(r#""reason":"config""#) && record.contains("vcpus is 65"), "{record}");
    fs::remove_file(directory.path().join("exit.json")).unwrap();
    let path = config(directory.path(), 1, false);
    fs::remove_file(directory.path().join("vmlinuz")).unwrap();
    assert_eq!(start(&path).wait().unwrap().code(), Some(2));
    let record = fs::read_to_string(directory.path().join("exit.json")).unwrap();
    assert!(record.contains("cannot open the kernel") && record.contains("No such file"), "{record}");
}
