use super::super::{Capacity, Change, Command, Op, Peer, Reply};
use super::*;
use lq_api::{
    Bytes, NetworkId, PoolId, Timestamp,
    ha::{HaPriority, VmHa},
    vm::{CreateVm, UpdateVm, VmState},
};
use std::collections::BTreeMap;

const VM: VmId = VmId(Uuid::from_u128(7));

fn host(n: u128) -> HostId {
    HostId(Uuid::from_u128(0x100 + n))
}

struct Site {
    state: State,
    revision: u64,
}

impl Site {
    /// Two hosts in their first boot, and a machine on the first.
    fn new(ha: Option<VmHa>) -> Self {
        let mut site = Self { state: State::new(), revision: 0 };
        site.done(Op::Initialise {
            cluster: Uuid::nil(),
            host: host(0),
            host_name: "h0".into(),
            pool: PoolId::new(),
            network: NetworkId::new(),
            dhcp: None,
        });
        let mut second = (*site.state.hosts[&host(0)]).clone();
        (second.meta.id, second.meta.name) = (host(1), "h1".into());
        site.state.hosts.insert(host(1), second.into());
        for n in 0..2 {
            let peer = Peer { pin: n.to_string(), address: String::new() };
            let capacity = Some(Capacity {
                threads: 8,
                memory: Bytes::gib(8),
                lacks: Default::default(),
                release: None,
                witness: false,
                functions: vec![],
            });
            site.done(Op::DescribeHost { host: host(n), peer, capacity });
            site.done(Op::HostStarted { host: host(n), name: format!("h{n}"), boot: Uuid::from_u128(n) });
        }
        let create = CreateVm { name: "web".into(), labels: BTreeMap::new(), spec: spec(ha) };
        site.done(Op::CreateVm { id: VM, host: host(0), create });
        site
    }

    fn apply(&mut self, op: Op) -> Outcome {
        self.revision += 1;
        let command = Command { at: Timestamp::UNIX_EPOCH, op };
        self.state.apply(self.revision, &command, &mut Vec::<Change>::new())
    }

    fn done(&mut self, op: Op) {
        self.apply(op).unwrap();
    }

    fn record(&self) -> &VmRecord {
        &self.state.vms[&VM]
    }

    fn protect(&mut self, ha: Option<VmHa>) {
        let update = UpdateVm { spec: Some(spec(ha)), ..UpdateVm::default() };
        self.done(Op::UpdateVm { id: VM, expect: None, update });
    }

    fn fail_over(&mut self, epoch: u64) -> Outcome {
        let (from, to) = (host(0), host(1));
        self.apply(Op::FailOver { id: VM, from, epoch, to, term: 1, past_places: true })
    }
}

fn spec(ha: Option<VmHa>) -> VmSpec {
    serde_json::from_value(serde_json::json!({
        "vcpus": 1, "memory_bytes": 128 << 20, "power": "running", "ha": ha,
    }))
    .unwrap()
}

const ON: Option<VmHa> = Some(VmHa { priority: HaPriority::High });
const OFF: Option<VmHa> = Some(VmHa { priority: HaPriority::Disabled });

#[test]
fn a_machine_that_was_always_protected_fails_over_in_a_later_epoch() {
    let mut site = Site::new(ON);
    assert!(site.fail_over(1).is_err(), "it is not in that epoch");
    assert!(matches!(site.fail_over(0), Ok(Reply::Vm(_))));
    let record = site.record();
    assert_eq!((record.vm.status.host, record.epoch, record.is_guarded()), (Some(host(1)), 2, true));
    assert!(site.fail_over(0).is_err(), "a decision counts once");
}

#[test]
fn a_machine_fails_over_only_when_its_host_has_confirmed_its_lease() {
    for before in [None, OFF] {
        let mut site = Site::new(before);
        assert!(!site.record().runs_leased());
        site.protect(ON);
        assert!(site.record().runs_leased() && !site.record().is_guarded());
        assert!(site.fail_over(0).is_err());
        let since = site.record().guard.unwrap().since;
        let guard = |host, epoch, since| Op::GuardVm { id: VM, host, epoch, since };
        assert!(site.apply(guard(host(1), 0, since)).is_err(), "it is another host's");
        assert!(site.apply(guard(host(0), 1, since)).is_err(), "it is of another epoch");
        assert!(site.apply(guard(host(0), 0, since - 1)).is_err(), "it was asked for anew since");
        site.done(guard(host(0), 0, since));
        site.fail_over(0).unwrap();
    }
}

#[test]
fn what_was_confirmed_before_protection_was_switched_off_does_not_count_after() {
    let mut site = Site::new(None);
    site.protect(ON);
    let since = site.record().guard.unwrap().since;
    site.done(Op::GuardVm { id: VM, host: host(0), epoch: 0, since });
    site.protect(None);
    assert!(!site.record().runs_leased());
    site.protect(ON);
    assert!(!site.record().is_guarded());
    assert!(site.apply(Op::GuardVm { id: VM, host: host(0), epoch: 0, since }).is_err());
}

