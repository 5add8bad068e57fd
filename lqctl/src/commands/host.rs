//! Hosts.

use super::{Session, follow, recovery::confirmed, shown};
use crate::{
    cli,
    output::{Format, Table, age, describe, line, moment, or_dash, show},
    terminal::confirm,
};
use anyhow::Context as _;
use lq_api::{
    answer::HostNetwork,
    client::Error,
    host::{FactoryReset, Host, HostMaintenance, HostPowerAction, PciFunction},
    management::{ManagementNetwork, TryNetwork},
    meta::MetadataPatch,
    task::TaskState,
};
use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

pub(super) async fn run(session: &Session, command: cli::Host) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        cli::Host::List(listing) => follow::list(session, listing, cli::What::Host, table).await,
        cli::Host::Show { host, watching } => {
            let (host, revision) = client.find_at(&host).await?;
            let shown = |host: &Host| describe(session.format, host, &fields(host));
            shown(&host)?;
            follow::object(session, watching, cli::What::Host, &host, revision, shown).await
        }
        cli::Host::Set { host, meta } => {
            let host = client.find_host(&host).await?;
            let changed = client.update_host(host.meta.id, &meta.patch(&host.meta)?).await?;
            describe(session.format, &changed, &fields(&changed))
        }
        cli::Host::History { host, past } => {
            let host = client.find_host(&host).await?;
            super::history::history(session, &client.host_history(host.meta.id, &past.into()).await?)
        }
        cli::Host::Rename { host, name } => {
            let host = client.find_host(&host).await?;
            let patch = MetadataPatch { name: Some(name), labels: None };
            let renamed = client.update_host(host.meta.id, &patch).await?;
            line(&format!("Host {} is called {} from now on.\n", host.meta.name, renamed.meta.name))
        }
        cli::Host::Network { host, change } => network(session, &host, change).await,
        cli::Host::SupportBundle { host, drive: Some(drive), .. } => {
            let host = client.find_host(&host).await?;
            let written = client.write_support_bundle(host.meta.id, &drive).await?;
            let fields = [
                ("Drive", written.device.clone()),
                ("File", written.file.clone()),
                ("Size", written.size_bytes.to_string()),
            ];
            describe(session.format, &written, &fields)
        }
        cli::Host::Removable { host } => {
            let host = client.find_host(&host).await?;
            let found = client.removable_drives(host.meta.id).await?;
            show(session.format, &found, || {
                let mut table = Table::new(&["DRIVE", "SIZE", "MODEL", "FILE SYSTEM", "LABEL", "NOT FIT"]);
                for drive in &found.drives {
                    table.row([
                        drive.device.clone(),
                        drive.size_bytes.to_string(),
                        or_dash(drive.model.clone()),
                        or_dash(drive.file_system.clone()),
                        or_dash(drive.label.clone()),
                        drive.unfit.clone().unwrap_or_default(),
                    ]);
                }
                table
            })
        }
        cli::Host::SupportBundle { host, out, drive: None } => {
            let host = client.find_host(&host).await?;
            let out = out.unwrap_or_else(|| format!("support-{}.tar.gz", host.meta.name).into());
            let bundle = client.support_bundle(host.meta.id).await?;
            let mut file = std::fs::OpenOptions::new();
            let mut file = file
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&out)
                .with_context(|| format!("cannot make {}", out.display()))?;
            file.write_all(&bundle).with_context(|| format!("cannot write {}", out.display()))?;
            line(&format!("{} has it; look into it before you pass it on.\n", out.display()))
        }
        cli::Host::Remove { host, force, yes } => {
            let host = client.find_host(&host).await?;
            let what = if force { " and give up what only it holds" } else { "" };
            let question =
                format!("Remove host {} for ever{what}? It can only come back anew.", host.meta.name);
            confirm(&question, yes)?;
            client.remove_host(host.meta.id, force).await?;
            line(&format!("Host {} was removed.\n", host.meta.name))
        }
        cli::Host::Maintenance { host, state, shut_down } => {
            let host = client.find_host(&host).await?;
            let wish = HostMaintenance { on: state == cli::Switch::On, shut_down };
            maintenance(session, &host, wish).await
        }
        cli::Host::ConfirmOff { host, yes } => {
            let host = client.find_host(&host).await?;
            let question = format!(
                "Is host {} off for certain? Were it to run on, its machines would run twice and destroy their disks.",
                host.meta.name
            );
            confirm(&question, yes)?;
            client.confirm_off(host.meta.id).await?;
            line(&format!("Host {} counts as off until it starts again.\n", host.meta.name))
        }
        cli::Host::Bmc(command) => super::bmc::run(session, command).await,
        cli::Host::Certificate { host, yes } => {
            let host = client.find_host(&host).await?;
            let question = format!(
                "Whoever trusts the present certificate, this program too, has to look at the new one. Write the name of the \
                 host ({}) to make it",
                host.meta.name
            );
            confirmed(&question, &host.meta.name, yes)?;
            client.new_certificate(host.meta.id, &host.meta.name).await?;
            line(&format!(
                "Host {} is starting its daemon again with a new certificate. Its console shows the fingerprint; log in again.\n",
                host.meta.name
            ))
        }
        cli::Host::FactoryReset { host, data, yes } => {
            let host = client.find_host(&host).await?;
            let too = if data { ", images and volumes too," } else { "" };
            let question = format!(
                "All that the host has kept{too} is erased, and it restarts. Write its name ({}) to do it",
                host.meta.name
            );
            confirmed(&question, &host.meta.name, yes)?;
            let reset = FactoryReset { confirm: host.meta.name.clone(), data };
            client.factory_reset(host.meta.id, &reset).await?;
            line(&format!("Host {} restarts and begins anew.\n", host.meta.name))
        }
        cli::Host::Health => health(session).await,
        cli::Host::Metrics => line(&client.metrics().await?),
        cli::Host::Reboot { host, yes } => {
            power(session, &host, yes, HostPowerAction::Reboot, "Restart", "is restarting").await
        }
        cli::Host::PowerOff { host, yes } => {
            power(session, &host, yes, HostPowerAction::PowerOff, "Switch off", "is switching off").await
        }
    }
}

