//! What is on a drive, by its first bytes. Pure.

/// How many of the first bytes are looked at.
pub(super) const HEAD: usize = 40 << 10;
/// Nothing of this many bytes or fewer is a file system of ours.
pub(super) const LEAST: u64 = 256 << 10;

/// A file system that the image's kernel writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    /// FAT12, 16 and 32, with long names.
    Fat,
    /// For large sticks.
    ExFat,
    /// ext2, 3 and 4.
    Ext,
}

impl FileSystem {
    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fat => "FAT",
            Self::ExFat => "exFAT",
            Self::Ext => "ext4",
        }
    }

    /// For the kernel.
    pub(super) const fn kernel_name(self) -> &'static str {
        match self {
            Self::Fat => "vfat",
            Self::ExFat => "exfat",
            Self::Ext => "ext4",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// What can be written.
    pub(super) system: Option<FileSystem>,
    /// Its label, where it is told so early.
    pub(super) label: Option<String>,
    /// What it has instead, for people.
    pub(super) other: Option<&'static str>,
    /// It begins as the image of a CD does, as installation media on sticks do.
    pub(super) medium: bool,
}

impl Signs {
    /// Looks at the first bytes of a partition or a drive.
    pub(super) fn of(head: &[u8]) -> Self {
        let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|h| h.starts_with(magic));
        let label = |offset: usize, length: usize| {
            let text = String::from_utf8_lossy(head.get(offset..offset.checked_add(length)?)?).into_owned();
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            Some(text.trim().to_owned()).filter(|t| !t.is_empty() && t != "NO NAME")
        };
        let signs = |system, label| Self { system: Some(system), label, ..Self::default() };
        if at(32768 + 1, b"CD001") {
            return Self { other: Some("the image of a CD"), medium: true, ..Self::default() };
        }
        if at(510, &[0x55, 0xaa]) {
            if at(3, b"EXFAT   ") {
                return signs(FileSystem::ExFat, None);
            }
            if at(82, b"FAT32") {
                return signs(FileSystem::Fat, label(71, 11));
            }
            if at(54, b"FAT") {
                return signs(FileSystem::Fat, label(43, 11));
            }
        }
        if at(1024 + 56, &[0x53, 0xef]) {
            return signs(FileSystem::Ext, label(1024 + 120, 16));
        }
        let others: [(usize, &[u8], &str); 5] = [
            (3, b"NTFS    ", "NTFS, which this host does not write"),
            (0, b"LUKS\xba\xbe", "an encrypted volume"),
            (0, b"XFSB", "XFS, which is not for sticks"),
            (512, b"LABELONE", "a volume of LVM"),
            (1024, b"H+", "HFS+, which this host does not write"),
        ];
        let other = others.iter().find(|(offset, magic, _)| at(*offset, magic));
        Self { other: other.map(|(_, _, what)| *what), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (offset, bytes) in parts {
            head[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn file_systems_are_told_apart() {
        let boot = (510, [0x55, 0xaa].as_slice());
        let fat32 = Signs::of(&head(&[boot, (82, b"FAT32   "), (71, b"MY STICK   ")]));
        assert_eq!((fat32.system, fat32.label.as_deref()), (Some(FileSystem::Fat), Some("MY STICK")));
        let fat16 = Signs::of(&head(&[boot, (54, b"FAT16   "), (43, b"NO NAME    ")]));
        assert_eq!((fat16.system, fat16.label), (Some(FileSystem::Fat), None));
        assert_eq!(Signs::of(&head(&[boot, (3, b"EXFAT   ")])).system, Some(FileSystem::ExFat));
        let ext = Signs::of(&head(&[(1024 + 56, &[0x53, 0xef]), (1024 + 120, b"bundle\x1b[2J\0")]));
        assert_eq!((ext.system, ext.label.as_deref()), (Some(FileSystem::Ext), Some("bundle[2J")));
        let ntfs = Signs::of(&head(&[boot, (3, b"NTFS    ")]));
        assert!(ntfs.system.is_none() && ntfs.other.is_some_and(|o| o.starts_with("NTFS")));
        // A medium is one whatever else it claims to be.
        let medium = Signs::of(&head(&[boot, (82, b"FAT32   "), (32769, b"CD001")]));
        assert!(medium.medium && medium.system.is_none());
        assert_eq!(Signs::of(&[0; 512]), Signs::default());
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = Signs::of(&bytes);
        }
    }
}
