//! What the machine has now, as its controller knows it: the configuration it would have to be started with to be as it is,
//! where its devices are on the bus, and their counters.
//!
//! Invariant: disks and interfaces have the same order in all three.

use crate::{
    change::Slots,
    config,
    stats::{Counter, DeviceCounters},
};
use lq_api::local::vmm::{BootDevice, Command, DeviceName, DiskConfig, NicConfig, VmmConfig};
use std::collections::BTreeSet;

/// The inventory.
pub struct Inventory {
    config: VmmConfig,
    /// Where devices are that can be changed.
    pub slots: Slots,
    /// Counters of disks and interfaces.
    pub counters: DeviceCounters,
    /// Slots of all other devices.
    others: BTreeSet<usize>,
}

/// A device's configuration, to be plugged in.
#[derive(Clone, Debug)]
pub enum Added {
    /// A disk.
    Disk(DiskConfig),
    /// An interface.
    Nic(NicConfig),
}

fn number(slot: usize) -> Option<u8> {
    u8::try_from(slot).ok()
}

impl Inventory {
    /// Of a machine just made as `config` says, with `others` in the slots of what is neither disk nor interface.
    #[must_use]
    pub fn new(
        mut config: VmmConfig,
        slots: Slots,
        counters: DeviceCounters,
        others: BTreeSet<usize>,
    ) -> Self {
        for (disk, slot) in config.disks.iter_mut().zip(&slots.disks) {
            disk.slot = number(*slot);
        }
        for (nic, slot) in config.nics.iter_mut().zip(&slots.nics) {
            nic.slot = number(*slot);
        }
        Self { config, slots, counters, others }
    }

    /// The configuration of such a machine.
    #[must_use]
    pub fn config(&self) -> VmmConfig {
        let taken: BTreeSet<_> =
            self.slots.disks.iter().chain(&self.slots.nics).chain(&self.others).collect();
        // Only what comes into a slot by itself could come into a wrong one.
        let end = self.others.last().copied().unwrap_or(0);
        let empty_slots = (1..end).filter(|slot| !taken.contains(slot)).filter_map(number).collect();
        let mut config = VmmConfig { empty_slots, ..self.config.clone() };
        for (cdrom, loaded) in config.devices.cdroms.iter_mut().zip(self.slots.loaded()) {
            cdrom.image.take_if(|_| !loaded);
        }
        config
    }

    /// Virtual CPUs that are wanted.
    #[must_use]
    pub fn vcpus(&self) -> u8 {
        self.config.vcpus
    }

    /// So many virtual CPUs are wanted from now on.
    pub fn aimed(&mut self, vcpus: u8) {
        self.config.vcpus = vcpus;
    }

    /// Whether things may come and go.
    #[must_use]
    pub fn hotplug(&self) -> bool {
        self.config.devices.hotplug.is_some()
    }

    /// Why the machine cannot be saved or moved; none: it can.
    #[must_use]
    pub fn rooted(&self) -> Option<String> {
        config::rooted(&self.config)
    }

    /// Why the machine's memory neither comes nor goes; none: it does.
    #[must_use]
    pub fn pinned(&self) -> Option<String> {
        config::pinned(&self.config)
    }

    /// Why the machine cannot have a lease; none: it can.
    #[must_use]
    pub fn unleasable(&self) -> Option<String> {
        config::unleasable(&self.config)
    }

    /// Whether `added` would fit.
    ///
    /// # Errors
    /// What is wrong with it, all at once.
    pub fn check(&self, added: &Added) -> Result<(), String> {
        let mut with = self.config.clone();
        // What was wrong at the start did not start; a fault is of what is new.
        match added.clone() {
            Added::Disk(disk) => with.disks.push(disk),
            Added::Nic(nic) => with.nics.push(nic),
        }
        let faults = config::faults(&with);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }

