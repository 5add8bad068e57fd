//! What is wrong at this moment, by rule. Pure: facts and state in, findings out.
//!
//! Every thing a rule watches gives a finding, also where it is fine or not known: what gives none any more is gone.

use super::hold::{Finding, Key, Settings, Verdict};
use crate::cluster::{Health, KeptBackups, State, state::alerts::Alerting};
use lq_api::{
    HostId, PoolId, Timestamp,
    alert::{AlertRule as R, Severity},
    bmc::BmcStatus,
    host::DiskHealth,
    pool::{PoolState, PoolStatus},
    vm::VmState,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A pool that would be full sooner is a warning.
const SOON: Duration = Duration::from_secs(3 * 86_400);
/// Share of a pool in use from which on growth is looked at.
const HALF: f64 = 50.0;
/// A backup of the state is made each night: one this old is missing.
const TOO_OLD: Duration = Duration::from_secs(36 * 3600);
/// A backup this old is as good as none.
const MUCH_TOO_OLD: Duration = Duration::from_secs(3 * 86_400);
/// Failures of machines named in full.
const REASON: usize = 300;

/// What a host knows of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct HostFacts {
    /// Bytes in all, and available.
    pub(super) memory: Option<(u64, u64)>,
    /// Its disks; nothing before they were asked.
    pub(super) disks: Vec<(String, DiskHealth)>,
    /// When the certificate of API and page ends. (Those between hosts last for days and are renewed whenever one is shown.)
    pub(super) certificate_end: Option<Timestamp>,
    /// Its clock.
    pub(super) clock: Clock,
    /// The pools that only it has.
    pub(super) pools: Vec<(PoolId, Room)>,
    /// What keeps it from full safety.
    pub(super) warnings: Vec<String>,
    /// Its backups of the state; nothing before they were looked at.
    pub(super) backups: Option<KeptBackups>,
}

/// A host's clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Clock {
    /// Something sets it, as the kernel says; absent where the kernel cannot be asked.
    pub(super) synchronised: Option<bool>,
    /// Seconds it is ahead of the leader's; absent where this host leads or cannot ask.
    pub(super) ahead: Option<f64>,
    /// Other hosts are there to compare with.
    pub(super) among_others: bool,
    /// Why it does not follow the time servers it is to follow.
    pub(super) trouble: Option<String>,
}

/// Room in a pool.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Room {
    /// As it answered; with the time until it is full if it goes on as over the last day.
    Of(PoolStatus, Option<Duration>),
    /// It is broken.
    Broken(String),
    /// It was not asked, or has not answered yet.
    Unknown,
}

/// What only the leader knows.
#[derive(Clone, Debug, Default)]
pub(super) struct ClusterFacts {
    /// Whom it hears.
    pub(super) health: Health,
    /// Who votes.
    pub(super) voters: BTreeSet<HostId>,
    /// Room in shared pools.
    pub(super) rooms: BTreeMap<PoolId, Room>,
    /// How the BMCs of hosts do, as far as they were asked.
    pub(super) boards: BTreeMap<HostId, BmcStatus>,
}

fn finding(rule: R, target: String, name: &str, part: Option<&str>, verdict: Verdict) -> Finding {
    let key = Key { rule, target, part: part.map(str::to_owned) };
    Finding { key, name: name.to_owned(), verdict }
}

/// A fault, if there are words for it.
fn fault(severity: Severity, text: Option<String>) -> Verdict {
    text.map_or(Verdict::Fine, |text| Verdict::Fault(severity, text))
}

