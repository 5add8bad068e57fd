//! The TPM against a real swtpm, from the driver's side; and in a machine on the real /dev/kvm, jailed where that can be. Skipped,
//! and says so, where there is no swtpm (Debian package `swtpm`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests assert by panicking")]

mod common;

use common::{GUEST, PATIENCE, Process, Setup, is_root, no_kvm};
use lq_api::local::paths;
use lq_vmm::{
    control::{ask::Asker, passing},
    guest::{GuestEvent, Notifier},
    tpm::{Connection, Tpm, crb, swtpm::Error},
};
use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// User and group of a process that is locked in.
const USER: u32 = 231_007;

const STARTUP: &[u8] = &[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];
const RANDOM_16: &[u8] = &[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 16];
/// Of the register 10, by SHA-256.
const READ_PCR: &[u8] = &[0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3, 0, 4, 0];
const EXTEND: u32 = 0x182;
const NV_DEFINE: u32 = 0x12a;
const NV_WRITE: u32 = 0x137;
const NV_READ: u32 = 0x14e;
const OWNER: [u8; 4] = [0x40, 0, 0, 1];
const INDEX: [u8; 4] = [1, 0x50, 0, 1];
const RC_FAILURE: u32 = 0x101;
const RC_INITIALIZE: u32 = 0x100;
/// SHA-256 of 64 zero bytes: the register at first, and a measurement of zeros.
const EXTENDED: [u8; 32] = [
    0xf5, 0xa5, 0xfd, 0x42, 0xd1, 0x6a, 0x20, 0x30, 0x27, 0x98, 0xef, 0x6e, 0xd3, 0x09, 0x97, 0x9b, 0x43,
    0x00, 0x3d, 0x23, 0x20, 0xd9, 0xf0, 0xe8, 0xea, 0x98, 0x31, 0xa9, 0x27, 0x59, 0xfb, 0x4b,
];

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A swtpm that keeps its state in `directory` and listens at `tpm.sock` there, locked in where that can be; none: there is no such
/// program.
fn swtpm(directory: &Path) -> Option<Process> {
    if !Path::new(paths::SWTPM).exists() {
        eprintln!("SKIPPED: there is no swtpm here; install it (Debian: apt-get install swtpm)");
        return None;
    }
    let socket = directory.join("tpm.sock");
    let _ = fs::remove_file(&socket);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lq-vmm"));
    command.arg("tpm").arg("--state").arg(directory).arg("--socket").arg(&socket).stdin(Stdio::null());
    if is_root() {
        let own = |path: &Path| chown(path, Some(USER), Some(USER)).unwrap();
        own(directory);
        fs::read_dir(directory).unwrap().for_each(|entry| own(&entry.unwrap().path()));
        command.arg("--jail").arg(format!("{USER}:{USER}"));
    }
    let process = command.spawn().unwrap();
    // A socket that is there may not be listened at yet; to try would be taken for its machine.
    let listens = |line: &str| line.contains(" 00010000 ") && line.ends_with(&*socket.to_string_lossy());
    wait_for("swtpm listens", || fs::read_to_string("/proc/net/unix").unwrap().lines().any(listens));
    Some(Process(process))
}

fn signal(process: &Process, signal: i32) {
    // SAFETY: the process is our child and not yet waited for.
    assert_eq!(unsafe { libc::kill(process.0.id() as i32, signal) }, 0);
}

/// A command with the empty password.
fn authorized(code: u32, handles: &[[u8; 4]], parameters: &[u8]) -> Vec<u8> {
    let password = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let body = [&handles.concat()[..], &password, parameters].concat();
    let length = (crb::HEADER + body.len()) as u32;
    [&[0x80, 2][..], &length.to_be_bytes(), &code.to_be_bytes(), &body].concat()
}

fn code(answer: &[u8]) -> u32 {
    u32::from_be_bytes(answer[6..10].try_into().unwrap())
}

/// What a driver does with the registers.
struct Driver {
    tpm: Tpm,
    notifier: Arc<Notifier>,
}

