//! From what a machine has to what is wanted of it, while it runs: which steps, and what has to wait for its next start.
//!
//! Pure. Steps are carried out one after the other, and what follows is planned anew after each: a step that cannot be done does
//! not keep the others back. Invariant: once no step is left, the machine has what is wanted but for what is pending.

use super::{Desired, LaunchNic};
use crate::hardware::{Drive, Fitted, Hardware, PluggedCpus, PluggedMemory, queues};
use lq_api::{
    Bytes, ImageId, NetworkId, VolumeId,
    local::vmm::{DiskConfig, IoLimits, NicLimits},
    vm::{Disk, Mac, Nic, PLUGGABLE_MEMORY, PendingChange, VmSpec, WaitsFor},
};
use std::cmp::Ordering;

/// One change of a machine that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks the guest to have so many virtual CPUs.
    Cpus(u8),
    /// Asks the guest to have so much memory besides what it was started with.
    Memory(Bytes),
    /// Sets a disk's limits.
    DiskLimits(VolumeId, IoLimits),
    /// Sets an interface's limits.
    NicLimits(Mac, NicLimits),
    /// Puts a cable in, or pulls it.
    Link(Mac, bool),
    /// Connects an interface to another network, by this bridge.
    Rewire(Mac, NetworkId, String),
    /// Takes the medium out of a CD drive.
    Eject(usize),
    /// Puts a medium into an empty CD drive, from this file.
    Insert(usize, ImageId, String),
    /// Makes a disk larger, its file with it. Never planned: whoever keeps the volume asks for it.
    Grow(VolumeId, Bytes),
    /// Plugs a disk in.
    PlugDisk(Disk, Box<DiskConfig>),
    /// Plugs an interface in.
    PlugNic(Nic, LaunchNic),
    /// Has the guest let go of a disk.
    UnplugDisk(VolumeId),
    /// Has the guest let go of an interface.
    UnplugNic(Mac),
}

/// What is to be done, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps, in this order.
    pub steps: Vec<Step>,
    /// What waits for the next start.
    pub pending: Vec<PendingChange>,
}

impl Step {
    /// What is said of it while it is not done.
    #[must_use]
    pub fn pending(&self, failed: Option<&str>) -> PendingChange {
        let (field, device, words) = match self {
            Self::Cpus(_) => ("spec.vcpus", None, "the guest is being asked for it"),
            Self::Memory(_) => ("spec.memory_bytes", None, "the guest is being asked for it"),
            Self::DiskLimits(volume, _) => {
                ("spec.disks", Some(volume.to_string()), "its limits are being set")
            }
            Self::Grow(volume, _) => ("spec.disks", Some(volume.to_string()), "it is being grown"),
            Self::NicLimits(mac, _) => ("spec.nics", Some(mac.to_string()), "its limits are being set"),
            Self::Link(mac, true) => ("spec.nics", Some(mac.to_string()), "its cable is being put in"),
            Self::Link(mac, false) => ("spec.nics", Some(mac.to_string()), "its cable is being pulled"),
            Self::Rewire(mac, ..) => {
                ("spec.nics", Some(mac.to_string()), "it is being connected to its network")
            }
            Self::Eject(n) => ("spec.cdroms", Some(n.to_string()), "the medium is being ejected"),
            Self::Insert(n, ..) => ("spec.cdroms", Some(n.to_string()), "the medium is being put in"),
            Self::PlugDisk(disk, _) => {
                ("spec.disks", Some(disk.volume.to_string()), "it is being plugged in")
            }
            Self::PlugNic(nic, _) => ("spec.nics", nic.mac.map(|m| m.to_string()), "it is being plugged in"),
            Self::UnplugDisk(volume) => {
                ("spec.disks", Some(volume.to_string()), "waits for the guest to release the disk")
            }
            Self::UnplugNic(mac) => {
                ("spec.nics", Some(mac.to_string()), "waits for the guest to release the interface")
            }
        };
        let waits_for = match self {
            Self::UnplugDisk(_) | Self::UnplugNic(_) => WaitsFor::Guest,
            Self::Eject(_) if failed.is_some() => WaitsFor::Guest,
            _ => WaitsFor::Host,
        };
        let reason = failed.map_or_else(|| words.to_owned(), |why| format!("{words}; the last try: {why}"));
        PendingChange { field: field.into(), device, waits_for, reason }
    }

    /// What is told when it is done, where that is worth a line.
    #[must_use]
    pub fn done(&self) -> Option<String> {
        Some(match self {
            Self::PlugDisk(disk, _) => format!("The disk {} was plugged in.", disk.volume),
            Self::UnplugDisk(volume) => format!("The guest let go of the disk {volume}."),
            Self::PlugNic(nic, _) => format!("The interface {} was plugged in.", nic.mac?),
            Self::UnplugNic(mac) => format!("The guest let go of the interface {mac}."),
            _ => return None,
        })
    }