/// What is wrong with a host, as it sees itself.
pub(super) fn host(
    state: &State,
    host: HostId,
    facts: &HostFacts,
    settings: Settings<'_>,
    now: Timestamp,
) -> Vec<Finding> {
    let target = format!("host/{host}");
    let name = state.hosts.get(&host).map_or_else(|| host.to_string(), |h| h.meta.name.clone());
    let of = |rule, part: Option<&str>, verdict| finding(rule, target.clone(), &name, part, verdict);
    let by = |rule: R, part: Option<&str>, value: f64, text: &dyn Fn(f64) -> String| {
        let key = Key { rule, target: target.clone(), part: part.map(str::to_owned) };
        let level =
            rule.unit().and_then(|u| settings(rule).level(u, value, state.alerting.severity_of(&key)));
        let verdict = level.map_or(Verdict::Fine, |severity| Verdict::Fault(severity, text(value)));
        of(rule, part, verdict)
    };
    let mut found = Vec::new();
    found.push(match facts.memory {
        Some((total, available)) if total > 0 => {
            let share = available as f64 / total as f64 * 100.0;
            by(R::MemoryPressure, None, share, &|share| {
                format!(
                    "only {share:.0} % of the memory is left: stop machines, give them less, or move some to other hosts"
                )
            })
        }
        _ => of(R::MemoryPressure, None, Verdict::Unknown),
    });
    for (disk, health) in &facts.disks {
        let verdict = match health {
            DiskHealth::Healthy => Verdict::Fine,
            DiskHealth::Unknown { .. } => Verdict::Unknown,
            DiskHealth::Worn { reason } => {
                let text = format!("the disk `{disk}` is worn: {reason}; plan to replace it");
                Verdict::Fault(Severity::Warning, text)
            }
            DiskHealth::Failing { reason } => {
                let text =
                    format!("the disk `{disk}` is failing: {reason}; move what is on it and replace it now");
                Verdict::Fault(Severity::Critical, text)
            }
        };
        found.push(of(R::DiskFailing, Some(disk), verdict));
    }
    found.push(match facts.certificate_end {
        None => of(R::CertificateExpiring, None, Verdict::Unknown),
        Some(end) => {
            by(R::CertificateExpiring, None, end.duration_since(now).as_secs_f64() / 86_400.0, &|days| {
                let state = if days < 0.0 { "has ended" } else { "ends" };
                let end = end.strftime("%F %R");
                format!(
                    "the certificate of API and page {state} at {end} UTC: make a new one on the host's page"
                )
            })
        }
    });
    found.push(clock(&facts.clock, &of, &by));
    found.push(of(
        R::HostDegraded,
        None,
        fault(Severity::Warning, (!facts.warnings.is_empty()).then(|| facts.warnings.join(" "))),
    ));
    found.push(of(
        R::BackupFailed,
        None,
        facts.backups.as_ref().map_or(Verdict::Unknown, |b| backups(b, now)),
    ));
    for (pool, room) in &facts.pools {
        let Some(record) = state.pools.get(pool) else { continue };
        let name = &record.meta.name;
        let target = format!("pool/{pool}");
        let broken = match room {
            Room::Broken(why) => Verdict::Fault(Severity::Critical, format!("the pool does not work: {why}")),
            Room::Of(..) => Verdict::Fine,
            Room::Unknown => Verdict::Unknown,
        };
        found.push(finding(R::PoolUnreachable, target.clone(), name, None, broken));
        found.push(filling(&state.alerting, settings, target, name, room));
    }
    found
}

/// How a host's backups of the state stand.
fn backups(kept: &KeptBackups, now: Timestamp) -> Verdict {
    // A clock that was set back makes none old.
    let age = kept.newest.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    let last = kept.newest.map_or_else(
        || "there is none".to_owned(),
        |at| format!("the newest is of {} UTC", at.strftime("%F %R")),
    );
    let old = age.is_none_or(|age| age >= MUCH_TOO_OLD);
    let severity = if old { Severity::Critical } else { Severity::Warning };
    if let Some((since, why)) = &kept.failing {
        let text = format!(
            "the cluster's state could not be backed up here since {} UTC, and {last}: {why}; look at the state partition of the host",
            since.strftime("%F %R")
        );
        return Verdict::Fault(severity, text);
    }
    if let Some((id, why)) = &kept.damaged {
        let text = format!("the newest backup of the cluster's state, `{id}`, cannot be read: {why}");
        return Verdict::Fault(severity, text);
    }
    match age {
        Some(age) if age < TOO_OLD => Verdict::Fine,
        // The daemon has only just begun, or the loop that makes them stands still.
        _ => Verdict::Fault(
            severity,
            format!("no backup of the cluster's state was made here for long: {last}"),
        ),
    }
}

