//! Two hosts, their daemons and monitors, and one machine that moves between them, as a model for a property test: whatever dies at
//! whatever step, the machine never runs twice and is never lost.
//!
//! Real are the rules: the state's commands, the drivers' decisions ([`Life`]), the word on an arrival ([`verdict`]). Played are the
//! monitors (as `vmm/src/migrate/life.rs` has them), the pipes between all of them, and what the daemons do between two decisions,
//! step by step, so that chance can come between any two.

#![allow(clippy::indexing_slicing, reason = "a test may assert by panicking")]

use super::arrive::{Verdict, Word, verdict};
use crate::{
    cluster::{
        Op, State,
        state::{Command, HostRole, Outcome, VmRecord},
    },
    compute::{
        Action, Arrival, Desired, Launch, MachineState, Part, Remains,
        life::{Effect, Life, Now, Seen, Want},
    },
    reconcile::resolve::part,
};
use lq_api::{
    Bytes, HostId, NetworkId, PoolId, Timestamp, VmId,
    local::vmm::{ExitReason, ExitRecord},
    placement::Placement,
    vm::{CreateVm, PowerState, RestartPolicy, VmSpec, VmStatus},
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// What monitors say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Hello,
    Accept,
    State(u32),
    Ready,
    Commit,
    Running,
    Refuse,
}

/// One direction of a connection. What was sent is still read after it broke.
#[derive(Debug, Default)]
struct Pipe {
    queue: VecDeque<Message>,
    broken: bool,
}

impl Pipe {
    fn send(&mut self, message: Message) -> bool {
        if !self.broken {
            self.queue.push_back(message);
        }
        !self.broken
    }
    fn ended(&self) -> bool {
        self.broken && self.queue.is_empty()
    }
}

/// A connection: what goes to the target, and back.
#[derive(Debug, Default)]
struct Link {
    forth: Pipe,
    back: Pipe,
}

impl Link {
    fn cut(&mut self) {
        (self.forth.broken, self.back.broken) = (true, true);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Runs,
    Offering,
    Copying,
    Halted,
    HandedOver,
    InDoubt,
    Waits,
    Receiving,
    Ready,
    TakingOver,
}

#[derive(Clone, Copy, Debug)]
struct Monitor {
    number: u32,
    phase: Phase,
    /// Which boot its memory is of.
    memory: u32,
    passage: Option<usize>,
}

impl Monitor {
    fn runs(&self) -> bool {
        matches!(self.phase, Phase::Runs | Phase::Offering | Phase::Copying)
    }
    fn state(&self) -> MachineState {
        match self.phase {
            Phase::Runs | Phase::Offering | Phase::Copying | Phase::Halted => MachineState::Running,
            Phase::HandedOver | Phase::InDoubt => MachineState::Away,
            Phase::Waits | Phase::Receiving | Phase::Ready | Phase::TakingOver => MachineState::Incoming,
        }
    }
}

/// What the old host does with the last word it holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Write,
    LetGo,
    Seen(u64),
}

/// A stream from one monitor to another, through two daemons.
#[derive(Debug)]
struct Passage {
    from: usize,
    moving: Uuid,
    epoch: u64,
    monitor: u32,
    links: [Link; 3],
    relays: [bool; 2],
    held: Option<Held>,
    switched: bool,
    committed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Claimed,
    Under(usize),
    Ending,
}

/// A move away that a daemon works on.
#[derive(Clone, Copy, Debug)]
struct Task {
    moving: Uuid,
    epoch: u64,
    stage: Stage,
    cancelled: bool,
}

struct Daemon {
    life: Life,
    want: Want,
    version: u64,
    seen: u64,
    /// The monitor its driver has, and how that was last seen.
    machine: Option<(u32, Option<MachineState>)>,
    launching: Option<Part>,
    reports: VecDeque<(u64, VmStatus)>,
    reported: Option<(u64, VmStatus)>,
    task: Option<Task>,
    words: BTreeMap<Uuid, Word>,
    /// What it has read of the state.
    view: State,
}

