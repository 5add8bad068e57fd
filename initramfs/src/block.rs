//! The block devices of the machine, from sysfs, and what is on them, from their first bytes.
//!
//! [`scan`] reads sysfs only. [`Signs`] recognises file systems and partition tables in bytes and is pure.

use crate::error::{Doing, Result};
use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A disk or an optical drive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name, e.g. `sda`.
    pub name: String,
    /// Size; 0 where no medium is in.
    pub size_bytes: u64,
    /// Cannot be written.
    pub read_only: bool,
    /// An optical drive.
    pub optical: bool,
    /// As it calls itself.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World-wide name.
    pub wwn: Option<String>,
    /// Its partitions in order.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Kernel name, e.g. `sda1`.
    pub name: String,
    /// GPT label.
    pub label: Option<String>,
    /// Size.
    pub size_bytes: u64,
}

impl Disk {
    /// Its device node.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// The partition with a GPT label.
    pub fn partition(&self, label: &str) -> Option<&Partition> {
        self.partitions.iter().find(|p| p.label.as_deref() == Some(label))
    }

    /// One line for people: node, size, model, serial number.
    pub fn describe(&self) -> String {
        let mut text = format!("{} ({}", self.path().display(), size_text(self.size_bytes));
        for (what, value) in [("model", &self.model), ("serial", &self.serial), ("wwn", &self.wwn)] {
            if let Some(value) = value {
                text += &format!(", {what} {value}");
            }
        }
        text + ")"
    }
}

impl Partition {
    /// Its device node.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// A size for people, e.g. `3.5 GiB`.
pub fn size_text(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

fn text(path: PathBuf) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn sectors(dir: &Path) -> u64 {
    text(dir.join("size")).and_then(|t| t.parse::<u64>().ok()).unwrap_or(0).saturating_mul(512)
}

/// Every disk under `sys` (normally `/sys`), by name. Devices that are made of other devices or of memory are left out.
pub fn scan(sys: &Path) -> Vec<Disk> {
    let mut disks: Vec<Disk> = fs::read_dir(sys.join("block"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let virtual_kinds = ["loop", "ram", "dm-", "md", "zram", "nbd", "rbd", "drbd", "fd"];
            if virtual_kinds.iter().any(|k| name.starts_with(k)) {
                return None;
            }
            Some(disk(&entry.path(), name))
        })
        .collect();
    disks.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    disks
}

fn disk(dir: &Path, name: String) -> Disk {
    let mut partitions: Vec<Partition> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.path().join("partition").exists())
        .filter_map(|e| {
            let uevent = fs::read_to_string(e.path().join("uevent")).unwrap_or_default();
            let label = uevent.lines().find_map(|l| l.strip_prefix("PARTNAME=")).map(str::to_owned);
            Some(Partition { name: e.file_name().into_string().ok()?, label, size_bytes: sectors(&e.path()) })
        })
        .collect();
    partitions.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    let first = |names: &[&str]| names.iter().find_map(|n| text(dir.join(n)));
    // Page 0x80 of a SCSI disk's vital product data: 4 bytes of header, then the number.
    let vpd = fs::read(dir.join("device/vpd_pg80"))
        .ok()
        .and_then(|b| b.get(4..).map(|b| String::from_utf8_lossy(b).trim().to_owned()))
        .filter(|s| !s.is_empty());
    Disk {
        size_bytes: sectors(dir),
        read_only: text(dir.join("ro")).as_deref() == Some("1"),
        optical: name.starts_with("sr"),
        model: first(&["device/model"]),
        serial: first(&["serial", "device/serial"]).or(vpd),
        wwn: first(&["wwid", "device/wwid"]),
        partitions,
        name,
    }
}

/// Opens a device for reading without waiting for a medium.
pub fn open(path: &Path) -> Result<File> {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .doing(|| format!("open {}", path.display()))
}

/// Reads up to `length` bytes from `offset`; shorter where the device ends.
pub fn read_at(file: &mut File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// GPT disk GUID of a device, in lower case.
pub fn disk_guid(path: &Path) -> Option<String> {
    let mut file = open(path).ok()?;
    let sector = u64::from(crate::sys::sector_bytes(&file).unwrap_or(512));
    guid_in_header(&read_at(&mut file, sector, 92).ok()?)
}

/// The disk GUID in a GPT header.
fn guid_in_header(header: &[u8]) -> Option<String> {
    header.strip_prefix(b"EFI PART")?;
    let guid: [u8; 16] = header.get(56..72)?.try_into().ok()?;
    Some(uuid::Uuid::from_bytes_le(guid).to_string())
}

/// What the first bytes of a device say is on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Kinds found, e.g. `ext4 file system`.
    pub kinds: Vec<&'static str>,
    /// Label of the file system, where it has one we read (ISO 9660, FAT, ext).
    pub label: Option<String>,
    /// Type for `mount`, where the system is one we mount.
    pub mount_type: Option<&'static str>,
    /// Every byte looked at is zero.
    pub blank: bool,
}

/// How many first bytes [`Signs::of`] wants.
pub const HEAD_BYTES: usize = 1 << 20;

impl Signs {
    /// Looks at the first bytes of a device.
    pub fn of(head: &[u8]) -> Self {
        let mut signs = Self { blank: head.iter().all(|b| *b == 0), ..Self::default() };
        let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|h| h.starts_with(magic));
        let label = |offset: usize, length: usize| {
            let bytes = head.get(offset..offset + length)?;
            let text = String::from_utf8_lossy(bytes);
            let text = text.trim_end_matches(['\0', ' ']);
            (!text.is_empty()).then(|| text.to_owned())
        };
        if at(512, b"EFI PART") || at(4096, b"EFI PART") {
            signs.kinds.push("GPT partition table");
        }
        let fat = at(54, b"FAT") || at(82, b"FAT32");
        if at(510, &[0x55, 0xaa]) && !fat && head.get(446..510).is_some_and(|t| t.iter().any(|b| *b != 0)) {
            signs.kinds.push("MBR partition table");
        }
        if fat && at(510, &[0x55, 0xaa]) {
            signs.kinds.push("FAT file system");
            signs.mount_type = Some("vfat");
            signs.label = if at(82, b"FAT32") { label(71, 11) } else { label(43, 11) };
        }
        if at(1024 + 56, &[0x53, 0xef]) {
            signs.kinds.push("ext2/3/4 file system");
            signs.mount_type = Some("ext4");
            signs.label = label(1024 + 120, 16);
        }
        if at(32768 + 1, b"CD001") && at(32768, &[1]) {
            signs.kinds.push("ISO 9660 image");
            signs.mount_type = Some("iso9660");
            signs.label = label(32768 + 40, 32);
        }
        let others: [(usize, &[u8], &'static str); 12] = [
            (0, b"XFSB", "XFS file system"),
            (0, b"hsqs", "squashfs image"),
            (3, b"NTFS    ", "NTFS file system"),
            (3, b"EXFAT   ", "exFAT file system"),
            (0, b"LUKS\xba\xbe", "LUKS encrypted volume"),
            (512, b"LABELONE", "LVM physical volume"),
            (0x10040, b"_BHRfS_M", "btrfs file system"),
            (4086, b"SWAPSPACE2", "swap area"),
            (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "Linux RAID member"),
            (0, &[0xfc, 0x4e, 0x2b, 0xa9], "Linux RAID member"),
            (0x20000 - 0x1000 + 0x3e8, b"version", "ZFS pool member"),
            (0x200000 - 0x1000, b"VMFS", "VMFS file system"),
        ];
        signs.kinds.extend(others.iter().filter(|(o, magic, _)| at(*o, magic)).map(|(_, _, kind)| *kind));
        signs
    }

