//! `vm create`: a machine with its disk, in one go; what was made for one that does not come to be is removed.

use super::{
    Session,
    hardware::{self, switch},
    labels,
};
use crate::{
    cli::CreateVm as Wanted,
    output::{Format, Table, line, show, word},
};
use anyhow::Context as _;
use lq_api::{
    PoolId, VolumeId,
    client::{Client, Error},
    image::ImageFormat,
    placement::{Placement, PlacementQuery},
    pool::{Pool, PoolSpec},
    problem::Kind,
    vm::{Boot, CreateVm, Disk, Passthrough, VmSpec, VmState},
    volume::{CreateVolume, VolumeSpec},
};
use std::collections::BTreeMap;

pub(super) async fn create(session: &Session, wanted: Wanted) -> anyhow::Result<()> {
    let client = &session.client;
    // Every name is looked up before anything is made.
    let source = match &wanted.disk_from_image {
        Some(image) => Some(client.find_image(image).await?.meta.id),
        None => None,
    };
    let boot = match &wanted.kernel {
        Some(kernel) => Some(Boot {
            kernel: client.find_image(kernel).await?.meta.id,
            initrd: match &wanted.initrd {
                Some(initrd) => Some(client.find_image(initrd).await?.meta.id),
                None => None,
            },
            cmdline: wanted.cmdline.clone(),
        }),
        None => None,
    };
    let mut nics = Vec::new();
    for network in &wanted.networks {
        nics.push(hardware::nic(client, network).await?);
    }
    let mut disks = Vec::new();
    for volume in &wanted.volumes {
        disks.push(hardware::disk(client, volume).await?);
    }
    let mut cdroms = Vec::new();
    for image in &wanted.cdroms {
        cdroms.push(hardware::cdrom(client, Some(image.as_str()).filter(|i| *i != "none")).await?);
    }
    let host = match &wanted.host {
        Some(host) => Some(client.find_host(host).await?.meta.id),
        None => None,
    };
    let mut placement = Placement { host, ..Placement::default() };
    hardware::add_rules(&mut placement, &wanted.rules);
    let cloud_init =
        hardware::cloud_init(None, wanted.user_data.as_deref(), wanted.network_config.as_deref())?;
    let mut spec = VmSpec {
        hypervisor: wanted.hypervisor.into(),
        machine: wanted.machine.map(Into::into),
        firmware: wanted.boot_by.into(),
        device_model: wanted.devices.into(),
        vcpus: wanted.cpus,
        vcpus_max: wanted.cpus_max,
        memory_bytes: wanted.memory,
        memory_max_bytes: wanted.memory_max,
        boot,
        disks,
        nics,
        cdroms,
        cpu: wanted.cpu.into(),
        restart: wanted.restart.into(),
        autostart: !wanted.no_autostart,
        placement,
        cloud_init,
        watchdog: wanted.watchdog.into(),
        display: wanted.display.map(switch),
        tpm: switch(wanted.tpm),
        passthrough: wanted.passthrough.into_iter().map(|address| Passthrough { address }).collect(),
        rng: switch(wanted.rng),
        ha: wanted.ha.into(),
        ..VmSpec::default()
    };
    let labels = labels(wanted.labels);
    if wanted.preview {
        return hardware::preview(session, &PlacementQuery { vm: None, labels, spec }).await;
    }

    let made = if source.is_some() || wanted.disk_size.is_some() {
        // The disk has to be on the host the machine will be on.
        let pool = match session.pool(wanted.disk_pool.as_deref()).await? {
            Some(pool) => Some(pool),
            None => pool_for(client, &labels, &spec).await?,
        };
        let spec_of_disk =
            VolumeSpec { size_bytes: wanted.disk_size, pool, format: ImageFormat::Qcow2, source };
        let volume = new_disk(client, &wanted.name, spec_of_disk).await.context("the disk was refused")?;
        if let Err(error) = client.wait_volume(volume, session.patience()).await {
            tidy(session, volume).await;
            return Err(anyhow::Error::new(error).context("the disk was not made"));
        }
        spec.disks.insert(0, Disk::of(volume));
        Some(volume)
    } else {
        None
    };

    let vm = CreateVm { name: wanted.name, labels, spec };
    let vm = match (client.create_vm(&vm).await, made) {
        (Ok(vm), _) => vm,
        // Refused: nothing else can use the disk. After a broken connection, the machine may exist and have it.
        (Err(error @ Error::Problem(_)), Some(volume)) => {
            tidy(session, volume).await;
            return Err(error.into());
        }
        (Err(error), Some(volume)) => {
            eprintln!(
                "lqctl: whether the VM was made is not known; volume {volume} was made for it and stays"
            );
            return Err(error.into());
        }
        (Err(error), None) => return Err(error.into()),
    };
    let id = vm.meta.id;
    if wanted.start {
        session.follow(client.start_vm(id).await?).await.context("the VM was created, but did not start")?;
    }
    let vm = client.vm(id).await?;
    if session.format != Format::Table {
        return show(session.format, &vm, || Table::new(&[]));
    }
    let state = if vm.status.state == VmState::Stopped { "created".into() } else { word(&vm.status.state) };
    line(&format!("VM {} {state}.\n", vm.meta.name))
}

