//! Two hosts, their daemons and monitors, and one machine that moves between them, as a model for a property test: whatever dies at
//! whatever step, the machine never runs twice and is never lost. It is a protected one: it runs under leases ([`loss`]), and fails
//! over where its host is lost.
//!
//! Real are the rules: the state's commands, the drivers' decisions ([`Life`]), the word on an arrival ([`verdict`]). Played are the
//! monitors (as `vmm/src/migrate/life.rs` has them), the pipes between all of them, and what the daemons do between two decisions,
//! step by step, so that chance can come between any two.

#![allow(clippy::indexing_slicing, reason = "a test may assert by panicking")]

mod daemon;
mod loss;
mod monitor;
mod stream;
mod tests;

use super::arrive::{Verdict, Word, verdict};
use crate::{
    cluster::{
        Op, State,
        state::{Command, HostRole, Outcome, Refusal, VmRecord},
    },
    compute::{
        Action, Arrival, Desired, Launch, MachineState, Part, Remains,
        life::{Effect, Life, Now, Seen, Want},
    },
    reconcile::resolve::part,
};
use daemon::{Daemon, Stage};
use lq_api::{
    Bytes, HostId, NetworkId, PoolId, Timestamp, VmId,
    ha::VmHa,
    local::vmm::{ExitReason, ExitRecord},
    vm::{CreateVm, PowerState, VmSpec, VmStatus},
};
use monitor::{Link, Message, Monitor, Phase};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};
use stream::{Held, Passage};
use uuid::Uuid;

#[derive(Default)]
struct Host {
    daemon: Option<Daemon>,
    monitor: Option<Monitor>,
    /// How the last process ended.
    record: Option<ExitRecord>,
    /// The epoch it was started in.
    started_in: Option<u64>,
    /// How often all leases of the host have run out.
    lapses: u32,
    /// It has no power.
    off: bool,
    /// It reaches the cluster no more.
    silent: bool,
}

/// What chance does next; the first number is a host.
#[derive(Clone, Copy, Debug)]
enum Chance {
    Begin(usize),
    Sync(usize),
    Drive(usize),
    Launched(usize),
    Report(usize),
    Work(usize),
    Look(usize),
    Monitor(usize),
    Relay(usize, bool),
    /// A relay holds a write whose answer is lost, be it carried out or not.
    LoseAnswer(usize, bool),
    /// The daemon dies; so many messages of each of its pipes arrive nevertheless.
    Crash(usize, usize),
    Start(usize),
    Cut(usize),
    Cancel(usize),
    Refuse(usize),
    /// The monitor dies.
    Kill(usize),
    /// The daemon extends the lease of its monitor.
    Lease(usize),
    /// The host loses its power; so many messages of each of its pipes arrive nevertheless.
    PowerCut(usize, usize),
    /// It has power again, and starts.
    Boot(usize),
    /// It reaches the cluster no more: its daemon reads and writes nothing.
    Silence(usize),
    /// It does again.
    Heal(usize),
    /// What is lost fails over, once its lease is over.
    FailOver,
    /// What comes next where nothing happens.
    Turn,
}

/// A rule that is not kept, to see that it would be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// The last word is passed on before the state says that the machine is the other host's.
    Switch,
    /// A machine is given back though it may have run.
    Return,
    /// What became of a machine that never came is not asked of its process.
    Forget,
    /// A machine fails over though the lease of its host is not over.
    Lease,
    /// What was let go of is taken up again in whatever epoch.
    Past,
    /// A process of another epoch gets the lease.
    Epoch,
}

struct World {
    hosts: [Host; 2],
    ids: [HostId; 2],
    vm: VmId,
    state: State,
    revision: u64,
    passages: Vec<Passage>,
    monitors: u32,
    boots: u32,
    moves: u128,
    clock: Instant,
    turns: usize,
    /// The memory of the guest as it last was somewhere.
    latest: u32,
    /// Who owned it in which epoch.
    owners: BTreeMap<u64, HostId>,
    boot_ids: u128,
    broken: Option<Broken>,
}

const OTHER: [usize; 2] = [1, 0];

