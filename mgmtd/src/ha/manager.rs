//! Decides which hosts are lost and where their protected machines go. Pure: moments and what was seen in, decisions out.
//!
//! ```text
//!            beat, granted          no beat for `silence`
//!  Unheard ───────────────▶ Present ─────────────────────▶ Silent
//!     │                        ▲  ▲                          │ │
//!     │                        │  └────── beat, granted ─────┘ │ its leases and all margins are over and a
//!     │                        │                               │ majority has followed for `settle`,
//!     │  the same as Silent    │ beat, granted: nothing is     │ or it is proven to be off
//!     └────────────────────────┼ being taken from it ──────────▼
//!                              └───────────────────────────── Lost ──▶ Restart, machine by machine
//! ```
//! A manager lives for one term of one leader. It begins when the leader has applied everything of the terms before, and ends
//! with the term. Rules, each of which the simulation misses when it is left out:
//! - a grant reaches to one lease after the last moment a majority followed, and no further;
//! - what earlier leaders granted counts as reaching to one lease after the election;
//! - nothing is granted to a host that machines are being taken from, or that is said to be off, or that booted and has not
//!   said so yet;
//! - a host is lost only while a majority follows.

mod fence;

pub use fence::{Ask, Fenced};

use super::{Answer, Beat};
use fence::Fence;
use lq_api::{HostId, VmId, ha::HaPriority};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A moment on the leader's `CLOCK_BOOTTIME`, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    fn later(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since an earlier moment.
    fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Lengths of time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a lease is.
    pub lease: u64,
    /// By how much the clocks of two hosts may differ over one lease.
    pub drift: u64,
    /// How long after its lease a host that hangs may still do what it had begun, before its watchdog resets it.
    pub watchdog: u64,
    /// A host that has not beaten for so long is silent.
    pub silence: u64,
    /// So long a majority must have followed before a host is given up: time for it to be heard again.
    pub settle: u64,
    /// Pause before a machine that found no place is tried again.
    pub retry: u64,
}

impl Terms {
    /// The terms of every cluster (decision 13).
    pub const STANDARD: Self =
        Self { lease: 5_000, drift: 100, watchdog: 5_000, silence: 2_000, settle: 2_000, retry: 1_000 };

    /// From when on nothing is written under a lease that was granted when a majority was last known to follow at `basis`.
    fn over(self, basis: Moment) -> Moment {
        basis.later(self.lease).later(self.drift).later(self.watchdog)
    }
}

/// Most machines being moved at a time.
const ABREAST: usize = 16;

/// A majority that has not followed for so long is none, in milliseconds.
const FRESH: u64 = 1_500;

/// What the agreed state says of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// The boot it last said it is in.
    pub boot: Option<Uuid>,
    /// It is proven to be off since then.
    pub off: bool,
    /// It is in maintenance: its machines are left alone.
    pub maintenance: bool,
    /// There is a BMC that can tell whether it is off, and switch it off.
    pub bmc: bool,
}

/// What the agreed state says of a protected machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The machine.
    pub vm: VmId,
    /// Its host.
    pub host: HostId,
    /// The epoch it is the host's in.
    pub epoch: u64,
    /// Its order.
    pub priority: HaPriority,
    /// All that runs of it runs under a lease.
    pub guarded: bool,
    /// It is wanted running.
    pub wanted: bool,
    /// Why it can be nowhere else.
    pub obstacle: Option<String>,
}

/// What the agreed state says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// High availability is armed.
    pub armed: bool,
    /// Hosts.
    pub hosts: BTreeMap<HostId, HostView>,
    /// Protected machines.
    pub machines: Vec<Protected>,
}

/// Where a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not heard in this term.
    Unheard,
    /// It beats.
    Present,
    /// It does not.
    Silent,
    /// None of its protected machines runs any more.
    Lost,
}

/// Why a host is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its leases and all margins are over.
    LeaseOver,
    /// It is off.
    Off,
}

/// Why a machine of a silent or lost host is not started elsewhere, as yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its host may still run it.
    Lease,
    /// High availability is disarmed.
    Disarmed,
    /// Its host is in maintenance.
    Maintenance,
    /// Something may run of it that no lease ends.
    Unguarded,
    /// It can be nowhere else.
    Obstacle(String),
    /// No host takes it.
    NoPlace(String),
    /// Others come first.
    Order,
    /// No majority follows: nothing can be decided.
    NoMajority,
}

