//! Functions of the host's PCI bus that the machine has for itself (VFIO).
//!
//! ```text
//!  sysfs ── host: group, driver, neighbours ─▶ obstacles, all at once
//!    │ none                                              ┌ config space: emulated, or the function's own (space)
//!    ▼                                                   ├ BARs: windows of guest memory, else trapped (layout)
//!  descriptors: container, groups, devices ─▶ function ──┤ MSI, MSI-X: events that KVM injects (interrupts)
//!    └ all guest memory mapped into the IOMMU            └ reset
//! ```
//! Owns: the descriptors, the mappings of BARs, what the guest sees of the function. Invariants: everything is opened before the
//! monitor locks itself in; a function reaches guest memory only between the guest's word (bus master) and reset; guest memory
//! that is mapped for it is never given back to the host ([`crate::memory::Wanted::pinned`]); what the guest writes reaches only
//! registers on a list ([`space`]), the kernel's own filter behind them.

mod descriptors;
pub mod function;
pub mod host;
mod interrupts;
pub mod layout;
pub mod space;
#[cfg(test)]
mod tests;

pub(crate) use descriptors::{DEVICE_RESET, DEVICE_SET_IRQS};
pub use function::Function;

use crate::{
    machine::{interrupts::KvmPlatform, kvm::DeviceMemory},
    memory::Memory,
};
use layout::{Area, Region};
use lq_api::{local::vmm::PassthroughConfig, pci::PciAddress};
use std::{io, path::Path, sync::Arc};
use vmm_sys_util::eventfd::EventFd;

/// A kind of message-signalled interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Up to 32 vectors with one address.
    Msi,
    /// Up to 2048 vectors, each with its own.
    MsiX,
}

/// A region of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// What a BAR, 0 to 5, decodes.
    Bar(u8),
    /// Configuration space.
    Config,
}

/// The function as the host gives it away; a fake in tests.
pub trait Backend: Send {
    /// What a region is like; of size 0: there is none.
    fn region(&self, place: Place) -> Region;
    /// Reads a region.
    ///
    /// # Errors
    /// The host refused.
    fn read(&self, place: Place, offset: u64, data: &mut [u8]) -> io::Result<()>;
    /// Writes a region.
    ///
    /// # Errors
    /// The host refused.
    fn write(&self, place: Place, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Has vectors signal events from `first` on; none: the function keeps the vector pending. The first call decides how many
    /// vectors there are until [`Backend::disconnect`].
    ///
    /// # Errors
    /// The host refused.
    fn connect(&self, signal: Signal, first: u16, events: &[Option<&EventFd>]) -> io::Result<()>;
    /// Switches interrupts of a kind off.
    ///
    /// # Errors
    /// The host refused.
    fn disconnect(&self, signal: Signal) -> io::Result<()>;
    /// Whether it can be reset alone.
    fn resets(&self) -> bool;
    /// Returns it to power-on.
    ///
    /// # Errors
    /// The host refused, or it cannot be reset alone.
    fn reset(&self) -> io::Result<()>;
}

/// The areas of a function's BARs that the guest can be shown as memory.
pub trait Windows: Send {
    /// Shows the area of number `index` at `base`; it was shown nowhere.
    ///
    /// # Errors
    /// The host refused.
    fn show(&mut self, index: usize, base: u64) -> io::Result<()>;
    /// Shows it no more.
    ///
    /// # Errors
    /// The host refused.
    fn hide(&mut self, index: usize) -> io::Result<()>;
}

/// Why a function cannot be given to the machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host does not allow it.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// A step failed.
    #[error("cannot {what}")]
    Host {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The function is of a kind that cannot be shown to a guest.
    #[error("devices.passthrough {address}: {problem}")]
    Function {
        /// Where it is.
        address: PciAddress,
        /// What is wrong.
        problem: space::Unfit,
    },
}

/// Opens functions of the host for a machine with `memory`, all of which is theirs to write to from now on.
///
/// # Errors
/// See [`Error`].
pub fn open(
    configs: &[PassthroughConfig],
    memory: &Memory,
    machine: &DeviceMemory,
    platform: &Arc<KvmPlatform>,
) -> Result<Vec<Function>, Error> {
    if configs.is_empty() {
        return Ok(Vec::new());
    }
    let addresses: Vec<_> = configs.iter().map(|config| config.address).collect();
    let faults = host::faults(Path::new(host::SYSFS), &addresses);
    if !faults.is_empty() {
        return Err(Error::Refused(faults));
    }
    let devices = descriptors::open(&addresses, memory, machine)?;
    let functions = devices.into_iter().zip(addresses).map(|(device, address)| {
        let areas = |areas: &[Area]| {
            let windows = device.windows(areas, machine)?;
            Ok(Box::new(windows) as Box<dyn Windows>)
        };
        let layout = layout::Layout::read(&device).map_err(|problem| Error::Function { address, problem })?;
        let windows = areas(&layout.areas).map_err(|source: io::Error| Error::Host {
            what: format!("map the BARs of {address}"),
            source,
        })?;
        Function::new(address, Box::new(device), layout, windows, &**platform)
            .map_err(|source| Error::Host { what: format!("prepare the function {address}"), source })
    });
    functions.collect()
}
