//! Networks of this host.
//!
//! Owns: bridges, taps, DHCP for guests and the filter rules that go with it. Knows nothing of the cluster or of HTTP.
//! Level-triggered: [`Fabric::apply`] is told the whole wanted state and makes it so.

mod answer;
pub mod bridge;
mod dhcp;
mod filter;
mod frame;
mod leases;
pub mod link;
mod packet;
pub mod tap;

use async_trait::async_trait;
use lq_api::{
    NetworkId, VmId,
    network::{Dhcp, Lease},
    vm::Mac,
};

/// The network side of this host.
#[async_trait]
pub trait Fabric: Send + Sync {
    /// Makes the host's networks and ports what `wanted` says; what it does not name is removed (only what we made).
    async fn apply(&self, wanted: &[WantedNetwork]) -> Result<(), Error>;
    /// Name of a network's bridge on this host.
    fn bridge(&self, network: NetworkId) -> String;
    /// Leases given to guests, of all networks.
    async fn leases(&self) -> Vec<Lease>;
}

/// A network as it is to be on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedNetwork {
    /// Which.
    pub network: NetworkId,
    /// Its own DHCP.
    pub dhcp: Option<Dhcp>,
    /// The guests' interfaces on it: only these are served.
    pub ports: Vec<WantedPort>,
}

/// A guest's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedPort {
    /// Of this machine.
    pub vm: VmId,
    /// Hardware address.
    pub mac: Mac,
}

/// Why the network could not be made so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host lacks something, e.g. an uplink.
    #[error("{0}")]
    Host(String),
    /// The kernel refused.
    #[error("{context}: {reason}")]
    Kernel {
        /// What was being done.
        context: String,
        /// What it said.
        reason: String,
    },
}
