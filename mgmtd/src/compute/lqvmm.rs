//! `lq-vmm` monitors, owned by PID 1.

use super::{Desired, Error, Found, Hypervisor, Machine};
use async_trait::async_trait;
use std::{path::PathBuf, sync::Arc};

/// Starts monitors through PID 1.
pub struct LqVmm {}

impl LqVmm {
    /// Speaks to PID 1 at this socket.
    #[must_use]
    pub fn new(_init_socket: PathBuf) -> Self {
        todo!()
    }
}

#[async_trait]
impl Hypervisor for LqVmm {
    async fn launch(&self, _desired: &Desired) -> Result<Arc<dyn Machine>, Error> {
        todo!()
    }
    async fn adopt(&self) -> Result<Vec<Found>, Error> {
        todo!()
    }
}