impl Driver {
    fn new(directory: &Path) -> Self {
        let notifier = Arc::new(Notifier::new().unwrap());
        let connection = Connection::open(&directory.join("tpm.sock")).unwrap();
        Self { tpm: Tpm::new(connection, Arc::clone(&notifier)).unwrap(), notifier }
    }

    fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        assert!(self.tpm.memory_read(crb::BASE + offset, &mut data));
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u32) {
        assert!(self.tpm.memory_write(crb::BASE + offset, &value.to_le_bytes()));
    }

    /// Puts a command on its way.
    fn begin(&self, command: &[u8]) {
        self.write(0x08, 1);
        self.write(0x40, 1);
        for (piece, at) in command.chunks(8).zip((crb::BASE + 0x80..).step_by(8)) {
            assert!(self.tpm.memory_write(at, piece));
        }
        self.write(0x4c, 1);
    }

    fn end(&self) -> Vec<u8> {
        wait_for("the TPM answers", || self.read(0x4c) == 0);
        let mut buffer = vec![0; crb::BUFFER_BYTES];
        assert!(self.tpm.memory_read(crb::BASE + 0x80, &mut buffer));
        buffer.truncate(crb::stated_length(&buffer).unwrap());
        buffer
    }

    fn ask(&self, command: &[u8]) -> Vec<u8> {
        self.begin(command);
        self.end()
    }

    /// Asks what must be granted.
    fn done(&self, command: &[u8]) -> Vec<u8> {
        let answer = self.ask(command);
        assert_eq!(code(&answer), 0, "{command:x?}: {answer:x?}");
        answer
    }

    fn extend(&self) {
        let measurement = [&[0, 0, 0, 1, 0, 0x0b][..], &[0; 32]].concat();
        self.done(&authorized(EXTEND, &[[0, 0, 0, 10]], &measurement));
    }

    fn pcr(&self) -> [u8; 32] {
        *self.done(READ_PCR).last_chunk().unwrap()
    }

    /// Keeps eight bytes.
    fn keep(&self, bytes: [u8; 8]) {
        let public = [&INDEX[..], &[0, 0x0b, 2, 6, 0, 6, 0, 0, 0, 8]].concat();
        self.done(&authorized(NV_DEFINE, &[OWNER], &[&[0, 0, 0, 14][..], &public].concat()));
        self.done(&authorized(NV_WRITE, &[OWNER, INDEX], &[&[0, 8][..], &bytes, &[0, 0]].concat()));
    }

    fn kept(&self) -> [u8; 8] {
        self.done(&authorized(NV_READ, &[OWNER, INDEX], &[0, 8, 0, 0]))[16..24].try_into().unwrap()
    }

    /// It has failed; why it is said to have.
    fn failure(&self) -> String {
        let mut events = Vec::new();
        wait_for("the failure is told", || {
            events.extend(self.notifier.take());
            !events.is_empty()
        });
        assert!(self.tpm.failed());
        match events.as_slice() {
            [GuestEvent::TpmFailed(why)] => why.clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_driver_measures_and_draws() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_swtpm) = swtpm(directory.path()) else { return };
    let driver = Driver::new(directory.path());
    assert_eq!(code(&driver.ask(RANDOM_16)), RC_INITIALIZE);
    driver.done(STARTUP);
    let (one, other) = (driver.done(RANDOM_16), driver.done(RANDOM_16));
    assert_eq!((one.len(), &one[10..12]), (28, &[0, 16][..]));
    assert_ne!(one, other);
    assert_eq!(driver.pcr(), [0; 32]);
    driver.extend();
    assert_eq!(driver.pcr(), EXTENDED);
    // A whole buffer, and a command nobody knows, harm nothing.
    let mut whole = vec![0x80, 1, 0, 0, 0x0f, 0x80, 0, 0, 1, 0x7b];
    whole.resize(crb::BUFFER_BYTES, 0);
    assert_ne!(code(&driver.ask(&whole)), 0);
    assert_ne!(code(&driver.ask(&[0, 0, 0, 0, 0, 10, 9, 9, 9, 9])), 0);
    assert_eq!(driver.pcr(), EXTENDED);
    assert_eq!(driver.notifier.take(), []);
}

