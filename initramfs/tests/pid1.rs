//! PID 1's loop as an ordinary process (`lq-init supervise`), spoken to over its socket as `mgmtd` does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests assert by panicking")]

use lq_api::local::init::{End, InitAnswer, InitEvent, InitRequest, Unit};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    process: Child,
    dir: tempfile::TempDir,
}

impl Host {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_lq-init"))
            .arg("supervise")
            .arg(dir.path().join("init.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn connect(&self) -> Client {
        let start = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(self.path("init.sock")) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return Client { reader: BufReader::new(stream.try_clone().unwrap()), stream };
            }
            assert!(start.elapsed() < PATIENCE, "PID 1 does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn unit(&self, name: &str, script: &str) -> Unit {
        Unit {
            name: name.into(),
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            cgroup: None,
            new_pid_namespace: false,
            log: Some(self.path(&format!("{name}.log")).display().to_string()),
            stop_seconds: 20,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // What it has started would outlive it.
        let pid = self.process.id();
        let units = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("kill").arg("-9").args(units.split_whitespace()).status();
    }
}

struct Client {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line
    }

    fn send(&mut self, request: &InitRequest) {
        let text = serde_json::to_string(request).unwrap() + "\n";
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn ask(&mut self, request: &InitRequest) -> InitAnswer {
        self.send(request);
        serde_json::from_str(&self.line()).unwrap()
    }

    fn event(&mut self) -> InitEvent {
        serde_json::from_str(&self.line()).unwrap()
    }
}

fn wait_for(path: &Path, text: &str) {
    let start = Instant::now();
    while !std::fs::read_to_string(path).is_ok_and(|t| t.contains(text)) {
        assert!(start.elapsed() < PATIENCE, "{text} did not appear in {}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn units_run_end_are_reported_and_forgotten() {
    let host = Host::start();
    let (mut client, mut events) = (host.connect(), host.connect());
    events.send(&InitRequest::Subscribe);
    let unit = host.unit("vm-1", "echo ready; trap 'exit 5' TERM; while :; do sleep 0.02; done");
    let InitAnswer::Spawned { pid } = client.ask(&InitRequest::Spawn(unit.clone())) else {
        panic!("not started")
    };
    wait_for(&host.path("vm-1.log"), "ready");
    assert!(matches!(client.ask(&InitRequest::Spawn(unit.clone())), InitAnswer::Error { .. }));
    let signal = InitRequest::Signal { name: "vm-1".into(), signal: 15 };
    assert_eq!(client.ask(&signal), InitAnswer::Done);
    let ended = InitEvent::Ended { name: "vm-1".into(), pid, end: End::Exited(5) };
    assert_eq!(events.event(), ended);
    // One that comes later is told too, until it is forgotten.
    let mut late = host.connect();
    late.send(&InitRequest::Subscribe);
    assert_eq!(late.event(), ended);
    let InitAnswer::Units { units } = client.ask(&InitRequest::List) else { panic!("no list") };
    assert_eq!((units.len(), units[0].end), (1, Some(End::Exited(5))));
    assert!(matches!(client.ask(&signal), InitAnswer::Error { .. }));
    assert!(matches!(client.ask(&InitRequest::Spawn(unit.clone())), InitAnswer::Error { .. }));
    assert_eq!(client.ask(&InitRequest::Forget { name: "vm-1".into() }), InitAnswer::Done);
    assert!(matches!(client.ask(&InitRequest::Spawn(unit)), InitAnswer::Spawned { .. }));
}

#[test]
fn bad_requests_are_answered_and_bad_clients_dropped() {
    let host = Host::start();
    let mut client = host.connect();
    for bad in
        ["", "{", "[]", "{\"request\":\"fly\"}", "{\"request\":\"signal\",\"name\":\"x\"}", "\u{0}\u{1}"]
    {
        client.stream.write_all(format!("{bad}\n").as_bytes()).unwrap();
        if !bad.is_empty() {
            assert!(client.line().contains("\"answer\":\"error\""), "{bad}");
        }
    }
    for (name, argv, cgroup) in [
        ("../x", vec!["/bin/true"], None),
        ("x", vec![], None),
        ("x", vec!["true"], None),
        ("x", vec!["/nowhere"], None),
        ("x", vec!["/bin/true"], Some("/tmp/x")),
        ("x", vec!["/bin/true"], Some("/sys/fs/cgroup/../../x")),
    ] {
        let mut unit = host.unit(name, "");
        unit.argv = argv.into_iter().map(str::to_owned).collect();
        unit.log = None;
        unit.cgroup = cgroup.map(str::to_owned);
        assert!(matches!(client.ask(&InitRequest::Spawn(unit)), InitAnswer::Error { .. }));
    }
    for signal in [0, -9, 64] {
        assert!(matches!(
            client.ask(&InitRequest::Signal { name: "x".into(), signal }),
            InitAnswer::Error { .. }
        ));
    }
    let mut endless = host.connect();
    let _ = endless.stream.write_all(&vec![b'x'; 400 * 1024]);
    let mut rest = Vec::new();
    let read = std::io::Read::read_to_end(&mut endless.reader, &mut rest);
    assert!(read.is_err() || rest.is_empty());
    assert_eq!(client.ask(&InitRequest::List), InitAnswer::Units { units: Vec::new() });
}

#[test]
fn a_host_without_a_watchdog_is_watched_no_more_closely() {
    let host = Host::start();
    let mut client = host.connect();
    for closely in [true, false] {
        assert_eq!(client.ask(&InitRequest::Watch { closely }), InitAnswer::Done);
    }
    assert_eq!(client.ask(&InitRequest::List), InitAnswer::Units { units: vec![] });
}

#[test]
fn a_shutdown_tells_everyone_and_stops_guests_first() {
    let mut host = Host::start();
    let (mut client, mut events) = (host.connect(), host.connect());
    events.send(&InitRequest::Subscribe);
    for name in ["vm-1", "vm-2"] {
        let script = "echo ready; trap 'echo stopping; exit 0' TERM; while :; do sleep 0.02; done";
        assert!(matches!(
            client.ask(&InitRequest::Spawn(host.unit(name, script))),
            InitAnswer::Spawned { .. }
        ));
        wait_for(&host.path(&format!("{name}.log")), "ready");
    }
    let shutdown = InitRequest::Shutdown { reboot: true, reason: "a test\u{1b}[2J".into() };
    assert_eq!(client.ask(&shutdown), InitAnswer::Done);
    assert_eq!(events.event(), InitEvent::GoingDown { reboot: true });
    let mut ended: Vec<String> = (0..2)
        .map(|_| match events.event() {
            InitEvent::Ended { name, end: End::Exited(0), .. } => name,
            other => panic!("{other:?}"),
        })
        .collect();
    ended.sort();
    assert_eq!(ended, ["vm-1", "vm-2"]);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut host.process.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(said.trim(), "reboot");
    assert!(host.process.wait().unwrap().success());
}

#[test]
fn nothing_is_started_while_the_host_goes_down() {
    let host = Host::start();
    let mut client = host.connect();
    let script = "echo ready; trap '' TERM; sleep 60";
    let mut unit = host.unit("vm-1", script);
    unit.stop_seconds = 1;
    assert!(matches!(client.ask(&InitRequest::Spawn(unit)), InitAnswer::Spawned { .. }));
    wait_for(&host.path("vm-1.log"), "ready");
    let shutdown = InitRequest::Shutdown { reboot: false, reason: "a test".into() };
    assert_eq!(client.ask(&shutdown), InitAnswer::Done);
    let refused = client.ask(&InitRequest::Spawn(host.unit("vm-2", "true")));
    assert!(matches!(refused, InitAnswer::Error { reason } if reason.contains("going down")));
}
