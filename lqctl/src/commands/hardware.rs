//! From the words about a machine's hardware to its specification: `vm set`, and what `vm create` shares with it.

use super::Session;
use crate::{
    cli::{CdText, DiskText, NicText, Rules, SetVm, Switch},
    failure::usage,
    output::{Table, or_dash, show},
};
use lq_api::{
    VolumeId,
    client::{Client, Error},
    cloud_init::CloudInit,
    placement::{Affinity, Placement, PlacementQuery},
    vm::{Boot, Cdrom, Disk, Nic, Passthrough, UpdateVm, Vm, VmSpec},
};
use std::path::Path;

pub(super) const fn switch(switch: Switch) -> bool {
    matches!(switch, Switch::On)
}
/// A disk that is attached anew.
pub(super) async fn disk(client: &Client, text: &DiskText) -> Result<Disk, Error> {
    let mut disk = Disk::of(client.find_volume(&text.volume).await?.meta.id);
    text.apply(&mut disk);
    Ok(disk)
}

/// An interface that is added.
pub(super) async fn nic(client: &Client, text: &NicText) -> anyhow::Result<Nic> {
    if text.network.is_some() {
        return Err(usage(format!("`{}` is the network already: leave `network=` out", text.head)));
    }
    let mut nic = Nic::on(client.find_network(&text.head).await?.meta.id);
    text.apply(&mut nic);
    Ok(nic)
}

/// A CD drive with this image in it.
pub(super) async fn cdrom(client: &Client, image: Option<&str>) -> Result<Cdrom, Error> {
    Ok(match image {
        Some(image) => Cdrom { image: Some(client.find_image(image).await?.meta.id) },
        None => Cdrom { image: None },
    })
}

/// The rules besides those there are; one with the label of an earlier one takes its place.
pub(super) fn add_rules(placement: &mut Placement, rules: &Rules) {
    let mut add = |into: fn(&mut Placement) -> &mut Vec<Affinity>, rules: &[(String, String)], strict| {
        let into = into(placement);
        for (key, value) in rules {
            let label = format!("{key}={value}");
            into.retain(|rule| rule.label != label);
            into.push(Affinity { label, strict });
        }
    };
    add(|p| &mut p.near, &rules.prefer_near, false);
    add(|p| &mut p.near, &rules.near, true);
    add(|p| &mut p.apart, &rules.prefer_apart, false);
    add(|p| &mut p.apart, &rules.apart_from, true);
}

/// Shows where a machine would be placed.
pub(super) async fn preview(session: &Session, query: &PlacementQuery) -> anyhow::Result<()> {
    let decision = session.client.placement(query).await?;
    show(session.format, &decision, || {
        let mut table = Table::new(&["HOST", "FITS", "SCORE", "REASONS"]);
        for host in &decision.hosts {
            let fits = match (decision.host == Some(host.host), host.score) {
                (true, _) => "best",
                (false, Some(_)) => "yes",
                (false, None) => "no",
            };
            table.row([host.name.clone(), fits.into(), or_dash(host.score), host.reasons.join("; ")]);
        }
        table
    })
}

/// What cloud-init is told after what is given; nothing where nothing was and nothing is.
pub(super) fn cloud_init(
    old: Option<&CloudInit>,
    user_data: Option<&Path>,
    network_config: Option<&Path>,
) -> anyhow::Result<Option<CloudInit>> {
    if user_data.is_none() && network_config.is_none() {
        return Ok(old.cloned());
    }
    if user_data == network_config {
        return Err(usage("--user-data and --network-config are the same file"));
    }
    let mut new = old.cloned().unwrap_or_default();
    if let Some(path) = user_data {
        new.user_data = text(path)?;
    }
    if let Some(path) = network_config {
        new.network_config = Some(text(path)?);
    }
    Ok(Some(new))
}

/// A file of text; `-` is standard input.
fn text(path: &Path) -> anyhow::Result<String> {
    let read = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|e| usage(format!("cannot read {}: {e}", path.display())))
}

/// Changes a machine; answers with what it is then.
pub(super) async fn set(client: &Client, wanted: SetVm) -> anyhow::Result<Vm> {
    let vm = client.find_vm(&wanted.vm).await?;
    let mut spec = vm.spec.clone();
    simple(&mut spec, &wanted);
    spec.cloud_init = match wanted.no_cloud_init {
        true => None,
        false => cloud_init(
            spec.cloud_init.as_ref(),
            wanted.user_data.as_deref(),
            wanted.network_config.as_deref(),
        )?,
    };
    functions(&mut spec, &wanted)?;
    boot(client, &mut spec, &wanted).await?;
    disks(client, &mut spec, &wanted).await?;
    nics(client, &mut spec, &wanted).await?;
    cdroms(client, &mut spec, &wanted).await?;
    if let Some(host) = &wanted.host {
        spec.placement.host = Some(client.find_host(host).await?.meta.id);
    } else if wanted.any_host {
        spec.placement.host = None;
    }
    drop_rules(&mut spec.placement, &wanted.drop_rules)?;
    add_rules(&mut spec.placement, &wanted.rules);

    let labels = wanted.meta.relabelled(&vm.meta.labels)?;
    let spec = (spec != vm.spec).then_some(spec);
    if wanted.meta.name.is_none() && labels.is_none() && spec.is_none() {
        return Err(usage("nothing would change: see `lqctl vm set --help` for what can be"));
    }
    let change = UpdateVm { name: wanted.meta.name, labels, spec };
    Ok(client.update_vm(vm.meta.id, &change, Some(vm.meta.revision)).await?)
}

