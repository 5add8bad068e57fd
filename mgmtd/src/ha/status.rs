//! High availability in words: `GET /cluster/ha`.

use super::{
    Watchdog,
    leader::{HostReport, Leader, MachineReport},
    manager::{Phase, Terms, Wait},
    view,
};
use crate::cluster::{Cluster, State, state::VmRecord};
use lq_api::{
    HostId, VmId,
    ha::{HaHost, HaHostState, HaMachine, HaMachineState, HaStatus, HostWatchdog},
    vm::PowerState,
};
use std::collections::BTreeMap;

/// As the host that watches sees it; as the state alone says where this host does not watch.
#[must_use]
pub fn status(cluster: &Cluster, leader: &Leader) -> HaStatus {
    cluster.read(|s| {
        let hosts: BTreeMap<HostId, HostReport>;
        let machines: BTreeMap<VmId, MachineReport>;
        let watches = match leader.report(s.hosts.keys().copied(), s.vms.keys().copied()) {
            Some(found) => {
                (hosts, machines) = found;
                true
            }
            None => {
                (hosts, machines) = (BTreeMap::new(), BTreeMap::new());
                false
            }
        };
        HaStatus {
            spec: s.ha(),
            watched_by: watches.then_some(cluster.identity().host),
            warnings: warnings(s, watches),
            hosts: s
                .hosts
                .values()
                .map(|r| host(s, r.meta.id, &r.meta.name, hosts.get(&r.meta.id)))
                .collect(),
            machines: s.vms.values().filter_map(|r| machine(s, r, machines.get(&r.vm.meta.id))).collect(),
        }
    })
}

fn warnings(state: &State, watches: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |when: bool, text: &str| {
        if when {
            warnings.push(text.to_owned());
        }
    };
    warn(!state.ha().armed, "high availability is disarmed: machines of a lost host wait for it");
    warn(
        !watches,
        "no host watches the others: protected machines stand still until a majority of the voters is reached again",
    );
    warn(state.hosts.len() == 1, "there is only one host: nothing can be started elsewhere");
    warn(
        state.hosts.len() == 2,
        "of two hosts one votes: when that one is lost, the machines of neither are started elsewhere; add a third host or a witness",
    );
    warnings
}

fn host(state: &State, id: HostId, name: &str, seen: Option<&HostReport>) -> HaHost {
    let phase = match seen.map(|seen| seen.phase) {
        None | Some(Phase::Unheard) => HaHostState::Unknown,
        Some(Phase::Present) => HaHostState::Present,
        Some(Phase::Silent) => HaHostState::Silent,
        Some(Phase::Lost) => HaHostState::Lost,
    };
    let seen = seen.filter(|seen| seen.heard_ago.is_some() || phase != HaHostState::Unknown);
    let witness = state.hosts.get(&id).is_some_and(|record| record.is_witness());
    let watchdog = seen.filter(|_| !witness).and_then(|seen| seen.watchdog.as_ref());
    // Only then is the watchdog told to be quick.
    let guards = state.vms.values().any(|vm| vm.vm.status.host == Some(id) && vm.is_guarded());
    HaHost {
        host: id,
        name: name.to_owned(),
        state: phase,
        heard_ms_ago: seen.and_then(|seen| seen.heard_ago),
        over_in_ms: seen.and_then(|seen| seen.over_in),
        reason: state.is_off(id).then(|| {
            let by_bmc = state.hosts.get(&id).is_some_and(|host| host.off_by_bmc);
            if by_bmc { "its BMC says that it is off" } else { "it was confirmed to be off" }.to_owned()
        }),
        fence: seen.and_then(|seen| seen.fence.clone()),
        watchdog: watchdog.and_then(shown),
        degraded: watchdog.and_then(|watchdog| degraded(watchdog, guards)),
    }
}

/// The watchdog as it is told.
fn shown(watchdog: &Watchdog) -> Option<HostWatchdog> {
    match watchdog {
        Watchdog::Present { name, seconds } => Some(HostWatchdog {
            name: name.clone(),
            hardware: Watchdog::is_hardware(name),
            seconds: *seconds,
        }),
        Watchdog::Absent | Watchdog::Simulated => None,
    }
}

/// Why a host that hangs might still write once, after its lease. `guards`: it runs a protected machine.
fn degraded(watchdog: &Watchdog, guards: bool) -> Option<String> {
    let margin = Terms::STANDARD.watchdog / 1000;
    match watchdog {
        Watchdog::Simulated => None,
        Watchdog::Absent => Some(
            "it has no watchdog: were it to hang and go on later, it could finish a write to a disk that is another host's by \
             then"
                .into(),
        ),
        Watchdog::Present { name, .. } if !Watchdog::is_hardware(name) => Some(format!(
            "its watchdog is only software (`{name}`): it does not help where the whole host hangs"
        )),
        Watchdog::Present { name, seconds } if guards && u64::from(*seconds) > margin => Some(format!(
            "its watchdog `{name}` waits {seconds} s, longer than the {margin} s that follow a lease"
        )),
        Watchdog::Present { .. } => None,
    }
}

fn machine(state: &State, record: &VmRecord, seen: Option<&MachineReport>) -> Option<HaMachine> {
    let vm = &record.vm;
    let priority = vm.spec.protection()?;
    let obstacle = vm.status.host.and_then(|host| view::obstacle(state, record, host));
    let wait = seen.and_then(|seen| seen.wait.as_ref());
    let (phase, reason) = if vm.spec.power == PowerState::Stopped {
        (HaMachineState::Stopped, obstacle)
    } else if seen.is_some_and(|seen| seen.restarting) {
        (HaMachineState::Restarting, None)
    } else if let Some(Wait::Obstacle(why)) = wait {
        (HaMachineState::NotProtectable, Some(why.clone()))
    } else if let Some(wait) = wait {
        (HaMachineState::Waiting, Some(wait.to_string()))
    } else if let Some(obstacle) = obstacle {
        (HaMachineState::NotProtectable, Some(obstacle))
    } else if !record.is_guarded() {
        let why = "its host has not confirmed yet that it runs under a lease";
        (HaMachineState::NotProtectable, Some(why.into()))
    } else {
        (HaMachineState::Protected, None)
    };
    Some(HaMachine {
        vm: vm.meta.id,
        name: vm.meta.name.clone(),
        host: vm.status.host,
        priority,
        state: phase,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_slow_only_where_there_is_something_to_guard() {
        let of = |name: &str, seconds| Watchdog::Present { name: name.into(), seconds };
        let quick = of("i6300ESB timer", 5);
        let slow = of("i6300ESB timer", 30);
        assert_eq!((degraded(&quick, true), degraded(&quick, false)), (None, None));
        assert_eq!(degraded(&slow, false), None, "it is quick as soon as a protected machine comes");
        assert!(degraded(&slow, true).unwrap().contains("waits 30 s"));
        for guards in [false, true] {
            let soft = of("Software Watchdog", 30);
            assert!(degraded(&soft, guards).unwrap().contains("only software"));
            assert!(degraded(&Watchdog::Absent, guards).unwrap().contains("no watchdog"));
        }
        let told = |watchdog| shown(&watchdog).map(|w| (w.hardware, w.seconds));
        assert_eq!(told(quick), Some((true, 5)));
        assert_eq!(told(of("Software Watchdog", 30)), Some((false, 30)));
        assert_eq!(told(Watchdog::Absent), None);
    }
}
