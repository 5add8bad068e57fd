//! Where a machine goes. Pure.
//!
//! ```text
//!  every host ─▶ filter (may it?) ─▶ score (how well?) ─▶ best ─▶ claim: `Op::CreateVm` on that host
//!                     └────────── asked again, of the then state, by the command itself ◀──┘
//! ```
//! Invariants: a host is never chosen that the filter refuses; every refusal has a reason; the same state and request give the
//! same decision; the claim succeeds only if the filter still agrees when it is applied, so that two decisions at a time
//! cannot both take the last room.

pub mod balance;
#[cfg(test)]
mod balance_tests;
pub mod balancer;
#[cfg(test)]
mod tests;

use crate::cluster::{
    State,
    state::{HostRecord, VmRecord},
};
use lq_api::{
    Bytes, HostId, VmId,
    placement::{Affinity, PlacementDecision, Verdict},
    vm::{PowerState, Vm, VmSpec},
};
use std::collections::{BTreeMap, BTreeSet};

/// Memory of a host that is kept for itself, at least.
const RESERVE: u64 = 512 * Bytes::MIB;
/// The part of a host's memory kept for itself, at least: one in this many.
const RESERVE_PART: u64 = 20;
/// What a wish that is only preferred is worth, in thousandths of a host's memory.
const PREFERENCE: i64 = 400;

/// A machine to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The machine, where it exists already: it does not count against itself, nor does it stay where it is.
    pub vm: Option<VmId>,
    /// It goes on there with all it has in memory, where it runs; else it starts anew.
    pub goes_on: bool,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What is wanted.
    pub spec: &'a VmSpec,
}

impl<'a> Request<'a> {
    /// Of a machine that is to be made.
    #[must_use]
    pub fn new(labels: &'a BTreeMap<String, String>, spec: &'a VmSpec) -> Self {
        Self { vm: None, goes_on: false, labels, spec }
    }

    /// Of one that exists and goes on elsewhere with all it has in memory.
    #[must_use]
    pub fn going_on(vm: &'a Vm) -> Self {
        Self { goes_on: true, ..Self::anew(vm) }
    }

    /// Of one that exists and starts anew elsewhere.
    #[must_use]
    pub fn anew(vm: &'a Vm) -> Self {
        Self { vm: Some(vm.meta.id), ..Self::new(&vm.meta.labels, &vm.spec) }
    }
}

/// Decides. `reachable` are the hosts the leader hears, where that is known.
#[must_use]
pub fn decide(
    state: &State,
    request: Request<'_>,
    reachable: Option<&BTreeSet<HostId>>,
) -> PlacementDecision {
    let mut hosts: Vec<Verdict> = state
        .hosts
        .values()
        .map(|host| {
            let id = host.meta.id;
            let mut reasons = refusals(state, host, request);
            if reachable.is_some_and(|r| !r.contains(&id)) {
                reasons.push("it does not answer".into());
            }
            let score = reasons.is_empty().then(|| score(state, host, request, &mut reasons));
            Verdict { host: id, name: host.meta.name.clone(), score, reasons }
        })
        .collect();
    hosts.sort_by_key(|v| (std::cmp::Reverse(v.score), v.host));
    let host = hosts.first().filter(|v| v.score.is_some()).map(|v| v.host);
    PlacementDecision { host, hosts }
}

/// Why a machine cannot be on this host; empty where it can.
#[must_use]
pub fn refusals(state: &State, host: &HostRecord, request: Request<'_>) -> Vec<String> {
    let id = host.meta.id;
    let spec = request.spec;
    let mut reasons = Vec::new();
    if host.leaving {
        reasons.push("it is leaving the cluster".into());
    }
    let there = request.vm.and_then(|vm| state.vms.get(&vm));
    if there.is_some_and(|r| r.vm.status.host == Some(id)) {
        reasons.push("the machine is there already".into());
    }
    if let Some(reason) = there.filter(|_| request.goes_on).and_then(|record| outdated(state, host, record)) {
        reasons.push(reason);
    }
    if host.maintenance.is_some() {
        reasons.push("it is in maintenance".into());
    }
    if host.lost.is_some() {
        reasons.push("the cluster was formed anew without it".into());
    }
    if spec.placement.host.is_some_and(|wanted| wanted != id) {
        reasons.push("another host is asked for".into());
    }
    for disk in &spec.disks {
        let Some(volume) = state.volumes.get(&disk.volume) else { continue };
        let Some(pool) = volume.spec.pool else { continue };
        if let Some(why) = state.unreached(pool, id) {
            reasons.push(format!("the volume `{}` {why}", volume.meta.name));
        }
    }
    // Its firmware's variables follow it only in a pool that both hosts reach.
    if let Some(why) = there.and_then(|r| r.vars).and_then(|pool| state.unreached(pool, id)) {
        reasons.push(format!("what its firmware remembers {why}"));
    }
    for image in spec.boot.iter().flat_map(|b| std::iter::once(b.kernel).chain(b.initrd)) {
        let Some(image) = state.images.get(&image).map(|r| &r.image) else { continue };
        // One in a pool of another host is brought from there.
        let shared = image.spec.pool.filter(|p| state.pools.get(p).is_some_and(|p| p.spec.is_shared()));
        if let Some(why) = shared.and_then(|pool| state.unreached(pool, id)) {
            reasons.push(format!("the image `{}` {why}", image.meta.name));
        }
    }
    if let Some(capacity) = &host.capacity {
        let wanted = spec.cpu.features().iter();
        let missing: Vec<_> = wanted.copied().filter(|f| capacity.lacks.iter().any(|l| l == f)).collect();
        if !missing.is_empty() {
            let model = spec.cpu.name();
            reasons.push(format!(
                "its processors lack what the CPU model {model} needs: {}",
                missing.join(", ")
            ));
        }
    }
    if let Some(room) = room(host) {
        let free = room.saturating_sub(memory_in_use(state, id, request.vm));
        let needed = needed(state, request);
        if needed.get() > free {
            reasons.push(format!(
                "{needed} of memory are needed, {} of {} are free for machines",
                Bytes(free),
                Bytes(room)
            ));
        }
    }
    for (rules, near) in [(&spec.placement.near, true), (&spec.placement.apart, false)] {
        for rule in rules.iter().filter(|r| r.strict) {
            if let Some(reason) = broken(state, id, request, rule, near) {
                reasons.push(reason);
            }
        }
    }
    reasons
}

