//! The monitor's configuration: read, and checked as a whole so that every fault is told at once.

use crate::{
    exit,
    memory::presence::BLOCK,
    pci::q35::LPC_SLOT,
    pci::root::MAX_DEVICES,
    virtio::{scsi::MAX_DRIVES, vhost_user},
};
use lq_api::{
    image::ImageFormat,
    local::paths,
    local::vmm::{
        BootConfig, BootDevice, CpusConfig, DiskImage, IoLimits, LeaseConfig, LeaseEnd, MemoryConfig,
        NicLimits, PassthroughConfig, Start, TpmConfig, VERSION, VhostUserConfig, VhostUserDevice, VmmConfig,
        VsockConfig,
    },
};
use std::{collections::BTreeSet, fs, io, path::Path};

const MIB: u64 = 1 << 20;
/// Less holds no kernel.
const LEAST_MEMORY: u64 = 32 * MIB;
/// Less does not hold what firmware unpacks itself into.
const LEAST_FIRMWARE_MEMORY: u64 = 128 * MIB;
/// What 46 address bits leave after the PCI window.
const MOST_MEMORY: u64 = 32 << 40;
/// What guests add memory in.
const PLUGGABLE: u64 = 128 * MIB;
const MOST_VCPUS: u8 = 64;
/// More serve no more: each is a thread.
const MOST_QUEUES: u8 = 16;
/// Longest command line of Linux, without its final zero.
const CMDLINE: usize = 2047;
/// Longest serial number of a virtio disk.
const SERIAL: usize = 20;
/// Longest name of a device that another program serves.
const NAME: usize = 32;
/// Longest name of a network interface.
const TAP: usize = 15;
/// Images on top of each other.
const CHAIN: usize = 16;

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The exit record cannot be opened.
    #[error("cannot open the exit record {path}")]
    Record {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not a configuration.
    #[error("the configuration {path} is not valid: {source}")]
    Parse {
        /// The file.
        path: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It asks for what cannot be.
    #[error("the configuration {path} cannot be used: {}", faults.join("; "))]
    Faults {
        /// The file.
        path: String,
        /// All that is wrong with it.
        faults: Vec<String>,
    },
}

/// Reads and checks the file at `path`, and opens the exit record: where no run directory is known, beside the configuration,
/// which is where one belongs.
///
/// # Errors
/// As of [`load`], or the record cannot be opened.
pub fn begin(path: &Path) -> Result<VmmConfig, Error> {
    let config = load(path).inspect_err(|_| {
        let beside = path.with_file_name(paths::VM_EXIT);
        if let Err(error) = exit::prepare(&beside) {
            eprintln!("lq-vmm: cannot open {}: {error}", beside.display());
        }
    })?;
    let record = Path::new(&config.run_dir).join(paths::VM_EXIT);
    exit::prepare(&record).map_err(|source| Error::Record { path: record.display().to_string(), source })?;
    Ok(config)
}

/// Reads and checks the file at `path`.
pub fn load(path: &Path) -> Result<VmmConfig, Error> {
    let shown = path.display().to_string();
    let text = fs::read(path).map_err(|source| Error::Read { path: shown.clone(), source })?;
    let config: VmmConfig =
        serde_json::from_slice(&text).map_err(|source| Error::Parse { path: shown.clone(), source })?;
    let faults = faults(&config);
    if faults.is_empty() { Ok(config) } else { Err(Error::Faults { path: shown, faults }) }
}

/// Everything that is wrong with `config`, each with the name of its field.
#[must_use]
pub fn faults(config: &VmmConfig) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |good: bool, fault: String| {
        if !good {
            faults.push(fault);
        }
    };
    check(config.version == VERSION, format!("version is {}, this monitor takes {VERSION}", config.version));
    check(!config.name.is_empty(), "name is empty".to_owned());
    check(
        (1..=MOST_VCPUS).contains(&config.vcpus),
        format!("vcpus is {}, 1 to {MOST_VCPUS} are possible", config.vcpus),
    );
    if let Some(CpusConfig { most }) = config.devices.cpus {
        check(
            (config.vcpus..=MOST_VCPUS).contains(&most),
            format!("devices.cpus.most is {most}, vcpus ({}) to {MOST_VCPUS} are possible", config.vcpus),
        );
    }
    let memory = config.memory_bytes.get();
    check(
        (LEAST_MEMORY..=MOST_MEMORY).contains(&memory) && memory.is_multiple_of(MIB),
        format!("memory_bytes is {memory}, a multiple of 1 MiB from 32 MiB to 32 TiB is possible"),
    );
    let mut path = |field: &str, path: &str| {
        check(absolute(path), format!("{field} {path:?} is not an absolute path"));
    };
    let firmware = match &config.boot {
        BootConfig::Direct(boot) => {
            path("boot.direct.kernel", &boot.kernel);
            boot.initrd.iter().for_each(|initrd| path("boot.direct.initrd", initrd));
            let length = boot.cmdline.len();
            check(
                length <= CMDLINE && !boot.cmdline.contains('\0'),
                format!(
                    "boot.direct.cmdline is {length} bytes, at most {CMDLINE} without zero bytes are possible"
                ),
            );
            false
        }
        BootConfig::Firmware(boot) => {
            path("boot.firmware.code", &boot.code);
            path("boot.firmware.vars", &boot.vars);
            boot.debug_log.iter().for_each(|log| path("boot.firmware.debug_log", log));
            check(
                memory >= LEAST_FIRMWARE_MEMORY,
                format!("memory_bytes is {memory}, firmware needs at least 128 MiB"),
            );
            true
        }
        BootConfig::Bios => {
            check(config.qemu.is_some(), "boot is bios, which only QEMU has (`lq-vmm qemu`)".to_owned());
            true
        }
    };
    if let Start::Restore(restore) = &config.start {
        let saved = &restore.path;
        check(absolute(saved), format!("start.restore.path {saved:?} is not an absolute path"));
    }
    check(absolute(&config.run_dir), format!("run_dir {:?} is not an absolute path", config.run_dir));

    let cdroms = &config.devices.cdroms;
    let devices = config.disks.len()
        + config.nics.len()
        + usize::from(config.rng)
        + usize::from(config.display)
        + usize::from(!cdroms.is_empty())
        + usize::from(config.devices.balloon.is_some())
        + usize::from(config.devices.watchdog.is_some())
        + usize::from(config.devices.vsock.is_some())
        + usize::from(config.devices.memory.is_some())
        + config.devices.vhost_user.len()
        + config.devices.passthrough.len();
    if let Some(VsockConfig { cid }) = config.devices.vsock {
        // 0 to 2 are the hypervisor, loopback and the host; all ones is anybody.
        check(
            (3..u32::MAX).contains(&cid),
            format!("devices.vsock.cid is {cid}, 3 to 4294967294 are possible"),
        );
    }
    if let Some(TpmConfig { socket }) = &config.devices.tpm {
        check(absolute(socket), format!("devices.tpm.socket {socket:?} is not an absolute path"));
    }
    if let Some(MemoryConfig { most_bytes, requested_bytes }) = config.devices.memory {
        check(
            most_bytes > 0 && most_bytes.is_multiple_of(PLUGGABLE) && most_bytes <= MOST_MEMORY,
            format!(
                "devices.memory.most_bytes is {most_bytes}, a multiple of 128 MiB from 128 MiB to 32 TiB is possible"
            ),
        );
        check(
            requested_bytes <= most_bytes && requested_bytes.is_multiple_of(BLOCK),
            format!(
                "devices.memory.requested_bytes is {requested_bytes}, a multiple of 2 MiB up to most_bytes is possible"
            ),
        );
    }
    if let Some(balloon) = config.devices.balloon {
        let target = balloon.target_bytes;
        check(
            target <= memory,
            format!("devices.balloon.target_bytes is {target}, the machine has {memory}"),
        );
    }
    check(
        cdroms.len() <= MAX_DRIVES,
        format!("devices.cdroms has {} drives, at most {MAX_DRIVES} are possible", cdroms.len()),
    );
    for (i, cdrom) in cdroms.iter().enumerate() {
        let path = cdrom.image.as_deref().unwrap_or("/");
        check(absolute(path), format!("devices.cdroms[{i}].image {path:?} is not an absolute path"));
    }
    for (i, device) in config.boot_order.iter().enumerate() {
        let (what, number, count) = match *device {
            BootDevice::Disk(number) => ("disk", number, config.disks.len()),
            BootDevice::Cdrom(number) => ("cdrom", number, cdroms.len()),
            BootDevice::Nic(number) => ("nic", number, config.nics.len()),
        };
        check((number as usize) < count, format!("boot_order[{i}] is {what} {number}, but there is none"));
        let first = config.boot_order.iter().position(|other| other == device) == Some(i);
        check(first, format!("boot_order[{i}]: {what} {number} is named twice"));
    }
    check(firmware || !config.display, "display is true, but there is no firmware".to_owned());
    // Firmware's LPC bridge takes a slot.
    let empty = config.empty_slots.iter().collect::<BTreeSet<_>>().len();
    let room = (MAX_DEVICES - usize::from(firmware)).saturating_sub(empty);
    check(devices <= room, format!("{devices} devices, at most {room} are possible"));
    let mut slots: BTreeSet<u8> = config.empty_slots.iter().copied().collect();
    let chosen = (0..).zip(&config.disks).map(|(i, disk)| (format!("disks[{i}]"), disk.slot));
    let chosen = chosen.chain((0..).zip(&config.nics).map(|(i, nic)| (format!("nics[{i}]"), nic.slot)));
    let passed = (0..).zip(&config.devices.passthrough);
    let chosen = chosen.chain(passed.map(|(i, one)| (format!("devices.passthrough[{i}]"), one.slot)));
    let served = (0..).zip(&config.devices.vhost_user);
    let chosen = chosen.chain(served.map(|(i, device)| (format!("devices.vhost_user[{i}]"), device.slot)));
    let last = if firmware { LPC_SLOT - 1 } else { MAX_DEVICES };
    for (of, slot) in chosen.filter_map(|(of, slot)| Some((of, slot?))) {
        check(
            (1..=last).contains(&usize::from(slot)),
            format!("{of}.slot is {slot}, 1 to {last} are possible"),
        );
        check(slots.insert(slot), format!("{of}.slot {slot} is used twice, or is to be empty"));
    }
    let vcpus = config.devices.cpus.map_or(config.vcpus, |cpus| cpus.most);
    let queues = 1..=vcpus.clamp(1, MOST_QUEUES);
    let queue_fault = |of: &str, count: u8| {
        format!(
            "{of}.queues is {count}, 1 to {} are possible: one for each virtual CPU, at most {MOST_QUEUES}",
            queues.end()
        )
    };
    let (mut serials, mut taps, mut macs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, disk) in config.disks.iter().enumerate() {
        let serial = &disk.serial;
        check(
            !serial.is_empty() && serial.len() <= SERIAL && serial.bytes().all(|b| b.is_ascii_graphic()),
            format!("disks[{i}].serial {serial:?} is not 1 to {SERIAL} printable ASCII characters"),
        );
        check(queues.contains(&disk.queues), queue_fault(&format!("disks[{i}]"), disk.queues));
        check(serials.insert(serial), format!("disks[{i}].serial {serial:?} is used twice"));
        for fault in limit_faults("limits", &disk.limits) {
            check(false, format!("disks[{i}].{fault}"));
        }
        for fault in image_faults(&disk.image) {
            check(false, format!("disks[{i}].image{fault}"));
        }
    }
    for (i, nic) in config.nics.iter().enumerate() {
        let tap = &nic.tap;
        let usable = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
        check(
            !tap.is_empty() && tap.len() <= TAP && tap.bytes().all(usable),
            format!("nics[{i}].tap {tap:?} is not the name of an interface"),
        );
        check(queues.contains(&nic.queues), queue_fault(&format!("nics[{i}]"), nic.queues));
        check(taps.insert(tap), format!("nics[{i}].tap {tap:?} is used twice"));
        let mac = nic.mac;
        check(mac.0[0] & 1 == 0 && mac.0 != [0; 6], format!("nics[{i}].mac {mac} is not a unicast address"));
        for fault in nic_limit_faults(&nic.limits) {
            check(false, format!("nics[{i}].{fault}"));
        }
        check(macs.insert(mac.0), format!("nics[{i}].mac {mac} is used twice"));
    }
    let mut served = Served::default();
    for (i, device) in config.devices.vhost_user.iter().enumerate() {
        for fault in served.faults(device) {
            check(false, format!("devices.vhost_user[{i}].{fault}"));
        }
        let (of, count) = match &device.device {
            VhostUserDevice::Block(block) => ("block", block.queues),
            VhostUserDevice::Fs(fs) => ("fs", fs.queues),
            VhostUserDevice::Net(net) => {
                let mac = net.mac;
                let of = format!("devices.vhost_user[{i}].device.net.mac {mac}");
                check(mac.0[0] & 1 == 0 && mac.0 != [0; 6], format!("{of} is not a unicast address"));
                check(macs.insert(mac.0), format!("{of} is used twice"));
                continue;
            }
        };
        let of = format!("devices.vhost_user[{i}].device.{of}");
        check(queues.contains(&count), queue_fault(&of, count));
    }
    let mut addresses = BTreeSet::new();
    for (i, PassthroughConfig { address, .. }) in config.devices.passthrough.iter().enumerate() {
        check(addresses.insert(address), format!("devices.passthrough[{i}].address {address} is used twice"));
    }
    if let Some(why) = pinned(config) {
        check(config.devices.memory.is_none(), format!("devices.memory: {why}"));
        let target = config.devices.balloon.map_or(0, |balloon| balloon.target_bytes);
        check(target == 0, format!("devices.balloon.target_bytes is {target}: {why}"));
    }
    if config.start != Start::Boot {
        rooted(config).into_iter().for_each(|why| check(false, format!("start: {why}")));
    }
    if config.lease.is_some() {
        unleasable(config).into_iter().for_each(|why| check(false, format!("lease: {why}")));
    }
    if let Some(LeaseConfig { grant, .. }) = config.lease {
        let until = match grant.until {
            LeaseEnd::BootMs(millis) | LeaseEnd::RemainingMs(millis) => millis,
        };
        check(until > 0, "lease.grant.until is 0: it has run out before it began".to_owned());
    }
    if let Some(jail) = config.jail {
        check(jail.uid != 0, "jail.uid is 0: a jail must not be root".to_owned());
        check(jail.gid != 0, "jail.gid is 0: a jail must not be root".to_owned());
    }
    faults
}

