//! A tar archive (POSIX ustar) packed with gzip (RFC 1952), in memory. Pure.

const BLOCK: usize = 512;
/// Speed before size.
const LEVEL: u8 = 3;

/// An archive in the making.
#[derive(Default)]
pub(super) struct Archive {
    tar: Vec<u8>,
}

impl Archive {
    /// Adds a file. Names beyond 100 bytes are cut at the front, where they say least.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        let name = name.as_bytes();
        let name = name.get(name.len().saturating_sub(99)..).unwrap_or_default();
        let mut header = [0u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            for (slot, byte) in header.iter_mut().skip(at).zip(bytes) {
                *slot = *byte;
            }
        };
        put(0, name);
        put(100, b"0000600\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, b"00000000000\0");
        // The checksum counts itself as blanks.
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        let mut put = |at: usize, bytes: &[u8]| {
            for (slot, byte) in header.iter_mut().skip(at).zip(bytes) {
                *slot = *byte;
            }
        };
        put(148, format!("{sum:06o}\0 ").as_bytes());
        self.tar.extend_from_slice(&header);
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(BLOCK), 0);
    }

    /// The archive, packed.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.tar.resize(self.tar.len() + 2 * BLOCK, 0);
        // Magic, deflate, no flags, no time, no extra, made on Unix.
        let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        packed.extend(miniz_oxide::deflate::compress_to_vec(&self.tar, LEVEL));
        packed.extend(crc32fast::hash(&self.tar).to_le_bytes());
        // The length modulo 2^32.
        packed.extend((self.tar.len() as u32).to_le_bytes());
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write as _, process::Command};

    #[test]
    fn the_systems_own_tar_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::default();
        archive.add("a/one.txt", b"first\n");
        archive.add(&"n".repeat(300), b"");
        archive.add("two", &vec![7u8; 100_000]);
        let path = dir.path().join("x.tar.gz");
        std::fs::File::create(&path).unwrap().write_all(&archive.finish()).unwrap();
        let done = Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(dir.path()).status().unwrap();
        assert!(done.success());
        assert_eq!(std::fs::read(dir.path().join("a/one.txt")).unwrap(), b"first\n");
        assert_eq!(std::fs::read(dir.path().join("two")).unwrap(), vec![7u8; 100_000]);
        assert!(dir.path().join("n".repeat(99)).exists());
    }
}
