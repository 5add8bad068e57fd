//! Virtual machines.

use super::{Session, console, labels, shown, vnc};
use crate::{
    cli::{CreateVm as Wanted, Vm as Command},
    output::{Format, Table, age, describe, line, or_dash, show, word},
    terminal::confirm,
};
use anyhow::Context as _;
use lq_api::{
    HostId, PoolId, VolumeId,
    client::{Client, Error},
    image::ImageFormat,
    local::vmm::CpuModel,
    placement::{Affinity, Placement, PlacementQuery},
    pool::{Pool, PoolSpec},
    problem::Kind,
    task::Task,
    vm::{Boot, Cdrom, CreateVm, Disk, MigrateVm, Nic, PendingChange, StopVm, UpdateVm, Vm, VmSpec, VmState},
    volume::{CreateVolume, VolumeSpec},
};
use std::collections::BTreeMap;

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        Command::List(filter) => {
            let vms: Vec<Vm> = client.all_where(&filter.into()).await?;
            let hosts = hosts(session).await;
            show(session.format, &vms, || table(&vms, &hosts))
        }
        Command::Show { vm } => {
            let vm = client.find_vm(&vm).await?;
            let hosts = hosts(session).await;
            describe(session.format, &vm, &fields(&vm, &hosts))
        }
        Command::Create(wanted) => create(session, *wanted).await,
        Command::Set { vm, ha } => {
            let vm = client.find_vm(&vm).await?;
            let spec = VmSpec { ha: ha.into(), ..vm.spec.clone() };
            let change = UpdateVm { spec: Some(spec), ..UpdateVm::default() };
            let changed = client.update_vm(vm.meta.id, &change, Some(vm.meta.revision)).await?;
            let hosts = hosts(session).await;
            describe(session.format, &changed, &fields(&changed, &hosts))
        }
        Command::Start { vm } => {
            let vm = client.find_vm(&vm).await?;
            done(session, &vm, client.start_vm(vm.meta.id).await?, "started").await
        }
        Command::Stop { vm, force, grace } => {
            let vm = client.find_vm(&vm).await?;
            let how = StopVm { force, timeout_seconds: grace };
            done(session, &vm, client.stop_vm(vm.meta.id, &how).await?, "stopped").await
        }
        Command::Reset { vm } => {
            let vm = client.find_vm(&vm).await?;
            done(session, &vm, client.reset_vm(vm.meta.id).await?, "reset").await
        }
        Command::Pause { vm } => {
            let vm = client.find_vm(&vm).await?;
            done(session, &vm, client.pause_vm(vm.meta.id).await?, "paused").await
        }
        Command::Resume { vm } => {
            let vm = client.find_vm(&vm).await?;
            done(session, &vm, client.resume_vm(vm.meta.id).await?, "resumed").await
        }
        Command::Migrate { vm, to, bandwidth } => {
            let vm = client.find_vm(&vm).await?;
            let host = match to {
                Some(host) => Some(client.find_host(&host).await?.meta.id),
                None => None,
            };
            let wish = MigrateVm { host, bandwidth_bytes: bandwidth };
            let task = client.migrate_vm(vm.meta.id, &wish).await?;
            done(session, &vm, task, "moved").await
        }
        Command::Delete { vm, volumes, yes } => delete(session, &vm, volumes, yes).await,
        Command::Vnc { vm, port } => vnc::run(client, &client.find_vm(&vm).await?, port).await,
        Command::Console { vm } => console::run(client, &client.find_vm(&vm).await?).await,
        Command::History { vm, past } => {
            let vm = client.find_vm(&vm).await?;
            super::history::history(session, &client.vm_history(vm.meta.id, &past.into()).await?)
        }
        Command::Stats { vm } => stats(session, &vm).await,
    }
}

/// Follows an order on a machine and says what came of it.
async fn done(session: &Session, vm: &Vm, task: Task, what: &str) -> anyhow::Result<()> {
    let task = session.follow(task).await?;
    if session.format != Format::Table {
        return show(session.format, &task, || Table::new(&[]));
    }
    match task.state.ended() {
        true => line(&format!("VM {} {what}.\n", vm.meta.name)),
        false => line(&format!("Ordered; follow it with `lqctl task show {}`.\n", task.id)),
    }
}

/// Names of the hosts; ids serve where they cannot be had.
async fn hosts(session: &Session) -> BTreeMap<HostId, String> {
    if session.format != Format::Table {
        return BTreeMap::new();
    }
    let hosts = session.client.hosts().await.unwrap_or_default();
    hosts.into_iter().map(|h| (h.meta.id, h.meta.name)).collect()
}

fn host_name(vm: &Vm, hosts: &BTreeMap<HostId, String>) -> Option<String> {
    vm.status.host.map(|id| named(id, hosts))
}

