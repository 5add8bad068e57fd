//! What a worker can tell the driver outside of the rings: interrupts, and that the device needs a reset.
//!
//! Shared by the transport (vCPU threads) and the worker; atomics, so that no one waits.

use super::{counters::Counters, report::Report};
use crate::pci::msix::Interrupts;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU8, AtomicU16,
            Ordering::{AcqRel, Acquire, Release, SeqCst},
        },
    },
};

/// "No vector": nothing is signalled.
pub const NO_VECTOR: u16 = 0xffff;
/// Status bit: the device has met an error it cannot recover from.
pub const NEEDS_RESET: u8 = 0x40;

const ISR_QUEUE: u8 = 1;
const ISR_CONFIG: u8 = 2;

/// The signals of one device.
pub struct Signals {
    interrupts: Interrupts,
    /// MSI-X is enabled; the ISR byte then carries no queue bit (virtio 1.2, 4.1.4.5.1).
    msix: AtomicBool,
    isr: AtomicU8,
    status: AtomicU8,
    config_vector: AtomicU16,
    config_generation: AtomicU8,
    queue_vectors: Vec<AtomicU16>,
    /// Lives as long as the device, so that resets do not renew a guest's right to messages.
    report: Mutex<Report>,
    /// The device's, for chains that are refused.
    counters: Arc<Counters>,
}

/// The signals, saved. A vector that does not exist is never signalled.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedSignals {
    isr: u8,
    status: u8,
    config_vector: u16,
    #[serde(default)]
    config_generation: u8,
    queue_vectors: Vec<u16>,
}

impl Signals {
    pub(crate) fn new(name: &str, interrupts: Interrupts, queues: usize, counters: Arc<Counters>) -> Self {
        Self {
            interrupts,
            msix: AtomicBool::new(false),
            isr: AtomicU8::new(0),
            status: AtomicU8::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            config_generation: AtomicU8::new(0),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            report: Mutex::new(Report::new(name)),
            counters,
        }
    }

    /// Buffers of queue `index` were used and the driver wants to know.
    pub fn queue_used(&self, index: u16) {
        if !self.msix.load(Acquire) {
            self.isr.fetch_or(ISR_QUEUE, AcqRel);
        }
        self.interrupt(self.queue_vector(index));
    }

    /// The device's configuration changed.
    pub fn config_changed(&self) {
        self.config_generation.fetch_add(1, AcqRel);
        self.isr.fetch_or(ISR_CONFIG, AcqRel);
        self.interrupt(self.config_vector());
    }

    /// The device cannot go on until the driver resets it.
    pub fn needs_reset(&self) {
        if self.status.fetch_or(NEEDS_RESET, SeqCst) & NEEDS_RESET == 0 {
            self.config_changed();
        }
    }

    /// Says something a guest can cause, at a bounded rate.
    pub fn say(&self, message: fmt::Arguments<'_>) {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).say(message);
    }

    /// Counts a chain that is refused, and says why.
    pub(super) fn refused(&self, message: fmt::Arguments<'_>) {
        self.counters.error();
        self.say(message);
    }

    fn interrupt(&self, vector: u16) {
        if vector != NO_VECTOR {
            self.interrupts.signal(vector);
        }
    }

    pub(crate) fn status(&self) -> u8 {
        self.status.load(SeqCst)
    }
    pub(crate) fn add_status(&self, bits: u8) {
        self.status.fetch_or(bits, SeqCst);
    }
    pub(crate) fn set_msix(&self, enabled: bool) {
        self.msix.store(enabled, Release);
    }
    /// Reads the ISR byte, which clears it.
    pub(crate) fn take_isr(&self) -> u8 {
        self.isr.swap(0, AcqRel)
    }
    /// Counts changes, so that a driver that reads the configuration in parts sees whether they belong together.
    pub(crate) fn config_generation(&self) -> u8 {
        self.config_generation.load(Acquire)
    }
    pub(crate) fn config_vector(&self) -> u16 {
        self.config_vector.load(Acquire)
    }
    pub(crate) fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(vector, Release);
    }
    /// Vector of a queue; [`NO_VECTOR`] for queues that do not exist.
    pub(crate) fn queue_vector(&self, index: u16) -> u16 {
        self.queue_vectors.get(usize::from(index)).map_or(NO_VECTOR, |vector| vector.load(Acquire))
    }
    pub(crate) fn set_queue_vector(&self, index: u16, vector: u16) {
        if let Some(slot) = self.queue_vectors.get(usize::from(index)) {
            slot.store(vector, Release);
        }
    }
    pub(crate) fn save(&self) -> SavedSignals {
        SavedSignals {
            isr: self.isr.load(Acquire),
            status: self.status(),
            config_vector: self.config_vector(),
            config_generation: self.config_generation(),
            queue_vectors: self.queue_vectors.iter().map(|vector| vector.load(Acquire)).collect(),
        }
    }
    pub(crate) fn load(&self, saved: &SavedSignals) {
        self.isr.store(saved.isr, Release);
        self.status.store(saved.status, SeqCst);
        self.set_config_vector(saved.config_vector);
        self.config_generation.store(saved.config_generation, Release);
        for (vector, saved) in self.queue_vectors.iter().zip(&saved.queue_vectors) {
            vector.store(*saved, Release);
        }
    }
    /// Interrupts the driver for every queue that has a vector: after a move, in case an interrupt was on its way. A
    /// driver that finds nothing takes no harm.
    pub(crate) fn all_queues_used(&self) {
        (0..self.queue_vectors.len() as u16).for_each(|index| self.queue_used(index));
    }
    /// Back to power-on: status 0, no vectors, nothing pending.
    pub(crate) fn reset(&self) {
        self.status.store(0, SeqCst);
        self.isr.store(0, Release);
        self.set_config_vector(NO_VECTOR);
        self.queue_vectors.iter().for_each(|vector| vector.store(NO_VECTOR, Release));
    }
}