/// What needs no look at other objects.
fn simple(spec: &mut VmSpec, wanted: &SetVm) {
    spec.hypervisor = wanted.hypervisor.map_or(spec.hypervisor, Into::into);
    spec.firmware = wanted.boot_by.map_or(spec.firmware, Into::into);
    spec.device_model = wanted.devices.map_or(spec.device_model, Into::into);
    // Without QEMU there is no choice of a board, and with another firmware another one fits.
    if spec.hypervisor.is_own() || wanted.boot_by.is_some() {
        spec.machine = None;
    }
    spec.machine = wanted.machine.map(Into::into).or(spec.machine);
    spec.vcpus = wanted.cpus.unwrap_or(spec.vcpus);
    spec.vcpus_max = wanted.cpus_max.map_or(spec.vcpus_max, |most| most.0);
    spec.memory_bytes = wanted.memory.unwrap_or(spec.memory_bytes);
    spec.memory_max_bytes = wanted.memory_max.map_or(spec.memory_max_bytes, |most| most.0);
    spec.cpu = wanted.cpu.map_or(spec.cpu, Into::into);
    spec.display = wanted.display.map_or(spec.display, Into::into);
    spec.watchdog = wanted.watchdog.map_or(spec.watchdog, Into::into);
    spec.tpm = wanted.tpm.map_or(spec.tpm, switch);
    spec.rng = wanted.rng.map_or(spec.rng, switch);
    spec.restart = wanted.restart.map_or(spec.restart, Into::into);
    spec.autostart = wanted.autostart.map_or(spec.autostart, switch);
    spec.ha = wanted.ha.map_or(spec.ha, Into::into);
}

/// Functions of the host's PCI bus.
fn functions(spec: &mut VmSpec, wanted: &SetVm) -> anyhow::Result<()> {
    for address in &wanted.remove_passthrough {
        let at = spec.passthrough.iter().position(|one| one.address == *address);
        let Some(at) = at else {
            return Err(usage(format!("--remove-passthrough {address}: the machine does not have it")));
        };
        spec.passthrough.remove(at);
    }
    spec.passthrough.extend(wanted.add_passthrough.iter().map(|address| Passthrough { address: *address }));
    Ok(())
}

async fn boot(client: &Client, spec: &mut VmSpec, wanted: &SetVm) -> anyhow::Result<()> {
    if wanted.firmware {
        spec.boot = None;
        return Ok(());
    }
    if let Some(kernel) = &wanted.kernel {
        let kernel = client.find_image(kernel).await?.meta.id;
        let old = spec.boot.take();
        let (initrd, cmdline) = old.map_or((None, String::new()), |b| (b.initrd, b.cmdline));
        spec.boot = Some(Boot { kernel, initrd, cmdline });
    }
    if wanted.initrd.is_none() && wanted.cmdline.is_none() {
        return Ok(());
    }
    let Some(boot) = &mut spec.boot else {
        return Err(usage("--initrd and --cmdline: the machine boots by firmware; say --kernel too"));
    };
    match wanted.initrd.as_deref() {
        Some("none") => boot.initrd = None,
        Some(initrd) => boot.initrd = Some(client.find_image(initrd).await?.meta.id),
        None => {}
    }
    if let Some(cmdline) = &wanted.cmdline {
        boot.cmdline.clone_from(cmdline);
    }
    Ok(())
}

async fn disks(client: &Client, spec: &mut VmSpec, wanted: &SetVm) -> anyhow::Result<()> {
    let at = |spec: &VmSpec, id: VolumeId, name: &str, option: &str| {
        let found = spec.disks.iter().position(|disk| disk.volume == id);
        found.ok_or_else(|| usage(format!("{option} {name}: the volume is not attached to the machine")))
    };
    for name in &wanted.detach {
        let at = at(spec, client.find_volume(name).await?.meta.id, name, "--detach")?;
        spec.disks.remove(at);
    }
    for text in &wanted.disks {
        if text.is_bare() {
            return Err(usage(format!("--disk {}: say what is to be different, e.g. {0},ro", text.volume)));
        }
        let at = at(spec, client.find_volume(&text.volume).await?.meta.id, &text.volume, "--disk")?;
        spec.disks.iter_mut().skip(at).take(1).for_each(|disk| text.apply(disk));
    }
    for text in &wanted.attach {
        spec.disks.push(disk(client, text).await?);
    }
    Ok(())
}

