//! A disk as a plain file: finds partitions by their GPT labels, and damages it on purpose.

use anyhow::{Context as _, Result, bail, ensure};
use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

const SECTOR: u64 = 512;

/// A disk's file.
#[derive(Debug)]
pub(crate) struct DiskImageFile {
    file: File,
}

/// A partition: its place in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// First byte.
    pub(crate) start: u64,
}

impl DiskImageFile {
    /// Opens it for reading and writing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        Ok(Self { file: file.with_context(|| format!("opening {}", path.display()))? })
    }

    /// The partition with this label.
    pub(crate) fn partition(&self, label: &str) -> Result<Partition> {
        // UEFI specification 2.10, 5.3: the header in the second sector, then the entries.
        let mut header = [0; 92];
        self.file.read_exact_at(&mut header, SECTOR).context("reading the partition table")?;
        ensure!(header.starts_with(b"EFI PART"), "the disk has no GPT");
        let table = number::<8>(&header, 72)? * SECTOR;
        let (count, size) = (number::<4>(&header, 80)?.min(128), number::<4>(&header, 84)?);
        ensure!((128..=4096).contains(&size), "the GPT's entries have {size} bytes");
        for n in 0..count {
            let mut entry = [0; 128];
            self.file.read_exact_at(&mut entry, table + n * size).context("reading the partition table")?;
            let name: Vec<u16> = entry
                .get(56..)
                .unwrap_or_default()
                .chunks_exact(2)
                .map(|c| {
                    u16::from_le_bytes([c.first().copied().unwrap_or(0), c.last().copied().unwrap_or(0)])
                })
                .take_while(|c| *c != 0)
                .collect();
            if String::from_utf16_lossy(&name) == label {
                return Ok(Partition { start: number::<8>(&entry, 32)? * SECTOR });
            }
        }
        bail!("the disk has no partition {label}")
    }

    /// Writes over what is there.
    pub(crate) fn overwrite(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, at).context("damaging the disk")
    }
}

/// A little-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64> {
    let field = bytes.get(at..at + N).context("the partition table is cut off")?;
    Ok(field.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_found_by_label() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        let mut header = [0u8; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[72] = 2;
        header[80] = 128;
        header[84] = 128;
        file.write_all_at(&header, 512).unwrap();
        let mut entry = [0u8; 128];
        entry[33] = 8;
        for (n, c) in "lq-state".encode_utf16().enumerate() {
            entry[56 + 2 * n..58 + 2 * n].copy_from_slice(&c.to_le_bytes());
        }
        file.write_all_at(&entry, 2 * 512 + 3 * 128).unwrap();
        let image = DiskImageFile::open(&path).unwrap();
        assert_eq!(image.partition("lq-state").unwrap(), Partition { start: 2048 * 512 });
        assert!(image.partition("lq-data").is_err());
    }
}
