//! The real `lqctl` against a real daemon with a simulated host, each in directories of their own.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

use clap::Parser as _;
use lq_mgmtd::{
    config::{Config, Options},
    daemon::{Daemon, Over},
};
use nix::pty::openpty;
use serde_json::Value;
use std::{
    fs::File,
    io::Write as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

pub const PASSWORD: &str = "correct horse battery";
/// Longest a condition is waited for; only ever reached by a fault.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A host: the daemon of `mgmtd --simulated`, in this process.
pub struct Host {
    pub dir: tempfile::TempDir,
    runtime: Runtime,
    config: Config,
    daemon: Option<Daemon>,
}

impl Host {
    /// At its first start: it waits for the first password.
    pub fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let options = ["mgmtd", "--simulated", "--listen", "127.0.0.1:0", "--state"];
        let options = options.iter().map(|o| (*o).into()).chain([state.into_os_string()]);
        let mut config = Config::from(Options::parse_from::<_, std::ffi::OsString>(options));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let daemon = runtime.block_on(Daemon::start(config.clone())).unwrap();
        // The same port after a restart: an address is part of what a client remembers.
        config.listen = daemon.addresses().to_vec();
        Self { dir, runtime, config, daemon: Some(daemon) }
    }

    /// One whose administrator has [`PASSWORD`], with that person logged in.
    pub fn set_up() -> (Self, Person) {
        let host = Self::fresh();
        let person = Person::new();
        let (url, fingerprint, code) = (host.url(), host.fingerprint(), host.setup_code());
        let line = ["setup", &url, "--fingerprint", &fingerprint, "--code", &code];
        person.run(&line).env("LQ_NEW_PASSWORD", PASSWORD).ok();
        (host, person)
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.config.listen[0])
    }
    pub fn fingerprint(&self) -> String {
        self.daemon.as_ref().unwrap().fingerprint().to_owned()
    }
    pub fn setup_code(&self) -> String {
        std::fs::read_to_string(&self.config.setup_code).unwrap().trim().to_owned()
    }
    /// The socket for root on the host.
    pub fn socket(&self) -> &Path {
        &self.config.api_socket
    }

    /// Waits until the daemon wants to start again, and does that.
    pub fn start_again(&mut self) {
        let daemon = self.daemon.take().unwrap();
        let over = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, daemon.over()).await });
        assert!(matches!(over, Ok(Over::Again)), "the daemon does not want to start again");
        self.runtime.block_on(daemon.stop());
        self.daemon = Some(self.runtime.block_on(Daemon::start(self.config.clone())).unwrap());
    }

    /// A file with this content, beside the host's own.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.runtime.block_on(daemon.stop());
        }
    }
}

/// Somebody at a terminal, with a home of their own.
pub struct Person {
    pub home: tempfile::TempDir,
}

impl Person {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }
    pub fn profiles(&self) -> PathBuf {
        self.home.path().join("lqctl/profiles.toml")
    }
    /// A command line, not yet run.
    pub fn run(&self, line: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lqctl"));
        command.args(line).env_clear().env("XDG_CONFIG_HOME", self.home.path());
        Run { command, line: line.join(" "), input: Vec::new() }
    }
    /// The same from one text; words with spaces are not possible.
    pub fn words(&self, line: &str) -> Run {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }
    /// What a command line shows that must succeed.
    pub fn ok(&self, line: &str) -> String {
        self.words(line).ok()
    }
    /// The objects it shows.
    pub fn json(&self, line: &str) -> Value {
        let out = self.ok(&format!("{line} -o json"));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}\n{out}"))
    }
    /// What a command line says on standard error that must end with this exit code.
    pub fn fails(&self, code: i32, line: &str) -> String {
        self.words(line).fails(code)
    }
    /// Waits until what a command line shows is as wanted.
    pub fn until(&self, line: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.json(line);
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain: {line}: {found}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What came of a command line.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub struct Run {
    command: Command,
    line: String,
    input: Vec<u8>,
}

impl Run {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }
    /// What is on standard input, which is no terminal.
    pub fn input(mut self, input: &str) -> Self {
        self.input = input.into();
        self
    }
    pub fn done(mut self) -> Done {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        // Whoever wants none of it closes it.
        let _ = child.stdin.take().unwrap().write_all(&self.input);
        let output = child.wait_with_output().unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
    pub fn ok(self) -> String {
        let line = self.line.clone();
        let done = self.done();
        assert_eq!(done.code, 0, "lqctl {line}: {done:?}");
        done.out
    }
    /// What it says on standard error; on standard output a command that fails says nothing.
    pub fn fails(self, code: i32) -> String {
        let line = self.line.clone();
        let done = self.done();
        assert_eq!(done.code, code, "lqctl {line}: {done:?}");
        assert!(!done.err.is_empty(), "lqctl {line} does not say why");
        assert_eq!(done.out, "", "lqctl {line}");
        done.err
    }
    /// Started, with pipes: what it shows can be waited for.
    pub fn started(mut self) -> Started {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let shown = Shown::of(child.stdout.take().unwrap());
        let said = Shown::of(child.stderr.take().unwrap());
        Started { child, shown, said, keys: None }
    }
    /// Started at a terminal: standard input and standard error are one.
    pub fn at_terminal(mut self) -> Started {
        let pty = openpty(None, None).unwrap();
        let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        self.command.stdin(end(&pty.slave)).stderr(end(&pty.slave)).stdout(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        // The terminal ends with the last of those who have it.
        drop((self.command, pty.slave));
        let shown = Shown::of(child.stdout.take().unwrap());
        let said = Shown::of(File::from(pty.master.try_clone().unwrap()));
        Started { child, shown, said, keys: Some(File::from(pty.master)) }
    }
}

/// What came out of a pipe so far.
#[derive(Clone)]
pub struct Shown(Arc<Mutex<(Vec<u8>, bool)>>);

impl Shown {
    fn of(mut pipe: impl std::io::Read + Send + 'static) -> Self {
        let shown = Self(Arc::default());
        let kept = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                kept.0.lock().unwrap().0.extend_from_slice(&buffer[..n]);
            }
            kept.0.lock().unwrap().1 = true;
        });
        shown
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().0).into_owned()
    }
    /// Waits until nothing more can come.
    pub fn until_closed(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.0.lock().unwrap().1 {
            assert!(Instant::now() < end, "it is not closed: {}", self.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    /// Waits for a text.
    pub fn until(&self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.text().contains(wanted) {
            assert!(Instant::now() < end, "waited in vain for `{wanted}`: {}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A command that runs.
pub struct Started {
    child: Child,
    /// Standard output.
    pub shown: Shown,
    /// Standard error, or the terminal.
    pub said: Shown,
    keys: Option<File>,
}

impl Started {
    /// Types at the terminal, or writes to standard input.
    pub fn type_in(&mut self, text: &str) {
        match &mut self.keys {
            Some(keys) => keys.write_all(text.as_bytes()).unwrap(),
            None => self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap(),
        }
    }
    /// Waits for its end; answers with the exit code.
    pub fn ended(mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "it does not end: {} {}", self.shown.text(), self.said.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    /// Ends it from outside.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The least that passes for a kernel: the bzImage magic is looked at by the pool.
pub fn kernel() -> Vec<u8> {
    let mut bytes = vec![0u8; 64 << 10];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    bytes
}

/// The least that passes for an ISO 9660 file.
pub fn iso() -> Vec<u8> {
    let mut bytes = vec![0u8; 40 * 2048];
    bytes[0x8000] = 1;
    bytes[0x8001..0x8006].copy_from_slice(b"CD001");
    bytes[0x8006] = 1;
    bytes
}
