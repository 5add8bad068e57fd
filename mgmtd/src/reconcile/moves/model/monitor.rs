//! Monitors, as `vmm/src/migrate/life.rs` has them, and the pipes between all.

use super::{loss::Leased, *};

/// What monitors say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
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
pub(super) struct Pipe {
    pub(super) queue: VecDeque<Message>,
    pub(super) broken: bool,
}

impl Pipe {
    pub(super) fn send(&mut self, message: Message) -> bool {
        if !self.broken {
            self.queue.push_back(message);
        }
        !self.broken
    }
    pub(super) fn ended(&self) -> bool {
        self.broken && self.queue.is_empty()
    }
}

/// A connection: what goes to the target, and back.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) forth: Pipe,
    pub(super) back: Pipe,
}

impl Link {
    pub(super) fn cut(&mut self) {
        (self.forth.broken, self.back.broken) = (true, true);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) struct Monitor {
    pub(super) number: u32,
    pub(super) phase: Phase,
    /// Which its memory is: another one with each boot, and each time it has moved.
    pub(super) memory: u32,
    /// Of its lease.
    pub(super) epoch: u64,
    /// Its lease is in force while its host's leases have not run out more often.
    pub(super) lapses: u32,
    pub(super) passage: Option<usize>,
}

impl Monitor {
    pub(super) fn runs(&self) -> bool {
        matches!(self.phase, Phase::Runs | Phase::Offering | Phase::Copying)
    }
    pub(super) fn state(&self) -> MachineState {
        match self.phase {
            Phase::Runs | Phase::Offering | Phase::Copying | Phase::Halted => MachineState::Running,
            Phase::HandedOver | Phase::InDoubt => MachineState::Away,
            Phase::Waits | Phase::Receiving | Phase::Ready | Phase::TakingOver => MachineState::Incoming,
        }
    }
}

impl World {
    pub(super) fn launch(&mut self, h: usize, part: Part, lease: Leased) {
        assert!(self.hosts[h].monitor.is_none(), "a monitor is launched beside another");
        self.monitors += 1;
        let waits = matches!(part, Part::Arriving(_));
        // One whose lease ran out before it began never begins.
        let begins = !waits && lease.lapses == self.hosts[h].lapses;
        if begins {
            self.boots += 1;
            self.latest = self.boots * 1000 + self.monitors;
        }
        (self.hosts[h].record, self.hosts[h].started_in) = (None, Some(lease.epoch));
        if !waits && !begins {
            self.hosts[h].record = Some(ExitRecord { reason: ExitReason::LeaseLost, detail: String::new() });
            return;
        }
        self.hosts[h].monitor = Some(Monitor {
            number: self.monitors,
            phase: if waits { Phase::Waits } else { Phase::Runs },
            memory: if begins { self.latest } else { 0 },
            epoch: lease.epoch,
            lapses: lease.lapses,
            passage: None,
        });
    }

    pub(super) fn end_monitor(&mut self, h: usize, reason: ExitReason) {
        let Some(monitor) = self.hosts[h].monitor.take() else { return };
        self.hosts[h].record = Some(ExitRecord { reason, detail: String::new() });
        if let Some(passage) = monitor.passage {
            let passage = &mut self.passages[passage];
            passage.links[if passage.from == h { 0 } else { 2 }].cut();
        }
    }

    pub(super) fn monitor(&mut self, h: usize, refuses: bool) {
        let Some(monitor) = self.hosts[h].monitor else { return };
        let open = monitor.lapses == self.hosts[h].lapses;
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
                (Phase::TakingOver, _) if refuses || !open => {
                    link.back.send(Message::Refuse);
                    end = Some(ExitReason::NotArrived);
                }
                (Phase::TakingOver, _) => {
                    phase = Phase::Runs;
                    assert_eq!(memory, self.latest, "it goes on from the past");
                    self.latest += 1;
                    memory = self.latest;
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
        } else if phase == Phase::Runs && monitor.phase != Phase::Runs {
            self.keep(h);
        }
    }
}
