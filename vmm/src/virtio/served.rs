//! What every device with one I/O thread is: facts that never change, counters, and a [`Worker`] around its [`Handler`].
//!
//! A device's own module says its facts and writes its handler; starting, stopping and counting are here, once.

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
    pub(super) queue_sizes: &'static [u16],
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

/// A device served by one thread.
pub struct Served<H> {
    facts: Facts,
    counters: Arc<Counters>,
    worker: Worker<H>,
}

impl<H: Handler> Served<H> {
    /// A stopped device; the handler is made around the device's counters.
    pub(super) fn build(facts: Facts, handler: impl FnOnce(Arc<Counters>) -> H) -> Self {
        let counters = Arc::<Counters>::default();
        let worker = Worker::new(facts.kind.name(), handler(Arc::clone(&counters)));
        Self { facts, counters, worker }
    }
}

impl<H: Handler> Served<H> {
    /// Lets `action` have the handler of the stopped device.
    pub(super) fn idle<T>(&mut self, action: impl FnOnce(&mut H) -> T) -> io::Result<T> {
        self.worker.idle(action)
    }
}

impl<H: Handler> VirtioDevice for Served<H> {
    fn device_type(&self) -> DeviceType {
        self.facts.kind
    }
    fn features(&self) -> u64 {
        self.facts.features
    }
    fn queue_sizes(&self) -> &[u16] {
        self.facts.queue_sizes
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
        self.worker.start(queues, features)
    }
    fn stop_queues(&mut self) -> QueueStates {
        self.worker.stop().into_iter().map(|queue| queue.map(DeviceQueue::into_state)).collect()
    }
    fn written(&self) -> Option<&File> {
        self.facts.written.as_ref()
    }
    fn sync(&mut self) -> io::Result<()> {
        self.worker.idle(Handler::sync)?
    }
    fn release(&mut self) -> io::Result<()> {
        self.worker.idle(Handler::release)?
    }
    fn acquire(&mut self) -> io::Result<()> {
        self.worker.idle(Handler::acquire)?
    }
    fn save(&mut self) -> io::Result<serde_json::Value> {
        self.worker.idle(|handler| handler.save())
    }
    fn load(&mut self, saved: serde_json::Value) -> io::Result<()> {
        self.worker.idle(|handler| handler.load(saved))?
    }
    fn change(&mut self, change: Change) -> io::Result<Seen> {
        self.worker.idle(|handler| handler.change(change))?
    }
    fn identity(&self, data: &mut [u8]) {
        self.facts.config.identity(data);
    }
    fn announce(&mut self) {
        // A device that runs or died has nobody to announce.
        let _ = self.worker.idle(Handler::announce);
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
    counters: &Counters,
    mut answer: impl FnMut(&Memory, &Chain) -> Result<Answer, Malformed>,
) -> Result<Progress, Broken> {
    let memory = queue.memory();
    for _ in 0..BUDGET {
        match queue.pop(&memory, chain)? {
            Pop::Empty => {
                queue.announce(&memory)?;
                return Ok(if queue.listen(&memory)? { Progress::More } else { Progress::Idle });
            }
            Pop::Malformed => counters.error(),
            Pop::Chain => match answer(&memory, chain) {
                Ok(Answer::Written(written)) => queue.complete(&memory, chain.head, written)?,
                Ok(Answer::Hold) => {
                    queue.unpop();
                    queue.announce(&memory)?;
                    return Ok(Progress::Idle);
                }
                Err(why) => {
                    counters.error();
                    queue.refuse(&memory, chain.head, why)?;
                }
            },
        }
    }
    queue.announce(&memory)?;
    Ok(Progress::More)
}
