//! Properties of decisions, and a few of them by example.

use super::*;
use crate::cluster::state::{Capacity, Change, Command, Op, Peer, Refusal};
use lq_api::{
    ImageId, NetworkId, PoolId,
    image::{CreateImage, ImageFormat, ImageKind, ImageSpec},
    local::vmm::CpuModel,
    placement::Placement,
    vm::CreateVm,
};
use proptest::prelude::*;
use uuid::Uuid;

const KERNEL: ImageId = ImageId(Uuid::from_u128(9));

pub(crate) fn host(n: u128) -> HostId {
    HostId(Uuid::from_u128(0x100 + n))
}

pub(crate) fn apply(state: &mut State, revision: u64, op: Op) -> Result<(), Refusal> {
    let command = Command { at: lq_api::Timestamp::UNIX_EPOCH, op };
    state.apply(revision, &command, &mut Vec::<Change>::new()).map(drop)
}

/// Hosts with so much memory, in GiB.
pub(crate) fn site(memory: &[u64]) -> State {
    let mut state = State::new();
    let first = Op::Initialise {
        cluster: Uuid::nil(),
        host: host(0),
        host_name: "h0".into(),
        pool: PoolId::new(),
        network: NetworkId::new(),
        dhcp: None,
    };
    apply(&mut state, 1, first).unwrap();
    for (n, gib) in (0u128..).zip(memory) {
        if n > 0 {
            let template = state.hosts[&host(0)].clone();
            let mut record = (*template).clone();
            record.meta.id = host(n);
            record.meta.name = format!("h{n}");
            record.peer = None;
            state.hosts.insert(host(n), record.into());
        }
        let peer = Peer { pin: n.to_string(), address: String::new() };
        let capacity = Some(Capacity {
            threads: 8,
            memory: Bytes::gib(*gib),
            lacks: vec![],
            release: None,
            witness: false,
            functions: vec![],
        });
        apply(&mut state, 2, Op::DescribeHost { host: host(n), peer, capacity }).unwrap();
    }
    let spec =
        ImageSpec { kind: ImageKind::Kernel, format: ImageFormat::Raw, pool: None, sha256: None, boot: None };
    let create = CreateImage { name: "k".into(), labels: BTreeMap::new(), spec };
    apply(&mut state, 3, Op::CreateImage { id: KERNEL, create }).unwrap();
    state
}

pub(crate) fn spec(mib: u64, placement: Placement) -> VmSpec {
    let text = serde_json::json!({
        "vcpus": 1, "memory_bytes": mib << 20, "boot": {"kernel": KERNEL}, "power": "running", "placement": placement,
    });
    serde_json::from_value(text).unwrap()
}

pub(super) fn create(
    state: &mut State,
    n: usize,
    at: HostId,
    labels: &BTreeMap<String, String>,
    spec: VmSpec,
) -> Result<(), Refusal> {
    let create = CreateVm { name: format!("v{n}"), labels: labels.clone(), spec };
    apply(state, 10 + n as u64, Op::CreateVm { id: VmId::new(), host: at, create })
}

/// A machine that runs there.
pub(crate) fn running(
    state: &mut State,
    n: usize,
    at: HostId,
    labels: &BTreeMap<String, String>,
    spec: VmSpec,
) -> VmId {
    let id = VmId(Uuid::from_u128(0x1_0000 + n as u128));
    let create = CreateVm { name: format!("v{n}"), labels: labels.clone(), spec };
    apply(state, 10 + n as u64, Op::CreateVm { id, host: at, create }).unwrap();
    let record = std::sync::Arc::make_mut(state.vms.get_mut(&id).unwrap());
    record.vm.status.state = lq_api::vm::VmState::Running;
    record.vm.status.observed_generation = record.vm.meta.generation;
    id
}

/// Eight machines of a GiB on the first of three hosts.
pub(super) fn lopsided() -> State {
    let mut state = site(&[12, 12, 12]);
    for n in 0..8 {
        running(&mut state, n, host(0), &BTreeMap::new(), spec(1024, Placement::default()));
    }
    state
}

/// It is on that host now.
pub(super) fn move_to(state: &mut State, vm: VmId, to: HostId) {
    let record = std::sync::Arc::make_mut(state.vms.get_mut(&vm).unwrap());
    record.give_to(to, record.epoch + 1);
}

pub(crate) fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect()
}

pub(crate) fn rule(label: &str, strict: bool) -> Affinity {
    Affinity { label: label.into(), strict }
}