/// Whether the daemon answers, and what it waits for.
async fn health(session: &Session) -> anyhow::Result<()> {
    session.client.health().await?;
    let readiness = session.client.ready().await?;
    let fields = [
        ("Answers", "yes".to_owned()),
        ("Ready", if readiness.ready { "yes".into() } else { "no".into() }),
        ("Waits for", readiness.waiting_for.join(", ")),
    ];
    describe(session.format, &readiness, &fields)?;
    anyhow::ensure!(
        readiness.ready,
        "the host is not ready: it waits for {}",
        readiness.waiting_for.join(", ")
    );
    Ok(())
}

async fn maintenance(session: &Session, host: &Host, wish: HostMaintenance) -> anyhow::Result<()> {
    let task = session.client.host_maintenance(host.meta.id, &wish).await?;
    let (id, followed) = (task.id, session.follow(task).await);
    let task = match followed {
        Ok(task) => task,
        // What stayed is told below.
        Err(error) if wish.on => match session.client.task(id).await {
            Ok(task) if !task.results.is_empty() => task,
            _ => return Err(error),
        },
        Err(error) => return Err(error),
    };
    // For people a table without rows says nothing.
    if session.format != Format::Table || !task.results.is_empty() {
        show(session.format, &task, || {
            let mut table = Table::new(&["VM", "RESULT", "MESSAGE"]);
            for result in &task.results {
                let word = if result.done { "done" } else { "stays" };
                table.row([result.name.clone(), word.into(), result.message.clone()]);
            }
            table
        })?;
    }
    if task.state == TaskState::Failed {
        let why = task.message.unwrap_or_default();
        anyhow::bail!("host {} is in maintenance, and {why}", host.meta.name);
    }
    if session.format == Format::Table {
        let word = match (wish.on, task.state.ended()) {
            (true, true) => "is in maintenance".to_owned(),
            (true, false) => format!("is in maintenance; follow its machines with `lqctl task show {id}`"),
            (false, _) => "takes machines again".to_owned(),
        };
        line(&format!("Host {} {word}.\n", host.meta.name))?;
    }
    Ok(())
}

