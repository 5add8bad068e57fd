//! Properties of the state: whatever is asked, the invariants hold; a refusal changes nothing; the same log gives the same
//! state.

mod back;
mod bench;
mod bytes;
mod hardware;
mod passthrough;
mod qemu;
mod tpm;

use super::*;
use lq_api::{
    Bytes,
    image::{CreateImage, ImageFormat, ImageKind, ImageSpec},
    meta::MetadataPatch,
    network::{CreateNetwork, NetworkKind, NetworkSpec},
    pool::{CreatePool, PoolState},
    vm::{
        Boot, Cdrom, CreateVm, Disk, Nic, PowerState, RestartPolicy, StopVm, UpdateVm, VmSpec, VmState,
        VmStatus,
    },
    volume::{CreateVolume, VolumeSpec},
};
use proptest::prelude::*;

const HOST: HostId = HostId(Uuid::from_u128(1));
const POOL: PoolId = PoolId(Uuid::from_u128(2));
/// Shared pools that come and go.
const SHARED: PoolId = PoolId(Uuid::from_u128(4));
const NETWORK: NetworkId = NetworkId(Uuid::from_u128(3));

/// Few ids and names, so that commands meet.
fn small() -> impl Strategy<Value = u128> {
    100u128..104
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".into()), Just("c".into()), Just("-".into())]
}

fn expect() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![4 => Just(None), 1 => (0u64..40).prop_map(Some)]
}

fn spec() -> impl Strategy<Value = VmSpec> {
    let disks = prop::collection::vec(small(), 0..3);
    let macs = prop::collection::vec(prop::option::of(0u8..3), 0..3);
    let power = prop_oneof![Just(PowerState::Stopped), Just(PowerState::Running), Just(PowerState::Paused)];
    let restart =
        prop_oneof![Just(RestartPolicy::Never), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Always)];
    (disks, macs, power, restart, any::<bool>(), small()).prop_map(
        |(disks, macs, power, restart, autostart, kernel)| VmSpec {
            memory_bytes: Bytes::mib(64),
            boot: Some(Boot {
                kernel: ImageId(Uuid::from_u128(kernel)),
                initrd: None,
                cmdline: String::new(),
            }),
            disks: disks.into_iter().map(|d| Disk::of(VolumeId(Uuid::from_u128(d)))).collect(),
            nics: macs
                .into_iter()
                .map(|m| Nic { mac: m.map(|m| lq_api::vm::Mac([0x52, 0, 0, 0, 0, m])), ..Nic::on(NETWORK) })
                .collect(),
            restart,
            autostart,
            power,
            ..VmSpec::default()
        },
    )
}

fn status() -> impl Strategy<Value = VmStatus> {
    let state = prop_oneof![
        Just(VmState::Stopped),
        Just(VmState::Starting),
        Just(VmState::Running),
        Just(VmState::Paused),
        Just(VmState::Stopping),
        Just(VmState::Failed),
    ];
    (state, 0u64..6).prop_map(|(state, observed_generation)| VmStatus {
        state,
        observed_generation,
        ..VmStatus::default()
    })
}

fn any_host() -> impl Strategy<Value = HostId> {
    prop_oneof![Just(HOST), guest_host()]
}

/// A step of a move of a machine.
fn a_move() -> impl Strategy<Value = Op> {
    let of = (small().prop_map(|n| VmId(Uuid::from_u128(n))), (0u128..2).prop_map(Uuid::from_u128));
    (of, any_host(), 0u8..6).prop_map(|((id, moving), to, step)| match step {
        0 => Op::BeginMove { id, expect: None, moving, to, hardware: None },
        1 => Op::SwitchMove { id, moving },
        2 => Op::EndMove { id, moving },
        3 => Op::ConfirmMove { id, moving },
        4 => Op::ReturnMove { id, moving },
        _ => Op::ReassignVm { id, expect: None, to },
    })
}

