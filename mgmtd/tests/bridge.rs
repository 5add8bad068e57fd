//! The bridge fabric in network namespaces of its own: DHCP by a real client beside a real foreign server, and the filter.
//!
//! ```text
//!   guest ── lq….0 ┐                 ┌ up0 ── LAN (dnsmasq, 10.77.0.1)
//!   (udhcpc)       └── lqbr0, .2 ────┘
//! ```
//!
//! Needs root, `ip`, `nsenter`, `nft`, `udhcpc`, `busybox` and `dnsmasq`; says so and passes where they are missing.

// Helpers of tests assert as tests do; clippy knows only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fakes;

use lq_api::{NetworkId, VmId, local::vmm::NicLimits, network::Dhcp};
use lq_mgmtd::network::{
    Fabric, WantedNetwork, WantedPort,
    bridge::{BridgeFabric, Settings},
    tap,
};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const MAC: &str = "52:54:00:00:00:99";
const SERVER: &str = "10.77.0.2";

/// A child that ends with its owner.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).stdout(Stdio::null()).status();
    status.unwrap_or_else(|e| panic!("{line}: {e}")).success()
}

fn must(line: &str) {
    assert!(run(line), "failed: {line}");
}

/// A network namespace, held by a process.
struct Namespace(Guarded);

impl Namespace {
    fn new() -> Self {
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let child = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap();
        let path = PathBuf::from(format!("/proc/{}/ns/net", child.id()));
        let namespace = Self(Guarded(child));
        wait("a namespace of its own", || fs::read_link(&path).is_ok_and(|ns| ns != own));
        namespace
    }
    fn pid(&self) -> u32 {
        self.0.0.id()
    }
    fn enter(&self, line: &str) -> String {
        format!("nsenter -t {} -n {line}", self.pid())
    }
    fn run(&self, line: &str) -> bool {
        run(&self.enter(line))
    }
    fn must(&self, line: &str) {
        must(&self.enter(line));
    }
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Bench {
    dir: tempfile::TempDir,
    guest: Namespace,
    lan: Namespace,
    dnsmasq: Option<Guarded>,
    wanted: WantedNetwork,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (guest, lan) = (Namespace::new(), Namespace::new());
        let vm = VmId::new();
        let tap = tap::name(vm, MAC.parse().unwrap());
        must("ip link set lo up");
        must("ip link add lqbr0 type bridge");
        must("ip addr add 10.77.0.2/24 dev lqbr0");
        must("ip link set lqbr0 up");
        must(&format!("ip link add up0 type veth peer name eth0 netns {}", lan.pid()));
        must(&format!("ip link add {tap} type veth peer name eth0 netns {}", guest.pid()));
        must("ip link set up0 master lqbr0 up");
        must(&format!("ip link set {tap} up"));
        guest.must(&format!("ip link set eth0 address {MAC} up"));
        lan.must("ip addr add 10.77.0.1/24 dev eth0");
        lan.must("ip link set eth0 up");
        fs::write(
            dir.path().join("script"),
            format!(
                "#!/bin/sh\necho \"$1 $ip $serverid $subnet $router $dns $lease\" >> {}/told\n",
                dir.path().display()
            ),
        )
        .unwrap();
        must(&format!("chmod +x {}/script", dir.path().display()));
        let port = WantedPort { vm, mac: MAC.parse().unwrap() };
        let wanted = WantedNetwork { network: NetworkId::new(), dhcp: Some(dhcp()), ports: vec![port] };
        Self { dir, guest, lan, dnsmasq: None, wanted }
    }

    fn fabric(&self) -> BridgeFabric {
        BridgeFabric::with(Settings {
            leases: Some(self.dir.path().join("dhcp.json")),
            ..Settings::appliance(Some("up0".into()))
        })
    }

