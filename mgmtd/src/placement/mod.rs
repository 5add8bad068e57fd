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
pub mod passthrough;
mod ruled;
mod site;
#[cfg(test)]
pub(crate) mod tests;

use crate::{
    cluster::{
        State,
        state::{HostRecord, Release, VmRecord},
    },
    witness::RUNS_NOTHING,
};
use lq_api::{
    Bytes, HostId, PoolId, VmId,
    placement::{Affinity, PlacementDecision, Verdict},
    vm::{Vm, VmSpec},
};
pub use site::Site;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Memory of a host that is kept for itself, at least.
const RESERVE: u64 = 512 * Bytes::MIB;
/// The part of a host's memory kept for itself, at least: one in this many.
const RESERVE_PART: u64 = 20;
/// Why a machine with a TPM is not moved while it runs.
pub(crate) const TPM_STAYS: &str = "the machine has a TPM (`spec.tpm`), which cannot go along while it runs: stop it, move it, and start it there";
/// Why a machine on QEMU is not moved while it runs.
pub(crate) const QEMU_STAYS: &str = "the machine runs on QEMU (`spec.hypervisor`), which cannot be moved while it runs: stop it, move it, and start it there";
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
    decide_on(&Site::of(state), request, reachable)
}

/// Decides, with what was put elsewhere meanwhile in mind.
#[must_use]
pub fn decide_on(
    site: &Site<'_>,
    request: Request<'_>,
    reachable: Option<&BTreeSet<HostId>>,
) -> PlacementDecision {
    let asked = Asked::of(site.state, request);
    let verdict = |host: &Arc<HostRecord>| {
        let mut reasons = Reasons::told();
        let score = judge(site, host, &asked, reachable, &mut reasons);
        Verdict { host: host.meta.id, name: host.meta.name.clone(), score, reasons: reasons.words }
    };
    let mut hosts: Vec<Verdict> = site.state.hosts.values().map(verdict).collect();
    hosts.sort_by_key(|v| (std::cmp::Reverse(v.score), v.host));
    let host = hosts.first().filter(|v| v.score.is_some()).map(|v| v.host);
    PlacementDecision { host, hosts }
}

/// The host that [`decide_on`] chooses, without a word about it.
#[must_use]
pub fn choose(site: &Site<'_>, request: Request<'_>, reachable: Option<&BTreeSet<HostId>>) -> Option<HostId> {
    let asked = Asked::of(site.state, request);
    let score = |host: &Arc<HostRecord>| {
        let score = judge(site, host, &asked, reachable, &mut Reasons::default())?;
        Some((std::cmp::Reverse(score), host.meta.id))
    };
    site.state.hosts.values().filter_map(score).min().map(|(_, host)| host)
}

/// Why a host was refused, or what speaks for and against it.
#[derive(Debug, Default)]
struct Reasons {
    /// In words, where these are asked for.
    words: Vec<String>,
    wanted: bool,
    any: bool,
}

impl Reasons {
    fn told() -> Self {
        Self { wanted: true, ..Self::default() }
    }

    fn add(&mut self, words: impl FnOnce() -> String) {
        self.any = true;
        if self.wanted {
            self.words.push(words());
        }
    }
}

/// A request, with what the state says of it: looked up once for all hosts.
struct Asked<'a> {
    spec: &'a VmSpec,
    vm: Option<VmId>,
    /// The machine, where it exists.
    there: Option<&'a VmRecord>,
    /// Memory it takes: what it is to have, or still has where it goes on.
    needed: Bytes,
    /// The version its host runs, where it goes on while it runs.
    release: Option<Release>,
    /// Why its TPM keeps it where it is, where it does.
    tpm: Option<&'static str>,
    /// Why what runs it does.
    hypervisor: Option<&'static str>,
    /// Its volumes and images in pools that a host has to reach, as they are called.
    bound: Vec<(PoolId, &'static str, &'a str)>,
}

