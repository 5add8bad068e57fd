//! What every device served by threads of its own is: facts that never change, counters, and lanes: a [`Worker`] around a
//! [`Handler`] each.
//!
//! A device's own module says its facts and writes its handler; starting, stopping and counting are here, once. Most devices
//! have one lane, which serves all queues; one with several queues for the same work has a lane for each of them. What lanes
//! have in common their handlers share. The first lane speaks for the whole device: it makes changes, syncs, and gives up.
//! Invariant: a queue is served by one lane, and all lanes run, or none.

use super::{
    Counters, DeviceType, QueueStates, Queues, VirtioDevice,
    chain::{Chain, Malformed},
    queue::{Broken, DeviceQueue, Pop},
    read_config,
    worker::{BUDGET, Handler, Progress, Worker},
};
use crate::{
    change::{Change, Seen},
    memory::Memory,
};
use std::{fs::File, io, sync::Arc};

/// What the driver is told of a device.
pub(super) struct Facts {
    pub(super) kind: DeviceType,
    /// Features offered, with the common ones.
    pub(super) features: u64,
    /// Largest size of each queue.
    pub(super) queue_sizes: Vec<u16>,
    /// The configuration space.
    pub(super) config: Arc<dyn Config>,
    /// The file written to, where there is one.
    pub(super) written: Option<File>,
}

/// A configuration space. What of it changes is the handler's to save, who shares it then.
pub(super) trait Config: Send + Sync {
    /// Reads it; bytes past the end are zero.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// What of it does not change for as long as there is the device.
    fn identity(&self, data: &mut [u8]) {
        self.read(0, data);
    }
    /// Writes it; where there is nothing to write: nothing.
    fn write(&self, offset: u64, data: &[u8]) {
        let _ = (offset, data);
    }
}

impl Config for Vec<u8> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_config(self, offset, data);
    }
}

/// Which lane serves a queue for a driver that accepted these features. One that does not exist: the first.
pub(super) type Assign = fn(queue: usize, features: u64) -> usize;

/// A device served by one thread a lane.
pub struct Served<H> {
    facts: Facts,
    counters: Arc<Counters>,
    /// At least one.
    first: Worker<H>,
    others: Vec<Worker<H>>,
    assign: Assign,
}

impl<H: Handler> Served<H> {
    /// A stopped device; the handler is made around the device's counters.
    pub(super) fn build(facts: Facts, handler: impl FnOnce(Arc<Counters>) -> H) -> Self {
        let counters = Arc::<Counters>::default();
        let first = Worker::new(facts.kind.name(), handler(Arc::clone(&counters)));
        Self { facts, counters, first, others: Vec::new(), assign: |_, _| 0 }
    }

    /// As [`Served::build`], with `lanes` (at least one is made) whose handlers are made by their numbers, from 0.
    pub(super) fn build_lanes(
        facts: Facts,
        lanes: usize,
        assign: Assign,
        mut handler: impl FnMut(usize, Arc<Counters>) -> H,
    ) -> Self {
        let name = facts.kind.name();
        let mut served = Self::build(facts, |counters| handler(0, counters));
        let counters = Arc::clone(&served.counters);
        served.others =
            (1..lanes).map(|lane| Worker::new(name, handler(lane, Arc::clone(&counters)))).collect();
        served.assign = assign;
        served
    }

    fn lanes(&mut self) -> impl Iterator<Item = &mut Worker<H>> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Lets `action` have the first handler of the stopped device.
    pub(super) fn idle<T>(&mut self, action: impl FnOnce(&mut H) -> T) -> io::Result<T> {
        self.others.iter_mut().try_for_each(|lane| lane.idle(|_| ()))?;
        self.first.idle(action)
    }
}

/// Gives each lane its queues, at their places: those of others are missing there.
fn share(queues: Queues, lanes: usize, lane_of: impl Fn(usize) -> usize) -> Vec<Queues> {
    let count = queues.len();
    let mut shares: Vec<Queues> = (0..lanes).map(|_| (0..count).map(|_| None).collect()).collect();
    for (index, queue) in queues.into_iter().enumerate() {
        let lane = Some(lane_of(index)).filter(|lane| *lane < lanes).unwrap_or(0);
        if let Some(place) = shares.get_mut(lane).and_then(|share| share.get_mut(index)) {
            *place = queue;
        }
    }
    shares
}

