//! A protected machine, as tests look at it.

use crate::{host::explain, wait::eventually};
use anyhow::{Context as _, Result, bail, ensure};
use lq_api::{
    HostId, VmId,
    client::Client,
    ha::{HaMachineState, HaPriority, VmHa},
    vm::{UpdateVm, Vm, VmState},
};

/// Longest until the machine runs on another host, seconds: 11 to 15 by design, and a machine's start.
const ELSEWHERE: u64 = 30;

/// Protects the machine, and waits until it is.
pub(crate) async fn protect(api: &Client, vm: &Vm) -> Result<()> {
    let mut spec = vm.spec.clone();
    spec.ha = Some(VmHa { priority: HaPriority::High });
    let update = UpdateVm { spec: Some(spec), ..UpdateVm::default() };
    api.update_vm(vm.meta.id, &update, None).await.map_err(explain).context("protecting the machine")?;
    state(api, vm.meta.id, HaMachineState::Protected).await
}

/// Waits until high availability sees the machine so.
pub(crate) async fn state(api: &Client, vm: VmId, wanted: HaMachineState) -> Result<()> {
    let look = async || {
        let seen = api.ha().await.map_err(explain)?;
        ensure!(seen.machines.iter().any(|m| m.vm == vm && m.state == wanted), "{seen:?}");
        Ok(())
    };
    eventually(&format!("the machine to be {wanted:?}"), 120, look).await
}

/// Waits until the machine runs on such a host; which.
pub(crate) async fn running_on(api: &Client, vm: VmId, wanted: impl Fn(HostId) -> bool) -> Result<HostId> {
    let look = async || {
        // The host asked may just be without a leader.
        let seen = api.vm(vm).await.map_err(explain)?.status;
        match seen.host.filter(|host| seen.state == VmState::Running && wanted(*host)) {
            Some(host) => Ok(host),
            None => bail!("{seen:?}, {:?}", api.ha().await),
        }
    };
    eventually("it to run on the other host", ELSEWHERE, look).await
}