fn named(id: HostId, hosts: &BTreeMap<HostId, String>) -> String {
    hosts.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

fn addresses(vm: &Vm) -> String {
    vm.status.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn table(vms: &[Vm], hosts: &BTreeMap<HostId, String>) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "CPUS", "MEMORY", "HOST", "ADDRESS", "AGE", "REASON"]);
    for vm in vms {
        table.row([
            vm.meta.name.clone(),
            word(&vm.status.state),
            vm.spec.vcpus.to_string(),
            vm.spec.memory_bytes.to_string(),
            or_dash(host_name(vm, hosts)),
            or_dash(Some(addresses(vm))),
            age(vm.meta.created_at),
            vm.status.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn fields(vm: &Vm, hosts: &BTreeMap<HostId, String>) -> Vec<(&'static str, String)> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut fields = vec![
        ("Name", vm.meta.name.clone()),
        ("Id", vm.meta.id.to_string()),
        ("Labels", shown(&vm.meta.labels)),
        ("State", word(&vm.status.state)),
        ("Reason", text(vm.status.reason.clone())),
        ("Wanted", word(&vm.spec.power)),
        ("Host", text(host_name(vm, hosts))),
        ("Moving to", text(vm.status.moving_to.map(|id| named(id, hosts)))),
        ("Started", text(vm.status.started_at.map(|t| format!("{t} ({} ago)", age(t))))),
        ("Restarts", vm.status.restarts.to_string()),
        ("CPUs", vm.spec.vcpus.to_string()),
        ("Memory", vm.spec.memory_bytes.to_string()),
        ("Addresses", addresses(vm)),
        ("Restart", word(&vm.spec.restart)),
        ("Autostart", if vm.spec.autostart { "yes" } else { "no" }.into()),
    ];
    if let Some(priority) = vm.spec.protection() {
        fields.push(("Protected", format!("{priority} priority")));
    }
    if let Some(boot) = &vm.spec.boot {
        fields.push(("Kernel", boot.kernel.to_string()));
        fields.push(("Initrd", text(boot.initrd.map(|i| i.to_string()))));
        fields.push(("Cmdline", boot.cmdline.clone()));
    }
    for disk in &vm.spec.disks {
        let mode = if disk.read_only { " (read-only)" } else { "" };
        fields.push(("Disk", format!("{}{mode}", disk.volume)));
    }
    for nic in &vm.spec.nics {
        let mac = nic.mac.map(|m| format!("{m} on ")).unwrap_or_default();
        fields.push(("Interface", format!("{mac}{}", nic.network)));
    }
    for cdrom in &vm.spec.cdroms {
        fields.push(("CD drive", cdrom.image.map_or_else(|| "empty".to_owned(), |i| i.to_string())));
    }
    if vm.spec.cpu != CpuModel::default() {
        fields.push(("CPU model", vm.spec.cpu.name().to_owned()));
    }
    for PendingChange { field, device, reason, .. } in &vm.status.pending {
        let device = device.as_ref().map(|d| format!(" {d}")).unwrap_or_default();
        fields.push(("Pending", format!("{}{device}: {reason}", field.trim_start_matches("spec."))));
    }
    fields.push(("Created", vm.meta.created_at.to_string()));
    fields
}

async fn create(session: &Session, wanted: Wanted) -> anyhow::Result<()> {
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
        nics.push(Nic::on(client.find_network(network).await?.meta.id));
    }
    let mut disks = Vec::new();
    for volume in &wanted.volumes {
        disks.push(Disk::of(client.find_volume(volume).await?.meta.id));
    }
    let mut cdroms = Vec::new();
    for image in &wanted.cdroms {
        cdroms.push(Cdrom { image: Some(client.find_image(image).await?.meta.id) });
    }
    let host = match &wanted.host {
        Some(host) => Some(client.find_host(host).await?.meta.id),
        None => None,
    };
    let apart = wanted.apart_from.iter();
    let apart =
        apart.map(|(key, value)| Affinity { label: format!("{key}={value}"), strict: true }).collect();
    let mut spec = VmSpec {
        vcpus: wanted.cpus,
        memory_bytes: wanted.memory,
        boot,
        disks,
        nics,
        cdroms,
        cpu: wanted.cpu.into(),
        restart: wanted.restart.into(),
        autostart: !wanted.no_autostart,
        placement: Placement { host, apart, ..Placement::default() },
        ha: wanted.ha.into(),
        ..VmSpec::default()
    };
    let labels = labels(wanted.labels);

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

async fn delete(session: &Session, name: &str, volumes: bool, yes: bool) -> anyhow::Result<()> {
    let client = &session.client;
    let vm = client.find_vm(name).await?;
    let too = match (volumes, vm.spec.disks.len()) {
        (false, _) | (_, 0) => String::new(),
        (true, n) => format!(" and {n} volume(s) with all that is on them"),
    };
    confirm(&format!("Delete VM {}{too}?", vm.meta.name), yes)?;
    let task = client.delete_vm(vm.meta.id).await?;
    if !volumes {
        return done(session, &vm, task, "deleted").await;
    }
    // The volumes are free only once the machine is gone.
    client.wait_task(task.id, session.patience(), |_| {}).await?;
    client.wait_vm_gone(vm.meta.id, session.patience()).await?;
    for disk in &vm.spec.disks {
        let left = || format!("VM {} is deleted, its volume {} is not", vm.meta.name, disk.volume);
        let task = client.delete_volume(disk.volume).await.with_context(left)?;
        client.wait_task(task.id, session.patience(), |_| {}).await.with_context(left)?;
    }
    line(&format!("VM {}{too} deleted.\n", vm.meta.name))
}

async fn stats(session: &Session, name: &str) -> anyhow::Result<()> {
    let vm = session.client.find_vm(name).await?;
    let stats = session.client.vm_stats(vm.meta.id).await?;
    show(session.format, &stats, || {
        let mut table = Table::new(&["DEVICE", "READ", "WRITTEN", "READS", "WRITES", "ERRORS"]);
        let disks = stats.disks.iter().enumerate().map(|(n, s)| (format!("disk{n}"), s));
        let nics = stats.nics.iter().enumerate().map(|(n, s)| (format!("nic{n}"), s));
        for (device, s) in disks.chain(nics) {
            table.row([
                device,
                lq_api::Bytes(s.read_bytes).to_string(),
                lq_api::Bytes(s.written_bytes).to_string(),
                s.reads.to_string(),
                s.writes.to_string(),
                s.errors.to_string(),
            ]);
        }
        table
    })
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
