//! What the screen shows, gathered from files, the kernel and `mgmtd`. Nothing here can fail: what is not known is absent.

use crate::{api, install, remote};
use lq_api::{
    alert::{Alert, Severity},
    cluster::Cluster,
    list::Page,
    local::{init::BootFacts, paths},
};
use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

/// Fingerprint of the host's certificate, written by `mgmtd`.
const FINGERPRINT: &str = "/run/limiquantix/fingerprint";
/// The bridge with the management address.
const BRIDGE: &str = "lqbr0";

/// For so long after boot, silence of `mgmtd` is nothing to worry about, unless it has answered before.
const STARTING_SECONDS: u64 = 180;

/// State of `mgmtd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Management {
    /// It answers and is ready.
    Ready,
    /// It answers and says why it is not ready.
    NotReady(String),
    /// It does not answer, and the host has only just booted.
    Starting,
    /// It does not answer; its last words where there are any.
    Down(String),
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nic {
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) link: bool,
    pub(crate) uplink: bool,
}

/// How many machines there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machines {
    /// On this host, by state.
    pub(crate) here: BTreeMap<String, usize>,
    /// On all hosts, where there are others.
    pub(crate) all: Option<usize>,
}

/// How much of something is used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// 0 to 1.
    pub(crate) share: f64,
    pub(crate) text: String,
}

/// Everything on the screen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) mode: String,
    pub(crate) host_name: String,
    pub(crate) url: Option<String>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) setup_code: Option<String>,
    /// The code by which a cluster can bring this host in, while it waits for that; in words.
    pub(crate) pairing: Option<String>,
    pub(crate) nics: Vec<Nic>,
    /// Interfaces that have addresses, with these.
    pub(crate) addresses: Vec<(String, Vec<String>)>,
    /// The clock (UTC), and whether the kernel says that nothing sets it.
    pub(crate) clock: (String, bool),
    pub(crate) management: Management,
    pub(crate) ready: bool,
    /// Machines, where known.
    pub(crate) vms: Option<Machines>,
    pub(crate) loads: Vec<Load>,
    pub(crate) warnings: Vec<String>,
    /// Alerts that are not over, the gravest first: whether critical, and in words.
    pub(crate) alerts: Vec<(bool, String)>,
    /// The last events that are worse than news.
    pub(crate) events: Vec<String>,
    /// How many hosts the cluster has, who leads, whether changes are possible; where more than one. True: all is well.
    pub(crate) cluster: Option<(bool, String)>,
    /// The cluster has no majority, or goes on without this host: what that means, and which entry of the menu leads on.
    pub(crate) trouble: Option<String>,
    /// It runs from its installation medium.
    pub(crate) live: bool,
    /// Disks with an installation on them, though it runs from the medium.
    pub(crate) installed: Vec<String>,
}

/// What is kept between two looks, because it costs more than a look at this host.
#[derive(Default)]
pub(crate) struct Kept {
    vms: Option<(Instant, Machines)>,
    told: Option<(Instant, Management, Told)>,
    /// `mgmtd` has answered since this screen began.
    answered: bool,
    /// Disks of a host that runs from its medium which have an installation on them.
    installed: Option<Vec<String>>,
}

/// What `mgmtd` tells.
#[derive(Clone, Debug, Default)]
struct Told {
    cluster: Option<Cluster>,
    pairing: Option<String>,
    vms: Option<Machines>,
    alerts: Vec<(bool, String)>,
    events: Vec<String>,
}

/// How often `mgmtd` is asked for all it tells while nobody sits at the screen. Two screens that ask at each look would be most of
/// what an idle host does. That it answers at all, and whether it is ready, is looked at each time; where that changes, it is
/// asked at once.
const UNWATCHED: Duration = Duration::from_secs(10);