fn op() -> impl Strategy<Value = Op> {
    let vm = || small().prop_map(|n| VmId(Uuid::from_u128(n)));
    let image = || small().prop_map(|n| ImageId(Uuid::from_u128(n)));
    let volume = || small().prop_map(|n| VolumeId(Uuid::from_u128(n)));
    let power = prop_oneof![
        Just(Power::Start),
        Just(Power::Stop(StopVm::default())),
        Just(Power::Reset),
        Just(Power::Pause),
        Just(Power::Resume),
    ];
    let kind = prop_oneof![3 => Just(ImageKind::Kernel), 1 => Just(ImageKind::Disk)];
    let any_pool = || prop::option::of(Just(SHARED));
    let image_spec = (kind, any_pool()).prop_map(|(kind, pool)| ImageSpec {
        kind,
        format: ImageFormat::Raw,
        pool,
        sha256: None,
        boot: None,
    });
    let any_host = || prop_oneof![Just(HOST), guest_host()];
    let source = prop::option::of(image());
    prop_oneof![
        (vm(), name(), spec()).prop_map(|(id, name, spec)| Op::CreateVm {
            id,
            host: HOST,
            create: CreateVm { name, labels: BTreeMap::new(), spec }
        }),
        (vm(), expect(), prop::option::of(name()), prop::option::of(spec())).prop_map(
            |(id, expect, name, spec)| Op::UpdateVm {
                id,
                expect,
                update: UpdateVm { name, labels: None, spec }
            }
        ),
        (vm(), expect(), power).prop_map(|(id, expect, power)| Op::PowerVm { id, expect, power }),
        (vm(), expect()).prop_map(|(id, expect)| Op::DeleteVm { id, expect }),
        vm().prop_map(|id| Op::ForgetVm { id }),
        (vm(), status(), any::<bool>()).prop_map(|(id, status, host_ends)| Op::ObserveVm {
            id,
            status,
            host_ends,
            by: None
        }),
        (vm(), any_host(), 0u64..6, prop::option::of(volume())).prop_map(|(id, host, generation, held)| {
            Op::LetGo {
                id,
                by: (host, 0),
                generation,
                volumes: held.into_iter().collect(),
                nics: BTreeSet::new(),
            }
        }),
        (image(), name(), image_spec).prop_map(|(id, name, spec)| Op::CreateImage {
            id,
            create: CreateImage { name, labels: BTreeMap::new(), spec }
        }),
        (image(), 0u128..2, prop::option::of(any_host())).prop_map(|(id, u, receiver)| Op::BeginUpload {
            id,
            upload: Uuid::from_u128(u),
            receiver
        }),
        (image(), 0u128..2).prop_map(|(id, u)| Op::FinishUpload {
            id,
            upload: Uuid::from_u128(u),
            size: Bytes(4096),
            virtual_size: Bytes(4096),
            sha256: String::new()
        }),
        (image(), expect()).prop_map(|(id, expect)| Op::DeleteImage { id, expect }),
        image().prop_map(|id| Op::CopyImage { id, pool: SHARED }),
        image().prop_map(|id| Op::DropCopies { pool: SHARED, images: [id].into() }),
        (vm(), any::<bool>())
            .prop_map(|(vm, shared)| Op::LeaveVars { pool: if shared { SHARED } else { POOL }, vm }),
        (image(), vm(), any::<bool>()).prop_map(|(image, vm, shared)| Op::BytesGone {
            pool: if shared { SHARED } else { POOL },
            gone: Discarded { images: [image].into(), vms: [vm].into() }
        }),
        (image(), name(), any_pool()).prop_map(|(id, name, pool)| Op::Adopt {
            pool: pool.unwrap_or(POOL),
            name,
            labels: BTreeMap::new(),
            adopted: Adopted::Image {
                id,
                kind: ImageKind::Disk,
                format: ImageFormat::Raw,
                size: Bytes(4096),
                virtual_size: Bytes(4096),
                sha256: String::new()
            }
        }),
        (volume(), name(), prop::option::of(image())).prop_map(|(id, name, source)| Op::Adopt {
            pool: POOL,
            name,
            labels: BTreeMap::new(),
            adopted: Adopted::Volume { id, format: ImageFormat::Qcow2, size: Bytes::mib(1), source }
        }),
        (volume(), name(), source, any_pool()).prop_map(|(id, name, source, pool)| Op::CreateVolume {
            id,
            create: CreateVolume {
                name,
                labels: BTreeMap::new(),
                spec: VolumeSpec {
                    size_bytes: Some(Bytes::mib(1)),
                    pool,
                    format: ImageFormat::Qcow2,
                    source
                }
            }
        }),
        (volume(), name()).prop_map(|(id, name)| Op::UpdateVolume {
            id,
            expect: None,
            patch: MetadataPatch { name: Some(name), labels: None }
        }),
        (volume(), prop::option::of(any_host())).prop_map(|(id, by)| Op::VolumeReady {
            id,
            size: Bytes::mib(1),
            by
        }),
        (volume(), prop::option::of(any_host())).prop_map(|(id, by)| Op::VolumeFailed {
            id,
            reason: "full".into(),
            by
        }),
        name().prop_map(|name| Op::CreatePool { id: SHARED, create: shared_pool(&name) }),
        (name(), expect()).prop_map(|(name, expect)| Op::UpdatePool {
            id: SHARED,
            expect,
            patch: MetadataPatch { name: Some(name), labels: None }
        }),
        prop_oneof![Just(SHARED), Just(POOL)].prop_map(|id| Op::DeletePool { id, expect: None }),
        prop_oneof![Just(SHARED), Just(POOL)].prop_map(|id| Op::ForgetPool { id }),
        (any_host(), any::<bool>()).prop_map(|(host, ready)| stands(host, ready)),
        (volume(), 1u64..4).prop_map(|(id, n)| Op::GrowVolume { id, expect: None, size: Bytes::mib(n) }),
        volume().prop_map(|id| Op::DeleteVolume { id, expect: None }),
        volume().prop_map(|id| Op::ForgetVolume { id }),
        name().prop_map(|name| Op::CreateNetwork {
            id: NetworkId(Uuid::from_u128(9)),
            create: CreateNetwork {
                name,
                labels: BTreeMap::new(),
                spec: NetworkSpec { kind: NetworkKind::Bridged, dhcp: None }
            }
        }),
        Just(Op::DeleteNetwork { id: NETWORK, expect: None }),
        Just(invitation()),
        (1u64..4, guest_host()).prop_map(|(epoch, host)| Op::Reform {
            formation: Formation {
                epoch,
                at: Timestamp::UNIX_EPOCH,
                by: HOST,
                base: None,
                lost: vec![host],
                restored: false
            }
        }),
        application().prop_map(|a| Op::Admit { token: TOKEN.into(), application: Box::new(a) }),
        (guest_host(), any::<bool>()).prop_map(|(id, force)| Op::RemoveHost { id, expect: None, force }),
        a_move(),
        a_move(),
        a_move(),
        (any_host(), prop::option::of(any::<bool>())).prop_map(|(id, on)| Op::SetMaintenance {
            id,
            expect: None,
            maintenance: on.map(|shut_down| Maintenance { shut_down })
        }),
        (guest_host(), name()).prop_map(|(id, name)| Op::UpdateHost {
            id,
            expect: None,
            patch: MetadataPatch { name: Some(name), labels: None }
        }),
        (guest_host(), name()).prop_map(|(host, name)| Op::HostStarted { host, name, boot: Uuid::nil() }),
        any::<bool>().prop_map(|b| Op::HostStarted {
            host: HOST,
            name: "h".into(),
            boot: Uuid::from_u128(u128::from(b))
        }),
    ]
}

