//! Which machine would better run elsewhere. Pure.
//!
//! ```text
//!  state ─▶ Model (what is promised per host) ─▶ every move by kind of machine and target, by gain ─▶ first that all rules allow
//! ```
//! What is weighed is what is promised, not what is used at the moment: memory is given for good, processors by their number per
//! thread. The imbalance of a cluster is the sum, over its hosts, of the squares of their loads, each host by its size; it is least
//! where all are loaded alike. A wish that is broken adds to it. A move must lessen it by more than it costs and a margin.
//!
//! Invariants: a move is never against a rule of the machine or of another one, never of a machine that cannot move, never to or
//! from a host that is away, leaving or in maintenance. As each move lessens the imbalance by the margin at least, a
//! sequence of them ends, and never comes back to where it was (property-tested).

use super::{
    Asked, Reasons, Request, Site, broken, refuse, room,
    ruled::{RulesByLabel, Word},
};
use crate::cluster::{
    State,
    state::{HostRecord, VmRecord},
};
use lq_api::{
    HostId, VmId,
    balance::{BalanceHost, Recommendation},
    vm::{PowerState, VmState},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A gain that is not worth a move, beside its cost, in thousandths.
pub const MARGIN: i64 = 10;
/// To begin after a time of balance, the best move must gain so many times what one has to.
pub const BEGIN: i64 = 3;
/// What a wish is worth.
pub(super) const WISH: i64 = 100;
/// What a rule is worth that is broken already, as after labels have changed.
const RULE: i64 = 400;
/// What any move costs.
const MOVE: i64 = 2;
/// What it costs to move as much memory as a host has for machines on average.
const MEMORY: f64 = 20.0;
/// So many virtual processors per thread count as a full host.
const VCPUS_PER_THREAD: f64 = 2.0;
/// Moves that are tried against the rules, before it is said that there is none.
const TRIES: usize = 128;
/// Machines of one kind on one host that are tried.
const OF_A_KIND: usize = 8;

/// What is promised of a host.
#[derive(Clone, Debug)]
struct Load {
    memory: f64,
    vcpus: f64,
    room: f64,
    threads: f64,
    machines: u32,
    /// Balancing may use it.
    usable: bool,
}

/// Sizes a machine's weight is seen by.
type Shape = (u64, u8);

impl Load {
    /// Its part of the imbalance, in thousandths, with so much more on it.
    fn part(&self, memory: f64, vcpus: f64, mean: &Mean) -> f64 {
        let m = (self.memory + memory) / self.room;
        let c = (self.vcpus + vcpus) / (self.threads * VCPUS_PER_THREAD);
        1000.0 * (self.room / mean.room * m * m + self.threads / mean.threads * c * c)
    }
}

#[derive(Clone, Copy, Debug)]
struct Mean {
    room: f64,
    threads: f64,
}

/// The cluster by what is promised.
struct Model {
    hosts: BTreeMap<HostId, Load>,
    mean: Mean,
    /// Machines that may move, by host and size.
    kinds: BTreeMap<(HostId, Shape), Vec<VmId>>,
    /// Those with wishes or rules among them.
    particular: Vec<VmId>,
}

/// What else has to be left alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// Hosts the leader hears, where that is known.
    pub reachable: Option<&'a BTreeSet<HostId>>,
    /// Machines that were moved not long ago.
    pub resting: Option<&'a BTreeSet<VmId>>,
}

