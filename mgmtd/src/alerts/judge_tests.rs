//! What is wrong at one moment.

use super::*;
use crate::cluster::{
    Command, Op, Peer,
    state::alerts::{ChannelRecord, Raised},
};
use lq_api::{AlertId, Bytes, NetworkId, VmId, alert::AlertRule, vm::VmStatus};
use std::sync::Arc;
use uuid::Uuid;

const ME: HostId = HostId(Uuid::from_u128(1));
const POOL: PoolId = PoolId(Uuid::from_u128(2));

fn apply(state: &mut State, op: Op) {
    let revision = state.alerting.last_notice + 100;
    state.apply(revision, &Command { at: Timestamp::UNIX_EPOCH, op }, &mut Vec::new()).unwrap();
}

fn state() -> State {
    let mut state = State::new();
    let op = Op::Initialise {
        cluster: Uuid::nil(),
        host: ME,
        host_name: "one".into(),
        pool: POOL,
        network: NetworkId(Uuid::from_u128(3)),
        dhcp: None,
    };
    apply(&mut state, op);
    state
}

/// A cluster of `n` hosts with peers.
fn hosts(n: u128) -> (State, BTreeSet<HostId>) {
    let mut state = state();
    let ids: BTreeSet<_> = (1..=n).map(|n| HostId(Uuid::from_u128(n))).collect();
    for id in &ids {
        let mut record = (*state.hosts[&ME]).clone();
        record.meta.id = *id;
        record.meta.name = format!("h{}", id.0.as_u128());
        record.peer = Some(Peer { pin: id.to_string(), address: String::new() });
        state.hosts.insert(*id, Arc::new(record));
    }
    (state, ids)
}

fn defaults(rule: AlertRule) -> lq_api::alert::RuleSettings {
    rule.defaults()
}

fn faults(found: Vec<Finding>) -> Vec<(AlertRule, Severity)> {
    let faults = found.into_iter().filter_map(|f| match f.verdict {
        Verdict::Fault(severity, text) => {
            assert!(text.len() > 10, "{text}");
            Some((f.key.rule, severity))
        }
        _ => None,
    });
    faults.collect()
}

fn of_host(state: &State, facts: &HostFacts) -> Vec<(AlertRule, Severity)> {
    faults(host(state, ME, facts, &defaults, Timestamp::UNIX_EPOCH))
}

fn well() -> HostFacts {
    HostFacts {
        memory: Some((100, 50)),
        disks: vec![("sda".into(), DiskHealth::Healthy)],
        certificate_end: Timestamp::from_second(86_400 * 100).ok(),
        clock: Clock { synchronised: Some(true), ahead: None, among_others: false, trouble: None },
        pools: vec![(POOL, room(50, None))],
        warnings: vec![],
        backups: Some(KeptBackups { newest: Some(Timestamp::UNIX_EPOCH), failing: None, damaged: None }),
    }
}

fn room(used: u64, hours: Option<u64>) -> Room {
    let status = PoolStatus { capacity_bytes: Bytes(100), free_bytes: Bytes(100 - used) };
    Room::Of(status, hours.map(|h| Duration::from_secs(h * 3600)))
}

#[test]
fn a_host_that_is_well_has_no_faults_and_what_is_not_known_is_not_taken_for_well() {
    let state = state();
    let found = host(&state, ME, &well(), &defaults, Timestamp::UNIX_EPOCH);
    assert!(found.iter().all(|f| f.verdict == Verdict::Fine), "{found:?}");
    let nothing = HostFacts {
        disks: vec![("sda".into(), DiskHealth::Unknown { reason: "virtual".into() })],
        pools: vec![(POOL, Room::Unknown)],
        ..HostFacts::default()
    };
    let found = host(&state, ME, &nothing, &defaults, Timestamp::UNIX_EPOCH);
    let fine: Vec<_> = found.iter().filter(|f| f.verdict == Verdict::Fine).map(|f| f.key.rule).collect();
    assert_eq!(fine, [AlertRule::HostDegraded], "no warnings is all that is known");
}