/// Gathers everything; what `mgmtd` tells may be of a moment ago unless somebody is at the keys.
pub(crate) fn gather(kept: &mut Kept, watched: bool) -> Status {
    let boot: BootFacts =
        read(paths::BOOT_FACTS).and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
    let management = kept.management();
    let ready = management == Management::Ready;
    let address = address();
    let Told { cluster, pairing, vms, alerts, events } = kept.told(&management, watched);
    Status {
        version: if boot.version.is_empty() { env!("CARGO_PKG_VERSION").into() } else { boot.version },
        mode: match (boot.mode.as_str(), &boot.slot) {
            ("disk", Some(slot)) => format!("installed, slot {slot}"),
            ("live", _) => "live: nothing is kept".into(),
            _ => "unknown boot".into(),
        },
        host_name: nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        url: address.map(|a| format!("https://{a}/")),
        fingerprint: read(FINGERPRINT),
        setup_code: read(paths::SETUP_CODE),
        pairing,
        nics: nics(Path::new("/sys/class/net"), boot.uplink.as_deref()),
        addresses: addresses(),
        clock: clock(),
        vms,
        loads: loads(),
        alerts,
        events,
        trouble: cluster.as_ref().and_then(trouble),
        cluster: cluster.as_ref().and_then(cluster_line),
        installed: if boot.mode == "live" { kept.installed() } else { Vec::new() },
        live: boot.mode == "live",
        management,
        ready,
        warnings: boot.warnings,
    }
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// What it waits for, in words.
fn not_ready(body: &[u8]) -> Option<String> {
    match serde_json::from_slice::<lq_api::cluster::Readiness>(body) {
        Ok(told) if !told.waiting_for.is_empty() => Some(told.waiting_for.join("; ")),
        _ => api::reason(body),
    }
}

fn uptime_seconds() -> u64 {
    read("/proc/uptime").and_then(|t| t.split('.').next()?.parse().ok()).unwrap_or(u64::MAX)
}

/// Load of processor, memory and data partition, from the kernel, so that it is there when `mgmtd` is not.
fn loads() -> Vec<Load> {
    let mut loads = Vec::new();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let average = read("/proc/loadavg").and_then(|t| t.split(' ').next()?.parse::<f64>().ok());
    if let Some(average) = average {
        let text = format!("load {average:.2}, {threads} threads");
        loads.push(Load { name: "Processor", share: average / threads as f64, text });
    }
    loads.extend(read("/proc/meminfo").and_then(|t| memory(&t)));
    if let Ok(data) = nix::sys::statvfs::statvfs(paths::DATA) {
        let size = data.fragment_size() as f64;
        loads.extend(used("Data", data.blocks() as f64 * size, data.blocks_available() as f64 * size));
    }
    loads
}

fn memory(text: &str) -> Option<Load> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
    };
    used("Memory", bytes("MemTotal")?, bytes("MemAvailable")?)
}

/// Of `total` bytes, `free` are left.
fn used(name: &'static str, total: f64, free: f64) -> Option<Load> {
    let gib = f64::from(1 << 30);
    let text = format!("{:.1} of {:.1} GiB", (total - free) / gib, total / gib);
    (total > 0.0).then(|| Load { name, share: (total - free) / total, text })
}

/// Alerts shown.
const ALERTS: usize = 3;

/// Alerts that are not over and more than worth knowing.
fn alerts() -> Vec<(bool, String)> {
    let answer = api::get("/api/v1/alerts?severity=warning&limit=1000").ok().filter(|a| a.status == 200);
    let page: Option<Page<Alert>> = answer.and_then(|a| serde_json::from_slice(&a.body).ok());
    alert_lines(page.map(|p| p.items).unwrap_or_default())
}