    fn start_foreign_server(&mut self) {
        let log = self.dir.path().join("dnsmasq.log");
        let line = self.lan.enter(&format!(
            "dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=eth0 --bind-interfaces --user=root \
             --dhcp-authoritative --dhcp-range=10.77.0.50,10.77.0.60,2m --log-dhcp --log-facility={} --pid-file= \
             --dhcp-leasefile={}/foreign",
            log.display(),
            self.dir.path().display()
        ));
        let mut words = line.split_whitespace();
        let child = Command::new(words.next().unwrap()).args(words).spawn().unwrap();
        self.dnsmasq = Some(Guarded(child));
        wait("dnsmasq serves", || {
            self.log().contains("sockets bound") || self.log().contains("DHCP, IP range")
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("dnsmasq.log")).unwrap_or_default()
    }

    /// What a client in this namespace is told: kind, address, server, mask, router, name server, lease; or nothing.
    async fn ask(&self, namespace: &Namespace, more: &str) -> Option<Vec<String>> {
        let told = self.dir.path().join("told");
        let _ = fs::remove_file(&told);
        let script = self.dir.path().join("script");
        let line =
            namespace.enter(&format!("udhcpc -i eth0 -n -q -f -t 4 -T 1 -s {} {more}", script.display()));
        let mut words = line.split_whitespace();
        let mut client = tokio::process::Command::new(words.next().unwrap());
        client.args(words).stdout(Stdio::null()).stderr(Stdio::null()).status().await.unwrap();
        let told = fs::read_to_string(told).unwrap_or_default();
        let bound = told.lines().find(|line| line.starts_with("bound"))?;
        Some(bound.split(' ').map(str::to_owned).collect())
    }
}

fn dhcp() -> Dhcp {
    Dhcp {
        subnet: "10.77.0.0/24".into(),
        first: [10, 77, 0, 100].into(),
        last: [10, 77, 0, 110].into(),
        gateway: Some([10, 77, 0, 1].into()),
        dns: vec![[10, 77, 0, 3].into()],
        lease_seconds: 600,
    }
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root is needed".into());
    }
    ["ip", "nsenter", "unshare", "nft", "udhcpc", "dnsmasq", "busybox"]
        .into_iter()
        .find(|program| {
            !["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|d| Path::new(d).join(program).exists())
        })
        .map(|program| format!("`{program}` is missing"))
}

/// Runs `test` on a thread in a network namespace of its own.
fn isolated(test: impl AsyncFnOnce(Bench) + Send + 'static) {
    if let Some(reason) = missing() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let thread = std::thread::spawn(move || {
        // SAFETY: concerns this thread alone; takes no pointer.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "unshare");
        // One thread, so that everything the runtime starts is in the namespace too.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(Bench::new()));
    });
    thread.join().unwrap();
}

fn address(told: &[String]) -> Ipv4Addr {
    told[1].parse().unwrap()
}

#[test]
fn guests_are_served_by_their_own_server_alone() {
    isolated(async |mut bench| {
        bench.start_foreign_server();
        let fabric = bench.fabric();
        fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap();

        let told = bench.ask(&bench.guest, "-x hostname:web-1").await.expect("no address");
        let first = address(&told);
        assert!((dhcp().first..=dhcp().last).contains(&first), "{told:?}");
        assert_eq!(&told[2..], [SERVER, "255.255.255.0", "10.77.0.1", "10.77.0.3", "600"]);
        let leases = fabric.leases().await;
        assert_eq!(
            (leases.len(), leases[0].address, leases[0].hostname.as_deref()),
            (1, first, Some("web-1"))
        );
        for _ in 0..3 {
            assert_eq!(bench.ask(&bench.guest, "").await.map(|told| address(&told)), Some(first));
        }
        assert!(!bench.log().contains(MAC), "the foreign server heard the guest: {}", bench.log());

        // A new daemon with the same file, then one without any memory: the guest keeps its address.
        drop(fabric);
        let fabric = bench.fabric();
        fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap();
        assert_eq!(fabric.leases().await, leases);
        assert_eq!(bench.ask(&bench.guest, "").await.map(|told| address(&told)), Some(first));
        drop(fabric);
        fs::remove_file(bench.dir.path().join("dhcp.json")).unwrap();
        let fabric = bench.fabric();
        fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap();
        let told = bench.ask(&bench.guest, "-r 10.77.0.107").await.expect("no address");
        assert_eq!(told[2], SERVER);

        // The outside is not served, not even with a guest's hardware address.
        bench.dnsmasq = None;
        bench.lan.must(&format!("ip link set eth0 address {MAC}"));
        assert_eq!(bench.ask(&bench.lan, "").await, None);
    });
}

#[test]
fn a_network_without_dhcp_is_served_by_the_uplink() {
    isolated(async |mut bench| {
        bench.start_foreign_server();
        let fabric = bench.fabric();
        // First with its own, then without: what was in force must go.
        fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap();
        bench.wanted.dhcp = None;
        fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap();
        let told = bench.ask(&bench.guest, "").await.expect("no address");
        assert_eq!(told[2], "10.77.0.1", "{told:?}");
        assert!(fabric.leases().await.is_empty());
    });
}

#[test]
fn a_guest_sends_only_with_its_own_hardware_address() {
    isolated(async |bench| {
        let fabric = bench.fabric();
        fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap();
        bench.guest.must("ip addr add 10.77.0.9/24 dev eth0");
        assert!(bench.guest.run("busybox ping -c 1 -W 5 10.77.0.2"));
        bench.guest.must("ip link set eth0 address 52:54:00:00:00:66");
        bench.guest.must("ip neigh flush all");
        assert!(!bench.guest.run("busybox ping -c 1 -W 1 10.77.0.2"), "a forged address was let through");
        // What is not wanted any more is cut off, though its guest has it still.
        bench.guest.must(&format!("ip link set eth0 address {MAC}"));
        bench.guest.must("ip neigh flush all");
        assert!(bench.guest.run("busybox ping -c 1 -W 5 10.77.0.2"));
        fabric.apply(&[]).await.unwrap();
        bench.guest.must("ip neigh flush all");
        assert!(!bench.guest.run("busybox ping -c 1 -W 1 10.77.0.2"), "a port that is not wanted is open");
    });
}

#[test]
fn a_missing_bridge_is_made_and_the_hosts_address_left_alone() {
    isolated(async |bench| {
        must("ip link del lqbr0");
        let fabric = bench.fabric();
        fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap();
        let tap = tap::name(bench.wanted.ports[0].vm, MAC.parse().unwrap());
        assert!(run(&format!("ip link show {tap} master lqbr0 up")) && run("ip link show up0 master lqbr0"));
        must("ip link del lqbr0");
        must("ip addr add 10.77.0.2/24 dev up0");
        let refused = fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap_err();
        assert!(refused.to_string().contains("bears the host's address"), "{refused}");
        let shown = Command::new("ip").args(["-o", "link", "show", "up0"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&shown.stdout).contains("master"));
    });
}

#[test]
fn without_nft_guests_are_still_served() {
    isolated(async |bench| {
        let fabric = BridgeFabric::with(Settings {
            nft: "/nowhere/nft".into(),
            leases: None,
            ..Settings::appliance(None)
        });
        fabric.apply(std::slice::from_ref(&bench.wanted)).await.unwrap();
        assert!(bench.ask(&bench.guest, "").await.is_some());
    });
}

#[test]
fn taps_are_made_attached_and_removed() {
    isolated(async |_bench| {
        let name = tap::name(VmId::new(), MAC.parse().unwrap());
        tap::create(&name, true).unwrap();
        assert_eq!(tap::open(&name, 4).unwrap().len(), 4);
        let one = tap::name(VmId::new(), MAC.parse().unwrap());
        tap::create(&one, false).unwrap();
        assert!(tap::open(&one, 2).is_err(), "it was made for one");
        assert_eq!(tap::open(&one, 1).unwrap().len(), 1);
        let links = lq_mgmtd::network::link::Links::open().unwrap();
        links.attach(&name, "lqbr0").await.unwrap();
        let (tap, bridge) =
            (links.find(&name).await.unwrap().unwrap(), links.find("lqbr0").await.unwrap().unwrap());
        assert_eq!((tap.controller, tap.up), (Some(bridge.index), true));
        links.delete(&one).await.unwrap();
        links.delete(&name).await.unwrap();
        links.delete(&name).await.unwrap();
        assert_eq!(links.find(&name).await.unwrap(), None);
    });
}

#[test]
fn a_machine_gets_its_taps_and_they_go_with_it() {
    use lq_api::vm::{PowerState, VmState};
    use lq_mgmtd::compute::{Fleet, LaunchNic, lqvmm::LqVmm};
    isolated(async |bench| {
        let init = fakes::FakeInit::start(bench.dir.path());
        let watcher = std::sync::Arc::new(fakes::Watcher::default());
        let hypervisor = LqVmm::with(fakes::settings(bench.dir.path()));
        let fleet = Fleet::new(std::sync::Arc::new(hypervisor), watcher.clone());
        fleet.adopt().await.unwrap();
        let vm = VmId::new();
        let mut desired = fakes::desired(vm);
        desired.launch.nics = vec![LaunchNic {
            bridge: "lqbr0".into(),
            mac: MAC.parse().unwrap(),
            connected: true,
            limits: NicLimits::default(),
            queues: 2,
            slot: None,
        }];
        fleet.sync(vec![desired.clone()]);
        watcher.until(vm, |s| s.state == VmState::Running).await;
        let tap = tap::name(vm, MAC.parse().unwrap());
        must(&format!("ip link show {tap} master lqbr0 up"));
        assert_eq!(tap::open(&tap, 2).unwrap().len(), 2, "its monitor opens a queue for each pair");
        desired.spec.power = PowerState::Stopped;
        desired.generation += 1;
        fleet.sync(vec![desired.clone()]);
        watcher.until(vm, |s| s.state == VmState::Stopped).await;
        let links = lq_mgmtd::network::link::Links::open().unwrap();
        assert_eq!(links.find(&tap).await.unwrap(), None);

        // A bridge that is missing is named, and nothing is left behind.
        desired.launch.nics[0].bridge = "nowhere".into();
        desired.spec.power = PowerState::Running;
        desired.generation += 1;
        fleet.sync(vec![desired]);
        let status = watcher.until(vm, |s| s.reason.is_some()).await;
        assert!(status.reason.as_ref().unwrap().contains("nowhere"), "{status:?}");
        assert_eq!((links.find(&tap).await.unwrap(), init.known()), (None, 0));
    });
}