async fn network(session: &Session, host: &str, change: cli::HostNetworkChange) -> anyhow::Result<()> {
    let client = &session.client;
    let id = client.find_host(host).await?.meta.id;
    if change.test {
        let test = client.test_host_network(id).await?;
        let gateway = match (test.gateway, test.gateway_answers) {
            (Some(gateway), Some(true)) => format!("{gateway} answers"),
            (Some(gateway), _) => format!("{gateway} does not answer"),
            (None, _) => "none".into(),
        };
        let fields = [
            ("Address", or_dash(test.address.clone())),
            ("Gateway", gateway),
            ("API", if test.api_answers { "answers".into() } else { "does not answer".to_owned() }),
        ];
        return describe(session.format, &test, &fields);
    }
    let state = if change.keep {
        client.keep_host_network(id).await?
    } else if change.revert {
        client.revert_host_network(id).await?
    } else if change.dhcp || change.address.is_some() {
        let (interface, address) = (change.interface, change.address);
        let network = HostNetwork { interface, address, gateway: change.gateway, dns: change.dns };
        let there = network.address.as_deref().and_then(|a| a.split('/').next().map(str::to_owned));
        let tried = client.try_host_network(id, &TryNetwork { network, seconds: change.seconds }).await;
        // The address the answer would have come from may be gone before it.
        tried.map_err(|error| match error {
            Error::Transport { .. } => {
                anyhow::Error::new(error).context(tried_elsewhere(host, there.as_deref()))
            }
            error => error.into(),
        })?
    } else {
        client.host_network(id).await?
    };
    describe(session.format, &state, &network_fields(&state))
}

/// What to do where the host went to its new address without a word.
fn tried_elsewhere(host: &str, address: Option<&str>) -> String {
    let there = address.unwrap_or("its new address");
    format!(
        "the change is perhaps being tried, as the host does not answer here any more: log in at its new address \
         (`lqctl --profile new login https://{there}`) and keep it (`lqctl --profile new host network {host} --keep`), or it \
         is taken back by itself"
    )
}

fn network_fields(state: &ManagementNetwork) -> Vec<(&'static str, String)> {
    let settings = |network: &HostNetwork| {
        let address = network.address.clone().unwrap_or_else(|| "by DHCP".into());
        let gateway = network.gateway.map(|g| format!(", gateway {g}")).unwrap_or_default();
        let on = network.interface.map(|mac| format!(", on {mac}")).unwrap_or_default();
        let dns: String = network.dns.iter().map(|d| format!(", DNS {d}")).collect();
        format!("{address}{gateway}{dns}{on}")
    };
    let mut fields = vec![("Kept", settings(&state.kept))];
    if let Some(trial) = &state.trial {
        let left = trial.seconds_left;
        fields
            .push(("On trial", format!("{}; taken back in {left} s unless kept", settings(&trial.network))));
    }
    fields.extend(state.nics.iter().map(|nic| {
        let link = if nic.link { "link" } else { "no link" };
        let used = if state.uplink.as_ref() == Some(&nic.name) { ", in use" } else { "" };
        ("Interface", format!("{} {} {link}{used}", nic.name, nic.mac))
    }));
    fields.extend(state.note.clone().map(|note| ("Note", note)));
    fields
}

async fn power(
    session: &Session,
    host: &str,
    yes: bool,
    action: HostPowerAction,
    verb: &str,
    doing: &str,
) -> anyhow::Result<()> {
    let host = session.client.find_host(host).await?;
    confirm(&format!("{verb} host {}? Its guests are stopped first.", host.meta.name), yes)?;
    session.client.host_power(host.meta.id, action).await?;
    line(&format!("Host {} {doing}.\n", host.meta.name))
}

fn table(hosts: &[Host]) -> Table {
    let mut table =
        Table::new(&["NAME", "STATE", "VERSION", "UP FOR", "THREADS", "CPU", "MEMORY", "FREE", "WARNINGS"]);
    for host in hosts {
        let status = host.status.as_ref();
        table.row([
            host.meta.name.clone(),
            state(host).into(),
            or_dash(status.map(|s| s.version.clone())),
            or_dash(status.map(|s| age(s.booted_at))),
            or_dash(status.map(|s| s.cpu.threads)),
            or_dash(status.map(|s| format!("{:.0} %", s.cpu.usage * 100.0))),
            or_dash(status.map(|s| s.memory.total_bytes)),
            or_dash(status.map(|s| s.memory.available_bytes)),
            warnings(host),
        ]);
    }
    table
}