type Of<'a> = &'a dyn Fn(R, Option<&str>, Verdict) -> Finding;
type By<'a> = &'a dyn Fn(R, Option<&str>, f64, &dyn Fn(f64) -> String) -> Finding;

fn clock(clock: &Clock, of: Of<'_>, by: By<'_>) -> Finding {
    let found = clock_beside(clock, of, by);
    match (&clock.trouble, &found.verdict) {
        (Some(why), Verdict::Fine | Verdict::Unknown | Verdict::Fault(Severity::Info, _)) => {
            let text = format!("the clock does not follow the time servers: {why}");
            of(R::ClockOff, None, Verdict::Fault(Severity::Warning, text))
        }
        _ => found,
    }
}

fn clock_beside(clock: &Clock, of: Of<'_>, by: By<'_>) -> Finding {
    let rule = R::ClockOff;
    match (clock.ahead, clock.synchronised) {
        (Some(ahead), _) => by(rule, None, ahead.abs(), &|off| {
            let way = if ahead > 0.0 { "ahead of" } else { "behind" };
            format!(
                "the clock is {off:.1} s {way} the leader's: certificates, one-time codes and logs need the right time; \
                 check the hosts' clocks"
            )
        }),
        // The others say more than the kernel's flag; this one they are measured by.
        (None, _) if clock.among_others => of(rule, None, Verdict::Unknown),
        (None, Some(true)) => of(rule, None, Verdict::Fine),
        (None, Some(false)) => {
            let text = "nothing sets this host's clock (the kernel says it is not synchronised), so it may be off unnoticed";
            of(rule, None, Verdict::Fault(Severity::Info, text.into()))
        }
        (None, None) => of(rule, None, Verdict::Unknown),
    }
}

fn filling(alerting: &Alerting, settings: Settings<'_>, target: String, name: &str, room: &Room) -> Finding {
    let rule = R::PoolFilling;
    let Room::Of(status, until_full) = room else {
        return finding(rule, target, name, None, Verdict::Unknown);
    };
    let (capacity, free) = (status.capacity_bytes.0, status.free_bytes.0);
    if capacity == 0 {
        return finding(rule, target, name, None, Verdict::Unknown);
    }
    let used = capacity.saturating_sub(free) as f64 / capacity as f64 * 100.0;
    let key = Key { rule, target, part: None };
    let settings = settings(rule);
    let level = rule.unit().and_then(|u| settings.level(u, used, alerting.severity_of(&key)));
    let soon = until_full.filter(|t| *t < SOON && used >= HALF && settings.warning.is_some());
    let left = match free >> 30 {
        0 => format!("{} MiB", free >> 20),
        _ => format!("{:.1} GiB", free as f64 / f64::from(1u32 << 30)),
    };
    let verdict = match (level, soon) {
        (Some(severity), _) => Verdict::Fault(
            severity,
            format!("{used:.0} % is used, {left} are left: delete what is not needed, or add room"),
        ),
        (None, Some(soon)) => {
            let hours = soon.as_secs() / 3600;
            let text = format!(
                "{used:.0} % is used, and if it goes on as over the last day it is full in about {hours} hours"
            );
            Verdict::Fault(Severity::Warning, text)
        }
        (None, None) => Verdict::Fine,
    };
    Finding { key, name: name.to_owned(), verdict }
}