/// What no two devices of other programs have in common.
#[derive(Default)]
struct Served<'a> {
    names: BTreeSet<&'a str>,
    sockets: BTreeSet<&'a str>,
    tags: BTreeSet<&'a str>,
}

impl<'a> Served<'a> {
    /// Faults of `device` among those before it, each with the name of its field.
    fn faults(&mut self, device: &'a VhostUserConfig) -> Vec<String> {
        let mut faults = Vec::new();
        let (name, socket) = (device.name.as_str(), device.socket.as_str());
        if name.is_empty() || name.len() > NAME || !name.bytes().all(|b| b.is_ascii_graphic()) {
            faults.push(format!("name {name:?} is not 1 to {NAME} printable ASCII characters"));
        }
        if !self.names.insert(name) {
            faults.push(format!("name {name:?} is used twice"));
        }
        if !absolute(socket) {
            faults.push(format!("socket {socket:?} is not an absolute path"));
        }
        if !self.sockets.insert(socket) {
            faults.push(format!("socket {socket:?} is used twice"));
        }
        if let VhostUserDevice::Fs(fs) = &device.device {
            let tag = fs.tag.as_str();
            if tag.is_empty() || tag.len() > vhost_user::TAG || tag.contains('\0') {
                faults.push(format!(
                    "device.fs.tag {tag:?} is not 1 to {} bytes without zero bytes",
                    vhost_user::TAG
                ));
            }
            if !self.tags.insert(tag) {
                faults.push(format!("device.fs.tag {tag:?} is used twice"));
            }
        }
        faults
    }
}

