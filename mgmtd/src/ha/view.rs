//! What the manager looks at, made from the agreed state. Pure.

use super::manager::{HostView, Protected, View};
use crate::{
    cluster::{State, state::VmRecord},
    placement::{self, Request},
};
use lq_api::{HostId, PoolId, VmId, vm::PowerState};
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
pub(super) fn host(state: &State, id: HostId) -> HostView {
    HostView {
        boot: state.hosts.get(&id).and_then(|record| record.boot),
        off: state.is_off(id),
        maintenance: state.in_maintenance(id),
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
#[derive(Debug, Default)]
pub struct Planner {
    chosen: Vec<(VmId, HostId)>,
}

impl Planner {
    /// The best of the hosts that may be used, or why none takes it.
    pub fn place(
        &mut self,
        state: &State,
        machine: &Protected,
        usable: &BTreeSet<HostId>,
    ) -> Result<HostId, String> {
        let missing = || "the machine was deleted".to_owned();
        let mut state = std::borrow::Cow::Borrowed(state);
        if !self.chosen.is_empty() {
            // Objects are shared: a copy is one pointer for each.
            let state = state.to_mut();
            for (vm, host) in &self.chosen {
                if let Some(record) = state.vms.get_mut(vm) {
                    std::sync::Arc::make_mut(record).vm.status.host = Some(*host);
                }
            }
        }
        let record = state.vms.get(&machine.vm).ok_or_else(missing)?;
        let mut decision = placement::decide(&state, Request::anew(&record.vm), Some(usable));
        // That it is not on its own host needs no words.
        decision.hosts.retain(|verdict| verdict.host != machine.host);
        let best = decision.hosts.iter().find(|verdict| verdict.score.is_some());
        let host = best.map(|verdict| verdict.host).ok_or_else(|| placement::explain(&decision))?;
        self.chosen.push((machine.vm, host));
        Ok(host)
    }
}