/// What is wrong with the cluster, as its leader sees it.
pub(super) fn cluster(
    state: &State,
    me: HostId,
    facts: &ClusterFacts,
    settings: Settings<'_>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let heard = |host: &HostId| *host == me || facts.health.reachable.contains(host);
    // One that has never said where it is cannot be missed.
    for record in state.hosts.values().filter(|r| r.peer.is_some()) {
        let lost = (!heard(&record.meta.id)).then(|| {
            let vms = state.vms.values().filter(|r| r.vm.status.host == Some(record.meta.id)).count();
            format!(
                "the host does not answer: {vms} machines are placed on it. Look at its power, network and console"
            )
        });
        let target = format!("host/{}", record.meta.id);
        found.push(finding(R::HostLost, target, &record.meta.name, None, fault(Severity::Critical, lost)));
    }
    for record in state.hosts.values().filter(|r| r.bmc.is_some()) {
        let verdict = match facts.boards.get(&record.meta.id) {
            None => Verdict::Unknown,
            Some(status) => fault(Severity::Warning, status.failure.clone()),
        };
        let target = format!("host/{}", record.meta.id);
        found.push(finding(R::BmcUnreachable, target, &record.meta.name, None, verdict));
    }
    let there = facts.voters.iter().filter(|v| heard(v)).count();
    let risk = (facts.voters.len() > 1 && there * 2 > facts.voters.len() && (there - 1) * 2 <= facts.voters.len())
        .then(|| {
            format!(
                "{there} of {} voting hosts answer: if one more is lost, nothing can be changed until it is back. Machines \
                 would run on",
                facts.voters.len()
            )
        });
    // With two voters that is how it is and no news.
    let risk = risk.filter(|_| facts.voters.len() > 2 && there < facts.voters.len());
    found.push(finding(R::QuorumAtRisk, CLUSTER.into(), CLUSTER, None, fault(Severity::Warning, risk)));
    for record in state.pools.values().filter(|p| p.spec.is_shared() && !p.deleting) {
        let target = format!("pool/{}", record.meta.id);
        let name = &record.meta.name;
        let not: Vec<_> = record.hosts.values().filter(|h| h.state == PoolState::Unreachable).collect();
        let verdict = if not.is_empty() {
            Verdict::Fine
        } else {
            let none = !record.hosts.values().any(|h| h.state == PoolState::Ready);
            let severity = if none { Severity::Critical } else { Severity::Warning };
            let names: Vec<_> =
                not.iter().filter_map(|h| state.hosts.get(&h.host)).map(|h| h.meta.name.as_str()).collect();
            let why = not.iter().find_map(|h| h.reason.as_deref()).unwrap_or("the reason is not known");
            let who = if none {
                "no host reaches it".into()
            } else {
                format!("not reached by {}", names.join(", "))
            };
            Verdict::Fault(severity, format!("{who}: {why}"))
        };
        found.push(finding(R::PoolUnreachable, target.clone(), name, None, verdict));
        let room = facts.rooms.get(&record.meta.id).unwrap_or(&Room::Unknown);
        found.push(filling(&state.alerting, settings, target, name, room));
    }
    for record in state.vms.values() {
        let vm = &record.vm;
        let failed = (vm.status.state == VmState::Failed).then(|| {
            let why = vm.status.reason.as_deref().unwrap_or("the reason is not known");
            let why: String = why.chars().take(REASON).collect();
            format!("the machine failed and does not run: {why}")
        });
        let target = format!("vm/{}", vm.meta.id);
        found.push(finding(R::VmFailed, target, &vm.meta.name, None, fault(Severity::Critical, failed)));
    }
    for channel in state.alerting.channels.values().filter(|c| c.spec.enabled) {
        let failing = channel.failing.as_ref().map(|(_, why)| format!("alerts do not arrive there: {why}"));
        let target = format!("channel/{}", channel.meta.id);
        let verdict = fault(Severity::Warning, failing);
        found.push(finding(R::ChannelFailing, target, &channel.meta.name, None, verdict));
    }
    found
}

/// The target of what is about the cluster as a whole.
pub(super) const CLUSTER: &str = "cluster";

/// Whether the cluster can be changed, as this host sees it.
pub(super) fn quorum(reached: bool) -> Finding {
    let lost = (!reached).then(|| {
        "no majority of the voting hosts is reached: nothing can be changed. Machines run on. Bring the other hosts back"
            .to_owned()
    });
    finding(R::QuorumLost, CLUSTER.into(), CLUSTER, None, fault(Severity::Critical, lost))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
