//! Interfaces and disks, from `/sys`.

use lq_api::{
    Bytes,
    host::{BlockDevice, Interface},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Entries of a directory of `/sys`, by name.
pub(super) fn entries(dir: PathBuf) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| Some((e.file_name().into_string().ok()?, e.path()))).collect()
}

pub(super) fn attribute(path: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(path.join(name)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Physical interfaces (those with a device behind them), and our bridge, which bears the host's addresses.
pub(super) fn interfaces(root: &Path) -> Vec<Interface> {
    let addresses = addresses();
    let physical =
        |name: &str, path: &Path| path.join("device").exists() || name == crate::network::bridge::BRIDGE;
    entries(root.join("sys/class/net"))
        .into_iter()
        .filter(|(name, path)| physical(name, path))
        .map(|(name, path)| Interface {
            mac: attribute(&path, "address").unwrap_or_default(),
            // `carrier` cannot be read while the interface is set to down.
            up: attribute(&path, "carrier").as_deref() == Some("1"),
            addresses: addresses.get(&name).cloned().unwrap_or_default(),
            name,
        })
        .collect()
}

/// Addresses with prefix by interface, except link-local ones.
pub(super) fn addresses() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let (Some(address), Some(mask)) = (entry.address, entry.netmask) else { continue };
        let text = if let (Some(ip), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            format!("{}/{}", ip.ip(), u32::from(mask.ip()).count_ones())
        } else if let (Some(ip), Some(mask)) = (address.as_sockaddr_in6(), mask.as_sockaddr_in6())
            && !ip.ip().is_unicast_link_local()
        {
            format!("{}/{}", ip.ip(), u128::from(mask.ip()).count_ones())
        } else {
            continue;
        };
        found.entry(entry.interface_name).or_default().push(text);
    }
    found
}

/// Disks with a device behind them: no partitions, loops, device mappers, RAM or optical drives.
pub(super) fn disks(root: &Path) -> Vec<BlockDevice> {
    entries(root.join("sys/block"))
        .into_iter()
        .filter(|(name, path)| path.join("device").exists() && !name.starts_with("sr"))
        .filter_map(|(name, path)| {
            // In units of 512 bytes whatever the disk's own sector size.
            let sectors: u64 = attribute(&path, "size")?.parse().ok()?;
            let device = path.join("device");
            Some(BlockDevice {
                name,
                size_bytes: Bytes(sectors.checked_mul(512)?),
                model: attribute(&device, "model"),
                // virtio tells it on the disk, SCSI and NVMe on the device.
                serial: attribute(&path, "serial")
                    .or_else(|| attribute(&device, "serial"))
                    .or_else(|| scsi_serial(&device)),
                health: None,
            })
        })
        .filter(|disk| disk.size_bytes.get() > 0)
        .collect()
}

/// Serial number of a SCSI disk: page 0x80 of its vital product data, after four bytes of header.
fn scsi_serial(device: &Path) -> Option<String> {
    let page = fs::read(device.join("vpd_pg80")).ok()?;
    let text = String::from_utf8_lossy(page.get(4..)?).trim_matches(['\0', ' ']).to_owned();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_told_from_what_only_looks_like_one() {
        let dir = tempfile::tempdir().unwrap();
        let block = dir.path().join("sys/block");
        for name in ["sda", "vda", "sr0", "loop0", "nvme0n1"] {
            let device = if name == "loop0" { block.join(name) } else { block.join(name).join("device") };
            fs::create_dir_all(&device).unwrap();
            fs::write(block.join(name).join("size"), "2048\n").unwrap();
        }
        fs::write(block.join("vda/serial"), "v1").unwrap();
        fs::write(block.join("nvme0n1/device/serial"), " n1  ").unwrap();
        fs::write(block.join("sda/device/vpd_pg80"), b"\0\x80\0\x04 s1 ").unwrap();
        let found: Vec<_> =
            disks(dir.path()).into_iter().map(|d| (d.name, d.size_bytes, d.serial.unwrap())).collect();
        let of = |name: &str, serial: &str| (name.to_owned(), Bytes::mib(1), serial.to_owned());
        assert_eq!(found, [of("nvme0n1", "n1"), of("sda", "s1"), of("vda", "v1")]);
    }

    #[test]
    fn loopback_has_its_address() {
        assert!(addresses().get("lo").is_some_and(|a| a.contains(&"127.0.0.1/8".to_owned())));
    }
}
