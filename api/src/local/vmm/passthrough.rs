//! Functions of the host's PCI bus that a machine has for itself.

use crate::pci::PciAddress;
use serde::{Deserialize, Serialize};

/// A function of the host's PCI bus, bound to `vfio-pci` with all others of its IOMMU group. All memory of such a machine is
/// taken from the host at its start and stays in place: it cannot be plugged, and the balloon takes none of it. It cannot be
/// saved or moved either, and has no lease: what the function knows and does is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassthroughConfig {
    /// Where it is on the host.
    pub address: PciAddress,
    /// Its slot on the machine's bus, as of a disk; absent: after all other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
}