/// How it is, in a word: those of the web page.
fn state(host: &Host) -> &'static str {
    match host {
        Host { status: None, .. } => "away",
        Host { maintenance: true, .. } => "maintenance",
        Host { witness: true, .. } => "witness",
        _ => "up",
    }
}

/// `1 core`, `2 cores`.
fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn warnings(host: &Host) -> String {
    let said = host.status.iter().flat_map(|s| s.warnings.iter().map(String::as_str));
    let witness = host.witness.then_some("witness: votes, and runs no machines");
    witness.into_iter().chain(said).collect::<Vec<_>>().join("; ")
}

/// A function of the host's PCI bus, and whether it can be given to a machine.
fn function(function: &PciFunction) -> String {
    let PciFunction { address, name, vendor, device, driver, iommu_group, together_with, obstacle, .. } =
        function;
    let driver =
        driver.as_ref().map_or_else(|| ", no driver".to_owned(), |driver| format!(", driver {driver}"));
    let group = iommu_group.map(|group| format!(", IOMMU group {group}")).unwrap_or_default();
    let with: Vec<_> = together_with.iter().map(ToString::to_string).collect();
    let can = match (obstacle, with.is_empty()) {
        (Some(why), _) => format!("; cannot be given to a machine: {why}"),
        (None, true) => String::new(),
        (None, false) => format!("; only together with {}", with.join(", ")),
    };
    format!("{address} {name} ({vendor}:{device}){driver}{group}{can}")
}

fn fields(host: &Host) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("Name", host.meta.name.clone()),
        ("Id", host.meta.id.to_string()),
        ("Labels", shown(&host.meta.labels)),
    ];
    if host.witness {
        fields.push(("Witness", "yes: it votes, and runs no machines".into()));
    }
    if host.maintenance {
        fields.push(("Maintenance", "yes: no machine is placed or started on it".into()));
    }
    let Some(status) = &host.status else {
        fields.push(("Status", "the host cannot be asked right now".into()));
        return fields;
    };
    let cpu = &status.cpu;
    let guests = match (&status.virtualization.reason, status.virtualization.available) {
        (_, true) => "can run".to_owned(),
        (Some(reason), false) => format!("cannot run: {reason}"),
        (None, false) => "cannot run".to_owned(),
    };
    fields.extend([
        ("Version", status.version.clone()),
        ("Kernel", status.kernel.clone()),
        ("Booted", format!("{} ({} ago), {}", moment(status.booted_at), age(status.booted_at), status.boot)),
        ("Simulated", if status.simulated { "yes".into() } else { String::new() }),
        (
            "CPU",
            format!(
                "{}, {}, {}, {}",
                cpu.model,
                count(cpu.sockets.into(), "socket"),
                count(cpu.cores.into(), "core"),
                count(cpu.threads.into(), "thread")
            ),
        ),
        ("CPU use", format!("{:.0} %", cpu.usage * 100.0)),
        ("Memory", format!("{}, {} free", status.memory.total_bytes, status.memory.available_bytes)),
        ("Guests", guests),
    ]);
    for interface in &status.interfaces {
        let state = if interface.up { "up" } else { "down" };
        let addresses = interface.addresses.join(" ");
        fields.push(("Interface", format!("{} {} {state} {addresses}", interface.name, interface.mac)));
    }
    for disk in &status.disks {
        let model = disk.model.clone().unwrap_or_default();
        fields.push(("Disk", format!("{} {} {model}", disk.name, disk.size_bytes)));
    }
    fields.extend(status.pci.iter().map(|one| ("PCI function", function(one))));
    fields.extend(status.warnings.iter().map(|w| ("Warning", w.clone())));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_went_to_its_new_address_is_followed_there() {
        let said = tried_elsewhere("node1", Some("192.0.2.9"));
        assert!(
            said.contains("login https://192.0.2.9") && said.contains("host network node1 --keep"),
            "{said}"
        );
    }

    #[test]
    fn numbers_have_their_nouns() {
        assert_eq!((count(1, "core"), count(2, "core")), ("1 core".into(), "2 cores".into()));
    }
}