/// Why a machine that runs cannot go on there: a monitor does not know what a later one brings.
fn outdated(state: &State, host: &HostRecord, record: &VmRecord) -> Option<String> {
    let from = state.hosts.get(&record.vm.status.host?)?;
    let (theirs, ours) = (from.capacity.as_ref()?.release?, host.capacity.as_ref()?.release?);
    (!record.at_rest() && ours < theirs)
        .then(|| format!("it runs version {ours}, the machine's host {theirs}: it has to be updated first"))
}

/// Memory a machine takes: what it is to have, or still has where it goes on.
fn needed(state: &State, request: Request<'_>) -> Bytes {
    let there = request.vm.filter(|_| request.goes_on).and_then(|vm| state.vms.get(&vm));
    let has = there.map_or(Bytes(0), |record| record.vm.status.memory_bytes.unwrap_or_default());
    request.spec.memory_bytes.max(has)
}

/// Memory of a host that is left for machines, and all there is for them; `None` where it has not said what it has.
#[must_use]
pub fn free(state: &State, host: &HostRecord) -> Option<(Bytes, Bytes)> {
    let room = room(host)?;
    Some((Bytes(room.saturating_sub(memory_in_use(state, host.meta.id, None))), Bytes(room)))
}

/// Memory for machines; `None` where the host has not said what it has.
fn room(host: &HostRecord) -> Option<u64> {
    let all = host.capacity.as_ref()?.memory.get();
    Some(all.saturating_sub(RESERVE.max(all / RESERVE_PART)))
}

fn on_host(state: &State, host: HostId, but: Option<VmId>) -> impl Iterator<Item = &VmRecord> {
    let here = state.vms.values().map(|r| &**r);
    // One that moves counts on both hosts until it is known to be on one alone.
    here.filter(move |r| r.role(host).is_some() && Some(r.vm.meta.id) != but)
}

/// Memory of the machines that run there or are to.
fn memory_in_use(state: &State, host: HostId, but: Option<VmId>) -> u64 {
    let active = on_host(state, host, but).filter(|r| r.vm.spec.power != PowerState::Stopped || !r.at_rest());
    active.map(|r| r.memory().get()).fold(0, u64::saturating_add)
}

/// How a rule would be broken on this host.
fn broken(state: &State, host: HostId, request: Request<'_>, rule: &Affinity, near: bool) -> Option<String> {
    let (key, value) = rule.pair()?;
    let named = |r: &&VmRecord| r.vm.meta.labels.get(key).is_some_and(|v| v == value);
    let here = on_host(state, host, request.vm).find(named);
    match (near, here) {
        (false, Some(other)) => {
            Some(format!("`{}` with the label {} runs there", other.vm.meta.name, rule.label))
        }
        (true, None) => {
            // The first of a group may go anywhere.
            let mut all = state.vms.values().map(|r| &**r).filter(|r| Some(r.vm.meta.id) != request.vm);
            let first = !all.any(|r| named(&r));
            (!first).then(|| format!("no machine with the label {} is there", rule.label))
        }
        _ => None,
    }
}

/// How well a host fits that fits: free memory afterwards in thousandths, less what is oversubscribed, and the preferences.
fn score(state: &State, host: &HostRecord, request: Request<'_>, reasons: &mut Vec<String>) -> i64 {
    let id = host.meta.id;
    let spec = request.spec;
    let mut score = 0;
    if let Some(room) = room(host) {
        let used = memory_in_use(state, id, request.vm).saturating_add(needed(state, request).get());
        let free = u128::from(room.saturating_sub(used)) * 1000 / u128::from(room.max(1));
        score += i64::try_from(free).unwrap_or(i64::MAX);
        reasons.push(format!("{} % of its memory for machines stays free", free / 10));
    }
    if let Some(capacity) = &host.capacity {
        let active = on_host(state, id, request.vm).filter(|r| r.vm.spec.power != PowerState::Stopped);
        let vcpus = active.map(|r| u64::from(r.vm.spec.vcpus)).sum::<u64>() + u64::from(spec.vcpus);
        let threads = u64::from(capacity.threads.max(1));
        if vcpus > threads {
            let over = (vcpus - threads) * 100 / threads;
            score -= i64::try_from(over.min(1000)).unwrap_or(1000);
            reasons.push(format!("{vcpus} virtual CPUs share {threads} threads"));
        }
    }
    for (rules, near) in [(&spec.placement.near, true), (&spec.placement.apart, false)] {
        for rule in rules.iter().filter(|r| !r.strict) {
            if let Some(reason) = broken(state, id, request, rule, near) {
                score -= PREFERENCE;
                reasons.push(format!("against a preference: {reason}"));
            }
        }
    }
    score
}

/// A decision that found no host, in words.
#[must_use]
pub fn explain(decision: &PlacementDecision) -> String {
    if decision.hosts.is_empty() {
        return "no host can take the machine".into();
    }
    let hosts = decision.hosts.iter().map(|v| format!("`{}`: {}", v.name, v.reasons.join(", ")));
    format!("no host can take the machine ({})", hosts.collect::<Vec<_>>().join("; "))
}