fn shared_pool(name: &str) -> CreatePool {
    let spec = serde_json::from_str(r#"{"driver":"nfs","server":"nas","export":"/vm"}"#).unwrap();
    CreatePool { name: name.into(), labels: BTreeMap::new(), spec }
}

fn stands(host: HostId, ready: bool) -> Op {
    let (state, reason) =
        if ready { (PoolState::Ready, None) } else { (PoolState::Unreachable, Some("silent".into())) };
    Op::ObservePool { id: SHARED, host, state, reason }
}

const TOKEN: &str = "token";

/// Hosts that come and go.
fn guest_host() -> impl Strategy<Value = HostId> {
    (0u128..3).prop_map(|n| HostId(Uuid::from_u128(0x200 + n)))
}

/// A host that brings a pool, an image, a volume cloned from it, and a machine that boots it.
fn application() -> impl Strategy<Value = Application> {
    (guest_host(), name(), name(), any::<bool>()).prop_map(|(host, own, theirs, rename)| {
        let own = if own == "-" { "h".to_owned() } else { own };
        let theirs = if theirs == "-" { "x".to_owned() } else { theirs };
        let mut state = State::new();
        let base = host.0.as_u128() << 8;
        let id = |n: u128| Uuid::from_u128(base + n);
        let pool = PoolId(id(1));
        let spec = ImageSpec {
            kind: ImageKind::Disk,
            format: ImageFormat::Raw,
            pool: None,
            sha256: None,
            boot: None,
        };
        let kernel = ImageSpec { kind: ImageKind::Kernel, ..spec.clone() };
        let upload = Uuid::nil();
        let ops = [
            Op::Initialise {
                cluster: id(0),
                host,
                host_name: own.clone(),
                pool,
                network: NetworkId(id(2)),
                dhcp: None,
            },
            Op::CreateImage {
                id: ImageId(id(3)),
                create: CreateImage { name: theirs.clone(), labels: BTreeMap::new(), spec },
            },
            Op::BeginUpload { id: ImageId(id(3)), upload, receiver: None },
            Op::FinishUpload {
                id: ImageId(id(3)),
                upload,
                size: Bytes(4096),
                virtual_size: Bytes(4096),
                sha256: String::new(),
            },
            Op::CreateImage {
                id: ImageId(id(4)),
                create: CreateImage { name: format!("{theirs}k"), labels: BTreeMap::new(), spec: kernel },
            },
            Op::CreateVolume {
                id: VolumeId(id(5)),
                create: CreateVolume {
                    name: theirs.clone(),
                    labels: BTreeMap::new(),
                    spec: VolumeSpec {
                        size_bytes: None,
                        pool: None,
                        format: ImageFormat::Qcow2,
                        source: Some(ImageId(id(3))),
                    },
                },
            },
            Op::CreateVm {
                id: VmId(id(6)),
                host,
                create: CreateVm {
                    name: theirs,
                    labels: BTreeMap::new(),
                    spec: serde_json::from_value(serde_json::json!({
                        "vcpus": 1, "memory_bytes": 64 << 20, "boot": {"kernel": id(4)},
                        "disks": [{"volume": id(5)}], "nics": [{"network": id(2)}],
                    }))
                    .unwrap(),
                },
            },
        ];
        for (revision, op) in (1u64..).zip(ops) {
            state.apply(revision, &command(op), &mut Vec::new()).unwrap();
        }
        Application {
            host,
            name: own,
            from: id(0),
            peer: Peer { pin: host.to_string(), address: String::new() },
            capacity: None,
            boot: None,
            objects: merge::Objects::of(&state),
            rename,
            back: None,
        }
    })
}

fn invitation() -> Op {
    let token = JoinToken {
        id: TokenId(Uuid::from_u128(7)),
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        uses_left: 1000,
    };
    Op::CreateJoinToken { token, hash: TOKEN.into() }
}

fn start() -> (State, Vec<Change>) {
    let mut state = State::new();
    let mut changes = Vec::new();
    let op = Op::Initialise {
        cluster: Uuid::nil(),
        host: HOST,
        host_name: "h".into(),
        pool: POOL,
        network: NETWORK,
        dhcp: None,
    };
    state.apply(1, &command(op), &mut changes).unwrap();
    state.apply(1, &command(invitation()), &mut changes).unwrap();
    (state, changes)
}

fn command(op: Op) -> Command {
    Command { at: Timestamp::UNIX_EPOCH, op }
}

fn unique<T: Ord>(items: impl Iterator<Item = T>) -> bool {
    let all: Vec<T> = items.collect();
    let n = all.len();
    all.into_iter().collect::<std::collections::BTreeSet<_>>().len() == n
}

fn check(state: &State, revision: u64) {
    assert!(unique(state.vms.values().map(|r| &r.vm.meta.name)));
    assert!(unique(state.images.values().map(|r| &r.image.meta.name)));
    assert!(unique(state.volumes.values().map(|v| &v.meta.name)));
    assert!(unique(state.networks.values().map(|n| &n.meta.name)));
    assert!(unique(state.pools.values().map(|p| &p.meta.name)));
    assert!(unique(state.hosts.values().map(|h| &h.meta.name)));
    assert!(state.removed.keys().all(|gone| !state.hosts.contains_key(gone)));
    assert!(state.vms.values().all(|r| state.hosts.contains_key(&r.vm.status.host.unwrap())));
    for pool in state.pools.values() {
        let id = pool.meta.id;
        assert!(state.pool_host(id).is_none_or(|h| state.hosts.contains_key(&h)));
        assert!(pool.hosts.keys().all(|h| state.hosts.contains_key(h)));
        let inside = state.volumes.values().any(|v| v.spec.pool == Some(id))
            || state.images.values().any(|r| r.image.spec.pool == Some(id));
        assert!(!(pool.deleting && inside));
    }
    assert!(state.vms.values().all(|r| r.vars.is_none_or(|p| state.pools.contains_key(&p))));
    assert!(state.images.values().all(|r| r.receiver.is_none_or(|h| state.hosts.contains_key(&h))));
    for volume in state.volumes.values() {
        assert!(state.maker(volume).is_none_or(|h| state.is_on(volume.spec.pool, h)));
    }
    // What is to be removed is of no object, in a pool that is there.
    for (pool, waste) in &state.discarded {
        assert!(state.pools.contains_key(pool));
        assert!(!(waste.images.is_empty() && waste.vms.is_empty()));
        assert!(waste.images.iter().all(|id| !state.images.contains_key(id)));
    }
    assert!(state.images.values().all(|r| r.copies.iter().all(|p| state.pools.contains_key(p))));
    assert!(state.images.values().all(|r| state.pools.contains_key(&r.image.spec.pool.unwrap())));
    assert!(state.volumes.values().all(|v| state.pools.contains_key(&v.spec.pool.unwrap())));
    let macs = |r: &Arc<VmRecord>| {
        let specified = r.vm.spec.nics.iter().map(|n| n.mac.unwrap());
        specified.chain(r.unplugged.nics.keys().copied()).collect::<Vec<_>>()
    };
    assert!(unique(state.vms.values().flat_map(macs)));
    for record in state.vms.values() {
        let vm = &record.vm;
        assert!(vm.meta.revision <= revision);
        assert_eq!(vm.status.moving_to, record.moving.filter(|m| !m.switched).map(|m| m.to));
        if let Some(Move { from, to, switched, .. }) = record.moving {
            assert_eq!(vm.status.host, Some(if switched { to } else { from }));
            assert!(switched || state.hosts.contains_key(&to));
        }
        // Of two hosts one runs it, and one alone.
        let owns = |role| matches!(role, HostRole::Owner | HostRole::Leaving(_) | HostRole::Settling(_));
        assert_eq!(state.hosts.keys().filter(|h| record.role(**h).is_some_and(owns)).count(), 1);
        let volumes = record.volumes();
        assert!(unique(volumes.iter()), "what is in use is not cut");
        for volume in &volumes {
            assert_eq!(state.volumes[volume].status.attached_to, Some(vm.meta.id));
        }
        assert!(vm.spec.nics.iter().all(|n| state.networks.contains_key(&n.network)));
        assert!(vm.spec.boot.as_ref().is_none_or(|boot| state.images.contains_key(&boot.kernel)));
    }
    for volume in state.volumes.values() {
        if let Some(vm) = volume.status.attached_to {
            assert!(state.vms[&vm].volumes().contains(&volume.meta.id));
        }
        assert!(volume.spec.source.is_none_or(|i| state.images.contains_key(&i)));
        assert!(volume.spec.size_bytes.unwrap() >= volume.status.size_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_the_invariants_hold(ops in prop::collection::vec(op(), 1..80)) {
        let (mut state, _) = start();
        let mut twin = state.clone();
        for (revision, op) in (2u64..).zip(ops) {
            let before = state.clone();
            let mut changes = Vec::new();
            let command = command(op);
            let outcome = state.apply(revision, &command, &mut changes);
            check(&state, revision);
            if outcome.is_err() {
                prop_assert_eq!(&state, &before, "a refusal changed something: {:?}", command);
                prop_assert!(changes.is_empty());
            }
            // Every changed object is told of.
            for (id, record) in &state.vms {
                if let Some(old) = before.vms.get(id) {
                    prop_assert_eq!(record.epoch > old.epoch, record.vm.status.host != old.vm.status.host);
                    prop_assert!(record.epoch >= old.epoch);
                }
                if before.vms.get(id) != Some(record) {
                    prop_assert!(changes.iter().any(|c| c.id == id.0), "{:?}", command);
                    prop_assert_eq!(record.vm.meta.revision, revision);
                }
            }
            for (id, volume) in &state.volumes {
                if before.volumes.get(id) != Some(volume) {
                    prop_assert!(changes.iter().any(|c| c.id == id.0), "{:?}", command);
                }
            }
            // Another host that reads the same log, from its stored form, comes to the same.
            let stored: Command = serde_json::from_slice(&serde_json::to_vec(&command).unwrap()).unwrap();
            let again = twin.apply(revision, &stored, &mut Vec::new());
            prop_assert_eq!(again, outcome);
        }
        prop_assert_eq!(&twin, &state);
        let stored = read_state(&serde_json::to_vec(&state).unwrap()).unwrap();
        prop_assert_eq!(stored, state);
    }
}

/// A state with a running machine.
fn with_vm(restart: RestartPolicy, autostart: bool) -> (State, VmId) {
    let (mut state, _) = start();
    let (vm, kernel) = (VmId(Uuid::from_u128(50)), ImageId(Uuid::from_u128(51)));
    let spec =
        ImageSpec { kind: ImageKind::Kernel, format: ImageFormat::Raw, pool: None, sha256: None, boot: None };
    let ops = [
        Op::CreateImage {
            id: kernel,
            create: CreateImage { name: "k".into(), labels: BTreeMap::new(), spec },
        },
        Op::CreateVm {
            id: vm,
            host: HOST,
            create: CreateVm {
                name: "v".into(),
                labels: BTreeMap::new(),
                spec: VmSpec {
                    memory_bytes: Bytes::mib(64),
                    boot: Some(Boot { kernel, initrd: None, cmdline: String::new() }),
                    nics: vec![Nic::on(NETWORK)],
                    restart,
                    autostart,
                    power: PowerState::Running,
                    ..VmSpec::default()
                },
            },
        },
        Op::ObserveVm { id: vm, status: seen(VmState::Running, 1), host_ends: false, by: None },
    ];
    for (revision, op) in (2u64..).zip(ops) {
        state.apply(revision, &command(op), &mut Vec::new()).unwrap();
    }
    (state, vm)
}

fn seen(state: VmState, observed_generation: u64) -> VmStatus {
    VmStatus { state, observed_generation, ..VmStatus::default() }
}

fn wish_after(state: &mut State, vm: VmId, op: Op) -> PowerState {
    state.apply(90, &command(op), &mut Vec::new()).unwrap();
    state.vms[&vm].vm.spec.power
}

#[test]
fn a_guest_that_powers_off_stays_off_unless_told_otherwise() {
    let off = |vm, generation, host_ends| Op::ObserveVm {
        id: vm,
        status: seen(VmState::Stopped, generation),
        host_ends,
        by: None,
    };
    let (mut state, vm) = with_vm(RestartPolicy::OnFailure, true);
    assert_eq!(wish_after(&mut state, vm, off(vm, 1, false)), PowerState::Stopped);
    let (mut state, vm) = with_vm(RestartPolicy::Always, true);
    assert_eq!(wish_after(&mut state, vm, off(vm, 1, false)), PowerState::Running);
    // The host goes down: the wish stays.
    let (mut state, vm) = with_vm(RestartPolicy::OnFailure, true);
    assert_eq!(wish_after(&mut state, vm, off(vm, 1, true)), PowerState::Running);
    // The driver did not know the present wish yet.
    let (mut state, vm) = with_vm(RestartPolicy::OnFailure, true);
    assert_eq!(wish_after(&mut state, vm, off(vm, 0, false)), PowerState::Running);
}

#[test]
fn a_boot_of_the_host_starts_what_is_to_start() {
    let boot = Op::HostStarted { host: HOST, name: "h".into(), boot: Uuid::from_u128(77) };
    let (mut state, vm) = with_vm(RestartPolicy::OnFailure, true);
    assert_eq!(wish_after(&mut state, vm, boot.clone()), PowerState::Running);
    assert_eq!(state.vms[&vm].vm.status.state, VmState::Stopped);
    let (mut state, vm) = with_vm(RestartPolicy::OnFailure, false);
    assert_eq!(wish_after(&mut state, vm, boot.clone()), PowerState::Stopped);
    // The same boot again (the daemon was restarted): nothing is said about machines.
    let mut status = state.clone();
    status.apply(91, &command(boot), &mut Vec::new()).unwrap();
    assert_eq!(status, state);
}

#[test]
fn a_running_machine_can_be_changed_and_its_media_are_checked() {
    let (mut state, vm) = with_vm(RestartPolicy::OnFailure, true);
    let iso = ImageId(Uuid::from_u128(70));
    let spec =
        ImageSpec { kind: ImageKind::Iso, format: ImageFormat::Raw, pool: None, sha256: None, boot: None };
    let create = CreateImage { name: "cd".into(), labels: BTreeMap::new(), spec };
    state.apply(80, &command(Op::CreateImage { id: iso, create }), &mut Vec::new()).unwrap();
    let update = |spec: &VmSpec| {
        let update = UpdateVm { spec: Some(spec.clone()), ..UpdateVm::default() };
        command(Op::UpdateVm { id: vm, expect: None, update })
    };
    let mut spec = state.vms[&vm].vm.spec.clone();
    spec.nics[0].connected = false;
    state.apply(90, &update(&spec), &mut Vec::new()).unwrap();
    spec.cdroms = vec![Cdrom::default()];
    state.apply(91, &update(&spec), &mut Vec::new()).unwrap();
    for (revision, step) in [
        (92, Op::PowerVm { id: vm, expect: None, power: Power::Stop(StopVm::default()) }),
        (93, Op::ObserveVm { id: vm, status: seen(VmState::Stopped, 3), host_ends: false, by: None }),
    ] {
        state.apply(revision, &command(step), &mut Vec::new()).unwrap();
    }
    spec.power = PowerState::Stopped;
    spec.cdroms = vec![Cdrom { image: Some(state.images.keys().copied().find(|i| *i != iso).unwrap()) }];
    let refused = state.apply(94, &update(&spec), &mut Vec::new()).unwrap_err();
    assert!(format!("{refused:?}").contains("spec.cdroms[0].image"), "{refused:?}");
    spec.cdroms = vec![Cdrom { image: Some(iso) }];
    state.apply(95, &update(&spec), &mut Vec::new()).unwrap();
    assert_eq!(state.image_users(iso).0, [vm]);
    let delete = command(Op::DeleteImage { id: iso, expect: None });
    assert!(matches!(state.apply(96, &delete, &mut Vec::new()), Err(Refusal::Conflict(_))));
}

#[test]
fn addresses_are_stable_and_do_not_repeat() {
    let (mut state, vm) = with_vm(RestartPolicy::OnFailure, true);
    let mac = state.vms[&vm].vm.spec.nics[0].mac;
    let mut spec = state.vms[&vm].vm.spec.clone();
    spec.nics[0].mac = None;
    let update = UpdateVm { spec: Some(spec.clone()), ..UpdateVm::default() };
    state.apply(90, &command(Op::UpdateVm { id: vm, expect: None, update }), &mut Vec::new()).unwrap();
    assert_eq!(state.vms[&vm].vm.spec.nics[0].mac, mac);
    spec.nics[0].mac = mac;
    spec.power = PowerState::Stopped;
    let create = CreateVm { name: "w".into(), labels: BTreeMap::new(), spec };
    let op = Op::CreateVm { id: VmId(Uuid::from_u128(60)), host: HOST, create };
    assert!(matches!(state.apply(91, &command(op), &mut Vec::new()), Err(Refusal::Validation(_))));
}

#[test]
fn the_task_of_a_lost_host_is_anothers_and_the_lost_ones_word_does_not_count() {
    let (mut state, _) = start();
    let other = HostId(Uuid::from_u128(8));
    let mut revision = 10;
    let mut apply = |state: &mut State, op: Op| {
        revision += 1;
        state.apply(revision, &command(op), &mut Vec::new())
    };
    apply(&mut state, Op::SimulateHosts { hosts: vec![(other, "o".into())] }).unwrap();
    apply(&mut state, Op::CreatePool { id: SHARED, create: shared_pool("s") }).unwrap();
    let volume = VolumeId(Uuid::from_u128(100));
    let spec = VolumeSpec {
        size_bytes: Some(Bytes::mib(1)),
        pool: Some(SHARED),
        format: ImageFormat::Raw,
        source: None,
    };
    let create = CreateVolume { name: "v".into(), labels: BTreeMap::new(), spec };
    apply(&mut state, Op::CreateVolume { id: volume, create }).unwrap();
    let maker = |state: &State| state.maker(&state.volumes[&volume]);
    assert_eq!(maker(&state), None, "nobody reaches it yet");
    assert!(state.unreached(SHARED, HOST).unwrap().contains("not mounted there yet"));
    apply(&mut state, stands(other, true)).unwrap();
    assert_eq!(maker(&state), Some(other));
    assert!(state.is_on(Some(SHARED), other) && !state.is_on(Some(SHARED), HOST));
    apply(&mut state, stands(HOST, true)).unwrap();
    assert_eq!(maker(&state), Some(HOST));
    apply(&mut state, stands(HOST, false)).unwrap();
    assert_eq!(maker(&state), Some(other));
    let why = state.unreached(SHARED, HOST).unwrap();
    assert!(why.contains("unreachable there: silent"), "{why}");
    let failed = |by| Op::VolumeFailed { id: volume, reason: "late".into(), by: Some(by) };
    assert!(matches!(apply(&mut state, failed(HOST)), Err(Refusal::Conflict(_))));
    let ready = Op::VolumeReady { id: volume, size: Bytes::mib(1), by: Some(other) };
    apply(&mut state, ready).unwrap();
    // Nobody reaches it: what is in it keeps the pool, and afterwards it goes at once.
    let delete = || Op::DeletePool { id: SHARED, expect: None };
    assert!(apply(&mut state, delete()).unwrap_err().to_string().contains("the volume `v`"));
    apply(&mut state, Op::DeleteVolume { id: volume, expect: None }).unwrap();
    apply(&mut state, Op::ForgetVolume { id: volume }).unwrap();
    apply(&mut state, stands(other, false)).unwrap();
    apply(&mut state, delete()).unwrap();
    assert!(!state.pools.contains_key(&SHARED));
}