#[test]
fn each_fault_of_a_host_is_found() {
    let state = state();
    let one = |change: &dyn Fn(&mut HostFacts)| {
        let mut facts = well();
        change(&mut facts);
        of_host(&state, &facts)
    };
    use AlertRule as R;
    use Severity::{Critical, Info, Warning};
    assert_eq!(one(&|f| f.memory = Some((100, 9))), [(R::MemoryPressure, Warning)]);
    assert_eq!(one(&|f| f.memory = Some((100, 4))), [(R::MemoryPressure, Critical)]);
    let reason = || "12 sectors".to_owned();
    assert_eq!(
        one(&|f| f.disks[0].1 = DiskHealth::Failing { reason: reason() }),
        [(R::DiskFailing, Critical)]
    );
    assert_eq!(one(&|f| f.disks[0].1 = DiskHealth::Worn { reason: reason() }), [(R::DiskFailing, Warning)]);
    let end = |days: i64| Timestamp::from_second(86_400 * days).ok();
    assert_eq!(one(&|f| f.certificate_end = end(13)), [(R::CertificateExpiring, Warning)]);
    assert_eq!(one(&|f| f.certificate_end = end(-1)), [(R::CertificateExpiring, Critical)]);
    assert_eq!(one(&|f| f.clock.synchronised = Some(false)), [(R::ClockOff, Info)]);
    assert_eq!(one(&|f| f.clock.ahead = Some(-2.0)), [(R::ClockOff, Warning)]);
    assert_eq!(one(&|f| f.clock.ahead = Some(9.0)), [(R::ClockOff, Critical)]);
    assert_eq!(one(&|f| f.clock.ahead = Some(0.5)), []);
    assert_eq!(one(&|f| f.clock.trouble = Some("no server answers".into())), [(R::ClockOff, Warning)]);
    assert_eq!(one(&|f| f.warnings = vec!["not verified".into()]), [(R::HostDegraded, Warning)]);
    let backups = |newest: Option<i64>, failing: bool, damaged: bool| {
        one(&|f| {
            f.backups = Some(KeptBackups {
                newest: newest.and_then(|hours| Timestamp::from_second(-3600 * hours).ok()),
                failing: failing.then(|| (Timestamp::UNIX_EPOCH, "no space left".into())),
                damaged: damaged
                    .then(|| ("20260101T000000000Z-nightly".into(), "its header is damaged".into())),
            });
        })
    };
    assert_eq!(backups(Some(35), false, false), []);
    assert_eq!(backups(Some(-35), false, false), [], "the clock was set back");
    assert_eq!(backups(Some(37), false, false), [(R::BackupFailed, Warning)]);
    assert_eq!(backups(Some(1), true, false), [(R::BackupFailed, Warning)]);
    assert_eq!(backups(Some(1), false, true), [(R::BackupFailed, Warning)]);
    assert_eq!(backups(Some(80), true, false), [(R::BackupFailed, Critical)]);
    assert_eq!(backups(None, true, false), [(R::BackupFailed, Critical)]);
    assert_eq!(one(&|f| f.pools[0].1 = Room::Broken("EIO".into())), [(R::PoolUnreachable, Critical)]);
    assert_eq!(one(&|f| f.pools[0].1 = room(86, None)), [(R::PoolFilling, Warning)]);
    assert_eq!(one(&|f| f.pools[0].1 = room(96, Some(1))), [(R::PoolFilling, Critical)]);
    assert_eq!(one(&|f| f.pools[0].1 = room(60, Some(71))), [(R::PoolFilling, Warning)]);
    assert_eq!(one(&|f| f.pools[0].1 = room(60, Some(73))), []);
    assert_eq!(one(&|f| f.pools[0].1 = room(40, Some(1))), [], "half of it is free");
}

#[test]
fn a_raised_alert_takes_a_margin_to_get_better() {
    let mut state = state();
    let mut facts = well();
    facts.pools[0].1 = room(84, None);
    assert_eq!(of_host(&state, &facts), []);
    let alert = Raised {
        id: AlertId::new(),
        rule: AlertRule::PoolFilling,
        severity: Severity::Warning,
        target: format!("pool/{POOL}"),
        target_name: "local".into(),
        part: None,
        message: "85 %".into(),
        source: Some(ME),
    };
    apply(&mut state, Op::RaiseAlert { alert });
    assert_eq!(of_host(&state, &facts), [(AlertRule::PoolFilling, Severity::Warning)]);
}

