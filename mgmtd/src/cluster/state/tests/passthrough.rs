//! Functions of a host's PCI bus: who may have them, when they come and go, and that their machine stays.

use super::{bench::Bench, *};
use crate::{
    cluster::state::{Capacity, HostFunction, Peer},
    placement::{self, Request},
};
use lq_api::{ha::VmHa, placement::Placement, vm::Passthrough};

const OTHER: HostId = HostId(Uuid::from_u128(8));
const VM: VmId = VmId(Uuid::from_u128(200));
const SECOND: VmId = VmId(Uuid::from_u128(201));

/// Two hosts with the same functions at the same addresses: one of its own group, two of one, and one the host needs.
fn with_functions() -> Bench {
    let mut bench = Bench::start();
    bench.must(Op::SimulateHosts { hosts: vec![(OTHER, "o".into())] });
    for host in [HOST, OTHER] {
        let function = |(address, group, with, obstacle): (&str, u32, &str, Option<&str>)| HostFunction {
            address: address.parse().unwrap(),
            group: Some(group),
            together_with: with.parse().into_iter().collect(),
            obstacle: obstacle.map(str::to_owned),
        };
        let functions = [
            ("01:00.0", 1, "", None),
            ("02:00.0", 2, "02:00.1", None),
            ("02:00.1", 2, "02:00.0", None),
            ("03:00.0", 3, "", Some("the host itself needs it: its disk sda is in use")),
        ];
        let capacity = Some(Capacity {
            threads: 8,
            memory: Bytes::gib(8),
            lacks: vec![],
            release: None,
            witness: false,
            functions: functions.map(function).to_vec(),
        });
        let peer = Peer { pin: host.to_string(), address: String::new() };
        bench.must(Op::DescribeHost { host, peer, capacity });
    }
    for (id, name) in [(VM, "w"), (SECOND, "v")] {
        let spec = VmSpec { memory_bytes: Bytes::mib(128), ..VmSpec::default() };
        let create = CreateVm { name: name.into(), labels: BTreeMap::new(), spec };
        bench.must(Op::CreateVm { id, host: HOST, create });
    }
    bench
}

impl Bench {
    fn give(&mut self, id: VmId, addresses: &[&str]) -> Outcome {
        let passthrough = functions(addresses);
        self.change(id, |spec| {
            spec.passthrough = passthrough;
            spec.placement.host = Some(HOST);
        })
    }

    fn refused(&mut self, id: VmId, addresses: &[&str]) -> String {
        let before = self.state.clone();
        let why = self.give(id, addresses).unwrap_err().to_string();
        assert_eq!(self.state, before);
        why
    }
}

fn functions(addresses: &[&str]) -> Vec<Passthrough> {
    addresses.iter().map(|address| Passthrough { address: address.parse().unwrap() }).collect()
}

#[test]
fn what_cannot_be_given_is_refused_with_all_reasons() {
    let mut bench = with_functions();
    let why = bench.refused(VM, &["02:00.0", "03:00.0", "09:00.0"]);
    for part in [
        "0000:02:00.0 is given only together with all of IOMMU group 2, of which the machine does not have 0000:02:00.1",
        "0000:03:00.0 cannot be given to a machine: the host itself needs it: its disk sda is in use",
        "it has no PCI function 0000:09:00.0",
    ] {
        assert!(why.contains(part), "{why}");
    }
    bench.give(VM, &["02:00.0", "02:00.1", "01:00.0"]).unwrap();
    // A machine that is made is judged alike.
    let spec = VmSpec {
        passthrough: functions(&["03:00.0"]),
        placement: Placement { host: Some(OTHER), ..Placement::default() },
        memory_bytes: Bytes::mib(128),
        ..VmSpec::default()
    };
    let create = CreateVm { name: "new".into(), labels: BTreeMap::new(), spec };
    let why = bench.apply(Op::CreateVm { id: VmId::new(), host: OTHER, create }).unwrap_err().to_string();
    assert!(why.contains("its disk sda is in use"), "{why}");
}

#[test]
fn no_two_machines_of_a_host_have_the_same() {
    let mut bench = with_functions();
    bench.give(VM, &["01:00.0"]).unwrap();
    let why = bench.refused(SECOND, &["01:00.0"]);
    assert!(why.contains("belongs to the machine `w`"), "{why}");
    // The same address is another function on another host.
    let spec = VmSpec {
        passthrough: functions(&["01:00.0"]),
        placement: Placement { host: Some(OTHER), ..Placement::default() },
        memory_bytes: Bytes::mib(128),
        ..VmSpec::default()
    };
    let create = CreateVm { name: "there".into(), labels: BTreeMap::new(), spec };
    bench.must(Op::CreateVm { id: VmId::new(), host: OTHER, create });
    bench.give(VM, &[]).unwrap();
    bench.give(SECOND, &["01:00.0"]).unwrap();
}

#[test]
fn they_come_and_go_only_while_the_machine_is_off() {
    let mut bench = with_functions();
    bench.change(VM, |spec| spec.power = PowerState::Running).unwrap();
    for state in [VmState::Running, VmState::Paused, VmState::Starting, VmState::Failed] {
        bench.see(VM, state);
        let why = bench.refused(VM, &["01:00.0"]);
        assert!(why.contains("spec.passthrough") && why.contains("stop it"), "{why}");
    }
    bench.rests(VM);
    bench.give(VM, &["01:00.0"]).unwrap();
    bench.runs(VM);
    bench.change(VM, |spec| spec.autostart = false).unwrap();
    assert!(bench.refused(VM, &[]).contains("stop it"));
}

#[test]
fn the_machine_stays_and_is_not_protected() {
    let mut bench = with_functions();
    bench.give(VM, &["01:00.0"]).unwrap();
    let (vm, other) = (&bench.state.vms[&VM].vm, &bench.state.hosts[&OTHER]);
    for request in [Request::going_on(vm), Request::anew(vm)] {
        let why = placement::refusals(&bench.state, other, request).join("; ");
        assert!(why.contains(placement::passthrough::STAYS), "{why}");
    }
    let moves = Op::BeginMove { id: VM, expect: None, moving: Uuid::from_u128(1), to: OTHER, hardware: None };
    let why = bench.apply(moves).unwrap_err().to_string();
    assert!(why.contains("spec.passthrough"), "{why}");
    let why = bench.change(VM, |spec| spec.ha = Some(VmHa::default())).unwrap_err().to_string();
    assert!(why.contains("spec.ha") && why.contains("cannot be protected"), "{why}");
    let why = bench.change(VM, |spec| spec.placement.host = None).unwrap_err().to_string();
    assert!(why.contains("spec.placement.host"), "{why}");
}