#[test]
fn what_is_kept_outlives_resets_and_processes_and_measurements_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut process) = swtpm(directory.path()) else { return };
    let driver = Driver::new(directory.path());
    driver.done(STARTUP);
    driver.keep(*b"kept for");
    driver.extend();
    driver.begin(RANDOM_16);
    driver.tpm.reset();
    assert_eq!((driver.read(0x4c), driver.read(0x80)), (0, 0), "the answer was the other guest's");
    assert_eq!(code(&driver.ask(READ_PCR)), RC_INITIALIZE);
    driver.done(STARTUP);
    assert_eq!((driver.pcr(), driver.kept()), ([0; 32], *b"kept for"));
    drop(driver);
    assert!(process.0.wait().unwrap().success(), "it ends with its machine");
    let _swtpm = swtpm(directory.path()).unwrap();
    let driver = Driver::new(directory.path());
    driver.done(STARTUP);
    assert_eq!((driver.pcr(), driver.kept()), ([0; 32], *b"kept for"));
}

#[test]
fn a_saved_one_goes_on_elsewhere_with_all_it_held() {
    let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let Some(mut process) = swtpm(here.path()) else { return };
    let _there = swtpm(there.path()).unwrap();
    let driver = Driver::new(here.path());
    driver.done(STARTUP);
    driver.keep(*b"moved on");
    driver.extend();
    let answer = driver.done(RANDOM_16);
    let saved = serde_json::to_value(driver.tpm.save().unwrap()).unwrap();
    assert_eq!(driver.pcr(), EXTENDED, "it was only looked at");
    driver.tpm.reset();
    assert_eq!(code(&driver.ask(READ_PCR)), RC_INITIALIZE, "what was looked at does not outlive a reset");
    driver.done(STARTUP);
    assert_eq!(driver.pcr(), [0; 32]);
    driver.tpm.save().unwrap();
    drop(driver);
    assert!(process.0.wait().unwrap().success());
    let _here = swtpm(here.path()).unwrap();
    let driver = Driver::new(here.path());
    assert_eq!(code(&driver.ask(READ_PCR)), RC_INITIALIZE, "nor a new process");
    let other = Driver::new(there.path());
    other.tpm.load(serde_json::from_value(saved.clone()).unwrap()).unwrap();
    assert_eq!(other.end(), answer, "what was still to be read");
    assert_eq!((other.pcr(), other.kept()), (EXTENDED, *b"moved on"));
    let mut broken = saved;
    broken["permanent"] = serde_json::json!([1, 2, 3]);
    let why = other.tpm.load(serde_json::from_value(broken).unwrap()).unwrap_err().to_string();
    assert!(why.contains("tpm 0 cannot be taken up"), "{why}");
    assert!(other.failure().contains("refused"));
}

#[test]
fn one_that_dies_fails_and_holds_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let Some(process) = swtpm(directory.path()) else { return };
    let driver = Driver::new(directory.path());
    driver.done(STARTUP);
    signal(&process, libc::SIGSTOP);
    // Nobody waits; a call to stop helps nothing, and harms nothing.
    driver.begin(RANDOM_16);
    driver.write(0x48, 1);
    assert_eq!(driver.read(0x4c), 1);
    drop(process);
    assert_eq!(code(&driver.end()), RC_FAILURE);
    driver.failure();
    assert_eq!(driver.read(0x44) & 1, 1);
    assert_eq!(code(&driver.ask(RANDOM_16)), RC_FAILURE);
    let why = driver.tpm.save().err().unwrap().to_string();
    assert!(why.contains("has failed"), "{why}");
    driver.tpm.reset();
    assert_eq!(code(&driver.ask(STARTUP)), RC_FAILURE);
    assert_eq!(driver.notifier.take(), [], "it is told once");
}

/// What swtpm says it can.
const CAN: u64 = 0x7fff;

