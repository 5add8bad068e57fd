//! Figures at the size of a data centre, with budgets that are hard: `./just figures-scale`.
//!
//! 96 hosts and 8,000 machines with a disk on a shared pool each, some of them with rules, one host in eight twice as full. Measured
//! is the code of the product in its release profile; the log is a real one on the disk the tests use.

use super::*;
use crate::{
    cluster::state::Capacity,
    ha::{
        manager::{Manager, Moment, Terms, View},
        view::Planner,
    },
    placement::{
        self, Request,
        balance::{self, Limits},
        tests::{apply, host, labels, rule, running, site, spec},
    },
};
use lq_api::{Bytes, HostId, NetworkId, PoolId, RoleId, VolumeId, placement::Placement, pool::PoolState};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};
use uuid::Uuid;

const HOSTS: u128 = 96;
const MACHINES: usize = 8_000;
const WATCHERS: usize = 1_000;

/// Memory this process has, in 10⁶ bytes.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
}

fn data_centre() -> State {
    let mut state = site(&[1024]);
    let template = (*state.hosts[&host(0)]).clone();
    let pool = PoolId(Uuid::from_u128(0xf00d));
    let nfs = json!({"name": "nfs", "spec": {"driver": "nfs", "server": "nas", "export": "/vms"}});
    let create = serde_json::from_value(nfs).unwrap();
    apply(&mut state, 4, Op::CreatePool { id: pool, create }).unwrap();
    for n in 0..HOSTS {
        if n > 0 {
            let mut record = template.clone();
            record.meta.id = host(n);
            record.meta.name = format!("h{n}");
            record.peer = None;
            state.hosts.insert(host(n), record.into());
        }
        let peer = Peer { pin: n.to_string(), address: String::new() };
        let capacity = Some(Capacity {
            threads: 128,
            memory: Bytes::gib(1024),
            lacks: vec![],
            release: None,
            witness: false,
            functions: vec![],
        });
        apply(&mut state, 5, Op::DescribeHost { host: host(n), peer, capacity }).unwrap();
        let name = format!("h{n}");
        apply(&mut state, 5, Op::HostStarted { host: host(n), name, boot: Uuid::from_u128(n) }).unwrap();
        let ready = Op::ObservePool { id: pool, host: host(n), state: PoolState::Ready, reason: None };
        apply(&mut state, 5, ready).unwrap();
    }
    for n in 0..MACHINES {
        let at = if n % 5 == 0 { n % 12 } else { n % 96 };
        let size = [1024, 2048, 4096, 8192][(n / 96) % 4];
        let group = format!("app=g{}", n / 20);
        let volume = VolumeId(Uuid::from_u128(0x1000_0000 + n as u128));
        let disk = json!({"name": format!("d{n}"), "spec": {"size_bytes": 10u64 << 30, "pool": pool}});
        let create = serde_json::from_value(disk).unwrap();
        apply(&mut state, 6, Op::CreateVolume { id: volume, create }).unwrap();
        apply(&mut state, 6, Op::VolumeReady { id: volume, size: Bytes::gib(10), by: None }).unwrap();
        let mut text = serde_json::to_value(spec(size, Placement::default())).unwrap();
        text["disks"] = json!([{"volume": volume}]);
        text["vcpus"] = [1, 2, 2, 4][n % 4].into();
        text["ha"] = json!({"priority": (["high", "medium", "low"][n % 3])});
        let spec = serde_json::from_value(text).unwrap();
        let id = running(&mut state, n, host(at as u128), &labels(&group), spec);
        if n % 20 == 0 {
            let record = Arc::make_mut(state.vms.get_mut(&id).unwrap());
            record.vm.spec.placement.apart = vec![rule(&group, n % 40 == 0)];
        }
    }
    state
}

/// Median of 21 times, in milliseconds.
fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[10]
}

#[derive(Default)]
struct Figures {
    all: BTreeMap<&'static str, f64>,
    beyond: Vec<String>,
}

impl Figures {
    fn note(&mut self, name: &'static str, value: f64, budget: f64) {
        println!("{name:34} {value:10.3}  [≤ {budget}]");
        self.all.insert(name, value);
        if value > budget {
            self.beyond.push(format!("{name} is {value:.3}, its budget {budget}"));
        }
    }

