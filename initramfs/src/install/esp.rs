//! The EFI system partition: FAT32 with GRUB for UEFI, its configuration, and per slot a kernel and an initramfs.

use super::{
    grub::{self, Config},
    window::Window,
};
use crate::cmdline::Slot;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

/// Cluster size: small enough that 256 MiB are FAT32.
const CLUSTER: u32 = 2048;

/// A file to be put on the partition.
enum Content<'a> {
    Text(String),
    File(&'a Path),
}

/// Makes the partition in `length` bytes from `offset` of `disk`, with slot A from the medium's `lq` directory.
pub fn make(
    disk: &File,
    offset: u64,
    length: u64,
    sector_bytes: u32,
    lq: &Path,
    config: &Config,
) -> io::Result<()> {
    let sector = u16::try_from(sector_bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let sectors = u32::try_from(length / u64::from(sector_bytes)).unwrap_or(u32::MAX);
    let [a, b, c, d, ..] = config.disk.into_bytes();
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_sector(sector)
        .total_sectors(sectors)
        .bytes_per_cluster(CLUSTER.max(sector_bytes))
        .volume_id(u32::from_le_bytes([a, b, c, d]))
        .volume_label(*b"LQ-ESP     ");
    fatfs::format_volume(Window::new(disk, offset, length), options)?;
    let fs = FileSystem::new(Window::new(disk, offset, length), FsOptions::new())?;
    {
        let root = fs.root_dir();
        let boot = root.create_dir("EFI")?.create_dir("BOOT")?;
        let ours = root.create_dir("lq")?;
        let slot = ours.create_dir("a")?;
        let (vmlinuz, initrd, efi) = (lq.join("vmlinuz"), lq.join("initrd"), lq.join("bootx64.efi"));
        put(&slot, "vmlinuz", Content::File(&vmlinuz))?;
        put(&slot, "initrd", Content::File(&initrd))?;
        put(&slot, "slot.cfg", Content::Text(grub::slot(config, Slot::A)))?;
        put(&ours, "grub.cfg", Content::Text(grub::menu()))?;
        put(&boot, "BOOTX64.EFI", Content::File(&efi))?;
        // GRUB looks for this file to find the partition: the last one, so that a partition half made is not found.
        put(&ours, "disk.id", Content::Text(format!("{}\n", config.disk)))?;
    }
    fs.unmount()
}

fn put(dir: &fatfs::Dir<'_, Window<'_>>, name: &str, content: Content<'_>) -> io::Result<()> {
    let mut file = dir.create_file(name)?;
    file.truncate()?;
    match content {
        Content::Text(text) => file.write_all(text.as_bytes())?,
        Content::File(path) => {
            let mut source =
                File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
            let mut buffer = vec![0u8; 256 * 1024];
            loop {
                let count = source.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                file.write_all(buffer.get(..count).unwrap_or_default())?;
            }
        }
    }
    file.flush()
}

/// Reads a file of the partition back, for the final check.
pub fn read(disk: &File, offset: u64, length: u64, path: &str) -> io::Result<Vec<u8>> {
    let fs =
        FileSystem::new(Window::new(disk, offset, length), FsOptions::new().update_accessed_date(false))?;
    let mut bytes = Vec::new();
    fs.root_dir().open_file(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