impl<'a> Asked<'a> {
    fn of(state: &'a State, request: Request<'a>) -> Self {
        let Request { vm, goes_on, spec, .. } = request;
        let there = vm.and_then(|vm| state.vms.get(&vm)).map(|record| &**record);
        let on = there.filter(|_| goes_on);
        let has = on.map_or(Bytes(0), |record| record.vm.status.memory_bytes.unwrap_or_default());
        let host = on.filter(|record| !record.at_rest()).and_then(|record| record.vm.status.host);
        let release = host.and_then(|host| state.hosts.get(&host)?.capacity.as_ref()?.release);
        let volumes = spec.disks.iter().filter_map(|disk| {
            let volume = state.volumes.get(&disk.volume)?;
            Some((volume.spec.pool?, "volume", volume.meta.name.as_str()))
        });
        let images = spec.boot.iter().flat_map(|b| std::iter::once(b.kernel).chain(b.initrd));
        let images = images.filter_map(|image| {
            let image = &state.images.get(&image)?.image;
            // One in a pool of another host is brought from there.
            let shared = |p: &PoolId| state.pools.get(p).is_some_and(|p| p.spec.is_shared());
            Some((image.spec.pool.filter(shared)?, "image", image.meta.name.as_str()))
        });
        let bound = volumes.chain(images).collect();
        let tpm = there.filter(|_| spec.tpm).and_then(|record| match goes_on {
            true => (!record.at_rest()).then_some(TPM_STAYS),
            false => record.vars.is_none().then_some(
                "what its TPM keeps is on its host alone: only a machine whose first disk was in a shared pool when it was \
                 made has it where every host reaches it",
            ),
        });
        let runs = on.filter(|record| !record.at_rest());
        let hypervisor = runs.filter(|_| !spec.hypervisor.is_own()).map(|_| QEMU_STAYS);
        Self { spec, vm, there, needed: spec.memory_bytes.max(has), release, tpm, hypervisor, bound }
    }
}

/// How well the host fits; `None` where it is refused.
fn judge(
    site: &Site<'_>,
    host: &HostRecord,
    asked: &Asked<'_>,
    reachable: Option<&BTreeSet<HostId>>,
    reasons: &mut Reasons,
) -> Option<i64> {
    refuse(site, host, asked, reasons);
    if reachable.is_some_and(|r| !r.contains(&host.meta.id)) {
        reasons.add(|| "it does not answer".into());
    }
    (!reasons.any).then(|| score(site, host, asked, reasons))
}

/// Why a machine cannot be on this host; empty where it can.
#[must_use]
pub fn refusals(state: &State, host: &HostRecord, request: Request<'_>) -> Vec<String> {
    let mut reasons = Reasons::told();
    refuse(&Site::of_host(state, host.meta.id), host, &Asked::of(state, request), &mut reasons);
    reasons.words
}

fn refuse(site: &Site<'_>, host: &HostRecord, asked: &Asked<'_>, reasons: &mut Reasons) {
    let (state, id, spec, there) = (site.state, host.meta.id, asked.spec, asked.there);
    let mut refuse = |so: bool, why: &str| {
        if so {
            reasons.add(|| why.to_owned());
        }
    };
    refuse(host.is_witness(), RUNS_NOTHING);
    refuse(host.leaving, "it is leaving the cluster");
    refuse(there.is_some_and(|r| r.vm.status.host == Some(id)), THERE);
    if let Some(reason) = outdated(host, asked) {
        refuse(true, &reason);
    }
    refuse(host.maintenance.is_some(), "it is in maintenance");
    refuse(host.lost.is_some(), "the cluster was formed anew without it");
    refuse(spec.placement.host.is_some_and(|wanted| wanted != id), "another host is asked for");
    let elsewhere = there.is_some_and(|r| r.vm.status.host != Some(id));
    let passed = !spec.passthrough.is_empty();
    refuse(passed && elsewhere, passthrough::STAYS);
    if passed && !elsewhere {
        for why in passthrough::refusals(state, host, asked.vm, spec) {
            refuse(true, &why);
        }
    }
    for why in asked.tpm.into_iter().chain(asked.hypervisor) {
        refuse(true, why);
    }
    for (pool, what, name) in &asked.bound {
        if let Some(why) = state.unreached(*pool, id) {
            reasons.add(|| format!("the {what} `{name}` {why}"));
        }
    }
    // What its firmware and its TPM keep follows it only in a pool that both hosts reach.
    if let Some(why) = there.and_then(|r| r.vars).and_then(|pool| state.unreached(pool, id)) {
        reasons.add(|| format!("what its firmware remembers {why}"));
    }
    if let Some(capacity) = &host.capacity {
        let wanted = spec.cpu.features().iter();
        let missing: Vec<_> = wanted.copied().filter(|f| capacity.lacks.iter().any(|l| l == f)).collect();
        if !missing.is_empty() {
            let model = spec.cpu.name();
            let missing = missing.join(", ");
            reasons.add(|| format!("its processors lack what the CPU model {model} needs: {missing}"));
        }
    }
    if let Some(room) = room(host) {
        let free = room.saturating_sub(site.used(id, there).memory);
        let needed = asked.needed;
        if needed.get() > free {
            let (free, of) = (Bytes(free), Bytes(room));
            reasons.add(|| format!("{needed} of memory are needed, {free} of {of} are free for machines"));
        }
    }
    for (rules, near) in [(&spec.placement.near, true), (&spec.placement.apart, false)] {
        for rule in rules.iter().filter(|r| r.strict) {
            if let Some(how) = broken(site, id, asked.vm, rule, near) {
                reasons.add(|| how.words(state));
            }
        }
    }
}

