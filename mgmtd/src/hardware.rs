//! What a machine that runs has: the specification its process was started with, and what was changed of it since.
//!
//! In the words of the agreed state, so that it means the same on every host: it is kept beside the process, compared with what
//! is wanted (`compute::adjust`), and goes along when the machine moves (`cluster::state::moves`): a process that waits for a
//! machine has to be made as the machine is, not as it is wanted to be.

use lq_api::{
    Bytes, ImageId, VolumeId,
    cloud_init::CloudInit,
    local::vmm::{CpuModel, VmmConfig, WatchdogAction},
    vm::{Boot, Cdrom, Disk, Mac, Nic, VmSpec},
};
use serde::{Deserialize, Serialize};

/// What a machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Memory.
    pub memory_bytes: Bytes,
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

/// A device that can come and go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitted<T> {
    /// As it was last set.
    pub device: T,
    /// Its slot on the bus, where it is known.
    #[serde(default)]
    pub slot: Option<u8>,
}

impl<T> From<T> for Fitted<T> {
    fn from(device: T) -> Self {
        Self { device, slot: None }
    }
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
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            boot: spec.boot.clone(),
            display: spec.display.unwrap_or_default(),
            cpu: spec.cpu,
            watchdog: spec.watchdog,
            rng: spec.rng,
            hotplug: true,
            disks: spec.disks.iter().cloned().map(Fitted::from).collect(),
            nics: spec.nics.iter().cloned().map(Fitted::from).collect(),
            cdroms: spec.cdroms.iter().map(|c| Drive::of(c.image)).collect(),
            cloud_init: spec.cloud_init.clone().map(Fitted::from),
            empty_slots: vec![],
        }
    }

    /// The specification of such a machine; what is not hardware is as in `wanted`.
    #[must_use]
    pub fn spec(&self, wanted: &VmSpec) -> VmSpec {
        VmSpec {
            vcpus: self.vcpus,
            memory_bytes: self.memory_bytes,
            boot: self.boot.clone(),
            display: Some(self.display),
            cpu: self.cpu,
            watchdog: self.watchdog,
            rng: self.rng,
            disks: self.disks.iter().map(|d| d.device.clone()).collect(),
            nics: self.nics.iter().map(|n| n.device.clone()).collect(),
            cdroms: self.cdroms.iter().map(|c| Cdrom { image: c.image.filter(|_| c.loaded) }).collect(),
            cloud_init: self.cloud_init.as_ref().map(|c| c.device.clone()),
            ..wanted.clone()
        }
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

    /// Takes up what the monitor says of the machine: `config`, and which CD drives have a medium. What of it is not known here
    /// is left out; whoever plugs something in writes it down before.
    #[must_use]
    pub fn as_told(&self, config: &VmmConfig, loaded: &[bool]) -> Self {
        let disks = config.disks.iter().filter_map(|told| {
            let disk = self.disks.iter().map(|d| &d.device).find(|d| serial(d.volume) == told.serial)?;
            let device = Disk { volume: disk.volume, read_only: told.read_only, limits: told.limits };
            Some(Fitted { device, slot: told.slot })
        });
        let nics = config.nics.iter().filter_map(|told| {
            let nic = self.nic(told.mac)?.clone();
            let device = Nic { connected: !told.link_down, limits: told.limits, ..nic };
            Some(Fitted { device, slot: told.slot })
        });
        let seed = config.disks.iter().find(|disk| disk.serial == SEED_SERIAL);
        let seed = self.cloud_init.as_ref().zip(seed);
        let drives = self.cdroms.iter().enumerate().map(|(n, drive)| match loaded.get(n) {
            Some(true) => Drive { image: drive.image.filter(|_| drive.loaded), loaded: true },
            Some(false) => Drive { loaded: false, ..*drive },
            None => *drive,
        });
        Self {
            hotplug: config.devices.hotplug.is_some(),
            disks: disks.collect(),
            nics: nics.collect(),
            cdroms: drives.collect(),
            cloud_init: seed.map(|(has, told)| Fitted { device: has.device.clone(), slot: told.slot }),
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
            "disks": [{"serial": "cidata", "image": {"path": "/s", "format": "raw"}, "slot": 5}, {"serial": serial(two), "image": {"path": "/d", "format": "raw"}, "read_only": true, "slot": 2},
                {"serial": "foreign", "image": {"path": "/f", "format": "raw"}}],
            "nics": [{"tap": "t", "mac": "02:00:00:00:00:01", "link_down": true, "slot": 3}],
        }))
        .unwrap();
        let has = Hardware::of(&spec).as_told(&config, &[true, false]);
        let disk = Disk { read_only: true, ..Disk::of(two) };
        assert_eq!(has.disks, [Fitted { device: disk, slot: Some(2) }]);
        assert_eq!(has.nics, [Fitted { device: Nic { connected: false, ..nic }, slot: Some(3) }]);
        assert_eq!(has.cdroms, [Drive::of(Some(image)), Drive { image: Some(image), loaded: false }]);
        assert_eq!((has.cdroms[0].ejected(), has.cdroms[1].ejected()), (None, Some(image)));
        assert!(!has.hotplug && has.empty_slots == [1]);
        assert_eq!(has.cloud_init.as_ref().and_then(|c| c.slot), Some(5));
        let seen = has.spec(&VmSpec { autostart: false, ..spec });
        assert_eq!((seen.disks.len(), seen.cdroms[1].image, seen.autostart), (1, None, false));
    }
}
