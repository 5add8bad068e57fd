//! What the drivers see goes to the cluster's state; it must not be lost, so a write that fails is repeated.

use crate::{
    cluster::{Cluster, Op, WriteError},
    compute::Observer,
    ha::host::HostLease,
    telemetry::Events,
};
use async_trait::async_trait;
use lq_api::{VmId, event::EventLevel, local::vmm::LeaseConfig, vm::VmStatus};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Receives what the drivers observe.
pub struct Watcher {
    cluster: Cluster,
    events: Events,
    going_down: watch::Receiver<bool>,
    lease: Arc<HostLease>,
}

impl Watcher {
    /// Writes to `cluster`, tells `events`, starts machines under `lease`. While the host goes down the end of a machine changes no wish.
    #[must_use]
    pub fn new(
        cluster: Cluster,
        events: Events,
        going_down: watch::Receiver<bool>,
        lease: Arc<HostLease>,
    ) -> Self {
        Self { cluster, events, going_down, lease }
    }
}

#[async_trait]
impl Observer for Watcher {
    async fn observed(&self, vm: VmId, epoch: u64, status: VmStatus) {
        let by = Some((self.cluster.identity().host, epoch));
        let mut pause = Duration::from_millis(100);
        loop {
            // What the state knows already needs no entry in the log.
            let known = self.cluster.read(|s| {
                s.vms.get(&vm).is_none_or(|r| r.epoch > epoch || r.with_place(status.clone()) == r.vm.status)
            });
            if known {
                return;
            }
            let host_ends = *self.going_down.borrow();
            match self.cluster.write(Op::ObserveVm { id: vm, status: status.clone(), host_ends, by }).await {
                Ok(_) | Err(WriteError::Refused(_)) => return,
                Err(e) => {
                    tracing::warn!(%vm, error = %e, "what was seen of a machine could not be stored; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
    }

    async fn event(&self, vm: VmId, level: EventLevel, kind: &'static str, message: String) {
        self.events.system(level, kind, format!("vm/{vm}"), message);
    }

    fn lease(&self, vm: VmId, epoch: u64) -> Option<LeaseConfig> {
        self.lease.for_start(&self.cluster, vm, epoch)
    }
}
