//! Functions of hosts' PCI buses: which machine may have which. Pure.
//!
//! Invariant: of all machines of a host at most one has a function in its specification, whether it runs or not.

use crate::cluster::{
    State,
    state::{HostFunction, HostRecord},
};
use lq_api::{HostId, VmId, pci::PciAddress, vm::VmSpec};

/// Why a machine with functions of its host stays there.
pub(crate) const STAYS: &str = "the machine has functions of its host's PCI bus (`spec.passthrough`), which are there and nowhere else: stop it and take them out of its specification, then move it";

/// The machine of `host` that has a function in its specification, but for `but`.
#[must_use]
pub fn holder(state: &State, host: HostId, address: PciAddress, but: Option<VmId>) -> Option<VmId> {
    let has = |spec: &VmSpec| spec.passthrough.iter().any(|one| one.address == address);
    let records = state.vms.values().filter(|r| r.vm.status.host == Some(host) && has(&r.vm.spec));
    records.map(|r| r.vm.meta.id).find(|id| Some(*id) != but)
}

/// Everything because of which `host` cannot give a machine the functions it is to have.
#[must_use]
pub fn refusals(state: &State, host: &HostRecord, vm: Option<VmId>, spec: &VmSpec) -> Vec<String> {
    let wanted: Vec<PciAddress> = spec.passthrough.iter().map(|one| one.address).collect();
    if wanted.is_empty() {
        return vec![];
    }
    let Some(capacity) = &host.capacity else {
        return vec!["it has not said yet which functions are on its PCI bus".into()];
    };
    let find = |address: PciAddress| capacity.functions.iter().find(|f| f.address == address);
    let mut reasons = Vec::new();
    for address in &wanted {
        let Some(HostFunction { group, together_with, obstacle, .. }) = find(*address) else {
            reasons.push(format!("it has no PCI function {address} (bridges cannot be given to machines)"));
            continue;
        };
        if let Some(obstacle) = obstacle {
            reasons.push(format!("the PCI function {address} cannot be given to a machine: {obstacle}"));
            continue;
        }
        let missing: Vec<_> =
            together_with.iter().filter(|other| !wanted.contains(other)).map(ToString::to_string).collect();
        if !missing.is_empty() {
            let group = group.map(|group| format!("IOMMU group {group}")).unwrap_or_default();
            reasons.push(format!(
                "the PCI function {address} is given only together with all of {group}, of which the machine does not have {}",
                missing.join(", ")
            ));
        }
        if let Some(other) = holder(state, host.meta.id, *address, vm) {
            let name = state.vms.get(&other).map_or("", |r| r.vm.meta.name.as_str());
            reasons.push(format!("the PCI function {address} belongs to the machine `{name}`"));
        }
    }
    reasons
}