fn alert_lines(mut alerts: Vec<Alert>) -> Vec<(bool, String)> {
    // Newest first within a severity, as they come.
    alerts.sort_by_key(|a| std::cmp::Reverse(a.severity));
    let more = alerts.len().saturating_sub(ALERTS);
    let line = |a: &Alert| {
        let text = format!("{}: {}: {}", a.severity, a.target_name, a.message);
        (a.severity == Severity::Critical, text)
    };
    let mut lines: Vec<_> = alerts.iter().take(ALERTS).map(line).collect();
    if more > 0 {
        lines.push((false, format!("and {more} more alerts, see the page")));
    }
    lines
}

/// The last warnings and errors that are not alerts, newest first.
fn events() -> Vec<String> {
    let answer = api::get("/api/v1/events?level=warning&limit=20").ok().filter(|a| a.status == 200);
    let list: Option<serde_json::Value> = answer.and_then(|a| serde_json::from_slice(&a.body).ok());
    let items = list.as_ref().and_then(|l| l.get("items")).and_then(|i| i.as_array());
    let alert = |e: &&serde_json::Value| e.get("kind").and_then(|k| k.as_str()) == Some("alert.raised");
    items.into_iter().flatten().filter(|e| !alert(e)).take(3).map(remote::event_line).collect()
}

/// How a cluster can bring this host in, where it waits.
fn pairing() -> Option<String> {
    let answer = api::get("/api/v1/cluster/pairing").ok().filter(|a| a.status == 200)?;
    pairing_line(&serde_json::from_slice(&answer.body).ok()?)
}

fn pairing_line(pairing: &lq_api::pairing::Pairing) -> Option<String> {
    if pairing.joining {
        return Some("a cluster gave it and is bringing this host in".into());
    }
    let code = pairing.code.as_ref().filter(|_| pairing.waiting)?;
    let tried = match pairing.wrong_guesses {
        0 => String::new(),
        1 => ", a wrong code was tried".into(),
        more => format!(", {more} wrong codes were tried"),
    };
    Some(format!("{code}{tried}"))
}

fn cluster() -> Option<Cluster> {
    let answer = api::get("/api/v1/cluster").ok().filter(|a| a.status == 200)?;
    serde_json::from_slice(&answer.body).ok()
}

/// What has to be told of the cluster, and where to mend it.
fn trouble(cluster: &Cluster) -> Option<String> {
    if let Some(outdated) = &cluster.outdated {
        return Some(format!("{}. F2, Join a cluster", outdated.reason.trim_end_matches('.')));
    }
    let lost = cluster.lost.as_ref().filter(|_| cluster.members.len() > 1)?;
    let silent: Vec<&str> = lost.missing.iter().map(|m| m.name.as_str()).collect();
    let silent = if silent.is_empty() { String::new() } else { format!("; silent: {}", silent.join(", ")) };
    Some(format!(
        "No majority of the hosts is reached{silent}. Machines run on, nothing can be changed. Bring the hosts back; if they are \
         gone for good: F2, Quorum recovery"
    ))
}

/// The cluster in one line.
fn cluster_line(cluster: &Cluster) -> Option<(bool, String)> {
    let members = cluster.members.len();
    if members < 2 {
        return None;
    }
    let leader = cluster.members.iter().find(|m| Some(m.host) == cluster.leader).map(|m| m.name.as_str());
    let away = cluster.members.iter().filter(|m| m.reachable == Some(false)).count();
    let mut text = format!("{members} hosts");
    if away > 0 {
        text += &format!(", {away} not heard");
    }
    text += &leader.map_or_else(|| ", nobody leads".to_owned(), |name| format!(", {name} leads"));
    if !cluster.quorum {
        text += ": NO QUORUM, nothing can be changed";
    }
    Some((cluster.quorum && away == 0, text))
}

/// The management address.
pub(crate) fn address() -> Option<Ipv4Addr> {
    ipv4(BRIDGE)
}