/// One that only says it is a TPM: grants everything on the control channel, and says `nonsense` when it is asked or, where
/// `first`, before.
fn impostor(
    listener: UnixListener,
    can: u64,
    first: bool,
    nonsense: &'static [u8],
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut descriptors = Vec::<OwnedFd>::new();
        let mut request = [0; 64];
        while passing::receive(&stream, &mut request, &mut descriptors).is_ok_and(|count| count > 0) {
            let answer = match request[3] {
                1 => can.to_be_bytes().to_vec(),
                17 => [[0; 4], 3968_u32.to_be_bytes(), [0; 4], [0; 4]].concat(),
                _ => vec![0; 4],
            };
            (&stream).write_all(&answer).unwrap();
            // It has been switched on: what comes now is commands.
            if request[3] == 2 {
                break;
            }
        }
        if let Some(data) = descriptors.pop() {
            let mut data = UnixStream::from(data);
            if !first {
                let _ = data.read(&mut request);
            }
            let _ = data.write_all(nonsense);
            // Until the other side has had enough.
            let _ = data.read(&mut request);
        }
    })
}

#[test]
fn one_that_talks_nonsense_fails_and_an_old_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tpm.sock");
    let begin = |can, first, nonsense| {
        let _ = fs::remove_file(&path);
        impostor(UnixListener::bind(&path).unwrap(), can, first, nonsense)
    };
    for (first, nonsense, says) in [
        (true, &[0x80][..], "nobody asked"),
        (false, &[0x80, 1, 0, 0, 0, 9][..], "the length it says"),
        (false, &[0x80, 1, 0, 0, 0x0f, 0x81][..], "the length it says"),
        (false, &[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0, 0][..], "the length it says"),
    ] {
        let impostor = begin(CAN, first, nonsense);
        let driver = Driver::new(directory.path());
        if !first {
            driver.begin(RANDOM_16);
            assert_eq!(code(&driver.end()), RC_FAILURE);
        }
        let why = driver.failure();
        assert!(why.contains(says), "{why}");
        drop(driver);
        impostor.join().unwrap();
    }
    let impostor = begin(CAN & !(1 << 9), false, &[]);
    assert!(matches!(Connection::open(&path), Err(Error::TooOld { missing: 0x200 })));
    impostor.join().unwrap();
    fs::remove_file(&path).unwrap();
    let why = Connection::open(&path).unwrap_err().to_string();
    assert!(why.contains("tpm.sock") && why.contains("swtpm"), "{why}");
}

/// Starts the TPM up and tells the last two bytes of what it answers, each as a character from '0' on; then goes on as [`GUEST`].
const STARTS_UP: &[u8] = &[
    0xbb, 0x00, 0x00, 0xd4, 0xfe, // mov ebx, 0xfed40000
    0xc7, 0x43, 0x08, 1, 0, 0, 0, // mov dword [rbx + 8], 1
    0xc7, 0x43, 0x40, 1, 0, 0, 0, // mov dword [rbx + 0x40], 1
    0xc7, 0x83, 0x80, 0, 0, 0, 0x80, 0x01, 0, 0, // mov dword [rbx + 0x80], 0x180
    0xc7, 0x83, 0x84, 0, 0, 0, 0x00, 0x0c, 0, 0, // mov dword [rbx + 0x84], 0xc00
    0xc7, 0x83, 0x88, 0, 0, 0, 0x01, 0x44, 0, 0, // mov dword [rbx + 0x88], 0x4401
    0xc7, 0x43, 0x4c, 1, 0, 0, 0, // mov dword [rbx + 0x4c], 1
    0x8b, 0x43, 0x4c, 0x85, 0xc0, 0x75, 0xf9, // wait: mov eax, [rbx + 0x4c]; test eax, eax; jnz wait
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0x8a, 0x83, 0x88, 0, 0, 0, 0x04, 0x30, 0xee, // mov al, [rbx + 0x88]; add al, '0'; out dx, al
    0x8a, 0x83, 0x89, 0, 0, 0, 0x04, 0x30, 0xee, // mov al, [rbx + 0x89]; add al, '0'; out dx, al
];