    /// Reads a device and looks at it.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        let head = read_at(&mut file, 0, HEAD_BYTES).doing(|| format!("read {}", path.display()))?;
        Ok(Self::of(&head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn disks_and_partitions_are_read_from_sysfs() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        write(sys, "block/vda/size", "8192\n");
        write(sys, "block/vda/ro", "0\n");
        write(sys, "block/vda/serial", "S1\n");
        write(sys, "block/vda/vda2/partition", "2\n");
        write(sys, "block/vda/vda2/size", "2048\n");
        write(sys, "block/vda/vda2/uevent", "PARTN=2\nPARTNAME=lq-esp\n");
        write(sys, "block/sda/size", "1\n");
        write(sys, "block/sda/device/model", "QEMU   HARDDISK  \n");
        write(sys, "block/sda/device/vpd_pg80", "\0\u{1}\0\u{2}AB");
        write(sys, "block/loop0/size", "8\n");
        let disks = scan(sys);
        assert_eq!(disks.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["sda", "vda"]);
        assert_eq!(disks[0].describe(), "/dev/sda (512 B, model QEMU   HARDDISK, serial AB)");
        assert_eq!(disks[1].size_bytes, 4 << 20);
        assert_eq!(disks[1].partition("lq-esp").unwrap().path(), Path::new("/dev/vda2"));
    }

    #[test]
    fn signs_are_recognised() {
        assert!(Signs::of(&[0; 4096]).blank);
        let mut head = vec![0; HEAD_BYTES];
        head[32768] = 1;
        head[32769..32774].copy_from_slice(b"CD001");
        head[32808..32819].copy_from_slice(b"LIMIQUANTIX");
        head[32819..32840].fill(b' ');
        let signs = Signs::of(&head);
        assert_eq!(signs.label.as_deref(), Some("LIMIQUANTIX"));
        assert_eq!((signs.mount_type, signs.blank), (Some("iso9660"), false));
        let mut fat = vec![0; 4096];
        fat[43..54].copy_from_slice(b"LQ-ANSWER  ");
        fat[54..62].copy_from_slice(b"FAT16   ");
        fat[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(Signs::of(&fat).label.as_deref(), Some("LQ-ANSWER"));
        assert_eq!(Signs::of(&fat).kinds, ["FAT file system"]);
    }

    #[test]
    fn a_disk_guid_is_read_in_its_mixed_order() {
        let guid: uuid::Uuid = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        let mut header = vec![0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[56..72].copy_from_slice(&guid.to_bytes_le());
        assert_eq!(guid_in_header(&header), Some(guid.to_string()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(head in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = Signs::of(&head);
            let _ = guid_in_header(&head);
        }
    }
}
