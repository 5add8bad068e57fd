//! PCI: what a device must offer to the bus, and what the bus and the platform offer to a device.

pub mod bars;
pub mod config;
pub mod msix;
pub mod q35;
pub mod root;

use crate::{
    change::{Change, unknown},
    state::{self, State, description::Device},
};
use std::{fs::File, io, sync::Arc};
use vmm_sys_util::eventfd::EventFd;

/// A function on the bus. The bus serializes all calls to one device (vCPU threads take its lock).
///
/// Offsets and lengths come from the guest: an implementation answers any of them without panicking; reads beyond what
/// exists give all ones, writes are ignored.
pub trait PciDevice: Send {
    /// Reads `data.len()` (1, 2 or 4) bytes of configuration space at `offset` (0..4096, naturally aligned).
    fn config_read(&mut self, offset: u16, data: &mut [u8]);
    /// Writes configuration space. Returns what the platform must do about it.
    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigEffect;
    /// Memory BARs it wants. Called once, before the device is put on the bus.
    fn bars(&self) -> Vec<BarRequest>;
    /// Tells it where a BAR is now decoded (`None`: nowhere). It moves its ioeventfds accordingly.
    fn bar_moved(&mut self, bar: u8, base: Option<u64>) -> io::Result<()>;
    /// Reads inside a BAR.
    fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]);
    /// Writes inside a BAR.
    fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]);
    /// Stops all I/O so that nothing touches guest memory any more, keeping its state. Blocks until it is so.
    fn pause(&mut self);
    /// Makes durable what the guest wrote to the paused device. The error is in the device's words.
    fn sync(&mut self) -> io::Result<()>;
    /// Goes on after `pause`.
    fn resume(&mut self);
    /// Returns to the state at power-on (and not paused).
    fn reset(&mut self);
    /// What it is, for whoever is to take its state up.
    fn describe(&self) -> Device;
    /// Adds its state, as the one in `slot`. It is paused or never ran.
    fn save(&mut self, slot: u32, state: &mut State) -> Result<(), state::Error>;
    /// Takes up the state of the one in `slot`; it never ran, and is paused afterwards. The bus reads its BARs anew.
    fn load(&mut self, slot: u32, state: &mut State) -> Result<(), state::Error>;
    /// Tells the world outside that it is here now, after a move. It is paused.
    fn announce(&mut self) {}
    /// Makes a change, running or not.
    ///
    /// # Errors
    /// It cannot be made; nothing has changed.
    fn change(&mut self, change: Change) -> io::Result<()> {
        let _ = change;
        Err(unknown())
    }
    /// The file it writes to, running or not.
    fn written(&self) -> Option<&File> {
        None
    }
    /// Lets another monitor have what the paused device stands on: its disk.
    fn release(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Takes that back, or over.
    fn acquire(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A memory BAR a device wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRequest {
    /// Index of its first register.
    pub bar: u8,
    /// Size in bytes, a power of two.
    pub size: u64,
    /// It takes two registers, and may be above 4 GiB.
    pub wide: bool,
}

impl BarRequest {
    /// A 64-bit one.
    #[must_use]
    pub const fn wide(bar: u8, size: u64) -> Self {
        Self { bar, size, wide: true }
    }
}

/// What a write to configuration space asks of the platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigEffect {
    /// Nothing.
    #[default]
    None,
    /// BAR registers or the memory-enable bit changed: the bus re-reads them and calls `bar_moved`.
    BarsChanged,
}

/// What the platform offers to devices. Implemented on KVM by the machine, and by fakes in tests.
pub trait Platform: Send + Sync {
    /// Makes the kernel signal `event` when the guest writes to guest-physical `address` (any value, any width).
    fn attach_doorbell(&self, address: u64, event: &EventFd) -> io::Result<()>;
    /// Undoes [`Platform::attach_doorbell`].
    fn detach_doorbell(&self, address: u64, event: &EventFd) -> io::Result<()>;
    /// Reserves `vectors` message-signalled interrupts.
    fn allocate_msi(&self, vectors: u16) -> io::Result<Arc<dyn MsiVectors>>;
}

/// Message-signalled interrupts of one device. Vectors out of range are ignored.
pub trait MsiVectors: Send + Sync {
    /// Sets where `vector` goes: the address and data of its table entry.
    fn route(&self, vector: u16, address: u64, data: u32) -> io::Result<()>;
    /// The vector goes nowhere.
    fn unroute(&self, vector: u16) -> io::Result<()>;
    /// The eventfd whose signal injects `vector` (irqfd); `None` when out of range.
    fn event(&self, vector: u16) -> Option<&EventFd>;
}
