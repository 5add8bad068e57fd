//! The management network changed on a running host: PID 1's loop (`lq-init supervise`) in a network namespace with a bridge and
//! two interfaces that look physical.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests assert by panicking")]

use lq_api::{
    answer::{HostConfig, HostNetwork},
    local::init::{BootFacts, InitAnswer, InitRequest},
    management::{ManagementNetwork, TryNetwork},
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    process: Child,
    dir: tempfile::TempDir,
}

/// Makes the namespace, with `up0` in the bridge, then becomes the program. What the kernel shows of the bridge is linked into
/// the tree in which the interfaces look physical.
const SCRIPT: &str = r#"
set -e
mkdir -p "$DIR/real"
mount -t sysfs sysfs "$DIR/real"
ip link set lo up
ip link add lqbr0 type bridge
for n in 0 1; do
  ip link add up$n type veth peer name far$n
  ip link set up$n address 02:00:00:00:00:0$n up
  ip link set far$n up
  mkdir -p "$DIR/sys/class/net/up$n/device"
  echo 1 >"$DIR/sys/class/net/up$n/type"
  echo 02:00:00:00:00:0$n >"$DIR/sys/class/net/up$n/address"
  echo 1 >"$DIR/sys/class/net/up$n/carrier"
  echo $((n + 2)) >"$DIR/sys/class/net/up$n/ifindex"
done
ln -s "$DIR/real/class/net/lqbr0" "$DIR/sys/class/net/lqbr0"
ip link set up0 master lqbr0
ip link set lqbr0 up
exec "$INIT" supervise "$DIR/init.sock" "$DIR"
"#;

impl Host {
    fn start(kept: &HostNetwork) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let facts = BootFacts {
            uplink: Some("up0".into()),
            host: HostConfig { network: kept.clone(), name: Some("made".into()), ..HostConfig::default() },
            ..BootFacts::default()
        };
        fs::write(dir.path().join("boot.json"), serde_json::to_vec(&facts).unwrap()).unwrap();
        let process = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", SCRIPT])
            .env("DIR", dir.path())
            .env("INIT", env!("CARGO_BIN_EXE_lq-init"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, dir }
    }

    fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join(name)).ok()
    }

    fn ask(&self, request: &InitRequest) -> InitAnswer {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(self.dir.path().join("init.sock")) {
                Ok(stream) => break stream,
                Err(e) => assert!(start.elapsed() < PATIENCE, "PID 1 does not listen: {e}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut writer = stream.try_clone().unwrap();
        writer.write_all((serde_json::to_string(request).unwrap() + "\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    fn network(&self) -> ManagementNetwork {
        match self.ask(&InitRequest::Network) {
            InitAnswer::Network(network) => *network,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self, request: &InitRequest) -> String {
        match self.ask(request) {
            InitAnswer::Error { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    fn inside(&self, command: &[&str]) -> String {
        let pid = self.process.id().to_string();
        let output = Command::new("nsenter").args(["-t", &pid, "-n", "--"]).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the bridge has this address and nothing else, over this interface.
    fn until(&self, address: &str, port: &str, gateway: Option<&str>) {
        let start = Instant::now();
        loop {
            let addresses = self.inside(&["ip", "-4", "-o", "addr", "show", "dev", "lqbr0"]);
            let ports = self.inside(&["ip", "-o", "link", "show", "master", "lqbr0"]);
            let routes = self.inside(&["ip", "route", "show", "default"]);
            let routed = gateway.map_or(routes.is_empty(), |g| routes.contains(&format!("via {g} ")));
            let here = if address.is_empty() {
                addresses.is_empty()
            } else {
                addresses.contains(&format!(" {address} "))
            };
            if here
                && addresses.lines().count() <= 1
                && ports.lines().count() == 1
                && ports.contains(port)
                && routed
            {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {address} on {port}: {addresses}{ports}{routes}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn at(address: &str, gateway: Option<&str>, mac: Option<&str>) -> HostNetwork {
    HostNetwork {
        interface: mac.map(|m| m.parse().unwrap()),
        address: Some(address.into()),
        gateway: gateway.map(|g| g.parse().unwrap()),
        dns: gateway.map(|g| g.parse().unwrap()).into_iter().collect(),
    }
}

fn attempt(network: &HostNetwork, seconds: u32) -> InitRequest {
    InitRequest::TryNetwork(TryNetwork { network: network.clone(), seconds })
}

/// Whether namespaces can be made: everywhere but in some containers.
fn possible() -> bool {
    let made = Command::new("unshare").args(["--net", "--mount", "true"]).status();
    made.is_ok_and(|s| s.success()) && Path::new("/usr/bin/nsenter").exists()
}

#[test]
fn a_change_is_tried_taken_back_and_kept() {
    if !possible() {
        eprintln!("skipped: no namespaces here");
        return;
    }
    let old = at("10.9.0.2/24", Some("10.9.0.1"), None);
    let host = Host::start(&old);
    let other = at("10.9.1.2/24", Some("10.9.1.1"), Some("02:00:00:00:00:01"));

    // Another interface and address; then as it was, because somebody asks.
    assert_eq!(host.ask(&attempt(&other, 600)), InitAnswer::Done);
    host.until("10.9.1.2/24", "up1", Some("10.9.1.1"));
    let state = host.network();
    assert_eq!((state.uplink.as_deref(), &state.kept), (Some("up1"), &old));
    assert!(state.trial.as_ref().is_some_and(|t| t.network == other && t.seconds_left > 500));
    assert!(host.refused(&attempt(&other, 600)).contains("being tried already"));
    assert_eq!(host.file("host.toml"), None, "nothing is written down while it is tried");
    assert_eq!(host.file("resolv.conf").unwrap(), "nameserver 10.9.1.1\n");
    assert_eq!(host.ask(&InitRequest::RevertNetwork), InitAnswer::Done);
    host.until("10.9.0.2/24", "up0", Some("10.9.0.1"));
    assert!(host.network().note.unwrap().contains("taken back"));
    assert!(host.refused(&InitRequest::KeepNetwork).contains("no change is being tried"));

    // As it was, because nobody confirmed it.
    assert_eq!(host.ask(&attempt(&other, 10)), InitAnswer::Done);
    host.until("10.9.1.2/24", "up1", Some("10.9.1.1"));
    host.until("10.9.0.2/24", "up0", Some("10.9.0.1"));
    let state = host.network();
    assert!(state.note.unwrap().contains("nobody confirmed") && state.trial.is_none());

    // Kept; and then DHCP, whose client is started.
    assert_eq!(host.ask(&attempt(&other, 600)), InitAnswer::Done);
    host.until("10.9.1.2/24", "up1", Some("10.9.1.1"));
    assert_eq!(host.ask(&InitRequest::KeepNetwork), InitAnswer::Done);
    let kept: HostConfig = toml::from_str(&host.file("host.toml").unwrap()).unwrap();
    assert_eq!(kept, HostConfig { network: other.clone(), ..HostConfig::default() });
    let facts: BootFacts = serde_json::from_str(&host.file("boot.json").unwrap()).unwrap();
    assert_eq!((facts.host.network, facts.uplink.as_deref()), (other.clone(), Some("up1")));
    let dhcp = HostNetwork::default();
    assert_eq!(host.ask(&attempt(&dhcp, 600)), InitAnswer::Done);
    // Where no interface is named, it is chosen as at boot.
    host.until("", "up0", None);
    assert_eq!(host.ask(&InitRequest::RevertNetwork), InitAnswer::Done);
    host.until("10.9.1.2/24", "up1", Some("10.9.1.1"));
}

#[test]
fn what_cannot_be_is_refused_before_anything_changes() {
    if !possible() {
        eprintln!("skipped: no namespaces here");
        return;
    }
    let host = Host::start(&at("10.9.0.2/24", None, None));
    let absent = at("10.9.1.2/24", None, Some("02:00:00:00:00:77"));
    assert!(host.refused(&attempt(&absent, 60)).contains("not in this machine"));
    assert!(host.refused(&attempt(&at("10.9.1.0/24", None, None), 60)).contains("network.address"));
    assert!(host.refused(&attempt(&at("10.9.1.2/24", None, None), 5)).contains("seconds"));
    assert!(host.network().trial.is_none());
}

#[test]
fn a_factory_reset_is_written_down_before_it_is_answered() {
    if !possible() {
        eprintln!("skipped: no namespaces here");
        return;
    }
    let host = Host::start(&HostNetwork::default());
    assert_eq!(host.ask(&InitRequest::FactoryReset { data: true }), InitAnswer::Done);
    assert_eq!(lq_init::reset::asked(host.dir.path()), Some(true));
}
