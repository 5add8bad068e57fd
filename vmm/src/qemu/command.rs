//! From a configuration to QEMU's command line. Pure: what was opened comes as numbers of descriptors, and no path of the host but
//! QEMU's own files is on it.
//!
//! Every device has a fixed place on the bus, whatever else there is, so that a guest finds it again after one came or went:
//! ```text
//!  2 screen · 3 pointer's USB · 4 random numbers · 5 watchdog · 6–21 disks · 22 medium of cloud-init · 23–30 interfaces
//! ```
//! A disk is a stack of nodes: `diskN` limits what it may do, `diskN-format` knows the format, `diskN-file` has the file; under it
//! `diskN-1`, `diskN-1-file` … what backs it. Nothing is opened by a name in an image: what is not given here is `null`.

use super::{config::SEED_SERIAL, cpu};

use lq_api::{
    image::ImageFormat,
    local::vmm::{
        BootDevice, DeviceModel, DiskConfig, DiskImage, IoLimits, MachineType, NicConfig, QemuConfig, Rate,
        VmmConfig,
    },
};
use serde_json::{Value, json};
use std::os::fd::RawFd;

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU itself, slowly: only for tests on machines without KVM.
    Tcg,
}

/// An opened file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Its descriptor.
    pub descriptor: RawFd,
    /// It can be used past the host's cache.
    pub direct: bool,
    /// It is a block device.
    pub device: bool,
}

/// What was opened for QEMU, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// QMP.
    pub monitor: RawFd,
    /// The serial line.
    pub serial: RawFd,
    /// Code and variables of UEFI firmware, where it boots by that.
    pub firmware: Option<[RawFd; 2]>,
    /// Of each disk its chain, the top first.
    pub disks: Vec<Vec<Handed>>,
    /// What is in each CD drive.
    pub media: Vec<Option<Handed>>,
    /// Of each interface its queues.
    pub taps: Vec<Vec<RawFd>>,
    /// Control connection to the process behind the TPM.
    pub tpm: Option<RawFd>,
}

/// What the processor is told to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu(pub String);

impl Cpu {
    /// With what is kept of the host's answers to attacks, by QEMU's names.
    #[must_use]
    pub fn new(config: &VmmConfig, accelerator: Accelerator, kept: &[&str]) -> Self {
        Self(cpu::model(config.cpu, accelerator == Accelerator::Kvm, kept))
    }
}

/// Where QEMU finds what it puts into machines.
const FIRMWARE: [&str; 3] = ["/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu"];
const DISKS: usize = 6;
const MOST_DISKS: usize = 16;
const SEED: usize = 22;
const NICS: usize = 23;

/// Name of a disk's node and device.
#[must_use]
pub fn disk_name(disk: usize) -> String {
    format!("disk{disk}")
}

/// Name of an interface.
#[must_use]
pub fn nic_name(nic: usize) -> String {
    format!("nic{nic}")
}

/// Name of a CD drive.
#[must_use]
pub fn drive_name(drive: usize) -> String {
    format!("cd{drive}")
}

/// Name of the node of the medium that was put in as the `count`th.
#[must_use]
pub fn medium_name(count: u64) -> String {
    format!("medium{count}")
}

/// Commas separate, so one in a value is written twice.
fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

/// QEMU's arguments.
#[must_use]
pub fn arguments(
    config: &VmmConfig,
    qemu: QemuConfig,
    cpu: &Cpu,
    accelerator: Accelerator,
    descriptors: &Descriptors,
) -> Vec<String> {
    let mut line = Line { words: Vec::new(), bus: bus(qemu.machine), boot: BootOrder::new(config) };
    line.base(config, qemu, cpu, accelerator, descriptors);
    line.channels(descriptors);
    if config.display {
        line.screen(qemu.machine);
    }
    if config.rng {
        line.option("-object", "rng-builtin,id=rng");
        line.device("virtio-rng-pci,id=rng0,rng=rng", 4);
    }
    if config.devices.watchdog.is_some() {
        line.device("i6300esb,id=watchdog0", 5);
    }
    if config.devices.panic {
        line.option("-device", "pvpanic");
    }
    for (n, (disk, chain)) in config.disks.iter().zip(&descriptors.disks).enumerate() {
        line.disk(n, disk, chain, qemu);
    }
    for (n, medium) in descriptors.media.iter().enumerate() {
        line.cd_drive(n, *medium, config, qemu);
    }
    for (n, (nic, queues)) in config.nics.iter().zip(&descriptors.taps).enumerate() {
        line.nic(n, nic, queues, qemu.devices);
    }
    line.words
}