impl World {
    fn new() -> Self {
        let ids = [1, 2].map(|n| HostId::from(Uuid::from_u128(n)));
        let vm = VmId::from(Uuid::from_u128(9));
        let mut world = Self {
            hosts: Default::default(),
            ids,
            vm,
            state: State::default(),
            revision: 0,
            passages: Vec::new(),
            monitors: 0,
            boots: 0,
            moves: 100,
            clock: Instant::now(),
            turns: 0,
            latest: 0,
            owners: BTreeMap::new(),
            boot_ids: 1000,
            broken: None,
        };
        let spec = VmSpec {
            memory_bytes: Bytes::mib(256),
            power: PowerState::Running,
            ha: Some(VmHa::default()),
            ..VmSpec::default()
        };
        let made = [
            Op::Initialise {
                cluster: Uuid::from_u128(3),
                host: ids[0],
                host_name: "a".into(),
                pool: PoolId::from(Uuid::from_u128(4)),
                network: NetworkId::from(Uuid::from_u128(5)),
                dhcp: None,
            },
            Op::SimulateHosts { hosts: vec![(ids[1], "b".into())] },
            Op::CreateVm {
                id: vm,
                host: ids[0],
                create: CreateVm { name: "v".into(), labels: BTreeMap::new(), spec },
            },
        ];
        for op in made {
            world.apply(op).unwrap();
        }
        world.start(0);
        world.start(1);
        for _ in 0..4 {
            world.steps_of(0);
        }
        assert_eq!(world.boots, 1);
        world
    }

    fn apply(&mut self, op: Op) -> Outcome {
        self.revision += 1;
        let command = Command { at: Timestamp::UNIX_EPOCH, op };
        let outcome = self.state.apply(self.revision, &command, &mut Vec::new());
        if let Some(record) = self.state.vms.get(&self.vm) {
            let host = record.vm.status.host.unwrap();
            let owner = *self.owners.entry(record.epoch).or_insert(host);
            assert_eq!(owner, host, "two hosts own the machine in one epoch");
        }
        outcome
    }

    /// As a daemon writes: it has read what it did.
    fn write(&mut self, host: usize, op: Op) -> Outcome {
        if self.hosts[host].silent {
            return Err(Refusal::Conflict("no answer".into()));
        }
        let outcome = self.apply(op);
        let state = self.state.clone();
        if let (Ok(_), Some(daemon)) = (&outcome, &mut self.hosts[host].daemon) {
            daemon.view = state;
        }
        outcome
    }

