//! From the state to what this host is to do. Pure but for the paths it asks the drivers for.

use crate::{
    cluster::{
        State,
        state::{HostRole, VmRecord},
    },
    compute::{Desired, Fault, Launch, LaunchBoot, LaunchNic, Part},
    hardware::{Hardware, queues, serial},
    network::{WantedNetwork, WantedPort},
    storage::Pool,
};
use lq_api::{
    HostId, ImageId, NetworkId, PoolId, VmId,
    image::ImageState,
    local::vmm::{BootFiles, DiskConfig},
    vm::{FirmwareKind, Nic, VmSpec},
    volume::{Volume, VolumeState},
};
use std::sync::Arc;

/// The drivers' words for things.
pub(super) struct Names<'a> {
    /// Driver of a pool of this host.
    pub(super) pool: &'a dyn Fn(PoolId) -> Option<Arc<dyn Pool>>,
    /// Path of this host's copy of an image of another host; else why the last try to bring it failed, where one did.
    pub(super) copy: &'a dyn Fn(ImageId) -> Result<String, Option<String>>,
    /// Bridge of a network.
    pub(super) bridge: &'a dyn Fn(NetworkId) -> String,
    /// Why the networks are not as they should be, where they are not.
    pub(super) network_fault: Option<&'a str>,
}

/// Networks with the ports of this host's machines.
pub(super) fn networks(state: &State, host: HostId) -> Vec<WantedNetwork> {
    let on = |network: NetworkId, nic: &Nic| nic.mac.filter(|_| nic.network == network);
    state
        .networks
        .values()
        .map(|network| {
            let id = network.meta.id;
            let ports = mine(state, host).flat_map(|(record, _)| {
                let vm = record.vm.meta.id;
                let macs: Vec<_> = match &record.hardware {
                    // While it moves it has what it has, on both hosts.
                    Some(has) => has.nics.iter().map(|n| &n.device).filter_map(|n| on(id, n)).collect(),
                    None => record.vm.spec.nics.iter().filter_map(|n| on(id, n)).collect(),
                };
                macs.into_iter().map(move |mac| WantedPort { vm, mac })
            });
            WantedNetwork { network: id, dhcp: network.spec.dhcp.clone(), ports: ports.collect() }
        })
        .collect()
}

/// The machines of this host; those being deleted are left out, so that their processes end.
pub(super) fn machines(state: &State, host: HostId, names: &Names<'_>) -> Vec<Desired> {
    mine(state, host).map(|(record, role)| desired(state, host, record, role, names)).collect()
}

fn mine(state: &State, host: HostId) -> impl Iterator<Item = (&VmRecord, HostRole)> {
    state.machines_of(host).filter(|(r, _)| !r.deleting)
}

/// What a driver has to do with a machine its host is this to.
pub(super) fn part(role: HostRole) -> Part {
    match role {
        HostRole::Owner => Part::Owner,
        HostRole::Leaving(_) => Part::Leaving,
        HostRole::Arriving(moving) => Part::Arriving(moving),
        HostRole::Settling(_) | HostRole::Left(_) => Part::Still,
    }
}

fn desired(state: &State, host: HostId, record: &VmRecord, role: HostRole, names: &Names<'_>) -> Desired {
    let vm = &record.vm;
    let arrives = matches!(role, HostRole::Arriving(_));
    let hardware = record.hardware.as_deref().filter(|_| arrives).cloned();
    let spec = hardware.as_ref().map_or_else(|| vm.spec.clone(), |has| has.spec(&vm.spec));
    let (launch, fault) = match launch(state, host, record, (&spec, hardware.as_ref()), names) {
        Ok(launch) => (launch, None),
        Err(fault) => (Launch::default(), Some(fault)),
    };
    Desired {
        vm: vm.meta.id,
        name: vm.meta.name.clone(),
        generation: vm.meta.generation,
        epoch: record.epoch,
        part: part(role),
        returned: record.has_returned(),
        leased: record.runs_leased(),
        spec,
        hardware,
        stop: record.stop.clone(),
        reset_count: record.reset_count,
        fault,
        launch,
    }
}

/// Something is in a pool that this host does not reach. One that is shared may be ready again at any time.
fn unreached(state: &State, pool: Option<PoolId>, host: HostId, what: &str) -> Fault {
    let why = pool.and_then(|pool| state.unreached(pool, host));
    // The state may know already what this host does not.
    let why = why.unwrap_or_else(|| "is in a pool that is not ready here yet".into());
    let fault = format!("{what} {why}");
    let own = pool.is_some_and(|pool| state.pool_host(pool).is_some());
    if own { Fault::Broken(fault) } else { Fault::Wait(fault) }
}