impl Kept {
    /// How `mgmtd` does.
    fn management(&mut self) -> Management {
        match api::get("/ready") {
            Ok(answer) => {
                self.answered = true;
                match answer.status {
                    200 => Management::Ready,
                    status => Management::NotReady(
                        not_ready(&answer.body).unwrap_or_else(|| format!("status {status}")),
                    ),
                }
            }
            Err(_) if !self.answered && uptime_seconds() < STARTING_SECONDS => Management::Starting,
            Err(_) => {
                let log = read(&format!("{}/log/mgmtd.log", paths::RUN)).unwrap_or_default();
                Management::Down(log.lines().last().unwrap_or_default().to_owned())
            }
        }
    }

    /// Disks with an installation on them; looked for once.
    fn installed(&mut self) -> Vec<String> {
        let look = || {
            let disks = install::disks().unwrap_or_default().into_iter();
            disks.filter(|d| d.ours).map(|d| d.node).collect()
        };
        self.installed.get_or_insert_with(look).clone()
    }

    /// What `mgmtd` tells, in the state it is in.
    fn told(&mut self, management: &Management, watched: bool) -> Told {
        if let Some((at, then, told)) = &self.told
            && !watched
            && then == management
            && at.elapsed() < UNWATCHED
        {
            return told.clone();
        }
        let ready = *management == Management::Ready;
        // Also while nothing can be changed: that is one of the things to be shown.
        let answers = ready || matches!(management, Management::NotReady(_));
        let cluster = if answers { cluster() } else { None };
        let told = Told {
            pairing: if ready { pairing() } else { None },
            vms: cluster.as_ref().filter(|_| ready).and_then(|c| self.vms(c)),
            alerts: if answers { alerts() } else { Vec::new() },
            events: if ready { events() } else { Vec::new() },
            cluster,
        };
        self.told = Some((Instant::now(), management.clone(), told.clone()));
        told
    }

    /// The machines; where there are many, of a while ago.
    fn vms(&mut self, cluster: &Cluster) -> Option<Machines> {
        if let Some((at, machines)) = &self.vms
            && machines.all.is_some_and(|n| n > MANY)
            && at.elapsed() < SELDOM
        {
            return Some(machines.clone());
        }
        let machines = vms(cluster);
        self.vms = machines.clone().map(|m| (Instant::now(), m));
        machines
    }
}

/// So many machines are not counted at each look.
const MANY: usize = 500;
/// How often they are.
const SELDOM: Duration = Duration::from_secs(20);

/// Machines, from every page of the API's list.
fn vms(cluster: &Cluster) -> Option<Machines> {
    let (mut machines, mut all, mut cursor) = (Machines::default(), 0, String::new());
    loop {
        let path = format!("/api/v1/vms?limit=1000{cursor}");
        let answer = api::get(&path).ok().filter(|a| a.status == 200)?;
        let list: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        all += count(&mut machines, &list, &cluster.this_host.to_string())?;
        match list.get("next_cursor").and_then(|c| c.as_str()) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    machines.all = (cluster.members.len() > 1).then_some(all);
    Some(machines)
}

/// Counts those of a page that are on `host`; how many the page has in all.
fn count(machines: &mut Machines, list: &serde_json::Value, host: &str) -> Option<usize> {
    let items = list.get("items")?.as_array()?;
    let text = |vm: &serde_json::Value, at: &str| vm.pointer(at).and_then(|s| s.as_str()).map(str::to_owned);
    for vm in items.iter().filter(|vm| text(vm, "/status/host").as_deref() == Some(host)) {
        let state = text(vm, "/status/state").unwrap_or_else(|| "unknown".into());
        *machines.here.entry(state).or_insert(0) += 1;
    }
    Some(items.len())
}

/// The time, and whether nothing sets the clock. Minutes do: a line that changes each second would never let a serial line rest.
fn clock() -> (String, bool) {
    // SAFETY: all-zero is a valid value; with no mode set the call changes nothing and fills the structure given.
    let state = unsafe {
        let mut state: libc::timex = std::mem::zeroed();
        if libc::adjtimex(&raw mut state) < 0 {
            state.status = 0;
        }
        state.status
    };
    (lq_api::Timestamp::now().strftime("%F %R UTC").to_string(), state & libc::STA_UNSYNC != 0)
}

/// Addresses by interface, without those of the loopback interface.
fn addresses() -> Vec<(String, Vec<String>)> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in nix::ifaddrs::getifaddrs().into_iter().flatten().filter(|i| i.interface_name != "lo") {
        let text = one.address.and_then(|a| {
            let v4 = a.as_sockaddr_in().map(|a| a.ip().to_string());
            v4.or_else(|| a.as_sockaddr_in6().map(|a| a.ip().to_string()))
        });
        let prefix = one.netmask.and_then(|m| {
            let v4 = m.as_sockaddr_in().map(|m| u32::from(m.ip()).count_ones());
            v4.or_else(|| m.as_sockaddr_in6().map(|m| u128::from(m.ip()).count_ones()))
        });
        if let Some(text) = text {
            let text = prefix.map_or_else(|| text.clone(), |p| format!("{text}/{p}"));
            found.entry(one.interface_name).or_default().push(text);
        }
    }
    found.into_iter().collect()
}

