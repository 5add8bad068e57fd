//! Virtual machines.

use super::{Session, console, create::create, follow, hardware, names::Names, shown, vnc};
use crate::{
    cli::{Vm as Command, What, limits_text},
    output::{Format, Table, age, describe, line, moment, or_dash, show, word},
    terminal::confirm,
};
use anyhow::Context as _;
use lq_api::{
    local::vmm::CpuModel,
    placement::PlacementQuery,
    task::Task,
    vm::{MigrateVm, PendingChange, StopVm, Vm, VmState},
};

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        Command::List(listing) => {
            let names = Names::of_hosts(session).await;
            follow::list(session, listing, What::Vm, |vms: &[Vm]| table(vms, &names)).await
        }
        Command::Show { vm, watching } => {
            let (vm, revision) = client.find_at(&vm).await?;
            let names = Names::load(session).await;
            let shown = |vm: &Vm| describe(session.format, vm, &fields(vm, &names));
            shown(&vm)?;
            follow::object(session, watching, What::Vm, &vm, revision, shown).await
        }
        Command::Create(wanted) => create(session, *wanted).await,
        Command::Placement { vm } => {
            let Vm { meta, spec, .. } = client.find_vm(&vm).await?;
            let query = PlacementQuery { vm: Some(meta.id), labels: meta.labels, spec };
            hardware::preview(session, &query).await
        }
        Command::Set(wanted) => {
            let changed = hardware::set(client, *wanted).await?;
            let names = Names::load(session).await;
            describe(session.format, &changed, &fields(&changed, &names))
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

fn host_name(vm: &Vm, names: &Names) -> Option<String> {
    vm.status.host.map(|id| names.name(id))
}

fn addresses(vm: &Vm) -> String {
    vm.status.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn table(vms: &[Vm], names: &Names) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "CPUS", "MEMORY", "HOST", "ADDRESS", "AGE", "REASON"]);
    for vm in vms {
        table.row([
            vm.meta.name.clone(),
            state(vm, names),
            vm.spec.vcpus.to_string(),
            vm.spec.memory_bytes.to_string(),
            or_dash(host_name(vm, names)),
            or_dash(Some(addresses(vm))),
            age(vm.meta.created_at),
            reason(vm, names),
        ]);
    }
    table
}

/// Whether nobody knows what it does now: it was at something, and its host cannot be asked.
fn unknown(vm: &Vm, names: &Names) -> bool {
    !matches!(vm.status.state, VmState::Stopped | VmState::Failed)
        && vm.status.host.is_some_and(|host| names.is_away(host))
}

fn state(vm: &Vm, names: &Names) -> String {
    if unknown(vm, names) { "unknown".into() } else { word(&vm.status.state) }
}

fn reason(vm: &Vm, names: &Names) -> String {
    if unknown(vm, names) {
        return format!(
            "its host cannot be asked; it was {} when that was last heard",
            word(&vm.status.state)
        );
    }
    vm.status.reason.clone().unwrap_or_default()
}

/// How many are wanted, and how many there can be.
fn cpus(vm: &Vm) -> String {
    let most = vm.spec.vcpus_max.map(|most| format!(", up to {most} while it runs")).unwrap_or_default();
    format!("{}{most}", vm.spec.vcpus)
}

/// What is wanted, what there is where that differs, and how far it can go.
fn memory(vm: &Vm) -> String {
    let has = vm.status.memory_bytes.filter(|has| *has != vm.spec.memory_bytes);
    let has = has.map(|has| format!(", has {has} now")).unwrap_or_default();
    let most =
        vm.spec.memory_max_bytes.map(|most| format!(", up to {most} while it runs")).unwrap_or_default();
    format!("{}{has}{most}", vm.spec.memory_bytes)
}

