//! What the manager looks at, made from the agreed state. Pure.

use super::manager::{HostView, Protected, View};
use crate::{
    cluster::{State, state::VmRecord},
    placement::{self, Request, Site},
};
use lq_api::{HostId, PoolId, vm::PowerState};
use std::collections::BTreeSet;

impl View {
    /// Of this state.
    #[must_use]
    pub fn of(state: &State) -> Self {
        // A host that has never started holds nothing.
        let started = state.hosts.iter().filter(|(_, record)| record.boot.is_some());
        Self {
            armed: state.ha().armed,
            hosts: started.map(|(id, _)| (*id, host(state, *id))).collect(),
            machines: state.vms.values().filter_map(|record| protected(state, record)).collect(),
        }
    }
}

/// What the state says of a host.
pub(crate) fn host(state: &State, id: HostId) -> HostView {
    HostView {
        boot: state.hosts.get(&id).and_then(|record| record.boot),
        off: state.is_off(id),
        maintenance: state.in_maintenance(id),
        bmc: state.hosts.get(&id).is_some_and(|record| record.bmc.is_some()),
    }
}

fn protected(state: &State, record: &VmRecord) -> Option<Protected> {
    let vm = &record.vm;
    let host = vm.status.host?;
    Some(Protected {
        vm: vm.meta.id,
        host,
        epoch: record.epoch,
        priority: vm.spec.protection()?,
        guarded: record.is_guarded(),
        wanted: vm.spec.power != PowerState::Stopped && !record.deleting,
        obstacle: obstacle(state, record, host),
    })
}

/// Why the machine can be on no other host, whatever room there is.
#[must_use]
pub fn obstacle(state: &State, record: &VmRecord, host: HostId) -> Option<String> {
    let spec = &record.vm.spec;
    let others = || state.hosts.keys().copied().filter(move |other| *other != host);
    if others().next().is_none() {
        return Some("there is no other host".into());
    }
    if state.may_run_elsewhere(host) {
        let why = "the cluster was formed anew without its host, which may still run it: let the host join again, or where it is \
                   switched off for certain, say so (`lqctl host confirm-off`)";
        return Some(why.into());
    }
    if spec.placement.host == Some(host) {
        return Some("it is asked to be on this host only".into());
    }
    let elsewhere = |pool: Option<PoolId>| others().any(|other| state.is_on(pool, other));
    let volumes = spec.disks.iter().filter_map(|disk| state.volumes.get(&disk.volume));
    if let Some(volume) = volumes.into_iter().find(|v| !elsewhere(v.spec.pool)) {
        return Some(format!("no other host reaches its volume `{}`", volume.meta.name));
    }
    let image = spec.images().filter_map(|id| state.images.get(&id)).find(|r| !elsewhere(r.image.spec.pool));
    image.map(|r| format!("no other host reaches the image `{}` it needs", r.image.meta.name))
}

/// Chooses hosts for several machines, one after the other, each with those before it in mind.
#[derive(Debug)]
pub struct Planner<'a> {
    state: &'a State,
    /// Counted when the first machine is to be placed: mostly none is.
    site: Option<Site<'a>>,
}

impl<'a> Planner<'a> {
    /// For machines of this state.
    #[must_use]
    pub fn new(state: &'a State) -> Self {
        Self { state, site: None }
    }

    /// The best of the hosts that may be used, or why none takes it.
    ///
    /// # Errors
    ///
    /// In words, each host with its reasons.
    pub fn place(&mut self, machine: &Protected, usable: &BTreeSet<HostId>) -> Result<HostId, String> {
        let record = self.state.vms.get(&machine.vm).ok_or("the machine was deleted")?;
        let site = self.site.get_or_insert_with(|| Site::of(self.state));
        let request = Request::anew(&record.vm);
        let Some(host) = placement::choose(site, request, Some(usable)) else {
            let mut decision = placement::decide_on(site, request, Some(usable));
            // That it is not on its own host needs no words.
            decision.hosts.retain(|verdict| verdict.host != machine.host);
            return Err(placement::explain(&decision));
        };
        site.put(machine.vm, host);
        Ok(host)
    }
}