/// What is to be done, or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The host does not beat any more.
    Silent(HostId),
    /// The host beats again.
    Back(HostId),
    /// None of its protected machines runs any more.
    Lost(HostId, Proof),
    /// It is not off: it was heard.
    NotOff(HostId, Uuid),
    /// The machine becomes another host's, by compare-and-set.
    Restart {
        /// The machine.
        vm: VmId,
        /// Its host so far.
        from: HostId,
        /// Its epoch so far.
        epoch: u64,
        /// Its new host.
        to: HostId,
    },
    /// Its BMC is to be asked. What came of it is told by [`Manager::fenced`].
    Fence {
        /// The host.
        id: HostId,
        /// The boot it is to be off of.
        boot: Uuid,
        /// What is asked.
        ask: Ask,
    },
    /// It is off since that boot: its BMC says so, and it was not heard since that was asked.
    ProvenOff {
        /// The host.
        id: HostId,
        /// The boot.
        boot: Uuid,
        /// What was asked.
        ask: Ask,
    },
    /// Its BMC was no help, and why.
    NotFenced(HostId, String),
    /// The machine waits for something else than before.
    Waits(VmId, Wait),
}

/// What became of a [`Decision::Restart`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done; known at this log position.
    Done(u64),
    /// The state refused it; known at this log position.
    Refused(u64),
}

/// How a machine stands.
enum Stand {
    /// Its host is there.
    Safe,
    /// It waits.
    Waits(Wait),
    /// It is to be started elsewhere.
    Lost,
}

#[derive(Clone, Debug)]
struct Host {
    phase: Phase,
    heard: Option<Moment>,
    /// From then on nothing is written under its leases.
    over: Moment,
    /// What it must know before it uses a lease.
    known: u64,
    /// Machines being taken from it.
    taking: BTreeSet<VmId>,
    /// How its BMC was asked.
    fence: Fence,
}

/// The manager of a term.
#[derive(Clone, Debug)]
pub struct Manager {
    terms: Terms,
    begun: Moment,
    /// Since when a majority has followed without a break.
    followed: Option<Moment>,
    known: u64,
    hosts: BTreeMap<HostId, Host>,
    waits: BTreeMap<VmId, Wait>,
    retry: BTreeMap<VmId, Moment>,
}

/// Chooses a host for a machine out of those that may be used, or says why none takes it. Called once for each machine that
/// is then restarted there.
pub type Place<'a> = &'a mut dyn FnMut(&Protected, &BTreeSet<HostId>) -> Result<HostId, String>;

impl Manager {
    /// Of a term whose leader knew at `begun` that it was elected, and has applied everything of earlier terms: up to the log
    /// position `known`.
    #[must_use]
    pub fn new(terms: Terms, begun: Moment, known: u64) -> Self {
        Self {
            terms,
            begun,
            followed: None,
            known,
            hosts: BTreeMap::new(),
            waits: BTreeMap::new(),
            retry: BTreeMap::new(),
        }
    }

    fn host(&mut self, id: HostId) -> &mut Host {
        let (over, known) = (self.terms.over(self.begun), self.known);
        self.hosts.entry(id).or_insert_with(|| Host {
            phase: Phase::Unheard,
            heard: None,
            over,
            known,
            taking: BTreeSet::new(),
            fence: Fence::default(),
        })
    }

    /// A host was heard at `now`. `followed` is the last moment at which a majority is known to have followed this leader.
    pub fn beat(
        &mut self,
        now: Moment,
        followed: Option<Moment>,
        id: HostId,
        beat: &Beat,
        view: Option<&HostView>,
    ) -> (Answer, Vec<Decision>) {
        let denied = |why: &str| Answer::Denied(why.to_owned());
        let Some(view) = view else { return (denied("it is no host of this cluster"), vec![]) };
        let terms = self.terms;
        let host = self.host(id);
        if view.boot != Some(beat.boot) {
            return (denied("it has not said yet that it started"), vec![]);
        }
        host.heard = Some(now);
        if view.off {
            return (denied("it is said to be off"), vec![Decision::NotOff(id, beat.boot)]);
        }
        if !host.taking.is_empty() {
            return (denied("its machines are being started elsewhere"), vec![]);
        }
        let Some(basis) = followed.map(|f| f.min(now)).filter(|f| now.since(*f) < terms.lease) else {
            return (denied("no majority of the voters follows the leader"), vec![]);
        };
        host.over = host.over.max(terms.over(basis));
        let before = std::mem::replace(&mut host.phase, Phase::Present);
        let until = beat.sent.saturating_add(terms.lease - now.since(basis));
        let answer = Answer::Granted { until, known: host.known };
        let told = matches!(before, Phase::Silent | Phase::Lost).then_some(Decision::Back(id));
        (answer, told.into_iter().collect())
    }