    /// What is told when it fails for the first time.
    #[must_use]
    pub fn failed(&self, why: &str) -> String {
        let PendingChange { field, device, .. } = self.pending(None);
        let device = device.map(|d| format!(" {d}")).unwrap_or_default();
        format!(
            "A change of {}{device} could not be made yet and is tried again: {why}",
            field.trim_start_matches("spec.")
        )
    }
}

fn at_start(field: &str, device: Option<String>, reason: &str) -> PendingChange {
    PendingChange { field: field.into(), device, waits_for: WaitsFor::Start, reason: reason.into() }
}

const NEXT_START: &str = "takes effect when the machine is stopped and started";
const QEMU_PLUGS_NOTHING: &str = "nothing is plugged into or out of a machine that runs on QEMU; it takes effect when it is stopped and started";
const NO_HOTPLUG: &str = "the machine was started by a version that plugs nothing in or out; it takes effect when it is stopped and started";

/// Plans. Without steps where what is wanted cannot be told at the moment ([`Desired::fault`]).
#[must_use]
pub fn plan(has: &Hardware, wanted: &Desired) -> Plan {
    let mut plan = Plan { steps: vec![], pending: at_next_start(has, wanted) };
    if let Some(fault) = &wanted.fault {
        if Hardware::of(&wanted.spec).spec(&wanted.spec) != has.spec(&wanted.spec) {
            let (super::Fault::Wait(why) | super::Fault::Broken(why)) = fault;
            let reason = format!("changes wait: {why}");
            plan.pending.push(PendingChange {
                field: "spec".into(),
                device: None,
                waits_for: WaitsFor::Host,
                reason,
            });
        }
        return plan;
    }
    change_cpus(has, wanted, &mut plan);
    change_memory(has, wanted, &mut plan);
    change_disks(has, wanted, &mut plan);
    change_nics(has, wanted, &mut plan);
    change_media(has, wanted, &mut plan);
    plug(has, wanted, &mut plan);
    unplug(has, wanted, &mut plan);
    plan
}

/// What can be changed only by a start.
fn at_next_start(has: &Hardware, Desired { spec, .. }: &Desired) -> Vec<PendingChange> {
    let cpus_differ = spec.vcpus_max != Some(has.cpus.map_or(has.vcpus, |cpus| cpus.most))
        && (has.cpus.is_some() || spec.vcpus_max.is_some());
    let may_have = Some(has.memory_with(|region| region.most));
    let region_differs =
        spec.memory_max_bytes != may_have && (has.plugged.is_some() || spec.memory_max_bytes.is_some());
    let differs = [
        ("spec.vcpus", cpus_in_reach(has, spec) != spec.vcpus),
        ("spec.vcpus_max", cpus_differ),
        ("spec.memory_bytes", has.memory_with(|region| reach(has, spec, region)) != spec.memory_bytes),
        ("spec.memory_max_bytes", region_differs),
        ("spec.boot", has.boot != spec.boot),
        ("spec.display", has.display != spec.display.unwrap_or_default()),
        ("spec.cpu", has.cpu != spec.cpu),
        ("spec.watchdog", has.watchdog != spec.watchdog),
        ("spec.tpm", has.tpm != spec.tpm),
        ("spec.passthrough", has.passthrough != spec.passthrough),
        ("spec.rng", has.rng != spec.rng),
        ("spec.cloud_init", has.cloud_init.as_ref().map(|c| &c.device) != spec.cloud_init.as_ref()),
        ("spec.cdroms", has.cdroms.len() != spec.cdroms.len()),
    ];
    let fields = differs.into_iter().filter(|(_, differs)| *differs);
    let mut pending: Vec<_> = fields.map(|(field, _)| at_start(field, None, NEXT_START)).collect();
    let reordered = |has: Vec<_>, wanted: Vec<_>| {
        let kept = |all: &[String], of: &[String]| {
            all.iter().filter(|d| of.contains(d)).cloned().collect::<Vec<_>>()
        };
        kept(&has, &wanted) != kept(&wanted, &has)
    };
    let text = |mac: Option<Mac>| mac.map(|m| m.to_string()).unwrap_or_default();
    let order = "the new order takes effect when the machine is stopped and started";
    if reordered(
        has.disks.iter().map(|d| d.device.volume.to_string()).collect(),
        spec.disks.iter().map(|d| d.volume.to_string()).collect(),
    ) {
        pending.push(at_start("spec.disks", None, order));
    }
    if reordered(
        has.nics.iter().map(|n| text(n.device.mac)).collect(),
        spec.nics.iter().map(|n| text(n.mac)).collect(),
    ) {
        pending.push(at_start("spec.nics", None, order));
    }
    pending
}