fn bus(machine: MachineType) -> &'static str {
    match machine {
        MachineType::Q35V7_2 => "pcie.0",
        MachineType::I440fxV7_2 => "pci.0",
    }
}

/// What is tried to be booted, and when.
struct BootOrder(Vec<BootDevice>);

impl BootOrder {
    fn new(config: &VmmConfig) -> Self {
        if !config.boot_order.is_empty() {
            return Self(config.boot_order.clone());
        }
        let count = |length: usize| 0..u32::try_from(length).unwrap_or(u32::MAX);
        let disks = config.disks.iter().zip(0..).filter(|(disk, _)| disk.serial != SEED_SERIAL);
        let all = disks.map(|(_, n)| BootDevice::Disk(n));
        let all = all.chain(count(config.devices.cdroms.len()).map(BootDevice::Cdrom));
        Self(all.chain(count(config.nics.len()).map(BootDevice::Nic)).collect())
    }

    /// What is said of it with the device.
    fn of(&self, kind: impl Fn(u32) -> BootDevice, number: usize) -> String {
        let device = u32::try_from(number).ok().map(kind);
        let at = self.0.iter().position(|one| Some(*one) == device);
        at.map(|at| format!(",bootindex={}", at + 1)).unwrap_or_default()
    }
}

struct Line {
    words: Vec<String>,
    bus: &'static str,
    boot: BootOrder,
}

impl Line {
    fn option(&mut self, option: &str, value: impl Into<String>) {
        self.words.extend([option.to_owned(), value.into()]);
    }

    fn flag(&mut self, flag: &str) {
        self.words.push(flag.to_owned());
    }

    fn json(&mut self, option: &str, value: &Value) {
        self.option(option, value.to_string());
    }

    /// A device in a slot of the bus.
    fn device(&mut self, device: &str, slot: usize) {
        self.option("-device", format!("{device},bus={},addr={slot:#x}", self.bus));
    }