#[test]
fn lost_hosts_and_what_they_mean_for_the_majority() {
    let lost = |n: u128, away: u128| {
        let (state, ids) = hosts(n);
        let reachable = ids.iter().copied().filter(|h| h.0.as_u128() <= n - away).collect();
        let health = Health { quorum: true, reachable, ..Health::default() };
        let facts = ClusterFacts { health, voters: ids, rooms: BTreeMap::new(), boards: BTreeMap::new() };
        let found = faults(cluster(&state, ME, &facts, &defaults));
        let risk = found.contains(&(AlertRule::QuorumAtRisk, Severity::Warning));
        (found.iter().filter(|f| f.0 == AlertRule::HostLost).count(), risk)
    };
    assert_eq!(lost(1, 0), (0, false));
    assert_eq!(lost(2, 0), (0, false), "two are as they are");
    assert_eq!(lost(3, 0), (0, false));
    assert_eq!(lost(3, 1), (1, true));
    assert_eq!(lost(5, 1), (1, false));
    assert_eq!(lost(5, 2), (2, true));
    assert_eq!(quorum(true).verdict, Verdict::Fine);
    assert!(matches!(quorum(false).verdict, Verdict::Fault(Severity::Critical, _)));
}

#[test]
fn a_shared_pool_is_as_well_as_hosts_say() {
    let (mut state, ids) = hosts(2);
    let shared = PoolId(Uuid::from_u128(9));
    let create =
        serde_json::json!({"name": "nas", "spec": {"driver": "nfs", "server": "nas", "export": "/x"}});
    apply(&mut state, Op::CreatePool { id: shared, create: serde_json::from_value(create).unwrap() });
    let health = Health { quorum: true, reachable: ids.clone(), ..Health::default() };
    let mut facts =
        ClusterFacts { health, voters: ids.clone(), rooms: BTreeMap::new(), boards: BTreeMap::new() };
    let stands = |state: &mut State, host: u128, pool: PoolState| {
        let reason = (pool == PoolState::Unreachable).then(|| "no route".to_owned());
        apply(
            state,
            Op::ObservePool { id: shared, host: HostId(Uuid::from_u128(host)), state: pool, reason },
        );
    };
    let found = |state: &State, facts: &ClusterFacts| faults(cluster(state, ME, facts, &defaults));
    stands(&mut state, 1, PoolState::Ready);
    stands(&mut state, 2, PoolState::Ready);
    assert_eq!(found(&state, &facts), []);
    stands(&mut state, 2, PoolState::Unreachable);
    assert_eq!(found(&state, &facts), [(AlertRule::PoolUnreachable, Severity::Warning)]);
    stands(&mut state, 1, PoolState::Unreachable);
    assert_eq!(found(&state, &facts), [(AlertRule::PoolUnreachable, Severity::Critical)]);
    stands(&mut state, 1, PoolState::Ready);
    stands(&mut state, 2, PoolState::Ready);
    facts.rooms.insert(shared, room(99, None));
    assert_eq!(found(&state, &facts), [(AlertRule::PoolFilling, Severity::Critical)]);
}

#[test]
fn failed_machines_and_channels_are_found() {
    let mut state = state();
    let facts = ClusterFacts::default();
    let create =
        serde_json::json!({"name": "c", "spec": {"target": {"kind": "webhook", "url": "https://x/"}}});
    let id = lq_api::ChannelId(Uuid::from_u128(5));
    apply(&mut state, Op::CreateChannel { id, create: serde_json::from_value(create).unwrap() });
    assert_eq!(faults(cluster(&state, ME, &facts, &defaults)), []);
    let channel: &mut Arc<ChannelRecord> = state.alerting.channels.get_mut(&id).unwrap();
    Arc::make_mut(channel).failing = Some((Timestamp::UNIX_EPOCH, "refused".into()));
    let image = lq_api::ImageId(Uuid::from_u128(7));
    let kernel = serde_json::json!({"name": "k", "spec": {"kind": "kernel", "format": "raw"}});
    apply(&mut state, Op::CreateImage { id: image, create: serde_json::from_value(kernel).unwrap() });
    let vm = VmId(Uuid::from_u128(6));
    let create = serde_json::json!({"name": "v", "spec":
        {"vcpus": 1, "memory_bytes": 64 << 20, "boot": {"kernel": image}, "disks": [], "nics": []}});
    apply(&mut state, Op::CreateVm { id: vm, host: ME, create: serde_json::from_value(create).unwrap() });
    let status =
        VmStatus { state: VmState::Failed, reason: Some("guest panicked".into()), ..VmStatus::default() };
    apply(&mut state, Op::ObserveVm { id: vm, status, host_ends: false, by: None });
    assert_eq!(
        faults(cluster(&state, ME, &facts, &defaults)),
        [(AlertRule::VmFailed, Severity::Critical), (AlertRule::ChannelFailing, Severity::Warning)]
    );
}