fn wish() -> impl Strategy<Value = (u64, Placement, &'static str)> {
    let label = prop_oneof![Just("app=a"), Just("app=b"), Just("")];
    let rules = || prop::collection::vec((prop_oneof![Just("app=a"), Just("app=b")], any::<bool>()), 0..2);
    let host = prop::option::weighted(0.2, (0u128..4).prop_map(host));
    (1u64..4000, host, rules(), rules(), label).prop_map(|(mib, host, near, apart, label)| {
        let rules = |all: Vec<(&str, bool)>| all.into_iter().map(|(l, s)| rule(l, s)).collect();
        (mib.max(64), Placement { host, near: rules(near), apart: rules(apart) }, label)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_decided_can_be_claimed_and_nothing_is_overfilled(
        memory in prop::collection::vec(1u64..12, 1..4),
        wishes in prop::collection::vec(wish(), 1..20),
        dead in prop::option::of(0u128..4),
    ) {
        let mut state = site(&memory);
        let reachable: BTreeSet<HostId> =
            state.hosts.keys().copied().filter(|h| Some(*h) != dead.map(host)).collect();
        for (n, (mib, placement, label)) in wishes.into_iter().enumerate() {
            let (spec, labels) = (spec(mib, placement.clone()), labels(label));
            let request = Request::new(&labels, &spec);
            let decision = decide(&state, request, Some(&reachable));
            prop_assert_eq!(decide(&state, request, Some(&reachable)), decision.clone());
            prop_assert_eq!(decision.hosts.len(), state.hosts.len());
            for verdict in &decision.hosts {
                prop_assert!(verdict.score.is_some() || !verdict.reasons.is_empty());
                // What the filter refuses cannot be claimed either.
                let silent = !reachable.contains(&verdict.host);
                if verdict.score.is_none() && !silent {
                    let refused = create(&mut state.clone(), n, verdict.host, &labels, spec.clone());
                    prop_assert!(matches!(refused, Err(Refusal::NoRoom(_))), "{:?}", refused);
                }
            }
            if let Some(chosen) = decision.host {
                prop_assert!(reachable.contains(&chosen));
                prop_assert!(placement.host.is_none_or(|h| h == chosen));
                prop_assert_eq!(create(&mut state, n, chosen, &labels, spec), Ok(()));
            }
            for record in state.hosts.values() {
                prop_assert!(Site::of(&state).used(record.meta.id, None).memory <= room(record).unwrap());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// What was put elsewhere counts as if the state said so, and the choice without words is the one with words.
    #[test]
    fn what_is_put_elsewhere_counts_there_alone(
        memory in prop::collection::vec(6u64..12, 2..4),
        wishes in prop::collection::vec(wish(), 2..12),
        puts in prop::collection::vec((0usize..12, 0u128..4), 1..12),
        early in any::<bool>(),
    ) {
        let mut state = site(&memory);
        let mut ids = Vec::new();
        for (n, (mib, placement, label)) in wishes.into_iter().enumerate() {
            let (spec, labels) = (spec(mib, placement), labels(label));
            let Some(at) = decide(&state, Request::new(&labels, &spec), None).host else { continue };
            ids.push(running(&mut state, n, at, &labels, spec));
        }
        let mut after = state.clone();
        let mut planned = Site::of(&state);
        if early {
            planned.index_rules();
        }
        for (n, at) in puts {
            let (Some(vm), at) = (ids.get(n), host(at % memory.len() as u128)) else { continue };
            let record = &state.vms[vm];
            let request = Request::anew(&record.vm);
            prop_assert_eq!(choose(&planned, request, None), decide_on(&planned, request, None).host);
            planned.put(*vm, at);
            move_to(&mut after, *vm, at);
            let counted = Site::of(&after);
            for id in state.hosts.keys() {
                prop_assert_eq!(planned.used(*id, None), counted.used(*id, None));
                let [before, then] = [&state, &after].map(|s| s.vms.get(vm).map(|record| &**record));
                prop_assert_eq!(planned.used(*id, before), Site::of_host(&after, *id).used(*id, then));
                for label in [("app", "a"), ("app", "b")] {
                    prop_assert_eq!(planned.named_on(*id, label, &[*vm]), counted.named_on(*id, label, &[*vm]));
                    prop_assert_eq!(planned.is_named(label, Some(*vm)), counted.is_named(label, Some(*vm)));
                }
            }
        }
    }
}

#[test]
fn the_emptier_host_is_taken_and_groups_are_kept_apart() {
    let mut state = site(&[8, 8, 8]);
    let a = labels("app=a");
    let apart = Placement { apart: vec![rule("app=a", true)], ..Placement::default() };
    for n in 0..3 {
        let spec = spec(512, apart.clone());
        let decision = decide(&state, Request::new(&a, &spec), None);
        create(&mut state, n, decision.host.unwrap(), &a, spec).unwrap();
    }
    let hosts: BTreeSet<_> = state.vms.values().map(|r| r.vm.status.host).collect();
    assert_eq!(hosts.len(), 3);
    let spec = spec(512, apart);
    let decision = decide(&state, Request::new(&a, &spec), None);
    assert_eq!(decision.host, None);
    let text = explain(&decision);
    assert!(text.contains("`h2`: `v") && text.contains("with the label app=a runs there"), "{text}");
}

#[test]
fn a_host_without_the_features_of_a_cpu_model_is_refused_with_their_names() {
    let mut state = site(&[8, 4]);
    let peer = Peer { pin: "0".into(), address: String::new() };
    let lacks = vec!["avx2".to_owned(), "bmi2".to_owned()];
    let capacity = Some(Capacity {
        threads: 8,
        memory: Bytes::gib(8),
        lacks,
        release: None,
        witness: false,
        functions: vec![],
    });
    apply(&mut state, 5, Op::DescribeHost { host: host(0), peer, capacity }).unwrap();
    let none = BTreeMap::new();
    let at = |cpu| {
        let spec = VmSpec { cpu, ..spec(256, Placement::default()) };
        decide(&state, Request::new(&none, &spec), None)
    };
    assert_eq!(at(CpuModel::Host).host, Some(host(0)));
    assert_eq!(at(CpuModel::V2).host, Some(host(0)));
    let decision = at(CpuModel::V3);
    assert_eq!(decision.host, Some(host(1)));
    let reasons = &decision.hosts.iter().find(|v| v.host == host(0)).unwrap().reasons;
    assert_eq!(reasons[..], ["its processors lack what the CPU model x86-64-v3 needs: avx2, bmi2"]);
}

#[test]
fn near_the_others_of_its_group_but_the_first_goes_anywhere() {
    let mut state = site(&[4, 8]);
    let a = labels("app=a");
    let near = Placement { near: vec![rule("app=a", true)], ..Placement::default() };
    let spec = spec(256, near);
    let first = decide(&state, Request::new(&a, &spec), None).host.unwrap();
    assert_eq!(first, host(1));
    create(&mut state, 0, host(0), &a, spec.clone()).unwrap();
    assert_eq!(decide(&state, Request::new(&a, &spec), None).host, Some(host(0)));
}

#[test]
fn two_decisions_at_a_time_do_not_both_take_the_last_room() {
    let mut state = site(&[2]);
    let none = BTreeMap::new();
    let spec = spec(1000, Placement::default());
    let one = decide(&state, Request::new(&none, &spec), None).host.unwrap();
    let two = decide(&state, Request::new(&none, &spec), None).host.unwrap();
    create(&mut state, 0, one, &none, spec.clone()).unwrap();
    assert!(matches!(create(&mut state, 1, two, &none, spec), Err(Refusal::NoRoom(_))));
}

#[test]
fn a_machine_grows_only_into_what_its_host_has_left() {
    let mut state = site(&[4]);
    let none = BTreeMap::new();
    let spec = VmSpec {
        memory_max_bytes: Some(Bytes::gib(16)),
        power: lq_api::vm::PowerState::Running,
        ..spec(1024, Placement::default())
    };
    let fixed = VmSpec { memory_max_bytes: None, ..spec.clone() };
    create(&mut state, 0, host(0), &none, spec.clone()).unwrap();
    create(&mut state, 1, host(0), &none, fixed.clone()).unwrap();
    let grows = state.vms.values().find(|r| r.vm.meta.name == "v0").unwrap().vm.meta.id;
    let to = |state: &mut State, mib: u64| {
        let spec = VmSpec { memory_bytes: Bytes::mib(mib), ..spec.clone() };
        let update = lq_api::vm::UpdateVm { spec: Some(spec), ..Default::default() };
        apply(state, 9, Op::UpdateVm { id: grows, expect: None, update })
    };
    // Of 4 GiB 3.5 are for machines, of which the other has one.
    let why = to(&mut state, 2688).unwrap_err().to_string();
    assert!(why.contains("1.6 GiB more are needed") && why.contains("only 1.5 GiB left"), "{why}");
    to(&mut state, 2560).unwrap();
    // What the guest has not given back still counts.
    let mut record = (*state.vms[&grows]).clone();
    record.vm.status.memory_bytes = Some(Bytes::mib(2560));
    state.vms.insert(grows, record.into());
    to(&mut state, 1024).unwrap();
    assert!(create(&mut state, 2, host(0), &none, fixed).is_err());
    to(&mut state, 2560).unwrap();
}
