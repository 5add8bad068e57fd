//! The installation itself, step by step, each made durable before the next.
//!
//! Partitions are written by their offsets in the whole disk, because the table that names them comes last. The file systems
//! of state and data are made through loop devices over the same ranges.

use super::{
    esp,
    grub::{self, Config},
    plan::{Part, Plan},
    table,
};
use crate::{
    error::{Doing, Error, Result},
    mounts, partition, say, settings,
    sys::{dm, loopdev::LoopDevice},
};
use lq_api::{
    answer::Answer,
    local::layout::{self, RootManifest},
};
use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const CHUNK: usize = 1 << 20;

/// Where the installation comes from.
#[derive(Debug)]
pub struct Source {
    /// The mounted boot medium.
    pub medium: PathBuf,
    /// The file system of the running root, verified by the kernel as it is read.
    pub verified: PathBuf,
    /// What the root image is.
    pub manifest: RootManifest,
}

fn part(plan: &Plan, label: &str) -> Result<Part> {
    plan.part(label).ok_or_else(|| Error::wrong(format!("the plan has no partition {label}")))
}

/// Carries the plan out.
pub fn install(plan: &Plan, source: &Source, config: &Config, answer: &Answer) -> Result<()> {
    let lq = source.medium.join("lq");
    let core_sector = part(plan, layout::PART_BIOS)?.offset / 512;
    let room = part(plan, layout::PART_BIOS)?.length;
    let read = |name: &str| {
        let path = lq.join(name);
        fs::read(&path).doing(|| format!("read {}", path.display()))
    };
    // All that can be wrong with the source is found before the disk is touched.
    let boot_code =
        grub::boot_code(&read("boot.img")?, core_sector).map_err(|e| Error::wrong(e.to_string()))?;
    let core =
        grub::core_image(&read("core.img")?, core_sector, room).map_err(|e| Error::wrong(e.to_string()))?;
    for name in ["vmlinuz", "initrd", "bootx64.efi", "root.img"] {
        let path = lq.join(name);
        fs::metadata(&path).doing(|| format!("look at {}", path.display()))?;
    }
    let doing = |what: &'static str| move || format!("{what} {}", plan.node);
    let mut disk = OpenOptions::new()
        .read(true)
        .write(true)
        // Exclusively: a disk something is mounted from is refused.
        .custom_flags(libc::O_EXCL)
        .open(&plan.node)
        .doing(doing("open"))?;

    say::info("1/6 wiping the old partition table");
    table::wipe(&disk, plan).doing(doing("wipe"))?;

    say::info("2/6 copying the root image to slot A");
    copy_root(&disk, part(plan, layout::PART_SLOT_A)?, source, &lq.join("root.img"))?;

    say::info("3/6 writing the boot files");
    let esp_part = part(plan, layout::PART_ESP)?;
    esp::make(&disk, esp_part.offset, esp_part.length, plan.sector_bytes, &lq, config)
        .doing(doing("write the EFI system partition of"))?;
    disk.write_all_at(&core, core_sector * 512).doing(doing("write GRUB to"))?;
    disk.sync_all().doing(doing("write back"))?;

    say::info("4/6 making the state and data file systems");
    for label in [layout::PART_STATE, layout::PART_DATA] {
        make_file_system(&disk, part(plan, label)?, answer)?;
    }
    disk.sync_all().doing(doing("write back"))?;

    say::info("5/6 verifying what was written");
    drop_caches(&disk);
    verify_root(&disk, part(plan, layout::PART_SLOT_A)?, config, &source.manifest)?;
    verify_boot_files(&disk, esp_part, &lq)?;

    say::info("6/6 writing the partition table and the boot code");
    table::write(&mut disk, plan, config.disk, boot_code).doing(doing("write the partition table of"))?;
    nix::unistd::sync();
    Ok(())
}

/// Copies the root image: its file system as the kernel verified it, its hash tree from the medium.
fn copy_root(disk: &File, slot: Part, source: &Source, image: &Path) -> Result<()> {
    let manifest = &source.manifest;
    if manifest.image_bytes > slot.length || manifest.data_bytes > manifest.image_bytes {
        return Err(Error::wrong("root.json does not fit the root image"));
    }
    let mut copied = 0;
    let mut told = 0;
    let mut chunk = vec![0u8; CHUNK];
    for (path, from, to) in [
        (source.verified.as_path(), 0, manifest.data_bytes),
        (image, manifest.data_bytes, manifest.image_bytes),
    ] {
        let file = File::open(path).doing(|| format!("open {}", path.display()))?;
        let mut at = from;
        while at < to {
            let want = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            let piece = chunk.get_mut(..want).unwrap_or_default();
            file.read_exact_at(piece, at).doing(|| {
                format!(
                    "read the root image from the installation medium at byte {at} (is the medium damaged?)"
                )
            })?;
            disk.write_all_at(piece, slot.offset + at).doing(|| "write slot A".into())?;
            at += want as u64;
            copied += want as u64;
            let percent = copied * 100 / manifest.image_bytes.max(1);
            if percent >= told + 25 {
                told = percent;
                say::info(&format!("    {percent} %"));
            }
        }
    }
    disk.sync_all().doing(|| "write back slot A".into())
}

