//! All virtual machines of this host: one driver task each.

use super::{Console, Desired, Error, Hypervisor, Observer};
use lq_api::{VmId, local::vmm::Stats};
use std::sync::Arc;

/// The machines of this host.
#[derive(Clone)]
pub struct Fleet {}

impl Fleet {
    /// A fleet without machines. Call [`Fleet::adopt`] once, before the first [`Fleet::sync`].
    #[must_use]
    pub fn new(_hypervisor: Arc<dyn Hypervisor>, _observer: Arc<dyn Observer>) -> Self {
        todo!()
    }

    /// Takes over the machines that run already. Until the first [`Fleet::sync`] they are left alone.
    pub async fn adopt(&self) -> Result<(), Error> {
        todo!()
    }

    /// Tells the whole desired set of this host; must be called inside a tokio runtime. A machine absent from it is
    /// killed and forgotten.
    pub fn sync(&self, _desired: Vec<Desired>) {
        todo!()
    }

    /// Waits until the machine has no process.
    pub async fn gone(&self, _vm: VmId) {
        todo!()
    }

    /// A connection to the machine's serial console.
    pub async fn console(&self, _vm: VmId) -> Result<Box<dyn Console>, Error> {
        todo!()
    }

    /// The machine's counters.
    pub async fn stats(&self, _vm: VmId) -> Result<Stats, Error> {
        todo!()
    }
}