/// How much of memory that comes and goes is asked for, so that there is as much as wanted, or as near to it as can be.
fn reach(has: &Hardware, spec: &VmSpec, region: &PluggedMemory) -> Bytes {
    let whole = PLUGGABLE_MEMORY.get();
    let wanted = spec.memory_bytes.saturating_sub(has.memory_bytes).min(region.most).get();
    Bytes(wanted / whole * whole)
}

/// How many virtual CPUs are asked for, so that there are as many as wanted, or as near to it as can be.
fn cpus_in_reach(has: &Hardware, spec: &VmSpec) -> u8 {
    has.cpus.map_or(has.vcpus, |cpus| spec.vcpus.clamp(1, cpus.most.max(1)))
}

/// Why nothing is plugged.
fn no_hotplug(has: &Hardware) -> &'static str {
    if has.hypervisor.is_own() { NO_HOTPLUG } else { QEMU_PLUGS_NOTHING }
}

fn change_cpus(has: &Hardware, Desired { spec, .. }: &Desired, plan: &mut Plan) {
    let Some(PluggedCpus { present, .. }) = has.cpus else { return };
    let asked = cpus_in_reach(has, spec);
    if asked != has.vcpus {
        plan.steps.push(Step::Cpus(asked));
    } else if present > asked {
        let reason = format!(
            "the guest has {present} virtual CPUs still, of which it is to release {}",
            present - asked
        );
        let field = "spec.vcpus".into();
        plan.pending.push(PendingChange { field, device: None, waits_for: WaitsFor::Guest, reason });
    }
}

fn change_memory(has: &Hardware, Desired { spec, .. }: &Desired, plan: &mut Plan) {
    let Some(region) = &has.plugged else { return };
    let asked = reach(has, spec, region);
    if asked != region.asked {
        plan.steps.push(Step::Memory(asked));
        return;
    }
    let (is, all) = (has.memory_with(|r| r.taken), has.memory_with(|r| r.asked));
    let reason = match region.taken.cmp(&asked) {
        Ordering::Equal => return,
        Ordering::Less => format!(
            "the guest has {is} of {all} so far; one without a driver for virtio-mem takes more only when the machine is stopped and started"
        ),
        Ordering::Greater => {
            format!("the guest has {is} still, of which it is to give back {}", is.saturating_sub(all))
        }
    };
    let field = "spec.memory_bytes".into();
    plan.pending.push(PendingChange { field, device: None, waits_for: WaitsFor::Guest, reason });
}

fn change_disks(has: &Hardware, wanted: &Desired, plan: &mut Plan) {
    for disk in &wanted.spec.disks {
        let Some(now) = has.disk(disk.volume) else { continue };
        if now.read_only == disk.read_only && now.limits != disk.limits {
            plan.steps.push(Step::DiskLimits(disk.volume, disk.limits));
        }
    }
}

fn change_nics(has: &Hardware, wanted: &Desired, plan: &mut Plan) {
    for (nic, launch) in wanted.spec.nics.iter().zip(&wanted.launch.nics) {
        let Some((mac, now)) = nic.mac.and_then(|mac| Some((mac, has.nic(mac)?))) else { continue };
        if now.limits != nic.limits {
            plan.steps.push(Step::NicLimits(mac, nic.limits));
        }
        // A cable that is to be out is pulled before, one that is to be in comes in after it leads elsewhere.
        let link = (now.connected != nic.connected).then_some(Step::Link(mac, nic.connected));
        let rewire =
            (now.network != nic.network).then(|| Step::Rewire(mac, nic.network, launch.bridge.clone()));
        plan.steps.extend(if nic.connected { [rewire, link] } else { [link, rewire] }.into_iter().flatten());
    }
}

fn change_media(has: &Hardware, wanted: &Desired, plan: &mut Plan) {
    let media = wanted.spec.cdroms.iter().zip(&wanted.launch.cdroms);
    for (n, (drive, (cdrom, path))) in has.cdroms.iter().zip(media).enumerate() {
        match (cdrom.image, path, drive) {
            // Also one that its guest has ejected: that is told, and then not wanted any more.
            (Some(image), ..) if drive.image == Some(image) => {}
            (_, _, Drive { loaded: true, .. }) => plan.steps.push(Step::Eject(n)),
            (Some(image), Some(path), _) => plan.steps.push(Step::Insert(n, image, path.clone())),
            (None, _, Drive { image: Some(_), .. }) => plan.steps.push(Step::Eject(n)),
            _ => {}
        }
    }
}