/// Why a machine cannot be saved, moved or taken up; none: it can.
#[must_use]
pub fn rooted(config: &VmmConfig) -> Option<String> {
    if let Some(PassthroughConfig { address, .. }) = config.devices.passthrough.first() {
        return Some(format!(
            "the PCI function {address} (devices.passthrough) is this host's and keeps its state to itself: such a machine can be neither saved nor moved"
        ));
    }
    let device = config.devices.vhost_user.first()?;
    Some(format!(
        "the device {:?} (devices.vhost_user) is served by another program of this host, which keeps its state: such a machine can be neither saved nor moved",
        device.name
    ))
}

/// Why a machine's memory neither comes nor goes; none: it does.
#[must_use]
pub fn pinned(config: &VmmConfig) -> Option<String> {
    let PassthroughConfig { address, .. } = config.devices.passthrough.first()?;
    Some(format!(
        "the PCI function {address} (devices.passthrough) writes to the machine's memory, all of which stays where it is"
    ))
}

/// Why a machine cannot have a lease; none: it can.
#[must_use]
pub fn unleasable(config: &VmmConfig) -> Option<String> {
    if let Some(PassthroughConfig { address, .. }) = config.devices.passthrough.first() {
        return Some(format!(
            "what the PCI function {address} (devices.passthrough) writes and sends no lease stops"
        ));
    }
    let device = config.devices.vhost_user.iter().find(|device| device.device.stores())?;
    Some(format!(
        "what the device {:?} (devices.vhost_user) stores is written by another program of this host, which no lease stops",
        device.name
    ))
}

