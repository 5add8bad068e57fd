//! What the drivers see goes to the cluster's state; it must not be lost, so a write that fails is repeated.

use crate::{
    cluster::{Cluster, Op, State, WriteError},
    compute::{Holds, Observer},
    ha::host::HostLease,
    telemetry::Events,
};
use async_trait::async_trait;
use lq_api::{ImageId, VmId, event::EventLevel, local::vmm::LeaseConfig, vm::VmStatus};
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

impl Watcher {
    /// Writes until it is stored, or not needed any more.
    async fn store(&self, vm: VmId, needed: impl Fn(&State) -> bool, op: Op) {
        let mut pause = Duration::from_millis(100);
        while self.cluster.read(&needed) {
            match self.cluster.write(op.clone()).await {
                Ok(_) | Err(WriteError::Refused(_)) => return,
                Err(e) => {
                    tracing::warn!(%vm, error = %e, "what was seen of a machine could not be stored; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
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

    async fn holds(&self, vm: VmId, holds: Holds) {
        let Holds { epoch, generation, volumes, nics } = holds;
        let by = (self.cluster.identity().host, epoch);
        // Most of the time nobody waits for it.
        let awaited = |s: &State| {
            let record = s.vms.get(&vm).filter(|r| r.epoch == epoch && r.moving.is_none());
            record.is_some_and(|r| r.unplugged.still_held(generation, &volumes, &nics) != r.unplugged)
        };
        let op = Op::LetGo { id: vm, by, generation, volumes: volumes.clone(), nics: nics.clone() };
        self.store(vm, awaited, op).await;
    }

    async fn ejected(&self, vm: VmId, epoch: u64, drive: usize, image: ImageId) {
        let Ok(number) = u32::try_from(drive) else { return };
        let by = (self.cluster.identity().host, epoch);
        let wanted = |s: &State| {
            let record = s.vms.get(&vm).filter(|r| r.epoch == epoch);
            record.is_some_and(|r| r.vm.spec.cdroms.get(drive).is_some_and(|c| c.image == Some(image)))
        };
        self.store(vm, wanted, Op::MediumEjected { id: vm, by, drive: number, image }).await;
    }

    async fn event(&self, vm: VmId, level: EventLevel, kind: &'static str, message: String) {
        self.events.system(level, kind, format!("vm/{vm}"), message);
    }

    fn lease(&self, vm: VmId, epoch: u64) -> Option<LeaseConfig> {
        self.lease.for_start(&self.cluster, vm, epoch)
    }
}