/// What to start a machine of this specification with; `has` says where its devices are on the bus, where that is given.
fn launch(
    state: &State,
    host: HostId,
    record: &VmRecord,
    (spec, has): (&VmSpec, Option<&Hardware>),
    names: &Names<'_>,
) -> Result<Launch, Fault> {
    let disks = spec
        .disks
        .iter()
        .enumerate()
        .map(|(n, disk)| {
            let volume = state
                .volumes
                .get(&disk.volume)
                .ok_or_else(|| format!("the volume {} does not exist", disk.volume))?;
            Ok(DiskConfig {
                serial: serial(volume.meta.id),
                image: disk_image(state, volume, (record.vm.meta.id, host), names)?,
                read_only: disk.read_only,
                limits: disk.limits,
                queues: has.and_then(|has| has.disks.get(n)).map_or(queues(spec.vcpus), |d| d.queues),
                slot: has.and_then(|has| has.disks.get(n)?.slot),
            })
        })
        .collect::<Result<_, Fault>>()?;
    let nics = spec
        .nics
        .iter()
        .enumerate()
        .map(|(n, nic)| {
            if let Some(fault) = names.network_fault {
                return Err(Fault::Broken(format!("the host's networks are not ready: {fault}")));
            }
            if !state.networks.contains_key(&nic.network) {
                return Err(Fault::Broken(format!("the network {} does not exist", nic.network)));
            }
            let mac = nic.mac.ok_or("an interface has no hardware address")?;
            Ok(LaunchNic {
                bridge: (names.bridge)(nic.network),
                mac,
                connected: nic.connected,
                limits: nic.limits,
                queues: has.and_then(|has| has.nics.get(n)).map_or(queues(spec.vcpus), |n| n.queues),
                slot: has.and_then(|has| has.nics.get(n)?.slot),
            })
        })
        .collect::<Result<_, Fault>>()?;
    let boot = match &spec.boot {
        Some(boot) => LaunchBoot::Direct(BootFiles {
            kernel: image_path(state, boot.kernel, host, names)?,
            initrd: boot.initrd.map(|id| image_path(state, id, host, names)).transpose()?,
            cmdline: boot.cmdline.clone(),
        }),
        None if spec.firmware == FirmwareKind::Bios => LaunchBoot::Bios,
        None => LaunchBoot::Firmware {
            vars: memory(state, host, record, names, "firmware")?.vars_path(record.vm.meta.id),
        },
    };
    let tpm = match spec.tpm {
        true => Some(memory(state, host, record, names, "TPM")?.tpm_path(record.vm.meta.id)),
        false => None,
    };
    let cdroms =
        spec.cdroms.iter().map(|c| c.image.map(|image| image_path(state, image, host, names)).transpose());
    let cdroms = cdroms.collect::<Result<_, Fault>>()?;
    Ok(Launch { boot, disks, nics, cdroms, tpm, lease: None })
}

/// The pool of what `whose` of the machine keeps without power.
fn memory(
    state: &State,
    host: HostId,
    record: &VmRecord,
    names: &Names<'_>,
    whose: &str,
) -> Result<Arc<dyn Pool>, Fault> {
    // Where it is was decided when the machine was made; else the host's own pool, whatever disks it has.
    let own = || state.pools.keys().copied().find(|id| state.only_on(Some(*id), host));
    let id = record.vars.or_else(own);
    let id = id.ok_or_else(|| format!("the host has no pool for what the machine's {whose} remembers"))?;
    (names.pool)(id).ok_or_else(|| unreached(state, Some(id), host, &format!("what its {whose} remembers")))
}

fn image_path(state: &State, id: ImageId, host: HostId, names: &Names<'_>) -> Result<String, Fault> {
    let image = &state.images.get(&id).ok_or_else(|| format!("the image {id} does not exist"))?.image;
    let name = &image.meta.name;
    if image.status.state != ImageState::Ready {
        return Err(Fault::Broken(format!("the image `{name}` has no content yet: upload it")));
    }
    let pool = image.spec.pool;
    match pool.and_then(names.pool) {
        Some(pool) => Ok(pool.image_path(id)),
        None => (names.copy)(id).map_err(|failed| {
            if pool.is_some_and(|pool| state.pool_host(pool).is_none()) {
                return unreached(state, pool, host, &format!("the image `{name}`"));
            }
            let failed = failed.map(|why| format!("; the last try failed: {why}")).unwrap_or_default();
            Fault::Wait(format!("the image `{name}` is being brought from its host{failed}"))
        }),
    }
}

fn disk_image(
    state: &State,
    volume: &Volume,
    (vm, host): (VmId, HostId),
    names: &Names<'_>,
) -> Result<lq_api::local::vmm::DiskImage, Fault> {
    let name = &volume.meta.name;
    match volume.status.state {
        VolumeState::Ready => {}
        VolumeState::Creating => return Err(Fault::Wait(format!("the volume `{name}` is still being made"))),
        VolumeState::Deleting => return Err(Fault::Broken(format!("the volume `{name}` is being deleted"))),
        VolumeState::Failed => {
            let reason = volume.status.reason.as_deref().unwrap_or("unknown");
            return Err(Fault::Broken(format!("the volume `{name}` is not usable: {reason}")));
        }
    }
    if volume.status.attached_to != Some(vm) {
        return Err(Fault::Broken(format!("the volume `{name}` belongs to another machine")));
    }
    if volume.spec.size_bytes.is_some_and(|wanted| wanted != volume.status.size_bytes) {
        return Err(Fault::Wait(format!("the volume `{name}` is being grown")));
    }
    let source = match volume.spec.source {
        None => None,
        Some(id) => {
            let image =
                state.images.get(&id).ok_or_else(|| format!("the source of `{name}` does not exist"))?;
            Some((id, image.image.spec.format))
        }
    };
    let pool = volume.spec.pool.and_then(names.pool);
    let pool =
        pool.ok_or_else(|| unreached(state, volume.spec.pool, host, &format!("the volume `{name}`")))?;
    Ok(pool.disk_image(volume.meta.id, volume.spec.format, source))
}