/// Why balancing leaves a host alone.
fn left_alone(state: &State, host: &HostRecord, limits: Limits<'_>) -> Option<&'static str> {
    let id = host.meta.id;
    let away = limits.reachable.is_some_and(|r| !r.contains(&id));
    [
        (host.leaving, "it is leaving the cluster"),
        (host.lost.is_some(), "the cluster was formed anew without it"),
        (host.maintenance.is_some(), "it is in maintenance"),
        (host.off.is_some() && state.is_off(id), "it is off"),
        (away, "it does not answer"),
        (room(host).is_none_or(|r| r == 0), "it has not said what it has"),
    ]
    .into_iter()
    .find_map(|(so, why)| so.then_some(why))
}

/// Whether the machine could move now, wherever to.
fn movable(record: &VmRecord) -> bool {
    let vm = &record.vm;
    record.moving.is_none()
        && !record.deleting
        && vm.spec.power == PowerState::Running
        && vm.status.state == VmState::Running
        && vm.spec.placement.host.is_none()
}

impl Model {
    fn of(state: &State, limits: Limits<'_>) -> Self {
        let mut hosts: BTreeMap<HostId, Load> = state
            .hosts
            .values()
            .map(|host| {
                let threads = host.capacity.as_ref().map_or(1, |c| c.threads.max(1));
                let load = Load {
                    memory: 0.0,
                    vcpus: 0.0,
                    room: room(host).unwrap_or(0).max(1) as f64,
                    threads: f64::from(threads),
                    machines: 0,
                    usable: left_alone(state, host, limits).is_none(),
                };
                (host.meta.id, load)
            })
            .collect();
        let mut kinds: BTreeMap<(HostId, Shape), Vec<VmId>> = BTreeMap::new();
        let mut particular = Vec::new();
        for record in state.vms.values() {
            let spec = &record.vm.spec;
            if spec.power == PowerState::Stopped && record.at_rest() {
                continue;
            }
            let shape = (record.memory().get(), spec.vcpus);
            // One that moves counts on both.
            let places =
                [record.vm.status.host, record.moving.map(|m| if m.switched { m.from } else { m.to })];
            for place in places.into_iter().flatten() {
                if let Some(load) = hosts.get_mut(&place) {
                    load.memory += shape.0 as f64;
                    load.vcpus += f64::from(shape.1);
                    load.machines += 1;
                }
            }
            let Some(host) = record.vm.status.host.filter(|h| hosts.get(h).is_some_and(|l| l.usable)) else {
                continue;
            };
            let id = record.vm.meta.id;
            if !movable(record) || limits.resting.is_some_and(|r| r.contains(&id)) {
                continue;
            }
            kinds.entry((host, shape)).or_default().push(id);
            if !(spec.placement.near.is_empty() && spec.placement.apart.is_empty()) {
                particular.push(id);
            }
        }
        let usable = || hosts.values().filter(|l| l.usable);
        let count = usable().count().max(1) as f64;
        let mean = Mean {
            room: (usable().map(|l| l.room).sum::<f64>() / count).max(1.0),
            threads: (usable().map(|l| l.threads).sum::<f64>() / count).max(1.0),
        };
        Self { hosts, mean, kinds, particular }
    }

    /// What a machine of this size adds to the part of a host it comes to, in thousandths.
    fn added(&self, (memory, vcpus): Shape, to: &Load) -> f64 {
        to.part(memory as f64, f64::from(vcpus), &self.mean) - to.part(0.0, 0.0, &self.mean)
    }

    /// What it takes from the part of a host it leaves.
    fn taken(&self, (memory, vcpus): Shape, from: &Load) -> f64 {
        from.part(0.0, 0.0, &self.mean) - from.part(-(memory as f64), -f64::from(vcpus), &self.mean)
    }

    /// What moving a machine of this size gains by the loads alone, in thousandths.
    fn gain(&self, shape: Shape, from: &Load, to: &Load) -> i64 {
        (self.taken(shape, from) - self.added(shape, to)).floor() as i64
    }

    fn cost(&self, shape: Shape) -> i64 {
        MOVE + (MEMORY * shape.0 as f64 / self.mean.room).ceil() as i64
    }

    /// Moves that gain enough by the loads alone, the best first.
    fn by_load(&self) -> Vec<(i64, HostId, Shape, HostId)> {
        let mut found = Vec::new();
        // By size, what it adds to each host that has room for it: that of the source does not change it.
        let mut targets: BTreeMap<Shape, Vec<(f64, HostId)>> = BTreeMap::new();
        for (from, shape) in self.kinds.keys() {
            let Some(source) = self.hosts.get(from) else { continue };
            let targets = targets.entry(*shape).or_insert_with(|| {
                let fits = |t: &Load| t.usable && t.memory + shape.0 as f64 <= t.room;
                let fitting = self.hosts.iter().filter(|(_, target)| fits(target));
                fitting.map(|(to, target)| (self.added(*shape, target), *to)).collect()
            });
            let (taken, least) = (self.taken(*shape, source), self.cost(*shape) + MARGIN);
            for (added, to) in targets.iter().filter(|(_, to)| to != from) {
                let gain = (taken - added).floor() as i64;
                if gain >= least {
                    found.push((gain, *from, *shape, *to));
                }
            }
        }
        let order = |a: &(i64, HostId, Shape, HostId), b: &(i64, HostId, Shape, HostId)| {
            (b.0 - self.cost(b.2))
                .cmp(&(a.0 - self.cost(a.2)))
                .then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3)))
        };
        // Only the first are ever looked at.
        if found.len() > TRIES {
            found.select_nth_unstable_by(TRIES, order);
            found.truncate(TRIES);
        }
        found.sort_unstable_by(order);
        found
    }
}