/// A machine whose TPM is at `directory`.
fn machine(directory: &Path, more: &str) -> Setup {
    let mut setup = Setup::new(&[STARTS_UP, GUEST].concat());
    setup.jail = is_root();
    let socket = directory.join("tpm.sock");
    setup.more = format!(r#","devices":{{"tpm":{{"socket":"{}"}}}}{more}"#, socket.display());
    setup
}

#[test]
fn a_machine_has_it_through_resets_and_files_and_outlives_it() {
    if no_kvm() {
        return;
    }
    let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let Some(mut process) = swtpm(here.path()) else { return };
    let mut vm = machine(here.path(), "").start();
    assert_eq!(vm.see(b'U'), b"00U", "the TPM starts up");
    vm.type_in(b"r");
    assert_eq!(vm.see(b'U'), b"00U", "it is reset with its machine");
    assert!(vm.ask("pause").contains("done"));
    let file = there.path().join("machine.lq");
    Asker::connect(&vm.path("control.sock")).unwrap().snapshot(&file).unwrap();
    assert!(vm.ask("quit").contains("done"));
    assert_eq!(vm.end().0, Some(0));
    assert!(process.0.wait().unwrap().success(), "it ends with its machine");

    let process = swtpm(there.path()).unwrap();
    let restore = format!(r#","start":{{"restore":{{"path":"{}"}}}}"#, file.display());
    let mut vm = machine(there.path(), &restore).start();
    assert!(vm.ask("resume").contains("done"));
    vm.type_in(b"x");
    assert_eq!(vm.see(b'x'), b"x");
    assert!(vm.ask("subscribe").contains("done"));
    drop(process);
    let told = vm.line();
    assert!(told.contains(r#""event":"tpm-failed""#), "{told}");
    assert!(vm.ask("status").contains(r#""tpm_failed":true"#));
    vm.type_in(b"y");
    assert_eq!(vm.see(b'y'), b"y", "the machine lives on");
    let refused =
        vm.ask_with("\"snapshot\"", Some(std::os::fd::AsFd::as_fd(&fs::File::create(&file).unwrap())));
    assert!(refused.contains("the TPM of the machine has failed"), "{refused}");
    vm.type_in(b"q");
    let (status, record) = vm.end();
    assert_eq!(status, Some(0), "{record}");
}

#[test]
fn one_that_is_locked_in_has_its_own_user_and_sees_nothing_of_the_host() {
    if !is_root() {
        eprintln!("SKIPPED: only root can lock a process in");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(process) = swtpm(directory.path()) else { return };
    // Once it answers it is past all that locks it in.
    let driver = Driver::new(directory.path());
    driver.done(STARTUP);
    let proc = format!("/proc/{}", process.0.id());
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    for says in [
        "Name:\tswtpm",
        "Uid:\t231007\t231007",
        "Gid:\t231007\t231007",
        "Groups:\t \n",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(says), "{says}: {status}");
    }
    let root = fs::read_dir(format!("{proc}/root")).unwrap().map(|entry| entry.unwrap().file_name());
    let seen: BTreeSet<_> = root.map(|name| name.into_string().unwrap()).collect();
    assert!(
        seen.contains("state") && seen.is_subset(&["lib", "lib64", "state", "usr"].map(str::to_owned).into()),
        "{seen:?}"
    );
    assert!(
        fs::read_to_string(format!("{proc}/net/unix")).unwrap().lines().count() <= 1,
        "a network of its own"
    );
    driver.keep(*b"in there");
    let kept = fs::metadata(directory.path().join("tpm2-00.permall")).unwrap();
    assert_eq!((kept.uid(), kept.mode() & 0o777), (USER, 0o600));
}

#[test]
fn a_machine_without_its_tpm_is_not_started() {
    if no_kvm() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let setup = machine(directory.path(), "");
    let status = Process(setup.spawn()).0.wait().unwrap();
    let record = fs::read_to_string(setup.directory.path().join("exit.json")).unwrap();
    assert_eq!(status.code(), Some(2), "{record}");
    assert!(record.contains("devices.tpm.socket") && record.contains("tpm.sock"), "{record}");
}
