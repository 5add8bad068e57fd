//! Networks bridged to the uplink.

use super::{Error, Fabric, WantedNetwork};
use async_trait::async_trait;
use lq_api::{NetworkId, network::Lease};

/// Networks bridged to the uplink.
pub struct BridgeFabric {}

impl BridgeFabric {
    /// The fabric of a host with this uplink.
    #[must_use]
    pub fn new(_uplink: Option<String>) -> Self {
        todo!()
    }
}

#[async_trait]
impl Fabric for BridgeFabric {
    async fn apply(&self, _wanted: &[WantedNetwork]) -> Result<(), Error> {
        todo!()
    }
    fn bridge(&self, _network: NetworkId) -> String {
        todo!()
    }
    async fn leases(&self) -> Vec<Lease> {
        todo!()
    }
}