    fn record<'a>(&self, state: &'a State) -> &'a VmRecord {
        &state.vms[&self.vm]
    }

    fn now(&self) -> Now {
        Now { clock: self.clock, wall: Timestamp::UNIX_EPOCH }
    }

    fn start(&mut self, h: usize) {
        if self.hosts[h].daemon.is_some() || self.hosts[h].off || self.hosts[h].silent {
            return;
        }
        let now = self.now();
        let host = &self.hosts[h];
        let life = match (&host.monitor, &host.record) {
            (Some(monitor), _) => {
                let epoch = Some(monitor.epoch).filter(|_| self.broken != Some(Broken::Past));
                Life::adopted(None, None, &monitor.state(), now).of_epoch(epoch)
            }
            (None, Some(record)) => Life::ended(record.clone()).of_epoch(host.started_in),
            (None, None) => Life::resting(),
        };
        let machine = host.monitor.as_ref().map(|m| (m.number, None));
        let view = self.state.clone();
        self.hosts[h].daemon = Some(Daemon {
            life,
            want: Want::Unknown,
            version: 1,
            seen: 0,
            machine,
            launching: None,
            reports: VecDeque::new(),
            reported: None,
            task: None,
            words: BTreeMap::new(),
            view,
        });
    }

    fn crash(&mut self, h: usize, arrive: usize) {
        let Some(daemon) = self.hosts[h].daemon.take() else { return };
        // PID 1 starts what it was asked to, whether or not anybody waits for it.
        if let Some((part, Some(lease))) = daemon.launching {
            self.launch(h, part, lease);
        }
        for passage in &mut self.passages {
            let side = if passage.from == h { 0 } else { 1 };
            passage.end_relay(side, arrive);
        }
    }

    fn step(&mut self, chance: Chance) {
        match chance {
            Chance::Begin(h) => self.begin(h),
            Chance::Sync(h) => self.sync(h),
            Chance::Drive(h) => self.drive(h),
            Chance::Launched(h) => self.launched(h),
            Chance::Report(h) => self.report(h),
            Chance::Work(h) => self.work(h),
            Chance::Look(h) => self.look(h),
            Chance::Monitor(h) => self.monitor(h, false),
            Chance::Refuse(h) => self.monitor(h, true),
            Chance::Relay(h, forth) => self.relay(h, forth),
            Chance::LoseAnswer(h, carried_out) => {
                let holds = |p: &Passage| p.from == h && p.relays[0] && p.held == Some(Held::Write);
                if let Some(number) = self.passages.iter().position(holds)
                    && !self.hold(h, number, Some(carried_out))
                {
                    self.passages[number].end_relay(0, usize::MAX);
                }
            }
            Chance::Crash(h, arrive) => self.crash(h, arrive),
            Chance::Start(h) => self.start(h),
            Chance::Cut(arrive) => {
                if let Some(passage) = self.passages.last_mut() {
                    passage.cut(1, arrive);
                }
            }
            Chance::Cancel(h) => {
                let passages = &self.passages;
                if let Some(task) = self.hosts[h].daemon.as_mut().and_then(|d| d.task.as_mut()) {
                    let through = matches!(task.stage, Stage::Under(n) if passages[n].switched);
                    task.cancelled |= !through;
                }
            }
            Chance::Kill(h) => self.end_monitor(h, ExitReason::Internal),
            Chance::Lease(h) => self.extend_lease(h),
            Chance::PowerCut(h, arrive) => self.power_cut(h, arrive),
            Chance::Boot(h) => self.boot(h),
            Chance::Silence(h) => self.hosts[h].silent = true,
            Chance::Heal(h) => self.hosts[h].silent = false,
            Chance::FailOver => self.fail_over(),
            Chance::Turn => {
                self.turns += 1;
                return self.turn(self.turns - 1);
            }
        }
        self.check();
    }

    /// Everything a host does by itself, once.
    fn steps_of(&mut self, h: usize) {
        self.start(h);
        Self::own_steps(h).into_iter().for_each(|chance| self.step(chance));
    }

    fn own_steps(h: usize) -> [Chance; 10] {
        [
            Chance::Sync(h),
            Chance::Lease(h),
            Chance::Drive(h),
            Chance::Launched(h),
            Chance::Report(h),
            Chance::Look(h),
            Chance::Work(h),
            Chance::Monitor(h),
            Chance::Relay(h, true),
            Chance::Relay(h, false),
        ]
    }

    /// The n-th step where both hosts take turns.
    fn turn(&mut self, n: usize) {
        self.step([Self::own_steps(0), Self::own_steps(1)].concat()[n % 20]);
    }

    fn has_moved(&self) -> bool {
        let record = self.record(&self.state);
        record.vm.status.host == Some(self.ids[1]) && record.moving.is_none()
    }

    fn check(&self) {
        let running =
            self.hosts.iter().filter_map(|h| h.monitor.filter(|m| m.runs() && m.lapses == h.lapses));
        let running: Vec<_> = running.collect();
        assert!(running.len() <= 1, "the machine runs twice: {running:?}");
        let past = running.iter().find(|m| m.memory != self.latest);
        assert!(past.is_none(), "the machine runs on from the past: {past:?}");
    }

    /// Lets both daemons start and do all there is to do.
    fn settle(&mut self) {
        for h in 0..2 {
            self.step(Chance::Heal(h));
            self.step(Chance::Boot(h));
        }
        for _ in 0..100 {
            self.steps_of(0);
            self.steps_of(1);
        }
    }

    /// The machine is at one place, runs there, and nowhere is anything else of it.
    fn at_home(&self) -> usize {
        let record = self.record(&self.state);
        assert_eq!(record.moving, None);
        let owner = self.ids.iter().position(|id| record.vm.status.host == Some(*id)).unwrap();
        let monitor = self.hosts[owner].monitor.expect("the machine is lost");
        assert_eq!(monitor.phase, Phase::Runs);
        assert_eq!(monitor.lapses, self.hosts[owner].lapses, "it stands still without a lease");
        assert!(self.hosts[OTHER[owner]].monitor.is_none(), "something of it remains");
        owner
    }
}