    fn base(
        &mut self,
        config: &VmmConfig,
        qemu: QemuConfig,
        cpu: &Cpu,
        accelerator: Accelerator,
        descriptors: &Descriptors,
    ) {
        let accel = match accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        };
        // What makes the process less of what others may take it for.
        self.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        for directory in FIRMWARE {
            self.option("-L", directory);
        }
        self.flag("-nodefaults");
        self.flag("-no-user-config");
        self.option("-name", format!("guest={},debug-threads=on", escaped(&config.name)));
        self.option("-uuid", config.vm.to_string());
        let system = "type=1,manufacturer=LimiQuantix,product=LimiQuantix Virtual Machine";
        self.option("-smbios", format!("{system},serial={},version=QEMU", config.vm));
        let graphics = if config.display { "on" } else { "off" };
        let flash = descriptors.firmware.map(|_| ",pflash0=code,pflash1=vars").unwrap_or_default();
        self.option(
            "-machine",
            format!(
                "{},accel={accel},usb=off,vmport=off,smm=off,hpet=off,dump-guest-core=off,mem-merge=off,graphics={graphics}{flash}",
                qemu.machine.name()
            ),
        );
        self.option("-cpu", cpu.0.clone());
        let vcpus = config.vcpus;
        self.option("-smp", format!("{vcpus},sockets=1,cores={vcpus},threads=1"));
        self.option("-m", format!("size={}M", config.memory_bytes.get() >> 20));
        self.option("-rtc", "base=utc,driftfix=slew");
        self.option("-boot", "strict=on,menu=off");
        // It is told of, and carried out by whoever hears it.
        self.option("-action", "panic=none,watchdog=none,reboot=reset,shutdown=poweroff");
        self.flag("-S");
        self.option("-display", "none");
        for (name, descriptor) in ["code", "vars"].iter().zip(descriptors.firmware.iter().flatten()) {
            let file = Handed { descriptor: *descriptor, direct: false, device: false };
            self.hand(file);
            let read_only = *name == "code";
            let node = json!({"node-name": format!("{name}-file"), "driver": "file", "filename": set(file),
                "locking": "off", "read-only": read_only, "auto-read-only": false});
            self.json("-blockdev", &node);
            let node = json!({"node-name": name, "driver": "raw", "file": format!("{name}-file"), "read-only": read_only});
            self.json("-blockdev", &node);
        }
        if qemu.machine == MachineType::Q35V7_2 {
            // Sleep that nothing here could wake it from.
            self.option("-global", "ICH9-LPC.disable_s3=1");
            self.option("-global", "ICH9-LPC.disable_s4=1");
        } else {
            self.option("-global", "PIIX4_PM.disable_s3=1");
            self.option("-global", "PIIX4_PM.disable_s4=1");
        }
    }

    fn channels(&mut self, descriptors: &Descriptors) {
        let stream = |name: &str, descriptor: RawFd| format!("socket,id={name},fd={descriptor}");
        self.option("-chardev", stream("monitor", descriptors.monitor));
        self.option("-mon", "chardev=monitor,mode=control");
        self.option("-chardev", stream("serial", descriptors.serial));
        self.option("-device", "isa-serial,id=serial0,chardev=serial");
        if let Some(tpm) = descriptors.tpm {
            self.option("-chardev", stream("tpm", tpm));
            self.option("-tpmdev", "emulator,id=tpm,chardev=tpm");
            self.option("-device", "tpm-crb,tpmdev=tpm");
        }
    }

    /// A screen nobody listens for: viewers are handed in. With a pointer that is where the viewer's is.
    fn screen(&mut self, machine: MachineType) {
        self.option("-vnc", "none,share=force-shared,power-control=off");
        self.device("VGA,id=video0,vgamem_mb=16", 2);
        let usb = match machine {
            MachineType::Q35V7_2 => "qemu-xhci,id=usb",
            MachineType::I440fxV7_2 => "piix3-usb-uhci,id=usb",
        };
        self.device(usb, 3);
        self.option("-device", "usb-tablet,id=tablet0,bus=usb.0");
    }

    /// Hands a file over, as the only one of the set of its number.
    fn hand(&mut self, Handed { descriptor, .. }: Handed) {
        self.option("-add-fd", format!("fd={descriptor},set={descriptor}"));
    }

    fn disk(&mut self, n: usize, disk: &DiskConfig, chain: &[Handed], qemu: QemuConfig) {
        chain.iter().for_each(|file| self.hand(*file));
        let name = disk_name(n);
        // From below: a node is named by those above it.
        let images: Vec<_> = disk.image.chain().zip(chain).enumerate().collect();
        for (depth, (image, file)) in images.iter().rev() {
            let below = images.get(depth + 1).map(|_| format_name(&name, depth + 1));
            let read_only = disk.read_only || *depth > 0;
            for node in nodes(&format_name(&name, *depth), image, **file, below, read_only) {
                self.json("-blockdev", &node);
            }
        }
        let limits =
            json!({"qom-type": "throttle-group", "id": limits_name(n), "limits": limits(&disk.limits)});
        self.json("-object", &limits);
        let node = json!({"node-name": name, "driver": "throttle", "throttle-group": limits_name(n),
            "file": format_name(&name, 0), "read-only": disk.read_only});
        self.json("-blockdev", &node);
        let boot = self.boot.of(BootDevice::Disk, n);
        let serial = escaped(&disk.serial);
        let common = format!("id={name},drive={name},serial={serial},werror=report,rerror=report{boot}");
        match qemu.devices {
            DeviceModel::Virtio => {
                let queues = disk.queues.max(1);
                let slot = if disk.serial == SEED_SERIAL { SEED } else { DISKS + n.min(MOST_DISKS - 1) };
                self.device(&format!("virtio-blk-pci,{common},num-queues={queues}"), slot);
            }
            DeviceModel::Legacy => self.on_controller(&format!("ide-hd,{common}"), n, qemu.machine),
        }
    }

    /// On the board's own controller, in the `place`th place.
    fn on_controller(&mut self, device: &str, place: usize, machine: MachineType) {
        let place = match machine {
            MachineType::Q35V7_2 => format!("bus=ide.{place}"),
            MachineType::I440fxV7_2 => format!("bus=ide.{},unit={}", place / 2, place % 2),
        };
        self.option("-device", format!("{device},{place}"));
    }

    fn cd_drive(&mut self, n: usize, medium: Option<Handed>, config: &VmmConfig, qemu: QemuConfig) {
        let mut drive = String::new();
        if let Some(file) = medium {
            self.hand(file);
            let name = medium_name(n as u64);
            for node in medium_nodes(&name, file) {
                self.json("-blockdev", &node);
            }
            drive = format!(",drive={name}");
        }
        let boot = self.boot.of(BootDevice::Cdrom, n);
        let device = format!("ide-cd,id={}{drive},werror=report,rerror=report{boot}", drive_name(n));
        let before = match qemu.devices {
            DeviceModel::Virtio => 0,
            DeviceModel::Legacy => config.disks.len(),
        };
        self.on_controller(&device, before + n, qemu.machine);
    }

    fn nic(&mut self, n: usize, nic: &NicConfig, queues: &[RawFd], model: DeviceModel) {
        let name = nic_name(n);
        let list: Vec<_> = queues.iter().map(ToString::to_string).collect();
        let taps =
            if let [one] = list.as_slice() { format!("fd={one}") } else { format!("fds={}", list.join(":")) };
        self.option("-netdev", format!("tap,id={name}-tap,{taps},vhost=off"));
        let boot = self.boot.of(BootDevice::Nic, n);
        let common = format!("id={name},netdev={name}-tap,mac={}{boot}", nic.mac);
        let device = match model {
            DeviceModel::Virtio if queues.len() > 1 => {
                let vectors = 2 * queues.len() + 2;
                format!("virtio-net-pci,{common},mq=on,vectors={vectors}")
            }
            DeviceModel::Virtio => format!("virtio-net-pci,{common}"),
            DeviceModel::Legacy => format!("e1000,{common}"),
        };
        self.device(&device, NICS + n);
    }
}