#[derive(Default)]
struct Host {
    daemon: Option<Daemon>,
    monitor: Option<Monitor>,
    /// How the last process ended.
    record: Option<ExitRecord>,
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
            broken: None,
        };
        let spec = VmSpec {
            vcpus: 1,
            memory_bytes: Bytes::mib(256),
            cpu: lq_api::local::vmm::CpuModel::Host,
            boot: None,
            disks: vec![],
            nics: vec![],
            rng: false,
            display: None,
            restart: RestartPolicy::OnFailure,
            autostart: false,
            power: PowerState::Running,
            placement: Placement::default(),
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
        self.state.apply(self.revision, &command, &mut Vec::new())
    }

    /// As a daemon writes: it has read what it did.
    fn write(&mut self, host: usize, op: Op) -> Outcome {
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
        if self.hosts[h].daemon.is_some() {
            return;
        }
        let now = self.now();
        let host = &self.hosts[h];
        let life = match (&host.monitor, &host.record) {
            (Some(monitor), _) => Life::adopted(None, None, &monitor.state(), now),
            (None, Some(record)) => Life::ended(record.clone()),
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
        if let Some(part) = daemon.launching {
            self.launch(h, part);
        }
        for passage in &mut self.passages {
            let side = if passage.from == h { 0 } else { 1 };
            passage.end_relay(side, arrive);
        }
    }

    fn launch(&mut self, h: usize, part: Part) {
        assert!(self.hosts[h].monitor.is_none(), "a monitor is launched beside another");
        self.monitors += 1;
        let waits = matches!(part, Part::Arriving(_));
        if !waits {
            self.boots += 1;
        }
        self.hosts[h].record = None;
        self.hosts[h].monitor = Some(Monitor {
            number: self.monitors,
            phase: if waits { Phase::Waits } else { Phase::Runs },
            memory: self.boots,
            passage: None,
        });
    }

    fn end_monitor(&mut self, h: usize, reason: ExitReason) {
        let Some(monitor) = self.hosts[h].monitor.take() else { return };
        self.hosts[h].record = Some(ExitRecord { reason, detail: String::new() });
        if let Some(passage) = monitor.passage {
            let passage = &mut self.passages[passage];
            passage.links[if passage.from == h { 0 } else { 2 }].cut();
        }
    }

    /// What the fleet is told, from what the daemon has read.
    fn sync(&mut self, h: usize) {
        let (state, me, vm) = (self.state.clone(), self.ids[h], self.vm);
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        daemon.view = state;
        let record = &daemon.view.vms[&vm];
        let want = match record.role(me) {
            None => Want::Gone,
            Some(role) => Want::This(Box::new(Desired {
                vm,
                name: "v".into(),
                generation: record.vm.meta.generation,
                epoch: record.epoch,
                part: part(role),
                spec: record.vm.spec.clone(),
                stop: record.stop.clone(),
                reset_count: 0,
                fault: None,
                launch: Launch::default(),
            })),
        };
        if daemon.want != want && !daemon.want.is_newer_than(&want) {
            (daemon.want, daemon.version) = (want, daemon.version + 1);
        }
    }

    fn drive(&mut self, h: usize) {
        self.clock += Duration::from_secs(1);
        let now = self.now();
        let host = &mut self.hosts[h];
        let Some(daemon) = &mut host.daemon else { return };
        let seen = match &mut daemon.machine {
            Some((number, last)) => match host.monitor.filter(|m| m.number == *number) {
                Some(monitor) if last.as_ref() == Some(&monitor.state()) => Seen::Nothing,
                Some(monitor) => {
                    *last = Some(monitor.state());
                    Seen::Machine(monitor.state())
                }
                None => {
                    daemon.machine = None;
                    let reason = ExitReason::Internal;
                    let unknown = || ExitRecord { reason, detail: String::new() };
                    Seen::Machine(MachineState::Ended(host.record.clone().unwrap_or_else(unknown)))
                }
            },
            None => Seen::Nothing,
        };
        self.decide(h, seen, now);
    }

    fn decide(&mut self, h: usize, seen: Seen, now: Now) {
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        let (life, effects) = daemon.life.clone().next(&daemon.want, seen, false, now);
        daemon.life = life;
        daemon.seen = daemon.version;
        if let (Want::This(desired), Some(status)) = (&daemon.want, daemon.life.status(&daemon.want)) {
            let report = (desired.epoch, status);
            if daemon.reported.as_ref() != Some(&report) {
                daemon.reported = Some(report.clone());
                daemon.reports.push_back(report);
            }
        }
        for effect in effects {
            match effect {
                Effect::Launch => {
                    let Some(daemon) = &mut self.hosts[h].daemon else { return };
                    let Want::This(desired) = &daemon.want else { panic!("launched though not wanted") };
                    daemon.launching = Some(desired.part);
                }
                Effect::Act(action) => self.act(h, action),
                Effect::Forget => self.hosts[h].record = None,
                Effect::Event { .. } => {}
            }
        }
    }

    fn act(&mut self, h: usize, action: Action) {
        let Some(monitor) = &mut self.hosts[h].monitor else { return };
        match (action, monitor.phase) {
            (Action::Kill, _) => self.end_monitor(h, ExitReason::Told),
            (Action::Reclaim, Phase::InDoubt) => monitor.phase = Phase::Runs,
            (Action::CancelMove, Phase::Offering | Phase::Copying | Phase::Halted) => {
                monitor.phase = Phase::Runs;
                if let Some(passage) = monitor.passage.take() {
                    self.passages[passage].links[0].cut();
                }
            }
            _ => {}
        }
    }

    fn launched(&mut self, h: usize) {
        let now = self.now();
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        let Some(part) = daemon.launching.take() else { return };
        self.launch(h, part);
        let Some(monitor) = self.hosts[h].monitor else { return };
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        daemon.machine = Some((monitor.number, None));
        let seen = Seen::Launched { pid: None, started_at: None, state: monitor.state() };
        self.decide(h, seen, now);
    }

    fn report(&mut self, h: usize) {
        let by = self.ids[h];
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        let Some((epoch, status)) = daemon.reports.pop_front() else { return };
        let op = Op::ObserveVm { id: self.vm, status, host_ends: false, by: Some((by, epoch)) };
        self.write(h, op).unwrap();
    }

    fn begin(&mut self, h: usize) {
        let Some(daemon) = &self.hosts[h].daemon else { return };
        if daemon.task.is_some() {
            return;
        }
        self.moves += 1;
        let moving = Uuid::from_u128(self.moves);
        let op = Op::BeginMove { id: self.vm, expect: None, moving, to: self.ids[OTHER[h]] };
        if self.write(h, op).is_err() {
            return;
        }
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        let epoch = daemon.view.vms[&self.vm].epoch + 1;
        daemon.task = Some(Task { moving, epoch, stage: Stage::Claimed, cancelled: false });
    }

    fn set_stage(&mut self, h: usize, stage: Stage) {
        if let Some(task) = self.hosts[h].daemon.as_mut().and_then(|d| d.task.as_mut()) {
            task.stage = stage;
        }
    }

    /// What the old host's task does.
    fn work(&mut self, h: usize) {
        let Some(daemon) = &self.hosts[h].daemon else { return };
        let Some(task) = daemon.task else { return };
        let here = self.record(&daemon.view).moving;
        let over = here.is_none_or(|m| m.id != task.moving);
        match task.stage {
            Stage::Claimed if over || task.cancelled => self.set_stage(h, Stage::Ending),
            Stage::Claimed => self.open(h, task),
            Stage::Under(passage) if !self.passages[passage].relays[0] => self.set_stage(h, Stage::Ending),
            Stage::Under(_) if over || task.cancelled => self.act(h, Action::CancelMove),
            Stage::Under(_) => {}
            Stage::Ending => {
                let ended = self.write(h, Op::EndMove { id: self.vm, moving: task.moving });
                let settled = self.record(&self.state).moving.is_none_or(|m| m.id != task.moving);
                if ended.is_ok() || settled {
                    if let Some(daemon) = &mut self.hosts[h].daemon {
                        daemon.task = None;
                    }
                }
            }
        }
    }

    /// Connects the two monitors, where the other host has a place.
    fn open(&mut self, h: usize, task: Task) {
        let other = OTHER[h];
        let Some(target) = &mut self.hosts[other].daemon else { return self.set_stage(h, Stage::Ending) };
        let arriving =
            target.view.vms[&self.vm].role(self.ids[other]) == Some(HostRole::Arriving(task.moving));
        let place = target.life.arrival(&target.want).filter(|(moving, _)| *moving == task.moving);
        match place {
            Some((_, Arrival::Failed(_))) => return self.set_stage(h, Stage::Ending),
            Some((_, Arrival::Waits)) if arriving => {}
            _ => return,
        }
        target.words.insert(task.moving, Word::UnderWay);
        let number = self.passages.len();
        let mut passage = Passage {
            from: h,
            moving: task.moving,
            epoch: task.epoch,
            monitor: 0,
            links: Default::default(),
            relays: [true, true],
            held: None,
            switched: false,
            committed: false,
        };
        let waits = |m: &&mut Monitor| m.phase == Phase::Waits && m.passage.is_none();
        match self.hosts[other].monitor.as_mut().filter(waits) {
            Some(monitor) => monitor.passage = Some(number),
            None => {
                passage.links[2].cut();
                passage.links[1].cut();
            }
        }
        match self.hosts[h].monitor.as_mut().filter(|m| m.phase == Phase::Runs) {
            Some(monitor) => {
                (monitor.phase, monitor.passage) = (Phase::Offering, Some(number));
                passage.monitor = monitor.number;
                passage.links[0].forth.send(Message::Hello);
            }
            None => passage.links[0].cut(),
        }
        self.passages.push(passage);
        self.set_stage(h, Stage::Under(number));
    }

    /// Moves nobody works on, as [`super::Node::look_at_moves`] has them.
    fn look(&mut self, h: usize) {
        let (me, vm) = (self.ids[h], self.vm);
        let Some(daemon) = &self.hosts[h].daemon else { return };
        match daemon.view.vms[&vm].role(me) {
            Some(HostRole::Leaving(moving)) if daemon.task.is_none_or(|t| t.moving != moving) => {
                if daemon.machine.is_some() {
                    self.act(h, Action::CancelMove);
                }
                let _ = self.write(h, Op::EndMove { id: vm, moving });
            }
            Some(HostRole::Settling(moving)) => {
                let remains = self.remains(h);
                let Some(daemon) = &self.hosts[h].daemon else { return };
                let word = daemon.words.get(&moving).copied();
                let found = match (self.broken, &remains) {
                    (Some(Broken::Return), Remains::Process(_) | Remains::Nothing) if word.is_none() => {
                        Verdict::Return
                    }
                    (Some(Broken::Forget), Remains::NeverRan) => {
                        verdict(word, &Remains::Nothing, Duration::ZERO)
                    }
                    _ => verdict(word, &remains, Duration::ZERO),
                };
                let op = match found {
                    Verdict::Confirm => Op::ConfirmMove { id: vm, moving },
                    Verdict::Return => Op::ReturnMove { id: vm, moving },
                    _ => return,
                };
                let _ = self.write(h, op);
            }
            _ => {}
        }
    }

    /// As [`crate::compute::Fleet::remains`].
    fn remains(&self, h: usize) -> Remains {
        let Some(daemon) = &self.hosts[h].daemon else { return Remains::Nothing };
        match daemon.machine {
            Some((number, _)) => match self.hosts[h].monitor.filter(|m| m.number == number) {
                Some(monitor) => Remains::Process(monitor.state()),
                None => Remains::Changing,
            },
            None if daemon.life.has_process() || daemon.seen < daemon.version => Remains::Changing,
            None if daemon.life.never_ran() => Remains::NeverRan,
            None => Remains::Nothing,
        }
    }

    fn monitor(&mut self, h: usize, refuses: bool) {
        let Some(monitor) = self.hosts[h].monitor else { return };
        let Some(number) = monitor.passage else { return };
        let passage = &mut self.passages[number];
        let (mut phase, mut memory, mut end) = (monitor.phase, monitor.memory, None);
        if passage.from == h {
            let link = &mut passage.links[0];
            let heard = link.back.queue.pop_front();
            let lost = heard.is_none() && link.back.ended();
            match (phase, heard) {
                (Phase::Offering, Some(Message::Accept)) => phase = Phase::Copying,
                (Phase::Offering, None) if !lost => {}
                (Phase::Copying, None) if !lost => {
                    phase = Phase::Halted;
                    if !link.forth.send(Message::State(memory)) {
                        phase = Phase::Runs;
                    }
                }
                (Phase::Halted, Some(Message::Ready)) => {
                    let sent = link.forth.send(Message::Commit);
                    phase = if sent { Phase::HandedOver } else { Phase::Runs };
                }
                (Phase::Halted, None) if !lost => {}
                (Phase::HandedOver, Some(Message::Running)) => end = Some(ExitReason::Migrated),
                (Phase::HandedOver, Some(Message::Refuse)) => phase = Phase::Runs,
                (Phase::HandedOver, None) if !lost => {}
                (Phase::HandedOver, None) => phase = Phase::InDoubt,
                (Phase::InDoubt, _) => {}
                (_, other) => {
                    assert!(matches!(other, None | Some(Message::Refuse)), "{phase:?} heard {other:?}");
                    phase = Phase::Runs;
                }
            }
            if phase == Phase::Runs {
                link.cut();
            }
        } else {
            let link = &mut passage.links[2];
            let heard = if phase == Phase::TakingOver { None } else { link.forth.queue.pop_front() };
            let lost = heard.is_none() && link.forth.ended();
            match (phase, heard) {
                (Phase::TakingOver, _) if refuses => {
                    link.back.send(Message::Refuse);
                    end = Some(ExitReason::NotArrived);
                }
                (Phase::TakingOver, _) => {
                    phase = Phase::Runs;
                    link.back.send(Message::Running);
                }
                (Phase::Waits, Some(Message::Hello)) => {
                    phase = Phase::Receiving;
                    link.back.send(Message::Accept);
                }
                (Phase::Receiving, Some(Message::State(of))) => {
                    (phase, memory) = (Phase::Ready, of);
                    link.back.send(Message::Ready);
                }
                (Phase::Ready, Some(Message::Commit)) => phase = Phase::TakingOver,
                (Phase::Waits | Phase::Receiving | Phase::Ready, None) if !lost && refuses => {
                    link.back.send(Message::Refuse);
                    end = Some(ExitReason::NotArrived);
                }
                (Phase::Waits | Phase::Receiving | Phase::Ready, None) if !lost => {}
                (Phase::Waits | Phase::Receiving | Phase::Ready, _) => end = Some(ExitReason::NotArrived),
                _ => {}
            }
        }
        if let Some(monitor) = &mut self.hosts[h].monitor {
            (monitor.phase, monitor.memory) = (phase, memory);
            if phase == Phase::Runs {
                monitor.passage = None;
            }
        }
        if let Some(reason) = end {
            self.end_monitor(h, reason);
        }
    }

    /// One step of a daemon's relays, in one direction.
    fn relay(&mut self, h: usize, forth: bool) {
        if self.hosts[h].daemon.is_none() {
            return;
        }
        for number in 0..self.passages.len() {
            let passage = &self.passages[number];
            let side = usize::from(passage.from != h);
            if !passage.relays[side] {
                if side == 1 {
                    self.outcome(h, number);
                }
                continue;
            }
            let open = match (side, forth) {
                (0, true) if passage.held.is_some() => self.hold(h, number, None),
                (0, true) => self.pass_out(number),
                (0, false) => self.pass_back(h, number),
                _ => self.pass_on(number, forth),
            };
            if !open {
                self.passages[number].end_relay(side, usize::MAX);
            }
        }
    }

    /// From the old monitor. False: the gate closes, or the stream ends.
    fn pass_out(&mut self, number: usize) -> bool {
        let passage = &mut self.passages[number];
        match passage.links[0].forth.queue.pop_front() {
            None => !passage.links[0].forth.broken,
            Some(Message::Commit) if self.broken == Some(Broken::Switch) => {
                passage.links[1].forth.send(Message::Commit)
            }
            Some(Message::Commit) => {
                (passage.held, passage.switched) = (Some(Held::Write), true);
                true
            }
            Some(message) => passage.links[1].forth.send(message),
        }
    }

    /// The last word. `lost`: the answer to the write is lost, and whether it was carried out.
    fn hold(&mut self, h: usize, number: usize, lost: Option<bool>) -> bool {
        let passage = &self.passages[number];
        let (moving, epoch, monitor) = (passage.moving, passage.epoch, passage.monitor);
        match passage.held {
            Some(Held::Write) => {
                let op = Op::SwitchMove { id: self.vm, moving };
                if let Some(carried_out) = lost {
                    if carried_out {
                        let _ = self.apply(op);
                    }
                    return false;
                }
                if self.write(h, op).is_err() {
                    return false;
                }
                self.passages[number].held = Some(Held::LetGo);
            }
            Some(Held::LetGo) => {
                let Some(daemon) = &mut self.hosts[h].daemon else { return false };
                if let Want::This(desired) = &mut daemon.want
                    && desired.epoch < epoch
                {
                    (desired.part, desired.epoch) = (Part::Still, epoch);
                    daemon.version += 1;
                }
                self.passages[number].held = Some(Held::Seen(daemon.version));
            }
            Some(Held::Seen(version)) => {
                let Some(daemon) = &self.hosts[h].daemon else { return false };
                if daemon.seen < version {
                    return true;
                }
                let still =
                    matches!(&daemon.want, Want::This(d) if d.part == Part::Still && d.epoch == epoch);
                let same = match daemon.machine {
                    Some((number, _)) => number == monitor,
                    None => !daemon.life.has_process(),
                };
                self.passages[number].held = None;
                return still && same && self.passages[number].links[1].forth.send(Message::Commit);
            }
            None => {}
        }
        true
    }

    fn pass_back(&mut self, h: usize, number: usize) -> bool {
        let passage = &mut self.passages[number];
        let Some(message) = passage.links[1].back.queue.pop_front() else {
            return !passage.links[1].back.broken;
        };
        let (moving, epoch) = (passage.moving, passage.epoch);
        if message == Message::Refuse && passage.switched {
            let agreed = match self.write(h, Op::ReturnMove { id: self.vm, moving }) {
                Ok(_) => true,
                Err(_) => {
                    let Some(daemon) = &self.hosts[h].daemon else { return false };
                    let record = self.record(&daemon.view);
                    record.vm.status.host == Some(self.ids[h]) && record.epoch == epoch + 1
                }
            };
            if !agreed {
                return false;
            }
        }
        self.passages[number].links[0].back.send(message)
    }

    /// Of the new host.
    fn pass_on(&mut self, number: usize, forth: bool) -> bool {
        let passage = &mut self.passages[number];
        let [_, network, local] = &mut passage.links;
        let (from, to) = match forth {
            true => (&mut network.forth, &mut local.forth),
            false => (&mut local.back, &mut network.back),
        };
        let Some(message) = from.queue.pop_front() else { return !from.broken };
        passage.committed |= message == Message::Commit;
        to.send(message)
    }

    /// What the new host knows once its relay has ended.
    fn outcome(&mut self, h: usize, number: usize) {
        let passage = &self.passages[number];
        let (moving, committed) = (passage.moving, passage.committed);
        let monitor = self.hosts[h].monitor.filter(|m| m.passage == Some(number));
        let never = self.hosts[h].record.as_ref().is_some_and(|r| r.reason == ExitReason::NotArrived);
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        if daemon.words.get(&moving) != Some(&Word::UnderWay) {
            return;
        }
        let word = match (committed, monitor) {
            (false, _) => Word::NeverRan,
            // Its answer is waited for.
            (true, Some(_)) => return,
            (true, None) if never => Word::NeverRan,
            (true, None) => Word::Over,
        };
        daemon.words.insert(moving, word);
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

    fn own_steps(h: usize) -> [Chance; 9] {
        [
            Chance::Sync(h),
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
        self.step([Self::own_steps(0), Self::own_steps(1)].concat()[n % 18]);
    }

    fn has_moved(&self) -> bool {
        let record = self.record(&self.state);
        record.vm.status.host == Some(self.ids[1]) && record.moving.is_none()
    }

    fn check(&self) {
        let running = self.hosts.iter().filter_map(|h| h.monitor).filter(Monitor::runs).count();
        assert!(running <= 1, "the machine runs twice");
    }

    /// Lets both daemons start and do all there is to do.
    fn settle(&mut self) {
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
        assert!(self.hosts[OTHER[owner]].monitor.is_none(), "something of it remains");
        owner
    }
}

impl Passage {
    /// The relay of one side is gone: so many messages it sent arrive nevertheless.
    fn end_relay(&mut self, side: usize, arrive: usize) {
        if !std::mem::replace(&mut self.relays[side], false) {
            return;
        }
        for link in [side, side + 1] {
            self.cut(link, arrive);
        }
    }

    fn cut(&mut self, link: usize, arrive: usize) {
        let link = &mut self.links[link];
        link.cut();
        link.forth.queue.truncate(arrive);
        link.back.queue.truncate(arrive);
    }
}

fn ordinary() -> impl Strategy<Value = Chance> {
    let h = 0..2usize;
    prop_oneof![
        60 => Just(Chance::Turn),
        1 => h.clone().prop_map(Chance::Begin),
        4 => h.clone().prop_map(Chance::Sync),
        4 => h.clone().prop_map(Chance::Drive),
        4 => h.clone().prop_map(Chance::Launched),
        2 => h.clone().prop_map(Chance::Report),
        4 => h.clone().prop_map(Chance::Work),
        4 => h.clone().prop_map(Chance::Look),
        8 => h.clone().prop_map(Chance::Monitor),
        14 => (h.clone(), any::<bool>()).prop_map(|(h, forth)| Chance::Relay(h, forth)),
        1 => (h.clone(), any::<bool>()).prop_map(|(h, done)| Chance::LoseAnswer(h, done)),
        1 => (0..3usize).prop_map(Chance::Cut),
        1 => h.clone().prop_map(Chance::Cancel),
        1 => h.clone().prop_map(Chance::Refuse),
        1 => (h.clone(), 0..3usize).prop_map(|(h, arrive)| Chance::Crash(h, arrive)),
        2 => h.prop_map(Chance::Start),
    ]
}

fn deadly() -> impl Strategy<Value = Chance> {
    prop_oneof![
        60 => ordinary(),
        1 => (0..2usize).prop_map(Chance::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Daemons die, connections break, answers are lost, someone calls it off: the guest never boots again.
    #[test]
    fn what_happens_to_daemons_never_touches_the_guest(chances in prop::collection::vec(ordinary(), 0..250)) {
        let mut world = World::new();
        for chance in chances {
            world.step(chance);
        }
        world.settle();
        world.at_home();
        prop_assert_eq!(world.boots, 1, "the guest was booted again");
    }

    /// Monitors die too: it may boot again, but it never runs twice, and runs in the end.
    #[test]
    fn where_monitors_die_it_runs_once_in_the_end(chances in prop::collection::vec(deadly(), 0..250)) {
        let mut world = World::new();
        for chance in chances {
            world.step(chance);
        }
        world.settle();
        world.at_home();
    }
}

/// Both hosts take turns, nothing happens: it moves, and back.
#[test]
fn undisturbed_it_moves() {
    let mut world = World::new();
    for (from, to) in [(0, 1), (1, 0)] {
        world.begin(from);
        world.settle();
        assert_eq!(world.at_home(), to);
    }
    assert_eq!(world.boots, 1);
}

/// Steps of an undisturbed move.
fn steps(broken: Option<Broken>) -> usize {
    let mut world = World { broken, ..World::new() };
    world.begin(0);
    let mut steps = 0;
    while !world.has_moved() && steps < 1000 {
        world.turn(steps);
        steps += 1;
    }
    steps
}

/// Daemons die after so many steps of a move.
fn crashed(broken: Option<Broken>, at: usize, dead: &[usize], arrive: usize) {
    let mut world = World { broken, ..World::new() };
    world.begin(0);
    (0..at).for_each(|n| world.turn(n));
    dead.iter().for_each(|h| world.step(Chance::Crash(*h, arrive)));
    world.settle();
    world.at_home();
    assert_eq!(world.boots, 1, "booted again: {dead:?} died after step {at}");
}

/// The source daemon, the target daemon, or both die after each step of an undisturbed move.
fn crashes(broken: Option<Broken>) -> impl Iterator<Item = (usize, &'static [usize], usize)> {
    const DEAD: [&[usize]; 3] = [&[0], &[1], &[0, 1]];
    let steps = steps(broken);
    assert!(steps < 1000, "it never arrives");
    (0..=steps)
        .flat_map(|at| DEAD.into_iter().flat_map(move |dead| (0..3).map(move |arrive| (at, dead, arrive))))
}

#[test]
fn the_source_daemon_the_target_daemon_or_both_die_after_each_step() {
    crashes(None).for_each(|(at, dead, arrive)| crashed(None, at, dead, arrive));
}

#[test]
fn a_broken_rule_is_noticed() {
    for broken in [Broken::Switch, Broken::Return, Broken::Forget].map(Some) {
        let noticed = |(at, dead, arrive): (usize, &'static [usize], usize)| {
            std::panic::catch_unwind(move || crashed(broken, at, dead, arrive)).is_err()
        };
        assert!(crashes(None).any(noticed), "nobody notices that {broken:?} is broken");
    }
}