    /// Beside what other measurements have left in the file.
    fn write(&self) {
        let Some(file) = std::env::var_os("LQ_FIGURES") else { return };
        let before = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut all: BTreeMap<String, f64> = before.unwrap_or_default();
        all.extend(self.all.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        fs::write(&file, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }
}

fn planners(state: &State, figures: &mut Figures) {
    let one = spec(2048, Placement::default());
    let none = BTreeMap::new();
    let place = || assert!(placement::decide(state, Request::new(&none, &one), None).host.is_some());
    figures.note("placement.one_vm_ms", median(place), 1.0);
    let group = labels("app=g7");
    let ruled = spec(2048, Placement { apart: vec![rule("app=g7", true)], ..Placement::default() });
    let place = || assert!(placement::decide(state, Request::new(&group, &ruled), None).host.is_some());
    figures.note("placement.one_ruled_vm_ms", median(place), 1.0);
    let best = || assert!(balance::best_move(state, Limits::default()).is_some());
    figures.note("balance.best_move_ms", median(best), 10.0);

    // Eight hosts of one rack are lost: a place for each of their machines, the most important first.
    let lost: BTreeSet<HostId> = (0..8).map(|n| host(n * 12)).collect();
    let usable: BTreeSet<HostId> = state.hosts.keys().copied().filter(|h| !lost.contains(h)).collect();
    let view = View::of(state);
    let mut machines: Vec<_> = view.machines.iter().filter(|m| lost.contains(&m.host)).collect();
    machines.sort_by_key(|m| (m.priority, m.vm));
    assert!(machines.len() > 500, "{} machines", machines.len());
    let plan = || {
        let mut planner = Planner::new(state);
        let placed = machines.iter().filter(|m| planner.place(m, &usable).is_ok());
        assert_eq!(placed.count(), machines.len());
    };
    figures.note("ha.restart_plan_ms", median(plan), 50.0);
    figures.note("ha.restart_plan_machines", machines.len() as f64, f64::INFINITY);

    // What a leader does four times a second while nothing is wrong.
    let mut manager = Manager::new(Terms::STANDARD, Moment(1_000_000), 1);
    let mut now = 1_000_000;
    let look = || {
        now += 250;
        let mut planner = Planner::new(state);
        let place = &mut |machine: &_, usable: &_| planner.place(machine, usable);
        for (id, record) in &state.hosts {
            let beat = crate::ha::Beat {
                boot: record.boot.unwrap(),
                sent: now,
                watchdog: crate::ha::Watchdog::Simulated,
            };
            let seen = crate::ha::view::host(state, *id);
            manager.beat(Moment(now), Some(Moment(now)), *id, &beat, Some(&seen));
        }
        assert_eq!(manager.step(Moment(now), Some(Moment(now)), &View::of(state), place), []);
    };
    figures.note("ha.look_ms", median(look), 25.0);
}

/// Changes nothing but a name, in a log of its own.
fn role(n: usize) -> Op {
    let create = lq_api::access::CreateRole {
        name: format!("r{n}"),
        labels: BTreeMap::new(),
        spec: lq_api::access::RoleSpec::default(),
    };
    Op::CreateRole { id: RoleId(Uuid::from_u128(n as u128)), create }
}

async fn written(cluster: &Cluster, from: usize, to: usize) {
    use futures::{StreamExt as _, TryStreamExt as _};
    let writes = futures::stream::iter(from..to).map(|n| {
        let id = RoleId(Uuid::from_u128(n as u128));
        let delete = Op::DeleteRole { id, expect: None };
        async move {
            cluster.write(role(n)).await?;
            cluster.write(delete).await
        }
    });
    writes.buffer_unordered(64).try_for_each(|_| async { Ok(()) }).await.unwrap();
}

async fn watchers_and_log(figures: &mut Figures) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path()).await.unwrap();
    let me = cluster.identity();
    let first = Op::Initialise {
        cluster: me.cluster,
        host: me.host,
        host_name: "h1".into(),
        pool: PoolId::new(),
        network: NetworkId::new(),
        dhcp: None,
    };
    cluster.write(first).await.unwrap();

    // Each of them is to see every change, once and in order.
    let begun = cluster.read_at(|_, index| index);
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..WATCHERS {
        let (cluster, told) = (cluster.clone(), told.clone());
        tokio::spawn(async move {
            let (mut changes, mut since) = (cluster.watch(), begun);
            loop {
                let new = cluster.changes_since(since).expect("it was never that far behind");
                assert!(new.iter().all(|c| c.revision > since), "something after {since} is told again");
                if let Some(last) = new.last() {
                    since = last.revision;
                    if told.send(since).is_err() {
                        return;
                    }
                }
                if changes.changed().await.is_err() {
                    return;
                }
                changes.borrow_and_update();
            }
        });
    }
    let mut times = Vec::new();
    for n in 0..50 {
        let started = Instant::now();
        cluster.write(role(n)).await.unwrap();
        let revision = cluster.read_at(|_, index| index);
        let mut missing = WATCHERS;
        while missing > 0 {
            missing -= usize::from(hears.recv().await.unwrap() == revision);
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    figures.note("watch.1000_told_ms", times[25], 250.0);
    drop(hears);

    // Three snapshots' worth of changes, and as many again: the log does not grow with them.
    let size = || fs::metadata(dir.path().join("raft.redb")).unwrap().len() as f64 / 1e6;
    let writes = usize::try_from(SNAPSHOT_EVERY).unwrap() * 3 / 2;
    written(&cluster, 1_000, 1_000 + writes).await;
    let half = size();
    written(&cluster, 100_000, 100_000 + writes).await;
    let wait = cluster.raft.wait(Some(Duration::from_secs(60)));
    let last = cluster.read_at(|_, index| index);
    let kept = |m: &openraft::RaftMetrics<Types>| last - m.purged.map_or(0, |purged| purged.index);
    let most = SNAPSHOT_EVERY + KEPT_ENTRIES;
    let metrics = wait.metrics(|m| kept(m) <= most, "the log is purged").await.unwrap();
    figures.note("log.entries_kept", kept(&metrics) as f64, most as f64);
    figures.note("log.growth", size() / half, 1.5);
    figures.note("log.mb", size(), 64.0);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, meaningful in a release build only: ./just figures-scale"]
async fn figures_at_scale() {
    let mut figures = Figures::default();
    let before = resident();
    let state = data_centre();
    figures.note("state.memory_mb", resident() - before, 200.0);
    planners(&state, &mut figures);
    drop(state);
    watchers_and_log(&mut figures).await;
    figures.write();
    assert!(figures.beyond.is_empty(), "beyond their budgets: {}", figures.beyond.join("; "));
}
