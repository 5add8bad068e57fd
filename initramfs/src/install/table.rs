//! The partition table of an installed disk (GPT with its protective MBR and boot code), and its removal.

use super::plan::Plan;
use gpt::{GptConfig, disk::LogicalBlockSize, mbr::ProtectiveMBR, partition_types};
use lq_api::local::layout;
use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
};

const MIB: u64 = 1 << 20;

/// Removes whatever makes a disk look used or bootable: its first and last MiB, and the starts of the partitions to be.
pub fn wipe(disk: &File, plan: &Plan) -> io::Result<()> {
    let zeros = vec![0u8; MIB as usize];
    disk.write_all_at(&zeros, 0)?;
    disk.write_all_at(&zeros, plan.disk_bytes - MIB)?;
    for part in &plan.parts {
        disk.write_all_at(&zeros, part.offset)?;
    }
    disk.sync_all()
}

/// Writes the table and the boot code.
pub fn write(
    disk: &mut File,
    plan: &Plan,
    guid: uuid::Uuid,
    boot_code: [u8; super::grub::BOOT_CODE],
) -> io::Result<()> {
    let block = match plan.sector_bytes {
        4096 => LogicalBlockSize::Lb4096,
        _ => LogicalBlockSize::Lb512,
    };
    let sector = u64::from(plan.sector_bytes);
    disk.seek(SeekFrom::Start(0))?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(block)
        .create_from_device(&mut *disk, Some(guid))
        .map_err(io::Error::other)?;
    for (number, part) in (1u32..).zip(&plan.parts) {
        let kind = match part.label {
            layout::PART_BIOS => partition_types::BIOS,
            layout::PART_ESP => partition_types::EFI,
            _ => partition_types::LINUX_FS,
        };
        table
            .add_partition_at(part.label, number, part.offset / sector, part.length / sector, kind, 0)
            .map_err(io::Error::other)?;
    }
    table.write().map_err(io::Error::other)?;
    disk.sync_all()?;
    let sectors = u32::try_from(plan.disk_bytes / sector - 1).unwrap_or(u32::MAX);
    let mut mbr = ProtectiveMBR::with_lb_size(sectors);
    mbr.set_bootcode(boot_code);
    disk.seek(SeekFrom::Start(0))?;
    disk.write_all(&mbr.to_bytes())?;
    disk.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{block, install::plan};

    #[test]
    fn the_table_is_read_back_as_planned() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = layout::DISK_MIN_MIB * MIB + 12345 * 512;
        file.as_file().set_len(bytes).unwrap();
        let plan = Plan {
            node: file.path().display().to_string(),
            disk_bytes: bytes,
            sector_bytes: 512,
            parts: plan::lay_out(bytes, 1).unwrap(),
            notes: Vec::new(),
        };
        let guid = uuid::Uuid::new_v4();
        let mut disk = file.reopen().unwrap();
        disk.write_all_at(b"EFI PART", 512).unwrap();
        wipe(&disk, &plan).unwrap();
        assert!(block::Signs::read(file.path()).unwrap().blank);
        write(&mut disk, &plan, guid, [0x42; 440]).unwrap();
        assert_eq!(block::disk_guid(file.path()), Some(guid.to_string()));
        let read = GptConfig::new().open(file.path()).unwrap();
        assert!(read.primary_header().is_ok() && read.backup_header().is_ok());
        let found: Vec<(String, u64, u64)> = read
            .partitions()
            .values()
            .map(|p| (p.name.clone(), p.first_lba * 512, (p.last_lba + 1 - p.first_lba) * 512))
            .collect();
        let wanted: Vec<(String, u64, u64)> =
            plan.parts.iter().map(|p| (p.label.to_owned(), p.offset, p.length)).collect();
        assert_eq!(found, wanted);
        let mut head = [0; 512];
        file.as_file().read_exact_at(&mut head, 0).unwrap();
        assert_eq!(
            (head[0], head[439], head[450], &head[510..]),
            (0x42, 0x42, 0xee, [0x55, 0xaa].as_slice())
        );
    }
}