/// What the wishes and rules of a machine cost where they are broken on this host.
fn grief(site: &Site<'_>, host: HostId, record: &VmRecord) -> i64 {
    let id = Some(record.vm.meta.id);
    let rules = &record.vm.spec.placement;
    let mut grief = 0;
    for (rules, near) in [(&rules.near, true), (&rules.apart, false)] {
        for rule in rules.iter().filter(|rule| broken(site, host, id, rule, near).is_some()) {
            grief += if rule.strict { RULE } else { WISH };
        }
    }
    grief
}

/// A machine that is offered elsewhere, with all about it that is the same wherever to.
struct Offered<'a> {
    record: &'a VmRecord,
    from: HostId,
    shape: Shape,
    asked: Asked<'a>,
    /// What its own wishes and rules cost where it is.
    grief: i64,
    others: Word,
}

impl<'a> Offered<'a> {
    fn of(site: &Site<'a>, rules: &RulesByLabel<'_>, record: &'a VmRecord) -> Option<Self> {
        let from = record.vm.status.host?;
        Some(Self {
            record,
            from,
            shape: (record.memory().get(), record.vm.spec.vcpus),
            asked: Asked::of(site.state, Request::going_on(&record.vm)),
            grief: grief(site, from, record),
            others: rules.of_leaving(site, record, from),
        })
    }

    /// The move to this host, if all rules allow it and it is worth it.
    fn to(&self, site: &Site<'_>, model: &Model, to: HostId) -> Option<Move> {
        let target = site.state.hosts.get(&to)?;
        let by_load = model.gain(self.shape, model.hosts.get(&self.from)?, model.hosts.get(&to)?);
        let wishes = self.grief - grief(site, to, self.record);
        let cost = model.cost(self.shape);
        let gain = by_load + wishes - self.others.on(to)?;
        if gain < cost + MARGIN {
            return None;
        }
        let mut refused = Reasons::default();
        refuse(site, target, &self.asked, &mut refused);
        let vm = self.record.vm.meta.id;
        (!refused.any).then_some(Move { vm, from: self.from, to, gain, cost, wishes })
    }
}

/// A move that is worth it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The machine.
    pub vm: VmId,
    /// Where it is.
    pub from: HostId,
    /// Where it would better be.
    pub to: HostId,
    /// What is gained, in thousandths.
    pub gain: i64,
    /// What it costs.
    pub cost: i64,
    /// The part of the gain that is wishes and rules kept.
    pub wishes: i64,
}

/// The best move there is. It is exact by kind of machine; of more than [`TRIES`] moves that rules forbid the rest is not looked at.
#[must_use]
pub fn best_move(state: &State, limits: Limits<'_>) -> Option<Move> {
    let model = Model::of(state, limits);
    let site = Site::of(state);
    site.index_rules();
    let rules = RulesByLabel::of(state);
    let mut best: Option<Move> = None;
    let mut offer = |offered: &Offered<'_>, to: HostId| {
        let Some(found) = offered.to(&site, &model, to) else { return false };
        if best.as_ref().is_none_or(|b| found.gain - found.cost > b.gain - b.cost) {
            best = Some(found);
        }
        true
    };
    // Those whose wishes are broken where they are.
    let unhappy = model
        .particular
        .iter()
        .filter_map(|id| state.vms.get(id))
        .filter(|record| record.vm.status.host.is_some_and(|host| grief(&site, host, record) > 0));
    for offered in unhappy.take(TRIES / 4).filter_map(|record| Offered::of(&site, &rules, record)) {
        for (to, load) in &model.hosts {
            if load.usable && offered.from != *to {
                offer(&offered, *to);
            }
        }
    }
    let mut tries = 0;
    'looking: for (_, from, shape, to) in model.by_load() {
        for id in model.kinds.get(&(from, shape)).into_iter().flatten().take(OF_A_KIND) {
            let record = state.vms.get(id);
            let Some(offered) = record.and_then(|r| Offered::of(&site, &rules, r)) else { continue };
            // Those behind it gain less by their loads, and nothing by wishes that were not offered before.
            if offer(&offered, to) {
                break 'looking;
            }
            tries += 1;
            if tries >= TRIES {
                break 'looking;
            }
        }
    }
    best
}