#[test]
fn a_changed_priority_changes_nothing_else() {
    let mut site = Site::new(ON);
    site.protect(Some(VmHa { priority: HaPriority::Low }));
    assert!(site.record().is_guarded());
}

#[test]
fn a_host_that_is_off_needs_no_leases_until_it_boots_again() {
    let mut site = Site::new(None);
    site.protect(ON);
    site.done(Op::ConfirmOff { id: host(0), expect: None });
    assert!(site.state.is_off(host(0)));
    // It was heard after all.
    site.done(Op::RevokeOff { id: host(0), boot: Uuid::from_u128(0) });
    assert!(!site.state.is_off(host(0)) && site.fail_over(0).is_err());
    site.done(Op::ConfirmOff { id: host(0), expect: None });
    site.fail_over(0).unwrap();
    site.done(Op::HostStarted { host: host(0), name: "h0".into(), boot: Uuid::from_u128(99) });
    assert!(!site.state.is_off(host(0)));
}

/// The other half of the cluster may be a majority of its own epoch, whose leader goes on granting leases.
#[test]
fn a_machine_of_a_host_that_was_lost_with_an_epoch_waits_until_that_is_off() {
    let mut site = Site::new(ON);
    let formation = super::super::Formation {
        epoch: 2,
        at: Timestamp::UNIX_EPOCH,
        by: host(1),
        base: None,
        lost: vec![host(0)],
        restored: false,
    };
    site.done(Op::Reform { formation });
    assert!(matches!(site.fail_over(0), Err(Refusal::Conflict(_))));
    let told = crate::ha::view::obstacle(&site.state, site.record(), host(0));
    assert!(told.unwrap().contains("confirm-off"));
    site.done(Op::ConfirmOff { id: host(0), expect: None });
    assert_eq!(crate::ha::view::obstacle(&site.state, site.record(), host(0)), None);
    site.fail_over(0).unwrap();
}

#[test]
fn what_the_former_host_saw_counts_for_nothing() {
    let mut site = Site::new(ON);
    site.fail_over(0).unwrap();
    let seen = VmStatus { state: VmState::Stopped, observed_generation: 1, ..VmStatus::default() };
    let late = |by| Op::ObserveVm { id: VM, status: seen.clone(), host_ends: false, by: Some(by) };
    let before = site.record().clone();
    site.done(late((host(0), 0)));
    assert_eq!(*site.record(), before);
    site.done(late((host(1), 2)));
    assert_eq!(site.record().vm.status.observed_generation, 1);
}

#[test]
fn a_machine_that_is_not_wanted_or_has_no_room_stays() {
    let mut site = Site::new(ON);
    let small = Some(Capacity {
        threads: 1,
        memory: Bytes::mib(600),
        lacks: Default::default(),
        release: None,
        witness: false,
        functions: vec![],
    });
    let peer = Peer { pin: "1".into(), address: String::new() };
    site.done(Op::DescribeHost { host: host(1), peer, capacity: small });
    assert!(matches!(site.fail_over(0), Err(Refusal::NoRoom(_))));
    site.done(Op::PowerVm {
        id: VM,
        expect: None,
        power: super::super::Power::Stop(lq_api::vm::StopVm::default()),
    });
    assert!(matches!(site.fail_over(0), Err(Refusal::Conflict(_))));
}

#[test]
fn arming_is_part_of_the_state() {
    let mut site = Site::new(None);
    assert!(site.state.ha().armed);
    site.done(Op::SetHa { spec: HaSpec { armed: false } });
    assert!(!site.state.ha().armed);
}

#[test]
fn what_was_logged_before_machines_moved_means_what_it_meant() {
    let mut site = Site::new(ON);
    let op = Op::FailOver { id: VM, from: host(0), epoch: 0, to: host(1), term: 1, past_places: false };
    let mut old = serde_json::to_value(&op).unwrap();
    old.as_object_mut().unwrap().remove("past_places").unwrap();
    let read: Op = serde_json::from_value(old).unwrap();
    assert_eq!(read, op);
    site.done(read);
    assert_eq!((site.record().vm.status.host, site.record().epoch), (Some(host(1)), 1));
}

#[test]
fn a_host_of_an_earlier_version_takes_what_starts_anew_but_nothing_that_runs() {
    let mut site = Site::new(ON);
    for (n, release) in [(0, [1, 2, 0]), (1, [1, 1, 9])] {
        let release = Some(crate::cluster::state::Release(release));
        let capacity = Some(Capacity {
            threads: 1,
            memory: Bytes::gib(4),
            lacks: Default::default(),
            release,
            witness: false,
            functions: vec![],
        });
        let peer = Peer { pin: n.to_string(), address: String::new() };
        site.done(Op::DescribeHost { host: host(n), peer, capacity });
    }
    assert!(matches!(site.state.may_move(site.record(), host(1)), Err(Refusal::NoRoom(_))));
    assert!(site.fail_over(0).is_ok());
}
