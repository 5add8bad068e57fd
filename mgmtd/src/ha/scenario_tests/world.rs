//! The world of the golden scenarios: hosts with clocks and leases of their own, the agreed state, and a log that takes its time.

use crate::{
    cluster::{
        State,
        state::{Change, Command, Op, Refusal, Reply, VmRecord},
    },
    ha::{
        Answer, BEAT, Beat, Watchdog,
        leader::Awake,
        manager::{Ask, Decision, Fenced, Manager, Moment, Outcome, Proof, Terms, View},
        view::{self, Planner},
    },
};
use lq_api::{
    HostId, PoolId, Timestamp, VmId,
    vm::{PowerState, VmState},
};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};
use uuid::Uuid;

/// Pause between two looks of the manager, in milliseconds.
pub(super) const LOOK: u64 = 250;
/// The moment every scenario begins at: clocks do not begin at nothing.
pub(super) const BEGIN: u64 = 1_000_000;
pub(super) struct Host {
    pub(super) name: String,
    pub(super) powered: bool,
    /// Its beats arrive.
    pub(super) heard: bool,
    /// Answers to them arrive.
    pub(super) hears: bool,
    pub(super) asleep: bool,
    /// The boot it is in.
    pub(super) boot: u128,
    /// How far its clock is ahead of the leader's, in milliseconds, and what it loses, in milliseconds a second.
    pub(super) ahead: u64,
    pub(super) loses: u64,
    /// Until when it has a lease, by its own clock.
    pub(super) until: u64,
    /// That it has one was told.
    pub(super) leased: bool,
    /// How it was last answered.
    pub(super) answer: String,
    /// What its BMC is like; only where it has one.
    pub(super) bmc: Manners,
}

/// How a BMC behaves. `None` where it does as it should.
#[derive(Clone, Debug, Default)]
pub(super) struct Manners {
    /// It answers nothing, or this.
    pub(super) fails: Option<String>,
    /// It says that the host is off, whatever is true.
    pub(super) lies: bool,
    /// How long it takes from being told to being done, in milliseconds.
    pub(super) takes: u64,
}

/// A question to a BMC.
pub(super) struct Asked {
    /// When it is answered.
    at: u64,
    term: u64,
    id: HostId,
    boot: Uuid,
    ask: Ask,
    /// The power has been cut.
    cut: bool,
}

/// How long a BMC is waited for that does not answer, in milliseconds.
const PATIENCE: u64 = 10_000;

impl Host {
    fn clock(&self, now: u64) -> u64 {
        now + self.ahead - (now - BEGIN) * self.loses / 1000
    }

    /// Whether it may write for its protected machines. One that is suspended does nothing, but counts.
    fn may_write(&self, now: u64) -> bool {
        self.powered && self.clock(now) < self.until
    }
}

/// When the log takes what is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Writes {
    /// So many milliseconds later.
    Take(u64),
    Hang,
}

/// A decision on its way into the log.
pub(super) struct Pending {
    pub(super) at: u64,
    pub(super) op: Op,
}

pub(super) struct World {
    pub(super) log: String,
    pub(super) state: State,
    pub(super) revision: u64,
    pub(super) hosts: BTreeMap<HostId, Host>,
    pub(super) manager: Option<(Manager, Awake)>,
    pub(super) term: u64,
    pub(super) majority: bool,
    /// When a majority followed last, by the clock that stands still in suspend.
    pub(super) followed: Option<u64>,
    /// How long the leader was suspended.
    pub(super) slept: u64,
    pub(super) writes: Writes,
    pub(super) pending: Vec<Pending>,
    pub(super) asked: Vec<Asked>,
    pub(super) now: u64,
}

pub(super) fn number(name: &str) -> u128 {
    name.bytes().fold(0, |n, b| n * 256 + u128::from(b))
}

pub(super) fn host_id(name: &str) -> HostId {
    HostId(Uuid::from_u128(number(name)))
}

pub(super) fn vm_id(name: &str) -> VmId {
    VmId(Uuid::from_u128(number(name)))
}

pub(super) fn pool_id(name: &str) -> PoolId {
    PoolId(Uuid::from_u128(number(name)))
}

