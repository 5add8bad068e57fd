//! A witness: a member of the cluster on any Linux computer, whose word counts as much as that of a host, and which runs
//! nothing. Two hosts and a witness are three that vote: either host may be lost, and the other one still knows what holds.
//!
//! It is the same daemon with these parts. It brings nothing of its own into the cluster, reaches no pools, makes no networks and
//! leaves the computer it runs on alone: its clock, its network and its power are its owner's.

use crate::{
    compute::{self, Desired, Found, Hypervisor, Machine},
    ha::Watchdog,
    inventory::{self, HostLoad},
    network::{self, Fabric, WantedNetwork},
    reconcile::host::{HostControl, HostError, kernel_name},
    removable,
    storage::{self, shared::Mounter},
};
use async_trait::async_trait;
use lq_api::{
    HostId, NetworkId, PoolId,
    host::{DiskHealth, HostStatus, Virtualization},
    management::{ManagementNetwork, NetworkTest, TryNetwork},
    network::{Dhcp, Lease},
    pool::NfsSpec,
    removable::RemovableDrive,
};
use std::{path::PathBuf, sync::Arc};
use uuid::Uuid;

/// Why nothing is placed on it.
pub const RUNS_NOTHING: &str = "it is a witness: it votes, and runs no machines";

/// No machines.
pub struct NoMachines;

#[async_trait]
impl Hypervisor for NoMachines {
    async fn launch(&self, _desired: &Desired) -> Result<Arc<dyn Machine>, compute::Error> {
        Err(compute::Error::Refused(format!("this host runs nothing: {RUNS_NOTHING}")))
    }
    async fn adopt(&self) -> Result<Vec<Found>, compute::Error> {
        Ok(vec![])
    }
}

/// No networks.
pub struct NoNetworks;

#[async_trait]
impl Fabric for NoNetworks {
    async fn apply(&self, _wanted: &[WantedNetwork]) -> Result<(), network::Error> {
        Ok(())
    }
    fn bridge(&self, _network: NetworkId) -> String {
        String::new()
    }
    async fn leases(&self) -> Vec<Lease> {
        vec![]
    }
}

/// No mounts.
pub struct NoMounts;

impl Mounter for NoMounts {
    fn mount(&self, _host: HostId, _pool: PoolId, _spec: &NfsSpec) -> Result<PathBuf, storage::Error> {
        Err(storage::Error::Unfit("a witness reaches no pools".into()))
    }
    fn ask(&self, _pool: PoolId, _spec: &NfsSpec) -> Result<(), storage::Error> {
        Err(storage::Error::Unfit("a witness reaches no pools".into()))
    }
    fn unmount(&self, _pool: PoolId) -> Result<(), storage::Error> {
        Ok(())
    }
    fn mounted(&self) -> Vec<PoolId> {
        vec![]
    }
}

/// The computer a witness runs on.
pub struct WitnessHost {
    /// Each start of the daemon is a boot of it: nothing outlives it.
    boot: Uuid,
}

impl Default for WitnessHost {
    fn default() -> Self {
        Self { boot: Uuid::new_v4() }
    }
}

fn not_ours<T>(what: &str) -> Result<T, HostError> {
    Err(HostError::Refused(format!(
        "this is a witness: {what} of the computer it runs on is left to its owner"
    )))
}

#[async_trait]
impl HostControl for WitnessHost {
    fn name(&self) -> String {
        kernel_name()
    }
    fn boot(&self) -> Uuid {
        self.boot
    }
    fn keeps(&self) -> bool {
        true
    }
    fn is_witness(&self) -> bool {
        true
    }
    fn guest_dhcp(&self) -> Option<Dhcp> {
        None
    }
    fn status(&self) -> HostStatus {
        let virtualization = Virtualization { available: false, reason: Some(RUNS_NOTHING.into()) };
        HostStatus { boot: "witness".into(), virtualization, disks: vec![], ..inventory::read() }
    }
    fn load(&self) -> HostLoad {
        inventory::load()
    }
    fn disk_health(&self) -> Vec<(String, DiskHealth)> {
        vec![]
    }
    fn clock_is_set(&self) -> Option<bool> {
        inventory::clock_is_set()
    }
    fn watchdog(&self) -> Watchdog {
        Watchdog::Absent
    }
    async fn watch(&self, _closely: bool) -> Result<(), HostError> {
        Ok(())
    }
    async fn power(&self, _reboot: bool, _reason: String) -> Result<(), HostError> {
        not_ours("the power")
    }
    async fn network(&self) -> Result<ManagementNetwork, HostError> {
        not_ours("the network")
    }
    async fn try_network(&self, _wanted: TryNetwork) -> Result<(), HostError> {
        not_ours("the network")
    }
    async fn keep_network(&self) -> Result<(), HostError> {
        not_ours("the network")
    }
    async fn revert_network(&self) -> Result<(), HostError> {
        not_ours("the network")
    }
    fn test_network(&self) -> NetworkTest {
        inventory::test_network()
    }
    async fn factory_reset(&self, _data: bool) -> Result<(), HostError> {
        Err(HostError::Refused(
            "this is a witness: remove it from the cluster, end it, and remove its directory".into(),
        ))
    }
    fn removable(&self) -> Result<Vec<RemovableDrive>, removable::Error> {
        Ok(vec![])
    }
    fn write_removable(&self, device: &str, _name: &str, _content: &[u8]) -> Result<(), removable::Error> {
        let there = "a witness leaves the drives of its computer alone".into();
        Err(removable::Error::NoSuch { device: device.into(), there })
    }
}
