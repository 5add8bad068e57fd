//! Starts simulated machines.

use super::machine::SimMachine;
use crate::compute::{Desired, Error, Found, Hypervisor, LaunchBoot, Machine};
use async_trait::async_trait;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Time a simulated start takes.
const START: Duration = Duration::from_millis(30);

/// Starts simulated machines. Nothing outlives it.
#[derive(Default)]
pub struct SimHypervisor {
    started: AtomicU32,
}

impl SimHypervisor {
    async fn start(&self, desired: &Desired, waits: bool) -> Result<Arc<dyn Machine>, Error> {
        // The files a real monitor would open must be there.
        let launch = &desired.launch;
        let disks = launch.disks.iter().map(|d| d.image.path.as_str());
        let boot = match &launch.boot {
            LaunchBoot::Direct(files) => [Some(files.kernel.as_str()), files.initrd.as_deref()],
            LaunchBoot::Firmware { .. } | LaunchBoot::Bios => [None, None],
        };
        for path in boot.into_iter().flatten().chain(disks) {
            if !Path::new(path).is_file() {
                return Err(Error::Refused(format!("{path} is not there")));
            }
        }
        tokio::time::sleep(START).await;
        let pid = 1_000_000 + self.started.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(SimMachine::start(desired, pid, waits)))
    }
}

#[async_trait]
impl Hypervisor for SimHypervisor {
    async fn launch(&self, desired: &Desired) -> Result<Arc<dyn Machine>, Error> {
        self.start(desired, false).await
    }

    async fn receive(&self, desired: &Desired) -> Result<Arc<dyn Machine>, Error> {
        self.start(desired, true).await
    }

    async fn adopt(&self) -> Result<Vec<Found>, Error> {
        Ok(vec![])
    }
}
