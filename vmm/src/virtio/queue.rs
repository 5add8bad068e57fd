//! A queue as a device's worker sees it: taking chains, publishing answers, deciding on interrupts. All in one place.
//!
//! Rings are `virtio-queue`'s; chains are read and checked by [`Chain::read`]. A malformed chain is answered with length 0
//! here and the worker never sees it. A ring that cannot be followed any more (it lies outside of memory, its index jumped,
//! its entries point nowhere) is [`Broken`]: the worker then sets DEVICE_NEEDS_RESET and waits for it.

use super::{
    chain::{Chain, Malformed, load_u16},
    signals::Signals,
};
use crate::memory::{self, Memory, SharedMemory};
use std::sync::Arc;
use virtio_queue::{Error as RingError, Queue, QueueOwnedT, QueueState, QueueT};
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryLoadGuard};
use vmm_sys_util::eventfd::EventFd;

/// Flag of the driver's ring, without EVENT_IDX: it wants no interrupts.
const NO_INTERRUPT: u16 = 1;

/// The ring cannot be followed any more.
#[derive(Debug, thiserror::Error)]
#[error("queue {index} is broken: {cause}")]
pub struct Broken {
    index: u16,
    cause: RingError,
}

/// What [`DeviceQueue::pop`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pop {
    /// The driver has given nothing more.
    Empty,
    /// A chain was read.
    Chain,
    /// A chain was malformed; it is counted and has been answered.
    Malformed,
}

/// Its rings lie in memory that there is.
fn is_there(queue: &Queue, memory: &Memory) -> bool {
    let size = usize::from(queue.size());
    let rings = [
        (queue.desc_table(), 16 * size),
        (queue.avail_ring(), 6 + 2 * size),
        (queue.used_ring(), 6 + 8 * size),
    ];
    rings.into_iter().all(|(address, length)| memory::usable(memory, GuestAddress(address), length))
}

/// A queue being served.
pub struct DeviceQueue {
    index: u16,
    queue: Queue,
    memory: SharedMemory,
    doorbell: Arc<EventFd>,
    signals: Arc<Signals>,
    /// Answers published since the last decision on an interrupt.
    unannounced: bool,
}

impl DeviceQueue {
    /// Takes up a queue where `state` left it.
    pub(crate) fn new(
        index: u16,
        state: QueueState,
        memory: SharedMemory,
        doorbell: Arc<EventFd>,
        signals: Arc<Signals>,
    ) -> Result<Self, Broken> {
        let queue = Queue::try_from(state).map_err(|cause| Broken { index, cause })?;
        if !queue.is_valid(&*memory.memory()) || !is_there(&queue, &memory.memory()) {
            return Err(Broken { index, cause: RingError::QueueNotReady });
        }
        Ok(Self { index, queue, memory, doorbell, signals, unannounced: false })
    }

    /// Its index in the device.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Its size: no more chains than these can be under way.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Guest memory as it is now; taken once per batch.
    #[must_use]
    pub fn memory(&self) -> GuestMemoryLoadGuard<Memory> {
        self.memory.memory()
    }

    pub(crate) fn doorbell(&self) -> &EventFd {
        &self.doorbell
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Rings its doorbell.
    pub(crate) fn ring(&self) {
        // Fails only when the counter is full, and then it has rung.
        let _ = self.doorbell.write(1);
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> QueueState {
        self.queue.state()
    }

    pub(crate) fn into_state(self) -> QueueState {
        self.queue.state()
    }

    /// Takes the next chain into `chain`.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn pop(&mut self, memory: &Memory, chain: &mut Chain) -> Result<Pop, Broken> {
        let size = self.queue.size();
        let found = self.queue.iter(memory).map(|mut ring| ring.next());
        let descriptors = match found {
            Ok(Some(descriptors)) => descriptors,
            Ok(None) => return Ok(Pop::Empty),
            Err(source) => return Err(self.broken(source)),
        };
        if descriptors.head_index() >= size {
            return Err(self.broken(RingError::InvalidDescriptorIndex));
        }
        match chain.read(memory, descriptors) {
            Ok(()) => Ok(Pop::Chain),
            Err(malformed) => {
                self.refuse(memory, chain.head, malformed)?;
                Ok(Pop::Malformed)
            }
        }
    }

    /// Gives back the chain taken last, as if it had not been taken. Nothing may have been answered after it was taken.
    pub fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Publishes the answer to the chain `head`: `written` bytes of its writable part are valid.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn complete(&mut self, memory: &Memory, head: u16, written: u32) -> Result<(), Broken> {
        self.unannounced = true;
        self.queue.add_used(memory, head, written).map_err(|cause| self.broken(cause))
    }

    /// Answers a chain that breaks the rules: length 0. It is counted first, so that whoever sees the answer can see the count.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn refuse(&mut self, memory: &Memory, head: u16, why: Malformed) -> Result<(), Broken> {
        self.signals.refused(format_args!("queue {}: {why}", self.index));
        self.complete(memory, head, 0)
    }

    /// Interrupts the driver if answers were published since the last call and it wants to know.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn announce(&mut self, memory: &Memory) -> Result<(), Broken> {
        if std::mem::take(&mut self.unannounced) && self.interrupt_wanted(memory)? {
            self.signals.queue_used(self.index);
        }
        Ok(())
    }

    fn interrupt_wanted(&mut self, memory: &Memory) -> Result<bool, Broken> {
        // Without EVENT_IDX this only fences; the driver's flag is not looked at.
        let wanted = self.queue.needs_notification(memory).map_err(|cause| self.broken(cause))?;
        if self.queue.event_idx_enabled() {
            return Ok(wanted);
        }
        Ok(load_u16(memory, self.queue.avail_ring()).unwrap_or(0) & NO_INTERRUPT == 0)
    }

    /// Asks the driver to ring for the next chain. `true`: there is one already, which may not have been rung for.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn listen(&mut self, memory: &Memory) -> Result<bool, Broken> {
        self.queue.enable_notification(memory).map_err(|cause| self.broken(cause))
    }

    fn broken(&self, cause: RingError) -> Broken {
        Broken { index: self.index, cause }
    }
}
