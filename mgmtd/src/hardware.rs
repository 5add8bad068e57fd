//! What a machine that runs has: the specification its process was started with, and what was changed of it since.
//!
//! In the words of the agreed state, so that it means the same on every host: it is kept beside the process, compared with what
//! is wanted (`compute::adjust`), and goes along when the machine moves (`cluster::state::moves`): a process that waits for a
//! machine has to be made as the machine is, not as it is wanted to be.

use lq_api::{
    Bytes, ImageId, VolumeId,
    cloud_init::CloudInit,
    local::vmm::{CpuModel, CpuStatus, Hypervisor, MemoryStatus, VmmConfig, WatchdogAction, one_queue},
    vm::{Boot, Cdrom, Disk, Mac, Nic, Passthrough, VmSpec},
};
use serde::{Deserialize, Serialize};

/// What a machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// What runs it.
    #[serde(default)]
    pub hypervisor: Hypervisor,
    /// Virtual CPUs: it was started with, or its guest is asked to have.
    pub vcpus: u8,
    /// They come and go, where this is.
    #[serde(default)]
    pub cpus: Option<PluggedCpus>,
    /// Memory it was started with.
    pub memory_bytes: Bytes,
    /// Memory besides that which comes and goes, where there may be any.
    #[serde(default)]
    pub plugged: Option<PluggedMemory>,
    /// The kernel it boots; firmware where absent.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// A screen.
    #[serde(default)]
    pub display: bool,
    /// What its guest sees of the processor.
    #[serde(default)]
    pub cpu: CpuModel,
    /// A watchdog.
    #[serde(default)]
    pub watchdog: Option<WatchdogAction>,
    /// A TPM.
    #[serde(default)]
    pub tpm: bool,
    /// Functions of its host's PCI bus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passthrough: Vec<Passthrough>,
    /// A random number source.
    #[serde(default)]
    pub rng: bool,
    /// Disks and interfaces may come and go.
    #[serde(default)]
    pub hotplug: bool,
    /// Disks, in the order its monitor counts them in.
    #[serde(default)]
    pub disks: Vec<Fitted<Disk>>,
    /// Interfaces, in the order its monitor counts them in.
    #[serde(default)]
    pub nics: Vec<Fitted<Nic>>,
    /// CD drives.
    #[serde(default)]
    pub cdroms: Vec<Drive>,
    /// What its guest sets itself up by, on a disk of its own behind those it was started with.
    #[serde(default)]
    pub cloud_init: Option<Fitted<CloudInit>>,
    /// Slots of the bus nothing comes into by itself.
    #[serde(default)]
    pub empty_slots: Vec<u8>,
}

/// Virtual CPUs that come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluggedCpus {
    /// At most.
    pub most: u8,
    /// There are this many, as far as is known. It changes by itself, as of memory.
    #[serde(default)]
    pub present: u8,
}

/// Memory that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluggedMemory {
    /// At most.
    pub most: Bytes,
    /// The guest is asked to have this much.
    pub asked: Bytes,
    /// It has this much, as far as is known. It changes by itself, so it is no part of what a place is made by.
    #[serde(default)]
    pub taken: Bytes,
}

impl PluggedMemory {
    /// What the host has to have for it: what the guest has, or may take at any moment.
    #[must_use]
    pub fn needs(&self) -> Bytes {
        self.asked.max(self.taken)
    }
}

/// What a monitor says of its machine.
#[derive(Clone, Debug)]
pub struct Told {
    /// As it would have to be started.
    pub config: VmmConfig,
    /// Whether there is a medium in each CD drive.
    pub loaded: Vec<bool>,
    /// How the memory stands that comes and goes.
    pub memory: Option<MemoryStatus>,
    /// How the virtual CPUs stand that come and go.
    pub cpus: Option<CpuStatus>,
}

/// A device that can come and go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitted<T> {
    /// As it was last set.
    pub device: T,
    /// Its slot on the bus, where it is known.
    #[serde(default)]
    pub slot: Option<u8>,
    /// Queues it was made with. One that goes on elsewhere keeps them; one of an earlier release has a single one.
    #[serde(default = "one_queue")]
    pub queues: u8,
}