fn nics(class: &Path, uplink: Option<&str>) -> Vec<Nic> {
    let mut nics: Vec<Nic> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .flatten()
        // Physical ones only: those with a device.
        .filter(|e| e.path().join("device").exists())
        .filter_map(|e| {
            let text =
                |file: &str| fs::read_to_string(e.path().join(file)).unwrap_or_default().trim().to_owned();
            let name = e.file_name().into_string().ok()?;
            Some(Nic {
                uplink: Some(name.as_str()) == uplink,
                mac: text("address"),
                link: text("carrier") == "1",
                name,
            })
        })
        .collect();
    nics.sort_by(|a, b| a.name.cmp(&b.name));
    nics
}

/// The IPv4 address of an interface.
fn ipv4(name: &str) -> Option<Ipv4Addr> {
    nix::ifaddrs::getifaddrs()
        .ok()?
        .filter(|i| i.interface_name == name)
        .find_map(|i| i.address.and_then(|a| a.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_counted_by_state() {
        let vm = |state: &str, host: &str| serde_json::json!({"status": {"state": state, "host": host}});
        let list = [vm("running", "a"), vm("running", "a"), vm("stopped", "a"), vm("running", "b")];
        let list = serde_json::json!({"items": list});
        let mut machines = Machines::default();
        assert_eq!(count(&mut machines, &list, "a"), Some(4));
        assert_eq!((machines.here["running"], machines.here["stopped"]), (2, 1));
        assert_eq!(count(&mut machines, &list, "b"), Some(4));
        assert_eq!(machines.here["running"], 3, "pages are added up");
        assert_eq!(count(&mut machines, &serde_json::json!({}), "a"), None);
    }

    #[test]
    fn a_cluster_without_quorum_says_so() {
        use lq_api::cluster::{Member, MemberRole};
        let member = |name: &str, reachable| Member {
            host: lq_api::HostId::new(),
            name: name.into(),
            address: None,
            role: MemberRole::Voter,
            reachable,
            lag: None,
            lost_at: None,
            refused: None,
        };
        let members = vec![member("n1", Some(true)), member("n2", Some(true)), member("n3", Some(false))];
        let cluster = Cluster {
            id: "01890000-0000-7000-8000-000000000001".parse().unwrap(),
            this_host: members[0].host,
            leader: Some(members[1].host),
            term: 1,
            voters: Vec::new(),
            revision: 1,
            quorum: true,
            epoch: 1,
            formed: None,
            lost: None,
            outdated: None,
            warnings: Vec::new(),
            members,
        };
        assert_eq!(cluster_line(&cluster), Some((false, "3 hosts, 1 not heard, n2 leads".into())));
        let lost = Cluster { leader: None, quorum: false, ..cluster.clone() };
        assert!(cluster_line(&lost).unwrap().1.contains("NO QUORUM"));
        assert_eq!(trouble(&cluster), None);
        let loss = lq_api::recovery::QuorumLoss {
            since: None,
            missing: vec![lq_api::recovery::MissingHost {
                host: cluster.members[2].host,
                name: "n3".into(),
                last_heard: None,
                voter: true,
            }],
            means: Vec::new(),
            remedy: String::new(),
        };
        let lost = Cluster { lost: Some(loss), ..lost };
        let told = trouble(&lost).unwrap();
        assert!(told.contains("silent: n3") && told.contains("Quorum recovery"), "{told}");
        let alone = Cluster { members: cluster.members[..1].to_vec(), ..cluster };
        assert_eq!(cluster_line(&alone), None);
        assert_eq!(trouble(&Cluster { lost: None, ..alone }), None);
    }

    #[test]
    fn a_waiting_host_shows_its_code() {
        let waiting = lq_api::pairing::Pairing {
            waiting: true,
            reason: None,
            code: Some("ABCD-EFGH".into()),
            expires_at: None,
            wrong_guesses: 0,
            joining: false,
            opened_until: None,
        };
        assert_eq!(pairing_line(&waiting).unwrap(), "ABCD-EFGH");
        let tried = lq_api::pairing::Pairing { wrong_guesses: 2, ..waiting.clone() };
        assert!(pairing_line(&tried).unwrap().contains("2 wrong codes"));
        let joining = lq_api::pairing::Pairing { joining: true, code: None, ..waiting.clone() };
        assert!(pairing_line(&joining).unwrap().contains("bringing this host in"));
        assert_eq!(pairing_line(&lq_api::pairing::Pairing { waiting: false, code: None, ..waiting }), None);
    }

    #[test]
    fn the_gravest_alerts_are_shown() {
        let alert = |severity, name: &str| Alert {
            id: "01890000-0000-7000-8000-000000000001".parse().unwrap(),
            rule: lq_api::alert::AlertRule::HostLost,
            severity,
            target: "host/x".into(),
            target_name: name.into(),
            part: None,
            message: "lost".into(),
            source: None,
            local: false,
            raised_at: lq_api::Timestamp::UNIX_EPOCH,
            changed_at: lq_api::Timestamp::UNIX_EPOCH,
            resolved_at: None,
            acknowledged: None,
            silenced: None,
        };
        let [w, c] = [Severity::Warning, Severity::Critical];
        let all = [alert(w, "a"), alert(w, "b"), alert(c, "c"), alert(w, "d"), alert(w, "e")];
        let lines = alert_lines(all.into());
        assert_eq!(lines[0], (true, "critical: c: lost".into()));
        assert_eq!(lines[1], (false, "warning: a: lost".into()));
        assert_eq!(lines[3], (false, "and 2 more alerts, see the page".into()));
    }

    #[test]
    fn memory_is_read_as_the_kernel_tells_it() {
        let load =
            memory("MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n").unwrap();
        assert_eq!((load.share, load.text.as_str()), (0.75, "12.0 of 16.0 GiB"));
        assert_eq!(memory("MemTotal: 5 kB"), None);
    }

    #[test]
    fn what_the_daemon_waits_for_is_told_in_words() {
        let told = br#"{"ready":false,"waiting_for":["a majority of the voters","its log"]}"#;
        assert_eq!(not_ready(told).as_deref(), Some("a majority of the voters; its log"));
        assert_eq!(not_ready(br#"{"detail":"starting"}"#).as_deref(), Some("starting"));
        assert_eq!(not_ready(b"starting\n").as_deref(), Some("starting"));
    }

    #[test]
    fn the_clock_is_told_to_the_minute() {
        let (now, _) = clock();
        assert!(now.ends_with(" UTC") && now.matches(':').count() == 1, "{now}");
    }
}