    /// Whether a majority is known to follow, well enough to decide something.
    fn leads(&mut self, now: Moment, followed: Option<Moment>) -> bool {
        let fresh = followed.is_some_and(|f| now.since(f) < FRESH);
        self.followed = fresh.then(|| self.followed.unwrap_or(now));
        fresh
    }

    /// What is to be done at `now`.
    pub fn step(
        &mut self,
        now: Moment,
        followed: Option<Moment>,
        view: &View,
        place: Place<'_>,
    ) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let leads = self.leads(now, followed);
        self.hosts.retain(|id, host| view.hosts.contains_key(id) || !host.taking.is_empty());
        for (id, seen) in &view.hosts {
            self.judge(now, leads, *id, seen, &mut decisions);
        }
        self.fence(now, leads, view, &mut decisions);
        self.restart(now, leads, view, place, &mut decisions);
        decisions
    }

    fn judge(&mut self, now: Moment, leads: bool, id: HostId, view: &HostView, out: &mut Vec<Decision>) {
        let (terms, begun, followed) = (self.terms, self.begun, self.followed);
        let host = self.host(id);
        if host.phase == Phase::Lost || now.since(host.heard.unwrap_or(begun)) <= terms.silence {
            return;
        }
        if host.phase != Phase::Silent {
            host.phase = Phase::Silent;
            out.push(Decision::Silent(id));
        }
        let settled = leads && followed.is_some_and(|f| now.since(f) >= terms.settle);
        let proof = match () {
            () if view.off => Proof::Off,
            () if now >= host.over => Proof::LeaseOver,
            () => return,
        };
        if settled {
            host.phase = Phase::Lost;
            out.push(Decision::Lost(id, proof));
        }
    }

    /// Whether nothing that runs of this host's protected machines can write any more, and it is not just coming back.
    fn is_lost(&self, now: Moment, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|h| {
            h.phase == Phase::Lost && h.heard.is_none_or(|heard| now.since(heard) > self.terms.silence)
        })
    }

    fn restart(&mut self, now: Moment, leads: bool, view: &View, place: Place<'_>, out: &mut Vec<Decision>) {
        let usable: BTreeSet<HostId> = self
            .hosts
            .iter()
            .filter(|(id, h)| {
                h.phase == Phase::Present
                    && h.heard.is_some_and(|heard| now.since(heard) <= self.terms.silence)
                    && view.hosts.get(*id).is_some_and(|v| !v.maintenance && !v.off)
            })
            .map(|(id, _)| *id)
            .collect();
        let taken: BTreeSet<VmId> = self.hosts.values().flat_map(|h| h.taking.iter().copied()).collect();
        // Those of hosts that are there are safe: mostly all of them.
        let away =
            |host| self.hosts.get(&host).is_some_and(|h| matches!(h.phase, Phase::Silent | Phase::Lost));
        let concerned = |m: &&Protected| m.wanted && (away(m.host) || taken.contains(&m.vm));
        let mut machines: Vec<&Protected> = view.machines.iter().filter(concerned).collect();
        machines.sort_by_key(|m| (m.priority, m.vm));
        let mut room = ABREAST.saturating_sub(taken.len());
        // Those of one priority at a time: what waits for room lets those after it go first, what is on its way does not.
        let mut going = machines.iter().find(|m| taken.contains(&m.vm)).map(|m| m.priority);
        let mut waits = BTreeMap::new();
        for machine in machines {
            let vm = machine.vm;
            if taken.contains(&vm) {
                continue;
            }
            match self.stands(now, leads, view, machine) {
                Stand::Safe => {}
                Stand::Waits(wait) => {
                    waits.insert(vm, wait);
                }
                Stand::Lost if room == 0 || going.is_some_and(|p| p != machine.priority) => {
                    waits.insert(vm, Wait::Order);
                }
                Stand::Lost => match self.find(now, machine, &usable, place) {
                    Ok(to) => {
                        self.host(machine.host).taking.insert(vm);
                        room -= 1;
                        going = Some(machine.priority);
                        out.push(Decision::Restart { vm, from: machine.host, epoch: machine.epoch, to });
                    }
                    Err(why) => {
                        waits.insert(vm, Wait::NoPlace(why));
                    }
                },
            }
        }
        self.retry.retain(|vm, _| waits.contains_key(vm));
        for (vm, wait) in &waits {
            // That it waits for its host to be lost, or for its turn, the events of the host say.
            let told = !matches!(wait, Wait::Lease | Wait::Order) && self.waits.get(vm) != Some(wait);
            if told {
                out.push(Decision::Waits(*vm, wait.clone()));
            }
        }
        self.waits = waits;
    }

    /// A place for the machine, unless one was looked for in vain a moment ago.
    fn find(
        &mut self,
        now: Moment,
        machine: &Protected,
        usable: &BTreeSet<HostId>,
        place: Place<'_>,
    ) -> Result<HostId, String> {
        let early = self.retry.get(&machine.vm).is_some_and(|at| now < *at);
        if early && let Some(Wait::NoPlace(before)) = self.waits.get(&machine.vm) {
            return Err(before.clone());
        }
        place(machine, usable).inspect_err(|_| {
            self.retry.insert(machine.vm, now.later(self.terms.retry));
        })
    }

    fn stands(&self, now: Moment, leads: bool, view: &View, machine: &Protected) -> Stand {
        let Some(host) = self.hosts.get(&machine.host) else { return Stand::Safe };
        if !self.is_lost(now, machine.host) {
            return if host.phase == Phase::Silent { Stand::Waits(Wait::Lease) } else { Stand::Safe };
        }
        let (maintenance, off) =
            view.hosts.get(&machine.host).map_or((false, false), |h| (h.maintenance, h.off));
        Stand::Waits(match &machine.obstacle {
            _ if !view.armed => Wait::Disarmed,
            _ if maintenance => Wait::Maintenance,
            _ if !machine.guarded && !off => Wait::Unguarded,
            Some(obstacle) => Wait::Obstacle(obstacle.clone()),
            None if !leads => Wait::NoMajority,
            None => return Stand::Lost,
        })
    }

    /// A restart was carried out, or refused.
    pub fn outcome(&mut self, now: Moment, vm: VmId, from: HostId, outcome: Outcome) {
        let (Outcome::Done(known) | Outcome::Refused(known)) = outcome;
        let retry = now.later(self.terms.retry);
        let host = self.host(from);
        host.taking.remove(&vm);
        host.known = host.known.max(known);
        if matches!(outcome, Outcome::Refused(_)) {
            self.retry.insert(vm, retry);
            self.waits.insert(vm, Wait::NoPlace("its place was taken by another: it is decided anew".into()));
        }
    }

    /// Where a host is.
    #[must_use]
    pub fn phase(&self, id: HostId) -> Phase {
        self.hosts.get(&id).map_or(Phase::Unheard, |h| h.phase)
    }

    /// Milliseconds since a host was heard.
    #[must_use]
    pub fn heard_ago(&self, now: Moment, id: HostId) -> Option<u64> {
        Some(now.since(self.hosts.get(&id)?.heard?))
    }

    /// Milliseconds until nothing of a host's protected machines can write any more.
    #[must_use]
    pub fn over_in(&self, now: Moment, id: HostId) -> Option<u64> {
        Some(self.hosts.get(&id)?.over.since(now))
    }

    /// What a machine waits for.
    #[must_use]
    pub fn wait(&self, vm: VmId) -> Option<&Wait> {
        self.waits.get(&vm)
    }

    /// Whether a machine is being given to another host.
    #[must_use]
    pub fn is_restarting(&self, vm: VmId) -> bool {
        self.hosts.values().any(|h| h.taking.contains(&vm))
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lease => f.write_str("its host may still run it, until its lease and all margins are over"),
            Self::Disarmed => f.write_str("high availability is disarmed"),
            Self::Maintenance => f.write_str("its host is in maintenance"),
            Self::Unguarded => f.write_str(
                "its host had not confirmed that it runs under a lease, so it may still run there: confirm that the host is \
                 off, or bring it back",
            ),
            Self::Obstacle(why) | Self::NoPlace(why) => f.write_str(why),
            Self::Order => f.write_str("machines before it are being started"),
            Self::NoMajority => f.write_str("no majority of the voters is reached"),
        }
    }
}