pub(super) fn boot_id(boot: u128) -> Uuid {
    Uuid::from_u128(boot)
}

/// Of a machine: one move at a time.
pub(super) fn move_id(vm: VmId) -> Uuid {
    Uuid::from_u128(vm.0.as_u128() + (1 << 100))
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            log: String::new(),
            state: State::new(),
            revision: 0,
            hosts: BTreeMap::new(),
            manager: None,
            term: 0,
            majority: true,
            followed: None,
            slept: 0,
            writes: Writes::Take(0),
            pending: vec![],
            asked: vec![],
            now: BEGIN,
        }
    }

    pub(super) fn elapsed(&self) -> u64 {
        self.now - BEGIN
    }

    pub(super) fn say(&mut self, text: &str) {
        let at = self.elapsed();
        writeln!(self.log, "{:5}.{:03}  {text}", at / 1000, at % 1000).unwrap();
    }

    pub(super) fn apply(&mut self, op: Op) -> Result<Reply, Refusal> {
        self.revision += 1;
        let command = Command { at: Timestamp::UNIX_EPOCH, op };
        self.state.apply(self.revision, &command, &mut Vec::<Change>::new())
    }

    pub(super) fn done(&mut self, op: Op) {
        self.apply(op).unwrap();
    }

    /// Asks for it; that it was refused is told.
    pub(super) fn ask(&mut self, op: Op) {
        if let Err(why) = self.apply(op) {
            self.say(&format!("that is refused: {why}"));
        }
    }

    pub(super) fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(&host_id(name)).unwrap_or_else(|| panic!("no host `{name}`"))
    }

    fn vm_name(&self, id: VmId) -> String {
        self.state.vms.get(&id).map_or_else(|| "a machine that is gone".into(), |r| r.vm.meta.name.clone())
    }

    /// A leader is elected, and has applied everything of the terms before its own.
    pub(super) fn lead(&mut self) {
        self.term += 1;
        // The first one has been followed for a while when a scenario begins.
        let begun = Moment(if self.term == 1 { BEGIN - 1_000 } else { self.now });
        let awake = Awake::new(self.slept, begun);
        self.manager = Some((Manager::new(Terms::STANDARD, begun, self.revision), awake));
        self.followed = None;
    }

    // What follows.

    /// A quarter of a second passes, at whose beginning this happens.
    pub(super) fn tick(&mut self, happens: &[&str]) {
        for what in happens.iter().filter(|what| **what != "end") {
            self.say(&format!("* {what}"));
            self.happens(what);
        }
        if self.majority {
            self.followed = Some(self.now - self.slept);
        }
        self.leases_end();
        if self.elapsed().is_multiple_of(BEAT) {
            self.beats();
        }
        self.look();
        self.boards();
        self.write();
        self.now += LOOK;
    }

    fn leases_end(&mut self) {
        let over = |h: &Host| h.leased && !h.asleep && !h.may_write(self.now);
        let over: Vec<HostId> = self.hosts.iter().filter(|(_, h)| over(h)).map(|(id, _)| *id).collect();
        for id in over {
            let host = self.hosts.get_mut(&id).unwrap();
            host.leased = false;
            host.answer.clear();
            let name = host.name.clone();
            self.say(&format!("{name} has no lease any more: what it runs stands still"));
        }
    }

    fn followed(&mut self) -> Option<Moment> {
        let ago = self.followed.map(|at| Duration::from_millis(self.now - self.slept - at));
        let (now, slept) = (Moment(self.now), self.slept);
        self.manager.as_mut().and_then(|(_, awake)| awake.followed(now, slept, ago))
    }

    fn beats(&mut self) {
        let beating = |h: &Host| h.powered && h.heard && !h.asleep;
        let ids: Vec<HostId> = self.hosts.iter().filter(|(_, h)| beating(h)).map(|(id, _)| *id).collect();
        for id in ids {
            let followed = self.followed();
            let seen = self.state.hosts.contains_key(&id).then(|| view::host(&self.state, id));
            let host = &self.hosts[&id];
            let sent = host.clock(self.now);
            let beat = Beat { boot: boot_id(host.boot), sent, watchdog: Watchdog::Simulated };
            let Some((manager, _)) = &mut self.manager else { continue };
            let (answer, told) = manager.beat(Moment(self.now), followed, id, &beat, seen.as_ref());
            let host = self.hosts.get_mut(&id).unwrap();
            if host.hears {
                let words = match answer {
                    Answer::Granted { until, .. } => {
                        host.until = host.until.max(until);
                        host.leased = true;
                        format!("{} has a lease", host.name)
                    }
                    Answer::Denied(why) => format!("{} is denied a lease: {why}", host.name),
                };
                if host.answer != words {
                    host.answer.clone_from(&words);
                    self.say(&words);
                }
            }
            self.carry_out(told);
            self.run(id);
        }
    }

    /// A host that has a lease runs what is its own, and says what it does not run any more.
    fn run(&mut self, host: HostId) {
        if !self.hosts[&host].may_write(self.now) {
            return;
        }
        let own = self.state.vms.values().filter(|r| {
            r.vm.status.host == Some(host)
                && r.moving.is_none()
                && r.vm.spec.power != PowerState::Stopped
                && matches!(r.vm.status.state, VmState::Stopped)
        });
        let own: Vec<VmId> = own.map(|r| r.vm.meta.id).collect();
        let over = |r: &VmRecord| r.vm.status.host == Some(host) && r.vm.spec.power == PowerState::Stopped;
        for record in self.state.vms.values_mut().filter(|r| over(r)) {
            Arc::make_mut(record).vm.status.state = VmState::Stopped;
        }
        for id in own {
            self.runs(id);
            let text = format!("{} runs on {}", self.vm_name(id), self.hosts[&host].name);
            self.say(&text);
        }
    }

    fn look(&mut self) {
        let followed = self.followed();
        let Some((mut manager, awake)) = self.manager.take() else { return };
        let view = View::of(&self.state);
        let mut planner = Planner::new(&self.state);
        let place = &mut |machine: &_, usable: &_| planner.place(machine, usable);
        let decisions = manager.step(Moment(self.now), followed, &view, place);
        self.manager = Some((manager, awake));
        self.carry_out(decisions);
    }

    /// BMCs do what they were asked, and say so.
    fn boards(&mut self) {
        let (due, later) = std::mem::take(&mut self.asked).into_iter().partition(|a| a.at <= self.now);
        self.asked = later;
        let due: Vec<Asked> = due;
        for mut asked in due {
            let followed = self.followed();
            let view = View::of(&self.state);
            let (now, term, id) = (Moment(self.now), self.term, asked.id);
            let manners = self.hosts[&id].bmc.clone();
            let name = self.hosts[&id].name.clone();
            let current = asked.term == term;
            let off = !self.hosts[&id].powered || manners.lies;
            let answer = match (&manners.fails, off, asked.ask, asked.cut) {
                (Some(why), ..) => Fenced::Failed(why.clone()),
                (None, true, ..) => Fenced::Off,
                (None, false, Ask::Look, _) => Fenced::On,
                (None, false, Ask::Cut, true) => {
                    let host = self.hosts.get_mut(&id).unwrap();
                    (host.powered, host.leased, host.until) = (false, false, 0);
                    host.answer.clear();
                    Fenced::Off
                }
                (None, false, Ask::Cut, false) => {
                    let manager = self.manager.as_mut().filter(|_| current);
                    let allowed = manager.map_or(Err("another host leads"), |(manager, _)| {
                        manager.may_cut(now, followed, id, asked.boot, &view)
                    });
                    match allowed {
                        Ok(()) => {
                            self.say(&format!("{name}'s power is being cut"));
                            (asked.at, asked.cut) = (self.now + manners.takes, true);
                            self.asked.push(asked);
                            continue;
                        }
                        Err(why) => Fenced::Failed(format!("{name} was left on: {why}")),
                    }
                }
            };
            let words = match &answer {
                Fenced::Off => format!("{name} is off, says its BMC"),
                Fenced::On => format!("{name} is on, says its BMC"),
                Fenced::Failed(why) => format!("{name}'s BMC is no help: {why}"),
            };
            self.say(&words);
            let Some((manager, _)) = self.manager.as_mut().filter(|_| current) else { continue };
            let decisions = manager.fenced(now, id, asked.boot, answer);
            self.carry_out(decisions);
        }
    }

    fn carry_out(&mut self, decisions: Vec<Decision>) {
        let host = |this: &Self, id: HostId| this.hosts[&id].name.clone();
        for decision in decisions {
            let text = match decision {
                Decision::Silent(id) => format!("{} is silent", host(self, id)),
                Decision::Back(id) => format!("{} is back", host(self, id)),
                Decision::Lost(id, Proof::LeaseOver) => {
                    format!("{} is lost: its lease and all margins are over", host(self, id))
                }
                Decision::Lost(id, Proof::Off) => format!("{} is lost: it is off", host(self, id)),
                Decision::NotOff(id, boot) => {
                    self.done(Op::RevokeOff { id, boot });
                    format!("{} is not off", host(self, id))
                }
                Decision::Restart { vm, from, epoch, to } => {
                    let term = self.term;
                    let op = Op::FailOver { id: vm, from, epoch, to, term, past_places: true };
                    self.pending.push(Pending { at: self.now, op });
                    let name = self.vm_name(vm);
                    format!("{name} is to start on {}, no more on {}", host(self, to), host(self, from))
                }
                Decision::Fence { id, boot, ask } => {
                    // One that does not answer is given up some time later.
                    let silent = self.hosts[&id].bmc.fails.as_deref() == Some("no answer");
                    let at = self.now + if silent { PATIENCE } else { LOOK };
                    self.asked.push(Asked { at, term: self.term, id, boot, ask, cut: false });
                    let name = host(self, id);
                    match ask {
                        Ask::Look => format!("{name}'s BMC is asked whether it is off"),
                        Ask::Cut => format!("{name}'s BMC is to switch it off"),
                    }
                }
                Decision::ProvenOff { id, boot, .. } => {
                    self.pending
                        .push(Pending { at: self.now, op: Op::ProveOff { id, boot, term: self.term } });
                    format!("{} is proven to be off", host(self, id))
                }
                Decision::NotFenced(id, _) => format!("{} is not proven to be off", host(self, id)),
                Decision::Waits(vm, wait) => format!("{} waits: {wait}", self.vm_name(vm)),
            };
            self.say(&text);
        }
    }

    /// The log takes what was decided.
    fn write(&mut self) {
        let Writes::Take(ms) = self.writes else { return };
        if self.manager.is_none() {
            return;
        }
        let (due, later) = std::mem::take(&mut self.pending).into_iter().partition(|p| p.at + ms <= self.now);
        self.pending = later;
        let due: Vec<Pending> = due;
        due.into_iter().for_each(|p| self.commit(p.op));
    }

    pub(super) fn commit(&mut self, op: Op) {
        if let Op::ProveOff { id, term, .. } = op {
            // The log counts it only in the term it was asked in.
            let outcome = if term == self.term {
                self.apply(op).map_err(|e| e.to_string())
            } else {
                Err("late".into())
            };
            if let Err(why) = outcome {
                let text = format!("that {} is off is refused: {why}", self.hosts[&id].name);
                self.say(&text);
            }
            return;
        }
        let Op::FailOver { id, from, to, .. } = op else { return };
        let name = self.vm_name(id);
        let guarded = self.state.vms.get(&id).is_some_and(|r| r.is_guarded());
        let may_write =
            self.hosts.get(&from).is_some_and(|h| h.may_write(self.now) || (h.powered && !guarded));
        let outcome = self.apply(op);
        let revision = self.revision;
        let known = match outcome {
            Ok(_) => {
                let (old, new) = (self.hosts[&from].name.clone(), self.hosts[&to].name.clone());
                self.say(&format!("{name} is {new}'s"));
                if may_write {
                    assert!(self.state.is_off(from), "{name} is {new}'s, and {old} may write:\n{}", self.log);
                    self.say(&format!(
                        "!! {old} may still write for {name}: it is not off, whatever was said"
                    ));
                }
                Outcome::Done(revision)
            }
            Err(why) => {
                self.say(&format!(
                    "that {name} starts on {} is refused: {why}",
                    self.hosts[&to].name.clone()
                ));
                Outcome::Refused(revision)
            }
        };
        if let Some((manager, _)) = &mut self.manager {
            manager.outcome(Moment(self.now), id, from, known);
        }
    }
}