impl<T> Fitted<T> {
    /// One that is made for a machine with so many virtual CPUs.
    pub fn new(device: T, vcpus: u8) -> Self {
        Self { device, slot: None, queues: queues(vcpus) }
    }
}

/// Most queues a device is made with: each is a thread of its own.
const MOST_QUEUES: u8 = 4;

/// Queues of a device that is made for a machine with so many virtual CPUs: one for each, as far as that pays.
#[must_use]
pub fn queues(vcpus: u8) -> u8 {
    vcpus.clamp(1, MOST_QUEUES)
}

/// A CD drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// The medium that is in it or, where it is empty, that its guest has ejected. Absent with a medium in it: it is not known
    /// which.
    pub image: Option<ImageId>,
    /// There is a medium in it.
    pub loaded: bool,
}

impl Drive {
    /// With this in it.
    #[must_use]
    pub fn of(image: Option<ImageId>) -> Self {
        Self { image, loaded: image.is_some() }
    }

    /// The medium its guest has ejected.
    #[must_use]
    pub fn ejected(self) -> Option<ImageId> {
        self.image.filter(|_| !self.loaded)
    }
}

/// Serial number of the disk a guest sets itself up by; no volume has it.
pub const SEED_SERIAL: &str = "cidata";

/// A disk's serial number as the guest sees it, at most 20 bytes: the random end of the volume's id.
#[must_use]
pub fn serial(volume: VolumeId) -> String {
    let id = volume.0.simple().to_string();
    id.get(12..).unwrap_or_default().to_owned()
}

impl Hardware {
    /// Of a machine that is started as it is wanted.
    #[must_use]
    pub fn of(spec: &VmSpec) -> Self {
        Self {
            hypervisor: spec.hypervisor,
            vcpus: spec.vcpus,
            cpus: spec
                .vcpus_max
                .filter(|most| *most > spec.vcpus)
                .map(|most| PluggedCpus { most, present: spec.vcpus }),
            memory_bytes: spec.memory_bytes,
            plugged: spec.memory_max_bytes.filter(|most| *most > spec.memory_bytes).map(|most| {
                PluggedMemory {
                    most: most.saturating_sub(spec.memory_bytes),
                    asked: Bytes(0),
                    taken: Bytes(0),
                }
            }),
            boot: spec.boot.clone(),
            display: spec.display.unwrap_or_default(),
            cpu: spec.cpu,
            watchdog: spec.watchdog,
            tpm: spec.tpm,
            passthrough: spec.passthrough.clone(),
            rng: spec.rng,
            hotplug: spec.hypervisor.is_own(),
            disks: spec.disks.iter().cloned().map(|disk| Fitted::new(disk, spec.vcpus)).collect(),
            nics: spec.nics.iter().cloned().map(|nic| Fitted::new(nic, spec.vcpus)).collect(),
            cdroms: spec.cdroms.iter().map(|c| Drive::of(c.image)).collect(),
            cloud_init: spec.cloud_init.clone().map(|given| Fitted::new(given, 1)),
            empty_slots: vec![],
        }
    }

    /// The specification of such a machine; what is not hardware is as in `wanted`.
    #[must_use]
    pub fn spec(&self, wanted: &VmSpec) -> VmSpec {
        VmSpec {
            vcpus: self.vcpus,
            vcpus_max: self.cpus.map(|cpus| cpus.most),
            memory_bytes: self.memory_with(|plugged| plugged.asked),
            memory_max_bytes: self.plugged.map(|_| self.memory_with(|plugged| plugged.most)),
            boot: self.boot.clone(),
            display: Some(self.display),
            cpu: self.cpu,
            watchdog: self.watchdog,
            tpm: self.tpm,
            passthrough: self.passthrough.clone(),
            rng: self.rng,
            disks: self.disks.iter().map(|d| d.device.clone()).collect(),
            nics: self.nics.iter().map(|n| n.device.clone()).collect(),
            cdroms: self.cdroms.iter().map(|c| Cdrom { image: c.image.filter(|_| c.loaded) }).collect(),
            cloud_init: self.cloud_init.as_ref().map(|c| c.device.clone()),
            ..wanted.clone()
        }
    }