/// Name of the node of a disk that knows a format, `depth` below the top.
fn format_name(disk: &str, depth: usize) -> String {
    if depth == 0 { format!("{disk}-format") } else { format!("{disk}-{depth}") }
}

/// Name of a disk's node to be made larger.
#[must_use]
pub fn resized_name(disk: usize) -> String {
    format_name(&disk_name(disk), 0)
}

/// Name of what limits a disk.
#[must_use]
pub fn limits_name(disk: usize) -> String {
    format!("disk{disk}-limits")
}

/// Where QEMU opens what was handed over.
fn set(file: Handed) -> String {
    format!("/dev/fdset/{}", file.descriptor)
}

fn opener(file: Handed) -> &'static str {
    if file.device { "host_device" } else { "file" }
}

fn nodes(name: &str, image: &DiskImage, file: Handed, below: Option<String>, read_only: bool) -> [Value; 2] {
    let aio = if file.direct { "native" } else { "threads" };
    let cache = json!({"direct": file.direct, "no-flush": false});
    let opener = opener(file);
    let bytes = json!({"node-name": format!("{name}-file"), "driver": opener, "filename": set(file), "aio": aio,
        "locking": "off", "cache": cache, "discard": "unmap", "read-only": read_only, "auto-read-only": false});
    let driver = match image.format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    };
    let mut format = json!({"node-name": name, "driver": driver, "file": format!("{name}-file"), "cache": cache,
        "discard": "unmap", "read-only": read_only, "auto-read-only": false});
    if image.format == ImageFormat::Qcow2 {
        // Null: whatever its header names is not opened.
        format["backing"] = below.map_or(Value::Null, Value::String);
    }
    [bytes, format]
}

/// The nodes of a medium in a CD drive.
#[must_use]
pub fn medium_nodes(name: &str, file: Handed) -> [Value; 2] {
    let bytes = json!({"node-name": format!("{name}-file"), "driver": opener(file), "filename": set(file),
        "locking": "off", "read-only": true, "auto-read-only": false});
    let format =
        json!({"node-name": name, "driver": "raw", "file": format!("{name}-file"), "read-only": true});
    [bytes, format]
}

/// Limits in QEMU's words, each said, so that those of before are gone. A burst shorter than a second's worth is one of that: QEMU
/// takes no smaller one.
#[must_use]
pub fn limits(limits: &IoLimits) -> Value {
    /// Most QEMU counts to.
    const MOST: u64 = 1_000_000_000_000_000;
    let rate = |rate: Option<Rate>| {
        let per_second = rate.map_or(0, |rate| rate.per_second).min(MOST);
        (per_second, rate.map_or(0, |rate| rate.burst.max(rate.per_second)).min(MOST))
    };
    let ((bytes, most_bytes), (operations, most_operations)) =
        (rate(limits.bandwidth), rate(limits.operations));
    json!({"bps-total": bytes, "bps-total-max": most_bytes, "iops-total": operations, "iops-total-max": most_operations})
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
