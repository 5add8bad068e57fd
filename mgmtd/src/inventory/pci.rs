//! Functions on the host's PCI bus, what the host itself uses them for, and which can be given to a machine.
//!
//! Judged at each call from `/sys` and `/proc`: an interface, a disk, a screen, a console or a watchdog belongs to the function that is
//! nearest to it on its path. Bridges are left out: only what is behind them can be given away. One with a driver that does more than
//! bridge (that of a board's LPC bus) keeps its group with the host all the same.

use super::devices::{addresses, attribute, entries};
use lq_api::{
    host::PciFunction,
    pci::{Neighbour, PciAddress, VFIO_DRIVER},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const BRIDGE: &str = "06";
/// Where the kernel keeps NVMe disks with more than one controller.
const NVME_SUBSYSTEMS: &str = "nvme-subsystem";

/// All functions but bridges.
#[must_use]
pub fn functions() -> Vec<PciFunction> {
    functions_from(Path::new("/"))
}

/// The same as another root directory has them.
pub(super) fn functions_from(root: &Path) -> Vec<PciFunction> {
    functions_of(root, &addresses().into_keys().collect())
}

/// The same, where these interfaces have an address of the host.
fn functions_of(root: &Path, addressed: &BTreeSet<String>) -> Vec<PciFunction> {
    let uses = uses(root, addressed);
    let devices = entries(root.join("sys/bus/pci/devices"));
    let group = |path: &Path| link_name(&path.join("iommu_group")).and_then(|group| group.parse().ok());
    let bridges: Vec<(Option<u32>, Neighbour)> = devices
        .iter()
        .filter(|(_, path)| is_bridge(&class(path)))
        .filter_map(|(name, path)| {
            let bridge = Neighbour { address: name.parse().ok()?, driver: link_name(&path.join("driver")) };
            bridge.stands_in_the_way().then(|| (group(path), bridge))
        })
        .collect();
    let found = devices.into_iter().filter_map(|(name, path)| {
        let address: PciAddress = name.parse().ok()?;
        let class = class(&path);
        let text = |name: &str| number(&path, name);
        (!is_bridge(&class)).then(|| PciFunction {
            address,
            name: kind(&class).to_owned(),
            class,
            vendor: text("vendor"),
            device: text("device"),
            driver: link_name(&path.join("driver")),
            iommu_group: group(&path),
            together_with: Vec::new(),
            obstacle: uses.get(&address).map(|uses| format!("the host itself needs it: {}", uses.join(", "))),
        })
    });
    let mut functions: Vec<PciFunction> = found.collect();
    let groups = functions.clone();
    for function in &mut functions {
        let Some(group) = function.iommu_group else {
            function.obstacle.get_or_insert_with(|| {
                "it is in no IOMMU group, so that nothing would keep it from the host's memory: switch the IOMMU (VT-d, AMD-Vi) on in the host's firmware".to_owned()
            });
            continue;
        };
        let others = groups.iter().filter(|f| f.iommu_group == Some(group) && f.address != function.address);
        function.together_with = others.clone().map(|other| other.address).collect();
        let held = others.filter_map(|other| {
            let why = other.obstacle.as_deref()?;
            let driver = other.driver.as_deref().unwrap_or("none");
            Some(format!("{} (driver {driver}), and {why}", other.address))
        });
        let bridges = bridges.iter().filter(|(of, _)| *of == Some(group)).map(|(_, bridge)| {
            let driver = bridge.driver.as_deref().unwrap_or("none");
            format!("{} (driver {driver}), a bridge of the host", bridge.address)
        });
        let held: Vec<_> = held.chain(bridges).collect();
        if !held.is_empty() {
            function.obstacle.get_or_insert_with(|| {
                format!(
                    "its IOMMU group {group} also holds {}; the functions of a group cannot be kept apart, and are given to one machine or to none",
                    held.join("; ")
                )
            });
        }
    }
    functions
}

/// A number of a function, in hexadecimal digits.
fn number(function: &Path, name: &str) -> String {
    attribute(function, name).unwrap_or_default().trim_start_matches("0x").to_owned()
}

fn class(function: &Path) -> String {
    number(function, "class")
}

fn is_bridge(class: &str) -> bool {
    class.starts_with(BRIDGE)
}

fn link_name(path: &Path) -> Option<String> {
    fs::read_link(path).ok()?.file_name()?.to_str().map(str::to_owned)
}

/// The functions nearest to a device of the kernel. They are several where an NVMe disk can be reached by more than one controller: such
/// a disk lies in its subsystem, which is on no bus, beside links to the controllers.
fn behind(device: &Path) -> Vec<PciAddress> {
    let nearest = |path: &Path| -> Option<PciAddress> {
        path.components().rev().find_map(|part| part.as_os_str().to_str()?.parse().ok())
    };
    let Ok(path) = fs::canonicalize(device) else { return vec![] };
    if let Some(address) = nearest(&path) {
        return vec![address];
    }
    let beside = path.parent().filter(|dir| dir.components().any(|part| part.as_os_str() == NVME_SUBSYSTEMS));
    let links = beside.map(|dir| entries(dir.to_owned())).unwrap_or_default().into_values();
    links.filter_map(|link| nearest(&fs::canonicalize(link).ok()?)).collect()
}

/// What the host uses functions for.
fn uses(root: &Path, addressed: &BTreeSet<String>) -> BTreeMap<PciAddress, Vec<String>> {
    let mut uses: BTreeMap<PciAddress, Vec<String>> = BTreeMap::new();
    let mut add = |device: PathBuf, what: String| {
        for address in behind(&device) {
            uses.entry(address).or_default().push(what.clone());
        }
    };
    for (name, path) in entries(root.join("sys/class/net")) {
        // One that something lies on (a bridge, a bond, a VLAN) bears the host's addresses, or its guests.
        let below =
            entries(path.clone()).keys().any(|entry| entry == "master" || entry.starts_with("upper_"));
        if below || addressed.contains(&name) {
            add(path, format!("its network interface {name} is in use"));
        }
    }
    let used = used_disks(root);
    for (name, path) in entries(root.join("sys/class/block")) {
        if used.contains(&name) && path.join("device").exists() {
            add(path, format!("its disk {name} is in use"));
        }
    }
    for (name, path) in entries(root.join("sys/bus/pci/devices")) {
        if attribute(&path, "boot_vga").as_deref() == Some("1") && name.parse::<PciAddress>().is_ok() {
            add(path, "its screen is the host's console".to_owned());
        }
    }
    for (name, path) in entries(root.join("sys/class/watchdog")) {
        add(path, format!("its {name} restarts the host should it hang"));
    }
    let consoles = fs::read_to_string(root.join("proc/consoles")).unwrap_or_default();
    for name in consoles.lines().filter_map(|line| line.split_whitespace().next()) {
        add(root.join("sys/class/tty").join(name).join("device"), format!("its line {name} is a console"));
    }
    uses
}

/// Disks of which a partition, or they themselves, are mounted or lie under something (verity, a volume group).
fn used_disks(root: &Path) -> BTreeSet<String> {
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let mounted: BTreeSet<&str> = mounts.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let block = entries(root.join("sys/class/block"));
    let in_use = |path: &Path| {
        attribute(path, "dev").is_some_and(|dev| mounted.contains(dev.as_str()))
            || !entries(path.join("holders")).is_empty()
    };
    let whole = |name: &str, path: &Path| {
        // A partition lies in the directory of its disk.
        let parent = fs::canonicalize(path).ok()?.parent()?.file_name()?.to_str()?.to_owned();
        if path.join("partition").exists() { Some(parent) } else { Some(name.to_owned()) }
    };
    block.iter().filter(|(_, path)| in_use(path)).filter_map(|(name, path)| whole(name, path)).collect()
}

/// What a class is called (PCI Code and ID Assignment 1.11, section 1).
fn kind(class: &str) -> &'static str {
    match (class.get(..2).unwrap_or_default(), class.get(2..4).unwrap_or_default()) {
        ("01", "08") => "NVMe controller",
        ("01", "06") => "SATA controller",
        ("01", "04") => "RAID controller",
        ("01", "07") => "SAS controller",
        ("01", _) => "storage controller",
        ("02", "00") => "Ethernet controller",
        ("02", "07") => "InfiniBand controller",
        ("02", _) => "network controller",
        ("03", _) => "display controller",
        ("04", _) => "multimedia device",
        ("05", _) => "memory controller",
        ("07", "00") => "serial controller",
        ("07", _) => "communication controller",
        ("08", _) => "system device",
        ("09", _) => "input device",
        ("0b", _) => "processor",
        ("0c", "03") => "USB controller",
        ("0c", "04") => "Fibre Channel controller",
        ("0c", "05") => "SMBus controller",
        ("0c", _) => "serial bus controller",
        ("0d", _) => "wireless controller",
        ("10", _) => "encryption controller",
        ("11", _) => "signal processing controller",
        ("12", _) => "accelerator",
        _ => "device",
    }
}