fn plug(has: &Hardware, wanted: &Desired, plan: &mut Plan) {
    let absent = wanted.spec.disks.iter().zip(&wanted.launch.disks);
    for (disk, config) in absent.filter(|(disk, _)| has.disk(disk.volume).is_none()) {
        if has.hotplug {
            // As many as the machine that runs can have.
            let config = DiskConfig { queues: queues(has.vcpus), ..config.clone() };
            plan.steps.push(Step::PlugDisk(disk.clone(), Box::new(config)));
        } else {
            plan.pending.push(at_start("spec.disks", Some(disk.volume.to_string()), no_hotplug(has)));
        }
    }
    for (nic, launch) in wanted.spec.nics.iter().zip(&wanted.launch.nics) {
        match nic.mac.filter(|mac| has.nic(*mac).is_none()) {
            Some(_) if has.hotplug => {
                let launch = LaunchNic { queues: queues(has.vcpus), ..launch.clone() };
                plan.steps.push(Step::PlugNic(nic.clone(), launch));
            }
            Some(mac) => plan.pending.push(at_start("spec.nics", Some(mac.to_string()), NO_HOTPLUG)),
            None => {}
        }
    }
}

fn unplug(has: &Hardware, wanted: &Desired, plan: &mut Plan) {
    let stays =
        |now: &Disk| wanted.spec.disks.iter().any(|d| d.volume == now.volume && d.read_only == now.read_only);
    for now in has.disks.iter().map(|d| &d.device).filter(|now| !stays(now)) {
        if has.hotplug {
            plan.steps.push(Step::UnplugDisk(now.volume));
        } else {
            plan.pending.push(at_start("spec.disks", Some(now.volume.to_string()), no_hotplug(has)));
        }
    }
    let stays = |mac: Mac| wanted.spec.nics.iter().any(|n| n.mac == Some(mac));
    for mac in has.nics.iter().filter_map(|n| n.device.mac).filter(|mac| !stays(*mac)) {
        if has.hotplug {
            plan.steps.push(Step::UnplugNic(mac));
        } else {
            plan.pending.push(at_start("spec.nics", Some(mac.to_string()), no_hotplug(has)));
        }
    }
}

impl Hardware {
    /// A step was carried out.
    pub fn take_up(&mut self, step: &Step) {
        let disk = |disks: &mut Vec<Fitted<Disk>>, volume: VolumeId, change: &dyn Fn(&mut Disk)| {
            disks.iter_mut().map(|d| &mut d.device).filter(|d| d.volume == volume).for_each(change);
        };
        let nic = |nics: &mut Vec<Fitted<Nic>>, mac: Mac, change: &dyn Fn(&mut Nic)| {
            nics.iter_mut().map(|n| &mut n.device).filter(|n| n.mac == Some(mac)).for_each(change);
        };
        match step {
            Step::Cpus(asked) => self.vcpus = *asked,
            Step::Memory(asked) => self.plugged.iter_mut().for_each(|region| region.asked = *asked),
            Step::DiskLimits(volume, limits) => disk(&mut self.disks, *volume, &|d| d.limits = *limits),
            Step::NicLimits(mac, limits) => nic(&mut self.nics, *mac, &|n| n.limits = *limits),
            Step::Link(mac, up) => nic(&mut self.nics, *mac, &|n| n.connected = *up),
            Step::Rewire(mac, network, _) => nic(&mut self.nics, *mac, &|n| n.network = *network),
            Step::Eject(n) => self.cdroms.get_mut(*n).into_iter().for_each(|d| *d = Drive::default()),
            Step::Insert(n, image, _) => {
                self.cdroms.get_mut(*n).into_iter().for_each(|d| *d = Drive::of(Some(*image)));
            }
            Step::Grow(..) => {}
            Step::PlugDisk(new, config) => {
                self.disks.retain(|d| d.device.volume != new.volume);
                self.disks.push(Fitted { device: new.clone(), slot: None, queues: config.queues });
            }
            Step::PlugNic(new, launch) => {
                self.nics.retain(|n| n.device.mac != new.mac);
                self.nics.push(Fitted { device: new.clone(), slot: None, queues: launch.queues });
            }
            Step::UnplugDisk(volume) => self.disks.retain(|d| d.device.volume != *volume),
            Step::UnplugNic(mac) => self.nics.retain(|n| n.device.mac != Some(*mac)),
        }
    }
}

#[cfg(test)]
#[path = "adjust_tests.rs"]
mod tests;