    /// The slot of a device.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn slot(&self, name: &DeviceName) -> Result<usize, String> {
        let (what, found) = match name {
            DeviceName::Disk(serial) => {
                let at = self.config.disks.iter().position(|disk| disk.serial == *serial);
                (
                    format!("disk with the serial number {serial:?}"),
                    at.and_then(|at| self.slots.disks.get(at)),
                )
            }
            DeviceName::Nic(mac) => {
                let at = self.config.nics.iter().position(|nic| nic.mac == *mac);
                (format!("interface with the address {mac}"), at.and_then(|at| self.slots.nics.get(at)))
            }
        };
        found.copied().ok_or_else(|| format!("the machine has no {what}"))
    }

    /// A device is in `slot` now.
    pub fn plugged(&mut self, added: Added, slot: usize, counter: Counter) {
        match added {
            Added::Disk(disk) => {
                self.config.disks.push(DiskConfig { slot: number(slot), ..disk });
                self.slots.disks.push(slot);
                self.counters.disks.push(counter);
            }
            Added::Nic(nic) => {
                self.config.nics.push(NicConfig { slot: number(slot), ..nic });
                self.slots.nics.push(slot);
                self.counters.nics.push(counter);
            }
        }
    }

    /// The device in `slot` is gone; returns its name.
    pub fn removed(&mut self, slot: usize) -> Option<DeviceName> {
        let place = |slots: &[usize]| slots.iter().position(|other| *other == slot);
        if let Some(at) = place(&self.slots.disks) {
            self.slots.disks.remove(at);
            drop(self.counters.disks.remove(at));
            self.forget_boot(BootDevice::Disk(at as u32));
            return Some(DeviceName::Disk(self.config.disks.remove(at).serial));
        }
        let at = place(&self.slots.nics)?;
        self.slots.nics.remove(at);
        drop(self.counters.nics.remove(at));
        self.forget_boot(BootDevice::Nic(at as u32));
        Some(DeviceName::Nic(self.config.nics.remove(at).mac))
    }

    /// Takes a device out of the boot order; those after it have moved up.
    fn forget_boot(&mut self, gone: BootDevice) {
        let order = &mut self.config.boot_order;
        order.retain(|device| *device != gone);
        for device in order {
            match (device, gone) {
                (BootDevice::Disk(number), BootDevice::Disk(gone))
                | (BootDevice::Nic(number), BootDevice::Nic(gone))
                    if *number > gone =>
                {
                    *number -= 1;
                }
                _ => {}
            }
        }
    }

    /// A change was made to a device.
    pub fn changed(&mut self, by: &Command) {
        let Self { config, .. } = self;
        match by {
            Command::DiskLimits(change) => {
                if let Some(disk) = config.disks.get_mut(change.disk as usize) {
                    disk.limits = change.limits;
                }
            }
            Command::NicLimits(change) => {
                if let Some(nic) = config.nics.get_mut(change.nic as usize) {
                    nic.limits = change.limits;
                }
            }
            Command::NicLink(link) => {
                if let Some(nic) = config.nics.get_mut(link.nic as usize) {
                    nic.link_down = !link.up;
                }
            }
            Command::CdromInsert(insert) => {
                if let Some(cdrom) = config.devices.cdroms.get_mut(insert.cdrom as usize) {
                    cdrom.image = None;
                }
            }
            Command::CdromEject(eject) => {
                if let Some(cdrom) = config.devices.cdroms.get_mut(eject.cdrom as usize) {
                    cdrom.image = None;
                }
            }
            Command::MemoryTarget(target) => {
                if let Some(memory) = &mut config.devices.memory {
                    memory.requested_bytes = target.bytes;
                }
            }
            Command::BalloonTarget(target) => {
                if let Some(balloon) = &mut config.devices.balloon {
                    balloon.target_bytes = target.bytes & !0xfff;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::local::vmm::IoStats;
    use serde_json::json;

    fn config(serials: &[&str]) -> VmmConfig {
        let disk = |serial: &&str| json!({"serial": serial, "image": {"path": "/d", "format": "raw"}});
        serde_json::from_value(json!({
            "version": 1, "vm": "018f3a5e-0000-7000-8000-000000000001", "name": "web-1", "vcpus": 1,
            "memory_bytes": 64 << 20, "boot": {"direct": {"kernel": "/k"}}, "rng": true, "run_dir": "/run/vm",
            "disks": serials.iter().map(disk).collect::<Vec<_>>(),
            "nics": [{"tap": "tap0", "mac": "52:54:00:00:00:01"}],
            "boot_order": [{"disk": 1}, {"disk": 0}, {"nic": 0}],
            "devices": {"hotplug": {}},
        }))
        .unwrap()
    }

    fn counter() -> Counter {
        Box::new(IoStats::default)
    }

    /// Two disks, an interface and the random number source, in slots 1 to 4.
    fn inventory() -> Inventory {
        let slots = Slots { disks: vec![1, 2], nics: vec![3], ..Slots::default() };
        let counters = DeviceCounters { disks: vec![counter(), counter()], nics: vec![counter()] };
        Inventory::new(config(&["a", "b"]), slots, counters, [4].into())
    }

    #[test]
    fn what_went_leaves_its_slot_empty_and_the_order_of_boot_whole() {
        let mut inventory = inventory();
        assert!(inventory.config().empty_slots.is_empty());
        assert_eq!(inventory.removed(1), Some(DeviceName::Disk("a".into())));
        assert_eq!(inventory.removed(1), None);
        assert_eq!(inventory.removed(4), None, "the random number source stays");
        let config = inventory.config();
        assert_eq!(config.empty_slots, [1]);
        assert_eq!(
            config.disks.iter().map(|d| (d.serial.as_str(), d.slot)).collect::<Vec<_>>(),
            [("b", Some(2))]
        );
        assert_eq!(config.boot_order, [BootDevice::Disk(0), BootDevice::Nic(0)]);
        assert_eq!(inventory.slot(&DeviceName::Disk("b".into())), Ok(2));
        assert!(inventory.slot(&DeviceName::Disk("a".into())).unwrap_err().contains("no disk"));
        assert_eq!((inventory.counters.read().0.len(), inventory.counters.read().1.len()), (1, 1));
    }

    #[test]
    fn what_comes_is_the_last_and_is_checked_with_all_the_others() {
        let mut inventory = inventory();
        let disk = |serial: &str| Added::Disk(config(&[serial]).disks.remove(0));
        assert!(inventory.check(&disk("a")).unwrap_err().contains("\"a\" is used twice"));
        assert_eq!(inventory.check(&disk("c")), Ok(()));
        inventory.plugged(disk("c"), 5, counter());
        let config = inventory.config();
        assert_eq!(config.disks.last().unwrap().slot, Some(5));
        assert!(
            config.empty_slots.is_empty(),
            "nothing comes into a slot after the last fixed one by itself"
        );
        assert_eq!(inventory.slots.disks, [1, 2, 5]);
    }
}
