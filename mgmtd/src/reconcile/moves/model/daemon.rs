//! What a daemon does between two decisions: drivers, reports, the old host's task, moves nobody works on.

use super::{loss::Leased, *};

#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Claimed,
    Under(usize),
    Ending,
}

/// A move away that a daemon works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) moving: Uuid,
    pub(super) epoch: u64,
    pub(super) stage: Stage,
    pub(super) cancelled: bool,
}

pub(super) struct Daemon {
    pub(super) life: Life,
    pub(super) want: Want,
    pub(super) version: u64,
    pub(super) seen: u64,
    /// The monitor its driver has, and how that was last seen.
    pub(super) machine: Option<(u32, Option<MachineState>)>,
    /// What is launched, and with which lease.
    pub(super) launching: Option<(Part, Option<Leased>)>,
    pub(super) reports: VecDeque<(u64, VmStatus)>,
    pub(super) reported: Option<(u64, VmStatus)>,
    pub(super) task: Option<Task>,
    pub(super) words: BTreeMap<Uuid, Word>,
    /// What it has read of the state.
    pub(super) view: State,
}

impl World {
    /// What the fleet is told, from what the daemon has read.
    pub(super) fn sync(&mut self, h: usize) {
        let (state, me, vm) = (self.state.clone(), self.ids[h], self.vm);
        let silent = self.hosts[h].silent;
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        if !silent {
            daemon.view = state;
        }
        let record = &daemon.view.vms[&vm];
        let want = match record.role(me) {
            None => Want::Gone,
            Some(role) => Want::This(Box::new(Desired {
                vm,
                name: "v".into(),
                generation: record.vm.meta.generation,
                epoch: record.epoch,
                part: part(role),
                returned: record.has_returned() || self.broken == Some(Broken::Past),
                leased: record.runs_leased(),
                spec: record.vm.spec.clone(),
                hardware: None,
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

    pub(super) fn drive(&mut self, h: usize) {
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

    pub(super) fn decide(&mut self, h: usize, seen: Seen, now: Now) {
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
                    let (part, epoch) = (desired.part, desired.runs_in());
                    let lease = self.lease_of(h, epoch);
                    let Some(daemon) = &mut self.hosts[h].daemon else { return };
                    daemon.launching = Some((part, lease));
                }
                Effect::Act(action) => self.act(h, action),
                Effect::Forget => self.hosts[h].record = None,
                Effect::Event { .. } => {}
                // What it has is not known here, so that nothing of it is changed.
                Effect::Adjust(_) | Effect::Ejected(..) => unreachable!(),
            }
        }
    }

    pub(super) fn act(&mut self, h: usize, action: Action) {
        let Some(monitor) = &mut self.hosts[h].monitor else { return };
        match (action, monitor.phase) {
            (Action::Kill, _) => self.end_monitor(h, ExitReason::Told),
            (Action::Reclaim, Phase::InDoubt) => self.reclaim(h),
            (Action::CancelMove, Phase::Offering | Phase::Copying | Phase::Halted) => {
                monitor.phase = Phase::Runs;
                if let Some(passage) = monitor.passage.take() {
                    self.passages[passage].links[0].cut();
                }
                self.keep(h);
            }
            _ => {}
        }
    }

    pub(super) fn launched(&mut self, h: usize) {
        let now = self.now();
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        let Some((part, lease)) = daemon.launching.take() else { return };
        let Some(lease) = lease else { return self.decide(h, Seen::NoLease, now) };
        self.launch(h, part, lease);
        let Some(monitor) = self.hosts[h].monitor else {
            let reason = "it ended as it started".to_owned();
            return self.decide(h, Seen::LaunchFailed { reason, lasting: false }, now);
        };
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        daemon.machine = Some((monitor.number, None));
        let seen = Seen::Launched { pid: None, started_at: None, state: monitor.state() };
        self.decide(h, seen, now);
    }

    pub(super) fn report(&mut self, h: usize) {
        let by = self.ids[h];
        if self.hosts[h].silent {
            return;
        }
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        let Some((epoch, status)) = daemon.reports.pop_front() else { return };
        let op = Op::ObserveVm { id: self.vm, status, host_ends: false, by: Some((by, epoch)) };
        self.write(h, op).unwrap();
    }

    pub(super) fn begin(&mut self, h: usize) {
        let Some(daemon) = &self.hosts[h].daemon else { return };
        if daemon.task.is_some() {
            return;
        }
        self.moves += 1;
        let moving = Uuid::from_u128(self.moves);
        let op = Op::BeginMove { id: self.vm, expect: None, moving, to: self.ids[OTHER[h]], hardware: None };
        if self.write(h, op).is_err() {
            return;
        }
        let Some(daemon) = &mut self.hosts[h].daemon else { return };
        let epoch = daemon.view.vms[&self.vm].next_epoch();
        daemon.task = Some(Task { moving, epoch, stage: Stage::Claimed, cancelled: false });
    }

    pub(super) fn set_stage(&mut self, h: usize, stage: Stage) {
        if let Some(task) = self.hosts[h].daemon.as_mut().and_then(|d| d.task.as_mut()) {
            task.stage = stage;
        }
    }

    /// What the old host's task does.
    pub(super) fn work(&mut self, h: usize) {
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
                let settled = !self.hosts[h].silent
                    && self.record(&self.state).moving.is_none_or(|m| m.id != task.moving);
                if (ended.is_ok() || settled)
                    && let Some(daemon) = &mut self.hosts[h].daemon
                {
                    daemon.task = None;
                }
            }
        }
    }

    /// Connects the two monitors, where the other host has a place.
    pub(super) fn open(&mut self, h: usize, task: Task) {
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
    pub(super) fn look(&mut self, h: usize) {
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
    pub(super) fn remains(&self, h: usize) -> Remains {
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
}