fn fields(vm: &Vm, names: &Names) -> Vec<(&'static str, String)> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut fields = vec![
        ("Name", vm.meta.name.clone()),
        ("Id", vm.meta.id.to_string()),
        ("Labels", shown(&vm.meta.labels)),
        ("State", state(vm, names)),
        ("Reason", reason(vm, names)),
        ("Wanted", word(&vm.spec.power)),
        ("Host", text(host_name(vm, names))),
        ("Moving to", text(vm.status.moving_to.map(|id| names.name(id)))),
        ("Started", text(vm.status.started_at.map(|t| format!("{} ({} ago)", moment(t), age(t))))),
        ("Restarts", vm.status.restarts.to_string()),
        ("CPUs", cpus(vm)),
        ("Memory", memory(vm)),
        ("Addresses", addresses(vm)),
        ("Restart", word(&vm.spec.restart)),
        ("Autostart", if vm.spec.autostart { "yes" } else { "no" }.into()),
    ];
    if let Some(priority) = vm.spec.protection() {
        fields.push(("Protected", format!("{priority} priority")));
    }
    if let Some(boot) = &vm.spec.boot {
        fields.push(("Kernel", names.name(boot.kernel)));
        fields.push(("Initrd", text(boot.initrd.map(|i| names.name(i)))));
        fields.push(("Cmdline", boot.cmdline.clone()));
    }
    for disk in &vm.spec.disks {
        let mode = if disk.read_only { " (read-only)" } else { "" };
        fields.push((
            "Disk",
            format!("{}{mode}{}", names.name(disk.volume), limited("", &limits_text(&disk.limits))),
        ));
    }
    for nic in &vm.spec.nics {
        let mac = nic.mac.map(|m| format!("{m} on ")).unwrap_or_default();
        let cable = if nic.connected { "" } else { " (cable out)" };
        let limits = limited("receives ", &limits_text(&nic.limits.receive))
            + &limited("sends ", &limits_text(&nic.limits.transmit));
        fields.push(("Interface", format!("{mac}{}{cable}{limits}", names.name(nic.network))));
    }
    for cdrom in &vm.spec.cdroms {
        fields.push(("CD drive", cdrom.image.map_or_else(|| "empty".to_owned(), |i| names.name(i))));
    }
    if !vm.spec.hypervisor.is_own() {
        fields.push(("Hypervisor", vm.spec.hypervisor.name().to_owned()));
        fields.push(("Board", text(vm.spec.machine.map(|machine| machine.name().to_owned()))));
        fields.push(("Devices", word(&vm.spec.device_model)));
    }
    if !vm.spec.firmware.is_uefi() {
        fields.push(("Firmware", word(&vm.spec.firmware)));
    }
    if vm.spec.cpu != CpuModel::default() {
        fields.push(("CPU model", vm.spec.cpu.name().to_owned()));
    }
    if vm.spec.cloud_init.is_some() {
        fields.push(("Cloud-init", "user data is given to it".into()));
    }
    if let Some(action) = &vm.spec.watchdog {
        fields.push(("Watchdog", word(action)));
    }
    if vm.spec.tpm {
        fields.push(("TPM", "2.0".into()));
    }
    for one in &vm.spec.passthrough {
        fields.push(("PCI function", one.address.to_string()));
    }
    let placement = &vm.spec.placement;
    fields.push(("Only on", text(placement.host.map(|id| names.name(id)))));
    for (field, rules) in [("Near", &placement.near), ("Apart from", &placement.apart)] {
        for rule in rules {
            let strict = if rule.strict { "" } else { " where it can be" };
            fields.push((field, format!("{}{strict}", rule.label)));
        }
    }
    for PendingChange { field, device, reason, .. } in &vm.status.pending {
        let device = device.as_ref().map(|d| format!(" {d}")).unwrap_or_default();
        fields.push(("Pending", format!("{}{device}: {reason}", field.trim_start_matches("spec."))));
    }
    fields.push(("Created", moment(vm.meta.created_at)));
    fields
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

/// ` (at most 50 MiB/s)`, where there is a limit.
fn limited(what: &str, limits: &str) -> String {
    if limits.is_empty() { String::new() } else { format!(" ({what}at most {limits})") }
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