impl<H: Handler> VirtioDevice for Served<H> {
    fn device_type(&self) -> DeviceType {
        self.facts.kind
    }
    fn features(&self) -> u64 {
        self.facts.features
    }
    fn queue_sizes(&self) -> &[u16] {
        &self.facts.queue_sizes
    }
    fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.facts.config.read(offset, data);
    }
    fn config_write(&mut self, offset: u64, data: &[u8]) {
        self.facts.config.write(offset, data);
    }
    fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
    fn start_queues(&mut self, queues: Queues, features: u64) -> io::Result<()> {
        let (lanes, assign) = (1 + self.others.len(), self.assign);
        let shares = share(queues, lanes, |queue| assign(queue, features));
        let mut started = Ok(());
        for (lane, share) in self.lanes().zip(shares) {
            // A lane without work costs no thread.
            if started.is_ok() && (lanes == 1 || share.iter().any(Option::is_some)) {
                started = lane.start(share, features);
            }
        }
        if started.is_err() {
            self.lanes().for_each(|lane| drop(lane.stop()));
        }
        started
    }
    fn stop_queues(&mut self) -> QueueStates {
        self.lanes().for_each(Worker::ask_to_stop);
        let mut states = QueueStates::new();
        for lane in self.lanes() {
            let stopped = lane.stop();
            states.resize_with(states.len().max(stopped.len()), || None);
            for (state, queue) in states.iter_mut().zip(stopped) {
                *state = state.take().or(queue.map(DeviceQueue::into_state));
            }
        }
        states
    }
    fn reset(&mut self) {
        // A lane that died says so when it is started.
        self.lanes().for_each(|lane| drop(lane.idle(Handler::reset)));
    }
    fn power_on(&mut self) {
        // As above.
        let _ = self.idle(Handler::power_on);
    }
    fn written(&self) -> Option<&File> {
        self.facts.written.as_ref()
    }
    fn sync(&mut self) -> io::Result<()> {
        self.idle(Handler::sync)?
    }
    fn release(&mut self) -> io::Result<()> {
        self.idle(Handler::release)?
    }
    fn acquire(&mut self) -> io::Result<()> {
        self.idle(Handler::acquire)?
    }
    fn save(&mut self) -> io::Result<serde_json::Value> {
        let saved: Vec<_> = self.lanes().map(|lane| lane.idle(|h| h.save())).collect::<io::Result<_>>()?;
        let mut saved = saved.into_iter();
        // One lane alone says what it always said.
        match (saved.next(), saved.len()) {
            (Some(only), 0) => Ok(only),
            (first, _) => Ok(first.into_iter().chain(saved).collect()),
        }
    }
    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        if self.others.is_empty() {
            return self.idle(|handler| handler.load(saved))?;
        }
        let lanes = 1 + self.others.len();
        let serde_json::Value::Array(saved) = saved else {
            return Err(io::Error::other(format!("it has one lane, here are {lanes}")));
        };
        if saved.len() != lanes {
            return Err(io::Error::other(format!("it has {} lanes, here are {lanes}", saved.len())));
        }
        self.lanes().zip(saved).try_for_each(|(lane, saved)| lane.idle(|h| h.load(saved))?)
    }
    fn change(&mut self, change: Change) -> io::Result<Seen> {
        self.idle(|handler| handler.change(change))?
    }
    fn identity(&self, data: &mut [u8]) {
        self.facts.config.identity(data);
    }
    fn announce(&mut self) {
        // A device that runs or died has nobody to announce.
        let _ = self.idle(Handler::announce);
    }
}

/// What becomes of a chain.
pub(super) enum Answer {
    /// It is served: so many bytes were written.
    Written(u32),
    /// Not now: it stays in the ring, and so do those behind it, until the handler is woken.
    Hold,
}

/// Answers the chains of a queue, at most [`BUDGET`] of them: `answer` says what became of one, or why it is no request at
/// all.
pub(super) fn serve_chains(
    queue: &mut DeviceQueue,
    chain: &mut Chain,
    mut answer: impl FnMut(&Memory, &Chain) -> Result<Answer, Malformed>,
) -> Result<Progress, Broken> {
    let memory = queue.memory();
    for _ in 0..BUDGET {
        match queue.pop(&memory, chain)? {
            Pop::Empty => {
                queue.announce(&memory)?;
                return Ok(if queue.listen(&memory)? { Progress::More } else { Progress::Idle });
            }
            Pop::Malformed => {}
            Pop::Chain => match answer(&memory, chain) {
                Ok(Answer::Written(written)) => queue.complete(&memory, chain.head, written)?,
                Ok(Answer::Hold) => {
                    queue.unpop();
                    queue.announce(&memory)?;
                    return Ok(Progress::Idle);
                }
                Err(why) => queue.refuse(&memory, chain.head, why)?,
            },
        }
    }
    queue.announce(&memory)?;
    Ok(Progress::More)
}
