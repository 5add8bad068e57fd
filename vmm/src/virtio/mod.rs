//! virtio: queues, the PCI transport, and the devices on it (virtio 1.2, modern only, split rings).
//!
//! ```text
//!  guest ─ BAR writes ─▶ pci::VirtioPci ── start_queues(states) ──▶ device ─▶ worker thread ◀─ doorbells (ioeventfd)
//!                             │        ◀── stop_queues() -> states ──┘             │
//!                             └───────────── Signals (vectors, status) ◀───────────┘ interrupts (irqfd)
//! ```
//! A device knows nothing of PCI: it has features, a configuration space, and queues that are started from a state and
//! stopped into one. Reset, pause, and later snapshot and migration are these two calls. One I/O thread serves one device, or one of its queues
//! where it has several for the same work; the queues of a [`vhost_user`] device are served by another program.
//!
//! Invariants
//! - A stopped device touches no guest memory: `stop_queues` returns after its thread has ended.
//! - Whatever a guest writes into its rings ends in an answer of length 0 or in DEVICE_NEEDS_RESET, never in a panic.
//! - Guest memory is read once where its value decides something (headers, descriptors).

pub mod balloon;
pub mod blk;
pub mod chain;
#[cfg(test)]
mod change_tests;
pub mod counters;
pub mod input;
#[cfg(test)]
mod lanes_tests;
pub mod mem;
#[cfg(test)]
mod moving_tests;
pub mod net;
#[cfg(test)]
mod net_tests;
mod pci;
pub mod queue;
mod report;
pub(crate) use report::Report;
pub mod rng;
pub mod scsi;
mod served;
pub mod signals;
mod tap;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod vhost_user;
pub mod vsock;
pub mod worker;

pub use counters::Counters;
pub use pci::{Error as TransportError, VirtioPci};
pub use virtio_queue::QueueState;

use crate::change::{Change, Seen};
use queue::DeviceQueue;
use std::{fs::File, io, sync::Arc};

/// The device may be used only by drivers of virtio 1.0 and later.
pub const F_VERSION_1: u64 = 1 << 32;
/// Descriptors may point to tables of descriptors.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// Both sides say up to where they need no notification.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// What every device of ours offers.
pub const F_COMMON: u64 = F_VERSION_1 | F_INDIRECT_DESC | F_EVENT_IDX;

/// The queues handed to a device, by index; `None`: the driver did not enable it.
pub type Queues = Vec<Option<DeviceQueue>>;
/// States of queues, by index.
pub type QueueStates = Vec<Option<QueueState>>;

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceType {
    /// Network interface.
    Net = 1,
    /// Disk.
    Block = 2,
    /// Entropy source.
    Rng = 4,
    /// Memory balloon.
    Balloon = 5,
    /// SCSI host.
    Scsi = 8,
    /// Keyboard, pointer.
    Input = 18,
    /// Streams between guest and host.
    Vsock = 19,
    /// Memory that comes and goes.
    Mem = 24,
    /// A directory of the host.
    Fs = 26,
}

impl DeviceType {
    /// Its name, for threads and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Net => "virtio-net",
            Self::Block => "virtio-blk",
            Self::Rng => "virtio-rng",
            Self::Balloon => "virtio-balloon",
            Self::Scsi => "virtio-scsi",
            Self::Input => "virtio-input",
            Self::Vsock => "virtio-vsock",
            Self::Mem => "virtio-mem",
            Self::Fs => "virtio-fs",
        }
    }
}

/// A device behind a transport.
pub trait VirtioDevice: Send {
    /// Its type.
    fn device_type(&self) -> DeviceType;
    /// Features it offers (with [`F_COMMON`]).
    fn features(&self) -> u64;
    /// The largest size of each of its queues, powers of two.
    fn queue_sizes(&self) -> &[u16];
    /// Reads its configuration; bytes past the end are zero.
    fn config_read(&self, offset: u64, data: &mut [u8]);
    /// Writes its configuration; where there is nothing to write: nothing.
    fn config_write(&mut self, offset: u64, data: &[u8]);
    /// Its doorbells are another program's too: whoever reads one may wait for ever.
    fn lends_doorbells(&self) -> bool {
        false
    }
    /// What has been done so far.
    fn counters(&self) -> Arc<Counters>;
    /// Starts serving `queues` with the features the driver accepted. Only called on a stopped device.
    ///
    /// # Errors
    /// The device cannot serve; it stays stopped.
    fn start_queues(&mut self, queues: Queues, features: u64) -> io::Result<()>;
    /// Finishes what is under way and stops. Afterwards nothing touches guest memory. On a stopped device: nothing.
    fn stop_queues(&mut self) -> QueueStates;
    /// The driver has reset the stopped device: what it had set up is forgotten.
    fn reset(&mut self) {}
    /// The machine begins anew with the stopped device.
    fn power_on(&mut self) {}
    /// Makes everything the guest wrote to the stopped device durable.
    ///
    /// # Errors
    /// The host failed, or the device is not stopped.
    fn sync(&mut self) -> io::Result<()>;
    /// The file the device writes to, running or not: what is in the host's cache of it can be made durable beforehand.
    fn written(&self) -> Option<&File>;
    /// Lets another monitor have what the stopped device stands on.
    ///
    /// # Errors
    /// The host failed, or the device is not stopped.
    fn release(&mut self) -> io::Result<()>;
    /// Takes back, or over, what [`VirtioDevice::release`] gave up.
    ///
    /// # Errors
    /// Someone else has it, or the device is not stopped.
    fn acquire(&mut self) -> io::Result<()>;
    /// What the stopped device knows besides features and queues.
    ///
    /// # Errors
    /// The device is not stopped.
    fn save(&mut self) -> io::Result<serde_json::Value>;
    /// Takes up what [`VirtioDevice::save`] gave.
    ///
    /// # Errors
    /// It makes no sense, or the device is not stopped.
    fn load(&mut self, saved: serde_json::Value) -> io::Result<()>;
    /// Makes a change to the stopped device; says whether its configuration is another one now.
    ///
    /// # Errors
    /// It cannot be made, or the device is not stopped; nothing has changed.
    fn change(&mut self, change: Change) -> io::Result<Seen>;
    /// What of its configuration says which device it is: another one cannot take up its state.
    fn identity(&self, data: &mut [u8]) {
        self.config_read(0, data);
    }
    /// Tells the world outside that the stopped device is here now.
    fn announce(&mut self);
}

/// Copies the part of `config` at `offset` into `data`; zeros past its end.
pub(crate) fn read_config(config: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(config.len());
    for (to, from) in data.iter_mut().zip(config.iter().skip(start)) {
        *to = *from;
    }
}