/// Faults of the limits called `name`.
#[must_use]
pub fn limit_faults(name: &str, limits: &IoLimits) -> Vec<String> {
    let rates = [("bandwidth", limits.bandwidth), ("operations", limits.operations)];
    let zero = rates.into_iter().filter(|(_, rate)| rate.is_some_and(|rate| rate.per_second == 0));
    zero.map(|(of, _)| format!("{name}.{of}.per_second is 0: nothing would ever pass")).collect()
}

/// Faults of an interface's limits.
#[must_use]
pub fn nic_limit_faults(limits: &NicLimits) -> Vec<String> {
    let mut faults = limit_faults("limits.receive", &limits.receive);
    faults.extend(limit_faults("limits.transmit", &limits.transmit));
    faults
}

fn absolute(path: &str) -> bool {
    Path::new(path).is_absolute() && !path.contains('\0')
}

/// Faults of an image and of those under it, each with its place in the chain.
fn image_faults(top: &DiskImage) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut image, mut place) = (top, String::new());
    for depth in 1.. {
        if !absolute(&image.path) {
            faults.push(format!("{place}.path {:?} is not an absolute path", image.path));
        }
        if image.format == ImageFormat::Raw && image.backing.is_some() {
            faults.push(format!("{place}.backing: a raw image has no other under it"));
        }
        let Some(backing) = &image.backing else { break };
        if depth == CHAIN {
            faults.push(format!(": more than {CHAIN} images on top of each other"));
            break;
        }
        image = backing;
        place.push_str(".backing");
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(change: impl FnOnce(&mut serde_json::Value)) -> VmmConfig {
        let mut value = json!({
            "version": 1, "vm": "018f3a5e-0000-7000-8000-000000000001", "name": "web-1", "vcpus": 2,
            "memory_bytes": 512 << 20, "boot": {"direct": {"kernel": "/boot/vmlinuz", "cmdline": "console=ttyS0"}},
            "disks": [{"serial": "root", "image": {"path": "/data/root.qcow2", "format": "qcow2"}}],
            "nics": [{"tap": "tap0", "mac": "52:54:00:00:00:01"}], "run_dir": "/run/vm",
            "jail": {"uid": 100_000, "gid": 100_000}
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_good_configuration_has_no_faults() {
        assert_eq!(faults(&config(|_| {})), Vec::<String>::new());
    }

    #[test]
    fn a_function_of_the_host_excludes_what_it_cannot_be_with() {
        let passed = |change: fn(&mut serde_json::Value)| {
            config(|c| {
                c["devices"] = json!({"passthrough": [{"address": "0000:03:00.0"}]});
                change(c);
            })
        };
        assert_eq!(faults(&passed(|_| {})), Vec::<String>::new());
        let balloon = passed(|c| c["devices"]["balloon"] = json!({"target_bytes": 0}));
        assert_eq!(faults(&balloon), Vec::<String>::new(), "it tells how memory fares");
        let bad = passed(|c| {
            c["devices"]["passthrough"] =
                json!([{"address": "0000:03:00.0", "slot": 9}, {"address": "03:00.0", "slot": 9}]);
            c["devices"]["balloon"] = json!({"target_bytes": 4096});
            c["devices"]["memory"] = json!({"most_bytes": 128 << 20});
            c["start"] = json!("incoming");
            c["lease"] = json!({"grant": {"epoch": 1, "until": {"remaining-ms": 1000}}});
        });
        let all = faults(&bad);
        let expected = [
            "devices.passthrough[1].slot 9 is used twice",
            "devices.passthrough[1].address 0000:03:00.0 is used twice",
            "devices.memory: the PCI function 0000:03:00.0",
            "devices.balloon.target_bytes is 4096: the PCI function 0000:03:00.0",
            "start: the PCI function 0000:03:00.0",
            "lease: what the PCI function 0000:03:00.0",
        ];
        assert_eq!(all.len(), expected.len(), "{all:#?}");
        for (fault, expected) in all.iter().zip(expected) {
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let bad = config(|c| {
            c["version"] = json!(9);
            c["vcpus"] = json!(65);
            c["memory_bytes"] = json!(1_000_000);
            c["boot"]["direct"]["kernel"] = json!("vmlinuz");
            c["boot"]["direct"]["cmdline"] = json!("x".repeat(2048));
            c["disks"] = json!([
                {"serial": "twice", "image": {"path": "a", "format": "raw", "backing": {"path": "b", "format": "raw"}}},
                {"serial": "twice", "image": {"path": "/a", "format": "raw"}},
                {"serial": "this is far too long for a serial", "queues": 0, "image": {"path": "/b", "format": "raw"}},
            ]);
            c["nics"] = json!([{"tap": "a/b", "mac": "00:00:00:00:00:00", "queues": 17}]);
            c["jail"]["uid"] = json!(0);
            c["devices"] = json!({"cpus": {"most": 64}, "vsock": {"cid": 2}, "tpm": {"socket": "tpm.sock"}, "memory": {"most_bytes": 1 << 20, "requested_bytes": 3}});
        });
        let told = faults(&bad).join("\n");
        for part in [
            "version is 9",
            "vcpus is 65",
            "memory_bytes is",
            "boot.direct.kernel",
            "boot.direct.cmdline",
            "disks[0].image.path",
            "disks[0].image.backing:",
            "disks[0].image.backing.path",
            "disks[1].serial \"twice\" is used twice",
            "disks[2].serial",
            "nics[0].tap",
            "devices.vsock.cid is 2",
            "devices.tpm.socket \"tpm.sock\"",
            "devices.cpus.most is 64, vcpus (65)",
            "devices.memory.most_bytes",
            "devices.memory.requested_bytes is 3",
            "nics[0].mac",
            "nics[0].queues is 17, 1 to 16",
            "disks[2].queues is 0",
            "jail.uid",
        ] {
            assert!(told.contains(part), "{part} missing in:\n{told}");
        }
    }

    #[test]
    fn faults_of_devices_that_others_serve_are_told() {
        let good = json!([
            {"name": "scratch", "socket": "/run/blk", "device": {"block": {"queues": 2}}, "slot": 9},
            {"name": "lan", "socket": "/run/net", "device": {"net": {"mac": "52:54:00:00:00:02"}}},
            {"name": "shared", "socket": "/run/fs", "device": {"fs": {"tag": "home"}}},
        ]);
        let with = |devices: &serde_json::Value| {
            let devices = devices.clone();
            config(move |c| c["devices"] = json!({"vhost_user": devices}))
        };
        assert_eq!(faults(&with(&good)), Vec::<String>::new());
        assert!(rooted(&with(&good)).unwrap().contains("scratch"));
        assert!(unleasable(&with(&good)).unwrap().contains("scratch"));
        assert_eq!(unleasable(&with(&json!([good[1]]))), None);
        assert_eq!(rooted(&with(&json!([]))), None);
        let mut bad = with(&json!([
            {"name": "", "socket": "blk", "device": {"block": {"queues": 3}}, "slot": 40},
            {"name": "two words", "socket": "/run/net", "device": {"net": {"mac": "52:54:00:00:00:01"}}, "slot": 3},
            {"name": "twice", "socket": "/run/net", "device": {"fs": {"tag": ""}}, "slot": 3},
            {"name": "twice", "socket": "/run/fs", "device": {"fs": {"tag": "t", "queues": 0}}},
            {"name": "same", "socket": "/run/fs2", "device": {"fs": {"tag": "t"}}},
        ]));
        bad.start = Start::Incoming;
        bad.lease = Some(
            serde_json::from_value(json!({"grant": {"epoch": 1, "until": {"remaining-ms": 5}}})).unwrap(),
        );
        let told = faults(&bad).join("\n");
        for part in [
            "devices.vhost_user[0].name \"\"",
            "devices.vhost_user[0].socket \"blk\" is not an absolute path",
            "devices.vhost_user[0].device.block.queues is 3, 1 to 2",
            "devices.vhost_user[0].slot is 40",
            "devices.vhost_user[1].name \"two words\"",
            "devices.vhost_user[1].device.net.mac 52:54:00:00:00:01 is used twice",
            "devices.vhost_user[2].socket \"/run/net\" is used twice",
            "devices.vhost_user[2].device.fs.tag \"\"",
            "devices.vhost_user[2].slot 3 is used twice",
            "devices.vhost_user[3].name \"twice\" is used twice",
            "devices.vhost_user[3].device.fs.queues is 0",
            "devices.vhost_user[4].device.fs.tag \"t\" is used twice",
            "start: the device",
            "lease: what the device",
        ] {
            assert!(told.contains(part), "{part} missing in:\n{told}");
        }
    }

    #[test]
    fn faults_of_firmware_are_told() {
        let bad = config(|c| {
            c["boot"] = json!({"firmware": {"code": "code.fd", "vars": "vars.fd", "debug_log": "log"}});
            c["memory_bytes"] = json!(64 << 20);
            c["start"] = json!({"restore": {"path": "saved.lq", "copy": true}});
        });
        let told = faults(&bad).join("\n");
        for part in [
            "boot.firmware.code",
            "boot.firmware.vars",
            "boot.firmware.debug_log",
            "128 MiB",
            "start.restore.path",
        ] {
            assert!(told.contains(part), "{part} missing in:\n{told}");
        }
    }

    #[test]
    fn unreadable_and_unknown_words_are_told_with_their_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmm.json");
        assert!(matches!(load(&path), Err(Error::Read { .. })));
        fs::write(&path, "{\"version\": 1, \"colour\": 3}").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("colour") && error.contains("line 1"), "{error}");
    }
}
