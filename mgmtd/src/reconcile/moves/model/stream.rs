//! The stream of a machine through two daemons, and what each lets pass.

use super::*;

/// What the old host does with the last word it holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Write,
    LetGo,
    Seen(u64),
}

/// A stream from one monitor to another, through two daemons.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) from: usize,
    pub(super) moving: Uuid,
    pub(super) epoch: u64,
    pub(super) monitor: u32,
    pub(super) links: [Link; 3],
    pub(super) relays: [bool; 2],
    pub(super) held: Option<Held>,
    pub(super) switched: bool,
    pub(super) committed: bool,
}

impl Passage {
    /// The relay of one side is gone: so many messages it sent arrive nevertheless.
    pub(super) fn end_relay(&mut self, side: usize, arrive: usize) {
        if !std::mem::replace(&mut self.relays[side], false) {
            return;
        }
        for link in [side, side + 1] {
            self.cut(link, arrive);
        }
    }

    pub(super) fn cut(&mut self, link: usize, arrive: usize) {
        let link = &mut self.links[link];
        link.cut();
        link.forth.queue.truncate(arrive);
        link.back.queue.truncate(arrive);
    }
}

impl World {
    /// One step of a daemon's relays, in one direction.
    pub(super) fn relay(&mut self, h: usize, forth: bool) {
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
    pub(super) fn pass_out(&mut self, number: usize) -> bool {
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
    pub(super) fn hold(&mut self, h: usize, number: usize, lost: Option<bool>) -> bool {
        let passage = &self.passages[number];
        let (moving, epoch, monitor) = (passage.moving, passage.epoch, passage.monitor);
        match passage.held {
            Some(Held::Write) => {
                let op = Op::SwitchMove { id: self.vm, moving };
                if let Some(carried_out) = lost {
                    if carried_out && !self.hosts[h].silent {
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

    pub(super) fn pass_back(&mut self, h: usize, number: usize) -> bool {
        let passage = &mut self.passages[number];
        let Some(message) = passage.links[1].back.queue.pop_front() else {
            return !passage.links[1].back.broken;
        };
        let (moving, epoch) = (passage.moving, passage.epoch);
        if message == Message::Refuse && passage.switched {
            let agreed = match self.write(h, Op::ReturnMove { id: self.vm, moving }) {
                Ok(_) => true,
                Err(_) if self.hosts[h].silent => false,
                Err(_) => {
                    let Some(daemon) = &self.hosts[h].daemon else { return false };
                    let record = self.record(&daemon.view);
                    record.vm.status.host == Some(self.ids[h]) && record.epoch == epoch + 1
                }
            };
            if !agreed {
                return false;
            }
            if let Some(lease) = self.lease_of(h, epoch + 1) {
                self.take_lease(h, lease);
            }
        }
        self.passages[number].links[0].back.send(message)
    }

    /// Of the new host.
    pub(super) fn pass_on(&mut self, number: usize, forth: bool) -> bool {
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
    pub(super) fn outcome(&mut self, h: usize, number: usize) {
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
}