/// Why a machine that runs cannot go on there: a monitor does not know what a later one brings.
fn outdated(host: &HostRecord, asked: &Asked<'_>) -> Option<String> {
    let (theirs, ours) = (asked.release?, host.capacity.as_ref()?.release?);
    (ours < theirs)
        .then(|| format!("it runs version {ours}, the machine's host {theirs}: it has to be updated first"))
}

/// Memory of a host that is left for machines, and all there is for them; `None` where it has not said what it has.
#[must_use]
pub fn free(state: &State, host: &HostRecord) -> Option<(Bytes, Bytes)> {
    let room = room(host)?;
    let used = Site::of_host(state, host.meta.id).used(host.meta.id, None).memory;
    Some((Bytes(room.saturating_sub(used)), Bytes(room)))
}

/// Memory for machines; `None` where the host has not said what it has.
fn room(host: &HostRecord) -> Option<u64> {
    let all = host.capacity.as_ref()?.memory.get();
    Some(all.saturating_sub(RESERVE.max(all / RESERVE_PART)))
}

/// How a rule is broken.
struct Broken<'a> {
    rule: &'a Affinity,
    /// The machine it should be apart from; `None`: there is none to be near to.
    by: Option<VmId>,
}

impl Broken<'_> {
    fn words(&self, state: &State) -> String {
        let label = &self.rule.label;
        match self.by.and_then(|by| state.vms.get(&by)) {
            Some(other) => format!("`{}` with the label {label} runs there", other.vm.meta.name),
            None => format!("no machine with the label {label} is there"),
        }
    }
}

/// How a rule of this machine would be broken on this host.
fn broken<'a>(
    site: &Site<'_>,
    host: HostId,
    vm: Option<VmId>,
    rule: &'a Affinity,
    near: bool,
) -> Option<Broken<'a>> {
    let label = rule.pair()?;
    match (near, site.named_on(host, label, vm.as_slice())) {
        (false, Some(other)) => Some(Broken { rule, by: Some(other) }),
        // The first of a group may go anywhere.
        (true, None) if site.is_named(label, vm) => Some(Broken { rule, by: None }),
        _ => None,
    }
}

/// How well a host fits that fits: free memory afterwards in thousandths, less what is oversubscribed, and the preferences.
fn score(site: &Site<'_>, host: &HostRecord, asked: &Asked<'_>, reasons: &mut Reasons) -> i64 {
    let (id, spec) = (host.meta.id, asked.spec);
    let used = site.used(id, asked.there);
    let mut score = 0;
    if let Some(room) = room(host) {
        let used = used.memory.saturating_add(asked.needed.get());
        let free = u128::from(room.saturating_sub(used)) * 1000 / u128::from(room.max(1));
        score += i64::try_from(free).unwrap_or(i64::MAX);
        reasons.add(|| format!("{} % of its memory for machines stays free", free / 10));
    }
    if let Some(capacity) = &host.capacity {
        let vcpus = used.vcpus + u64::from(spec.vcpus);
        let threads = u64::from(capacity.threads.max(1));
        if vcpus > threads {
            let over = (vcpus - threads) * 100 / threads;
            score -= i64::try_from(over.min(1000)).unwrap_or(1000);
            reasons.add(|| format!("{vcpus} virtual CPUs share {threads} threads"));
        }
    }
    for (rules, near) in [(&spec.placement.near, true), (&spec.placement.apart, false)] {
        for rule in rules.iter().filter(|r| !r.strict) {
            if let Some(how) = broken(site, id, asked.vm, rule, near) {
                score -= PREFERENCE;
                reasons.add(|| format!("against a preference: {}", how.words(site.state)));
            }
        }
    }
    score
}

/// Why a machine is not placed where it is.
const THERE: &str = "the machine is there already";

/// A decision that found no host, in words. That a machine is where it is explains nothing.
#[must_use]
pub fn explain(decision: &PlacementDecision) -> String {
    let others: Vec<_> = decision.hosts.iter().filter(|v| v.reasons.iter().all(|why| why != THERE)).collect();
    if others.is_empty() && !decision.hosts.is_empty() {
        return "there is no other host that could take the machine: shut it down, or bring another host in"
            .into();
    }
    if others.is_empty() {
        return "no host can take the machine".into();
    }
    let hosts = others.iter().map(|v| format!("`{}`: {}", v.name, v.reasons.join(", ")));
    format!("no host can take the machine ({})", hosts.collect::<Vec<_>>().join("; "))
}
