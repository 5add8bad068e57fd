//! The loop that follows the state.

use super::{
    Node, copies,
    resolve::{self, Names},
};
use crate::{compute::Desired, network::WantedNetwork};
use lq_api::{VolumeId, event::EventLevel, volume::VolumeState};
use std::{sync::Arc, time::Duration};

/// Pause before networks that could not be made are tried again.
const RETRY: Duration = Duration::from_secs(10);

/// What was last told.
#[derive(Default)]
struct Told {
    networks: Option<Vec<WantedNetwork>>,
    network_fault: Option<String>,
    machines: Option<Vec<Desired>>,
}

pub(super) async fn run(node: &Arc<Node>, ready: impl FnOnce()) {
    let mut changes = node.cluster.watch();
    let mut told = Told::default();
    let mut ready = Some(ready);
    while !node.stop.is_cancelled() {
        changes.borrow_and_update();
        if node.cluster.is_removed() {
            node.tell_removed();
            return;
        }
        follow(node, &mut told).await;
        if let Some(ready) = ready.take() {
            ready();
        }
        let again = told.network_fault.is_some();
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = node.ended.notified() => {}
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if again => {}
        }
    }
}

async fn follow(node: &Arc<Node>, told: &mut Told) {
    let me = node.id();
    // Together with the removal of this host its machines leave the state; what runs here must not end by that. So what was
    // read counts only if the host was still a member when it was.
    let networks = node.cluster.read(|s| resolve::networks(s, me));
    if node.cluster.is_removed() {
        return;
    }
    if told.networks.as_ref() != Some(&networks) || told.network_fault.is_some() {
        let fault = node.fabric.apply(&networks).await.err().map(|e| e.to_string());
        if fault != told.network_fault {
            let (level, kind, text) = match &fault {
                Some(fault) => (EventLevel::Error, "network.failed", fault.clone()),
                None => (EventLevel::Info, "network.ready", "the networks are as they should be".into()),
            };
            node.events.system(level, kind, format!("host/{me}"), text);
        }
        told.network_fault = fault;
        told.networks = Some(networks);
    }
    let machines = node.cluster.read(|s| {
        let names = Names {
            pool: &|id| node.pool_in(s, id),
            copy: &|id| node.copy(id),
            bridge: &|id| node.fabric.bridge(id),
            network_fault: told.network_fault.as_deref(),
        };
        resolve::machines(s, me, &names)
    });
    if node.cluster.is_removed() {
        return;
    }
    if told.machines.as_ref() != Some(&machines) {
        node.fleet.sync(machines.clone());
        told.machines = Some(machines);
    }
    node.look_at_moves();
    node.keep_pools();
    for pool in node.pools_with_waste() {
        node.keep(pool.0, move |node| async move { node.remove_waste_until_done(pool).await });
    }
    for image in node.cluster.read(|s| copies::needed(s, me)) {
        if node.copy(image).is_err() {
            node.keep(image.0, move |node| async move { node.keep_copy(image).await });
        }
    }
    for vm in node.cluster.read(|s| {
        let leaving = s.vms.values().filter(|r| r.deleting && r.vm.status.host == Some(me));
        leaving.map(|r| r.vm.meta.id).collect::<Vec<_>>()
    }) {
        node.keep(vm.0, move |node| async move { node.forget_vm(vm).await });
    }
    for volume in node.cluster.read(|s| {
        let unsettled = s.volumes.values().filter(|v| {
            let growing =
                v.status.state == VolumeState::Ready && v.spec.size_bytes != Some(v.status.size_bytes);
            growing || matches!(v.status.state, VolumeState::Creating | VolumeState::Deleting)
        });
        let here = unsettled.filter(|v| s.maker(v) == Some(me));
        here.map(|v| v.meta.id).collect::<Vec<VolumeId>>()
    }) {
        node.keep(volume.0, move |node| async move { node.settle_volume(volume).await });
    }
}