/// Up to `most` moves, each after those before it.
#[must_use]
pub fn plan(state: &State, limits: Limits<'_>, most: usize) -> Vec<Move> {
    let mut state = Cow::Borrowed(state);
    let mut moves = Vec::new();
    while moves.len() < most {
        let Some(next) = best_move(&state, limits) else { break };
        if let Some(record) = state.to_mut().vms.get_mut(&next.vm) {
            Arc::make_mut(record).vm.status.host = Some(next.to);
        }
        moves.push(next);
    }
    moves
}

/// The imbalance of the whole, in thousandths: what moves lessen.
#[must_use]
pub fn imbalance(state: &State, limits: Limits<'_>) -> i64 {
    let model = Model::of(state, limits);
    let loads: f64 = model.hosts.values().filter(|l| l.usable).map(|l| l.part(0.0, 0.0, &model.mean)).sum();
    let site = Site::of(state);
    site.index_rules();
    let wishes: i64 = state.vms.values().filter_map(|r| Some(grief(&site, r.vm.status.host?, r))).sum();
    loads.round() as i64 + wishes
}

/// How every host is loaded.
#[must_use]
pub fn hosts(state: &State, limits: Limits<'_>) -> Vec<BalanceHost> {
    let model = Model::of(state, limits);
    let percent = |part: f64, of: f64| (100.0 * part / of).round().clamp(0.0, 1e9) as u32;
    let one = |host: &Arc<HostRecord>| {
        let load = model.hosts.get(&host.meta.id)?;
        Some(BalanceHost {
            host: host.meta.id,
            name: host.meta.name.clone(),
            memory_percent: percent(load.memory, load.room),
            vcpu_percent: percent(load.vcpus, load.threads),
            machines: load.machines,
            left_alone: left_alone(state, host, limits).map(str::to_owned),
        })
    };
    state.hosts.values().filter_map(one).collect()
}

/// The moves in words.
#[must_use]
pub fn recommend(state: &State, limits: Limits<'_>, most: usize) -> Vec<Recommendation> {
    let loads: BTreeMap<HostId, BalanceHost> =
        hosts(state, limits).into_iter().map(|h| (h.host, h)).collect();
    let site = Site::of(state);
    let tell = |found: Move| {
        let record = state.vms.get(&found.vm)?;
        let (from, to) = (loads.get(&found.from)?, loads.get(&found.to)?);
        let mut reasons = Vec::new();
        if found.wishes > 0 {
            let rules = &record.vm.spec.placement;
            for (rules, near) in [(&rules.near, true), (&rules.apart, false)] {
                let broken = |rule| broken(&site, found.from, Some(found.vm), rule, near);
                reasons.extend(rules.iter().filter_map(broken).map(|how| how.words(state)));
            }
        }
        if found.gain > found.wishes {
            reasons.push(format!(
                "`{}` has promised {} % of its memory and {} virtual processors per 100 threads, `{}` {} % and {}",
                from.name, from.memory_percent, from.vcpu_percent, to.name, to.memory_percent, to.vcpu_percent
            ));
        }
        Some(Recommendation {
            vm: found.vm,
            vm_name: record.vm.meta.name.clone(),
            from: found.from,
            from_name: from.name.clone(),
            to: found.to,
            to_name: to.name.clone(),
            gain: found.gain,
            cost: found.cost,
            memory_bytes: record.memory(),
            reason: reasons.join("; "),
        })
    };
    plan(state, limits, most).into_iter().filter_map(tell).collect()
}

/// Whether a time of balance is over: the best move is worth so much that balancing begins.
#[must_use]
pub fn is_worth_beginning(best: &Move) -> bool {
    best.gain >= BEGIN * (best.cost + MARGIN)
}