async fn nics(client: &Client, spec: &mut VmSpec, wanted: &SetVm) -> anyhow::Result<()> {
    for text in &wanted.nics {
        let at = which_nic(&spec.nics, &text.head)?;
        let network = match &text.network {
            Some(network) => Some(client.find_network(network).await?.meta.id),
            None => None,
        };
        for nic in spec.nics.iter_mut().skip(at).take(1) {
            nic.network = network.unwrap_or(nic.network);
            text.apply(nic);
        }
    }
    let mut gone = Vec::new();
    for name in &wanted.remove_nics {
        gone.push(which_nic(&spec.nics, name)?);
    }
    remove(&mut spec.nics, &gone);
    for text in &wanted.add_nics {
        spec.nics.push(nic(client, text).await?);
    }
    Ok(())
}

/// The place of an interface, by its number or its address.
fn which_nic(nics: &[Nic], name: &str) -> anyhow::Result<usize> {
    let found = match name.parse::<usize>() {
        Ok(at) => Some(at).filter(|at| *at < nics.len()),
        Err(_) => {
            let mac = name.parse().map_err(|_| {
                usage(format!("`{name}` is neither the number of an interface nor its hardware address"))
            })?;
            nics.iter().position(|nic| nic.mac == Some(mac))
        }
    };
    found.ok_or_else(|| usage(format!("the machine has no interface {name}; it has {}", nics.len())))
}

async fn cdroms(client: &Client, spec: &mut VmSpec, wanted: &SetVm) -> anyhow::Result<()> {
    let known = |at: usize, drives: &[Cdrom]| match at < drives.len() {
        true => Ok(at),
        false => Err(usage(format!("the machine has no CD drive {at}; it has {}", drives.len()))),
    };
    for CdText { drive, image } in &wanted.cdroms {
        let at = known(*drive, &spec.cdroms)?;
        let new = cdrom(client, image.as_deref()).await?;
        spec.cdroms.iter_mut().skip(at).take(1).for_each(|drive| *drive = new);
    }
    let gone: Vec<_> =
        wanted.remove_cdroms.iter().map(|at| known(*at, &spec.cdroms)).collect::<Result<_, _>>()?;
    remove(&mut spec.cdroms, &gone);
    for image in &wanted.add_cdroms {
        spec.cdroms.push(cdrom(client, Some(image.as_str()).filter(|i| *i != "none")).await?);
    }
    Ok(())
}

/// Removes what was at these places.
fn remove<T>(items: &mut Vec<T>, places: &[usize]) {
    let mut at = 0;
    items.retain(|_| {
        at += 1;
        !places.contains(&(at - 1))
    });
}

fn drop_rules(placement: &mut Placement, labels: &[(String, String)]) -> anyhow::Result<()> {
    for (key, value) in labels {
        let label = format!("{key}={value}");
        let before = placement.near.len() + placement.apart.len();
        placement.near.retain(|rule| rule.label != label);
        placement.apart.retain(|rule| rule.label != label);
        if before == placement.near.len() + placement.apart.len() {
            return Err(usage(format!("--drop-rule {label}: there is no rule about this label")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::{NetworkId, vm::Mac};

    #[test]
    fn interfaces_are_found_by_number_and_address() {
        let mut nics = vec![Nic::on(NetworkId::new()), Nic::on(NetworkId::new())];
        nics[1].mac = Some(Mac([0x52, 0x54, 0, 0, 0, 1]));
        assert_eq!(which_nic(&nics, "0").unwrap(), 0);
        assert_eq!(which_nic(&nics, "52:54:00:00:00:01").unwrap(), 1);
        for bad in ["2", "x", "52:54:00:00:00:02", ""] {
            assert!(which_nic(&nics, bad).is_err(), "{bad}");
        }
        let mut items = vec![0, 1, 2, 3];
        remove(&mut items, &[1, 3, 1]);
        assert_eq!(items, [0, 2]);
    }

    #[test]
    fn rules_take_the_place_of_earlier_ones() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let rules = |near: &[(String, String)], prefer_near: &[(String, String)]| Rules {
            near: near.to_vec(),
            prefer_near: prefer_near.to_vec(),
            apart_from: vec![pair("app", "db")],
            prefer_apart: vec![],
        };
        let mut placement = Placement::default();
        add_rules(&mut placement, &rules(&[], &[pair("app", "web")]));
        add_rules(&mut placement, &rules(&[pair("app", "web")], &[]));
        assert_eq!(placement.near, [Affinity { label: "app=web".into(), strict: true }]);
        assert_eq!(placement.apart.len(), 1);
        drop_rules(&mut placement, &[pair("app", "web")]).unwrap();
        assert!(placement.near.is_empty() && placement.apart.len() == 1);
        assert!(drop_rules(&mut placement, &[pair("app", "web")]).is_err());
    }
}