    /// What it was started with, and this of what comes and goes.
    #[must_use]
    pub fn memory_with(&self, of: impl FnOnce(&PluggedMemory) -> Bytes) -> Bytes {
        self.memory_bytes.saturating_add(self.plugged.as_ref().map_or(Bytes(0), of))
    }

    /// Without what changes by itself, as if all were as it was asked for: what a place for it is made by.
    #[must_use]
    pub fn layout(mut self) -> Self {
        self.plugged.iter_mut().for_each(|plugged| plugged.taken = plugged.asked);
        self.cpus.iter_mut().for_each(|cpus| cpus.present = self.vcpus);
        self
    }

    /// Virtual CPUs the host has to have room for: those there are, or may be at any moment.
    #[must_use]
    pub fn busy_cpus(&self) -> u8 {
        self.vcpus.max(self.cpus.map_or(0, |cpus| cpus.present))
    }

    /// With all that may come.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.plugged.iter_mut().for_each(|plugged| plugged.taken = plugged.most);
        self.cpus.iter_mut().for_each(|cpus| cpus.present = cpus.most);
        self
    }

    /// A disk.
    #[must_use]
    pub fn disk(&self, volume: VolumeId) -> Option<&Disk> {
        self.disks.iter().map(|d| &d.device).find(|d| d.volume == volume)
    }

    /// An interface.
    #[must_use]
    pub fn nic(&self, mac: Mac) -> Option<&Nic> {
        self.nics.iter().map(|n| &n.device).find(|n| n.mac == Some(mac))
    }

    /// Takes up what the monitor says of the machine. What of it is not known here is left out; whoever plugs something in writes
    /// it down before.
    #[must_use]
    pub fn as_told(&self, Told { config, loaded, memory, cpus }: &Told) -> Self {
        let before = self.cpus.map_or(config.vcpus, |cpus| cpus.present);
        let cpus = config
            .devices
            .cpus
            .map(|may| PluggedCpus { most: may.most, present: cpus.map_or(before, |cpus| cpus.present) });
        let before = self.plugged.map_or(Bytes(0), |plugged| plugged.taken);
        let plugged = config.devices.memory.map(|region| PluggedMemory {
            most: Bytes(region.most_bytes),
            asked: Bytes(region.requested_bytes),
            taken: memory.map_or(before, |memory| Bytes(memory.plugged_bytes)),
        });
        let disks = config.disks.iter().filter_map(|told| {
            let disk = self.disks.iter().map(|d| &d.device).find(|d| serial(d.volume) == told.serial)?;
            let device = Disk { volume: disk.volume, read_only: told.read_only, limits: told.limits };
            Some(Fitted { device, slot: told.slot, queues: told.queues })
        });
        let nics = config.nics.iter().filter_map(|told| {
            let nic = self.nic(told.mac)?.clone();
            let device = Nic { connected: !told.link_down, limits: told.limits, ..nic };
            Some(Fitted { device, slot: told.slot, queues: told.queues })
        });
        let seed = config.disks.iter().find(|disk| disk.serial == SEED_SERIAL);
        let seed = self.cloud_init.as_ref().zip(seed);
        let drives = self.cdroms.iter().enumerate().map(|(n, drive)| match loaded.get(n) {
            Some(true) => Drive { image: drive.image.filter(|_| drive.loaded), loaded: true },
            Some(false) => Drive { loaded: false, ..*drive },
            None => *drive,
        });
        Self {
            vcpus: cpus.map_or(self.vcpus, |_| config.vcpus),
            cpus,
            plugged,
            hotplug: config.devices.hotplug.is_some(),
            disks: disks.collect(),
            nics: nics.collect(),
            cdroms: drives.collect(),
            cloud_init: seed.map(|(has, told)| Fitted {
                device: has.device.clone(),
                slot: told.slot,
                queues: told.queues,
            }),
            empty_slots: config.empty_slots.clone(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::NetworkId;
    use serde_json::json;

    #[test]
    fn what_a_monitor_says_counts_but_for_what_it_cannot_know() {
        let [one, two] = [VolumeId::new(), VolumeId::new()];
        let (network, image) = (NetworkId::new(), ImageId::new());
        let nic = Nic { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..Nic::on(network) };
        let drives = vec![Cdrom { image: Some(image) }, Cdrom { image: Some(image) }];
        let spec = VmSpec {
            disks: vec![Disk::of(one), Disk::of(two)],
            nics: vec![nic.clone()],
            cdroms: drives,
            cloud_init: Some(CloudInit::default()),
            ..VmSpec::default()
        };
        let config: VmmConfig = serde_json::from_value(json!({
            "version": 1, "vm": lq_api::VmId::new(), "name": "web-1", "vcpus": 1, "memory_bytes": 64 << 20,
            "boot": {"direct": {"kernel": "/k"}}, "run_dir": "/run/vm", "empty_slots": [1],
            "devices": {"cpus": {"most": 8}, "memory": {"most_bytes": 1 << 30, "requested_bytes": 256 << 20}},
            "disks": [{"serial": "cidata", "image": {"path": "/s", "format": "raw"}, "slot": 5}, {"serial": serial(two), "image": {"path": "/d", "format": "raw"}, "read_only": true, "slot": 2, "queues": 3},
                {"serial": "foreign", "image": {"path": "/f", "format": "raw"}}],
            "nics": [{"tap": "t", "mac": "02:00:00:00:00:01", "link_down": true, "slot": 3}],
        }))
        .unwrap();
        let memory =
            Some(MemoryStatus { most_bytes: 1 << 30, requested_bytes: 256 << 20, plugged_bytes: 128 << 20 });
        let cpus = Some(CpuStatus { most: 8, wanted: 1, present: 3 });
        let has = Hardware::of(&spec).as_told(&Told { config, loaded: vec![true, false], memory, cpus });
        assert_eq!((has.vcpus, has.cpus, has.busy_cpus()), (1, Some(PluggedCpus { most: 8, present: 3 }), 3));
        let mib = Bytes::mib;
        assert_eq!(has.plugged, Some(PluggedMemory { most: mib(1024), asked: mib(256), taken: mib(128) }));
        assert_eq!((has.memory_with(|p| p.taken), has.spec(&spec).memory_bytes), (mib(256), mib(384)));
        assert_eq!(has.clone().layout().plugged.map(|p| (p.asked, p.taken)), Some((mib(256), mib(256))));
        assert_eq!(has.clone().whole().memory_with(PluggedMemory::needs), mib(128 + 1024));
        let disk = Disk { read_only: true, ..Disk::of(two) };
        assert_eq!(has.disks, [Fitted { device: disk, slot: Some(2), queues: 3 }]);
        assert_eq!(has.nics, [Fitted { device: Nic { connected: false, ..nic }, slot: Some(3), queues: 1 }]);
        assert_eq!(has.cdroms, [Drive::of(Some(image)), Drive { image: Some(image), loaded: false }]);
        assert_eq!((has.cdroms[0].ejected(), has.cdroms[1].ejected()), (None, Some(image)));
        assert!(!has.hotplug && has.empty_slots == [1]);
        assert_eq!(has.cloud_init.as_ref().and_then(|c| c.slot), Some(5));
        // What an earlier release wrote down says nothing of queues: there was one each.
        let mut old = serde_json::to_value(&has).unwrap();
        old["disks"][0].as_object_mut().unwrap().remove("queues");
        assert_eq!(serde_json::from_value::<Hardware>(old).unwrap().disks[0].queues, 1);
        let seen = has.spec(&VmSpec { autostart: false, ..spec });
        assert_eq!((seen.disks.len(), seen.cdroms[1].image, seen.autostart), (1, None, false));
    }
}