/// The pool of the host a machine would be placed on; the cluster's choice where no host fits, which then says why.
async fn pool_for(
    client: &Client,
    labels: &BTreeMap<String, String>,
    spec: &VmSpec,
) -> Result<Option<PoolId>, Error> {
    let query = PlacementQuery { vm: None, labels: labels.clone(), spec: spec.clone() };
    let Some(host) = client.placement(&query).await?.host else { return Ok(None) };
    let pools = client.pools().await?;
    let here = |pool: &&Pool| matches!(pool.spec, PoolSpec::Dir { host: of } if of == host);
    Ok(pools.iter().find(here).map(|pool| pool.meta.id))
}

/// Makes a machine's disk under the first free name: an earlier machine of this name may have left its own.
async fn new_disk(client: &Client, vm: &str, spec: VolumeSpec) -> Result<VolumeId, Error> {
    for n in 1..DISK_NAMES {
        let volume = CreateVolume { name: disk_name(vm, n), labels: BTreeMap::new(), spec: spec.clone() };
        match client.create_volume(&volume).await {
            Ok(volume) => return Ok(volume.meta.id),
            Err(error) if error.is(Kind::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    let volume = CreateVolume { name: disk_name(vm, DISK_NAMES), labels: BTreeMap::new(), spec };
    client.create_volume(&volume).await.map(|volume| volume.meta.id)
}

/// Names tried for a disk.
const DISK_NAMES: u32 = 9;

/// The `n`th name for the disk of a machine, not longer than names may be.
fn disk_name(vm: &str, n: u32) -> String {
    let end = if n == 1 { "-disk".to_owned() } else { format!("-disk-{n}") };
    let short: String = vm.chars().take(63 - end.len()).collect();
    short + &end
}

/// Removes a volume made for a machine that does not come to be.
async fn tidy(session: &Session, volume: VolumeId) {
    let removed = async {
        let task = session.client.delete_volume(volume).await?;
        session.client.wait_task(task.id, session.patience(), |_| {}).await
    };
    if let Err(error) = removed.await {
        eprintln!("lqctl: volume {volume} was made for it and could not be removed: {}", error.chain());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_still_gives_a_valid_disk_name() {
        assert_eq!(disk_name("web1", 1), "web1-disk");
        assert_eq!(disk_name("web1", 2), "web1-disk-2");
        for n in [1, DISK_NAMES] {
            let name = disk_name(&"x".repeat(63), n);
            assert!(lq_api::meta::check_name("name", &name).is_none(), "{name}");
        }
    }
}