fn make_file_system(disk: &File, part: Part, answer: &Answer) -> Result<()> {
    let device = LoopDevice::attach(disk, part.offset, part.length, false)?;
    partition::format(device.path(), part.label)?;
    if part.label == layout::PART_STATE {
        let target = "/run/limiquantix/install";
        mounts::mount_at(device.path(), target, "ext4", mounts::PLAIN, "")?;
        let written = settings::write_state(Path::new(target), answer);
        nix::unistd::sync();
        nix::mount::umount(target).doing(|| format!("unmount {target}"))?;
        written?;
    }
    device.detach()
}

/// Makes the next reads come from the disk itself.
fn drop_caches(disk: &File) {
    use std::os::fd::AsRawFd;
    const BLKFLSBUF: libc::c_ulong = 0x1261;
    // SAFETY: BLKFLSBUF takes no argument; on a plain file (tests) it is refused, which changes nothing.
    unsafe { libc::ioctl(disk.as_raw_fd(), BLKFLSBUF, 0) };
}

/// Reads the whole slot through dm-verity: the root hash vouches for every byte.
fn verify_root(disk: &File, slot: Part, config: &Config, manifest: &RootManifest) -> Result<()> {
    let device = LoopDevice::attach(disk, slot.offset, manifest.image_bytes, true)?;
    let node = dm::create_verity("lq-check", device.path(), &config.root)?;
    let result = read_through(&node);
    dm::remove("lq-check")?;
    device.detach()?;
    let length = result?;
    if length != manifest.data_bytes {
        return Err(Error::wrong(format!("slot A holds {length} bytes instead of {}", manifest.data_bytes)));
    }
    Ok(())
}

fn read_through(node: &Path) -> Result<u64> {
    let mut file = File::open(node).doing(|| format!("open {}", node.display()))?;
    let mut chunk = vec![0u8; CHUNK];
    let mut total = 0;
    loop {
        let count = file.read(&mut chunk).doing(|| {
            format!("verify slot A at byte {total}: the disk does not give back what was written; replace it")
        })?;
        if count == 0 {
            return Ok(total);
        }
        total += count as u64;
    }
}

fn verify_boot_files(disk: &File, part: Part, lq: &Path) -> Result<()> {
    for (there, here) in
        [("lq/a/vmlinuz", "vmlinuz"), ("lq/a/initrd", "initrd"), ("EFI/BOOT/BOOTX64.EFI", "bootx64.efi")]
    {
        let written =
            esp::read(disk, part.offset, part.length, there).doing(|| format!("read back {there}"))?;
        let wanted = fs::read(lq.join(here)).doing(|| format!("read {here}"))?;
        if written != wanted {
            return Err(Error::wrong(format!("{there} was not written as it should be; replace the disk")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::RootParams;

    #[test]
    fn boot_files_are_written_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let lq = dir.path().join("lq");
        fs::create_dir(&lq).unwrap();
        let kernel: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        fs::write(lq.join("vmlinuz"), &kernel).unwrap();
        fs::write(lq.join("initrd"), &kernel[..777]).unwrap();
        fs::write(lq.join("bootx64.efi"), b"MZ").unwrap();
        let path = dir.path().join("disk");
        let disk = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        disk.set_len(300 << 20).unwrap();
        let part = Part { label: layout::PART_ESP, offset: 2 << 20, length: layout::ESP_MIB << 20 };
        let config = Config {
            disk: uuid::Uuid::new_v4(),
            root: RootParams { data_bytes: 4096, root_hash: "ab".repeat(32), salt: "-".into() },
            keep: Vec::new(),
            version: "1".into(),
        };
        esp::make(&disk, part.offset, part.length, 512, &lq, &config).unwrap();
        verify_boot_files(&disk, part, &lq).unwrap();
        let id = esp::read(&disk, part.offset, part.length, "lq/disk.id").unwrap();
        assert_eq!(id, format!("{}\n", config.disk).as_bytes());
        // One flipped bit in the kernel is seen.
        let mut head = vec![0u8; 8 << 20];
        disk.read_exact_at(&mut head, part.offset).unwrap();
        let at = head.windows(64).position(|w| w == &kernel[..64]).unwrap() as u64;
        disk.write_all_at(&[kernel[10] ^ 1], part.offset + at + 10).unwrap();
        assert!(verify_boot_files(&disk, part, &lq).unwrap_err().to_string().contains("vmlinuz"));
    }
}