/// Whether a function is bound to the driver by which it is given away.
#[must_use]
pub fn is_given(function: &PciFunction) -> bool {
    function.driver.as_deref() == Some(VFIO_DRIVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A host in a directory.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }
        fn write(&self, path: &str, text: &str) {
            let path = self.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fn link(&self, path: &str, to: &str) {
            let (path, to) = (self.at(path), self.at(to));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::create_dir_all(&to).unwrap();
            symlink(to, path).unwrap();
        }
        fn function(&self, address: &str, class: &str, driver: Option<&str>, group: Option<u32>) {
            let device = format!("sys/devices/pci0000:00/{address}");
            self.write(&format!("{device}/class"), class);
            self.write(&format!("{device}/vendor"), "0x8086\n");
            self.write(&format!("{device}/device"), "0x10d3\n");
            self.link(&format!("sys/bus/pci/devices/{address}"), &device);
            if let Some(driver) = driver {
                self.link(&format!("{device}/driver"), &format!("sys/bus/pci/drivers/{driver}"));
            }
            if let Some(group) = group {
                self.link(&format!("{device}/iommu_group"), &format!("sys/kernel/iommu_groups/{group}"));
            }
        }
    }

    #[test]
    fn what_the_host_needs_is_not_given_away() {
        let tree = Tree::new();
        tree.function("0000:00:02.0", "0x020000\n", Some("e1000e"), Some(1));
        tree.function("0000:00:03.0", "0x020000\n", Some("virtio-pci"), Some(2));
        tree.function("0000:00:04.0", "0x010802\n", Some("nvme"), Some(3));
        tree.function("0000:00:05.0", "0x030000\n", Some("bochs-drm"), Some(4));
        tree.function("0000:00:1f.0", "0x060100\n", Some("lpc_ich"), Some(5));
        tree.function("0000:00:1f.2", "0x010601\n", Some("ahci"), Some(5));
        tree.function("0000:00:1f.3", "0x0c0500\n", None, Some(5));
        tree.function("0000:00:06.0", "0x020000\n", None, None);
        tree.function("0000:00:07.0", "0x020000\n", Some("igb"), Some(7));
        tree.function("0000:00:08.0", "0x088000\n", Some("i6300esb"), Some(8));
        // Two controllers of one disk; a bridge that is only one, and one with a driver that drives more.
        tree.function("0000:00:0a.0", "0x010802\n", Some("nvme"), Some(9));
        tree.function("0000:00:0b.0", "0x010802\n", Some("nvme"), Some(10));
        tree.function("0000:00:0c.0", "0x060400\n", Some("pcieport"), Some(11));
        tree.function("0000:01:00.0", "0x040300\n", Some("snd_hda_intel"), Some(11));
        tree.function("0000:00:1e.0", "0x060100\n", Some("lpc_ich"), Some(12));
        tree.function("0000:00:1e.3", "0x0c0500\n", None, Some(12));
        let shared = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
        tree.write(&format!("{shared}/nvme1n1/dev"), "259:1\n");
        for (name, address) in [("nvme1", "0000:00:0a.0"), ("nvme2", "0000:00:0b.0")] {
            tree.link(&format!("{shared}/{name}"), &format!("sys/devices/pci0000:00/{address}/nvme/{name}"));
        }
        tree.link(&format!("{shared}/nvme1n1/device"), shared);
        tree.link("sys/class/block/nvme1n1", &format!("{shared}/nvme1n1"));
        tree.link("sys/class/net/eth2", "sys/devices/pci0000:00/0000:00:07.0/net/eth2");
        tree.link("sys/class/watchdog/watchdog0", "sys/devices/pci0000:00/0000:00:08.0/watchdog/watchdog0");
        // The uplink is a port of the bridge, by way of virtio.
        tree.link("sys/class/net/eth1", "sys/devices/pci0000:00/0000:00:03.0/virtio0/net/eth1");
        tree.link("sys/devices/pci0000:00/0000:00:03.0/virtio0/net/eth1/master", "sys/class/net/lqbr0");
        tree.link("sys/class/net/eth0", "sys/devices/pci0000:00/0000:00:02.0/net/eth0");
        tree.write("sys/devices/pci0000:00/0000:00:05.0/boot_vga", "1\n");
        let sda = "sys/devices/pci0000:00/0000:00:1f.2/ata1/block/sda";
        tree.write(&format!("{sda}/dev"), "8:0\n");
        tree.link(&format!("{sda}/device"), "sys/devices/pci0000:00/0000:00:1f.2/ata1");
        tree.write(&format!("{sda}/sda5/dev"), "8:5\n");
        tree.write(&format!("{sda}/sda5/partition"), "5\n");
        tree.link("sys/class/block/sda", sda);
        tree.link("sys/class/block/sda5", &format!("{sda}/sda5"));
        let nvme = "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1";
        tree.write(&format!("{nvme}/dev"), "259:0\n");
        tree.link(&format!("{nvme}/device"), "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0");
        tree.link("sys/class/block/nvme0n1", nvme);
        let mounts =
            "30 1 8:5 / /state rw - ext4 /dev/sda5 rw\n31 1 259:1 / /more rw - ext4 /dev/nvme1n1 rw\n";
        tree.write("proc/self/mountinfo", mounts);
        let all = functions_of(tree.0.path(), &BTreeSet::from(["eth2".to_owned()]));
        let told: Vec<_> =
            all.iter().map(|f| (f.address.to_string(), f.obstacle.as_deref().unwrap_or(""))).collect();
        let expected = [
            ("0000:00:02.0", ""),
            ("0000:00:03.0", "interface eth1 is in use"),
            ("0000:00:04.0", ""),
            ("0000:00:05.0", "screen is the host's console"),
            ("0000:00:06.0", "no IOMMU group"),
            ("0000:00:07.0", "interface eth2 is in use"),
            ("0000:00:08.0", "watchdog0 restarts the host"),
            ("0000:00:0a.0", "disk nvme1n1 is in use"),
            ("0000:00:0b.0", "disk nvme1n1 is in use"),
            ("0000:00:1e.3", "group 12 also holds 0000:00:1e.0 (driver lpc_ich), a bridge of the host"),
            ("0000:00:1f.2", "disk sda is in use"),
            ("0000:00:1f.3", "group 5 also holds 0000:00:1f.2 (driver ahci), and the host itself needs it"),
            ("0000:01:00.0", ""),
        ];
        assert_eq!(told.len(), expected.len(), "no bridges: {told:#?}");
        for ((address, why), (at, part)) in told.iter().zip(expected) {
            assert!(
                address == at && why.contains(part) && why.is_empty() == part.is_empty(),
                "{address}: {why}"
            );
        }
        let smbus = all.iter().find(|f| f.address.to_string() == "0000:00:1f.3").unwrap();
        assert_eq!(smbus.together_with, ["0000:00:1f.2".parse().unwrap()]);
        assert_eq!((all[0].name.as_str(), all[0].vendor.as_str()), ("Ethernet controller", "8086"));
    }
}
