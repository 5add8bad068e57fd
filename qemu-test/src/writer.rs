//! What the guest that runs with `tiny=write` (`guest/tiny-init`) has left on its disk: block after block, in each of its runs from
//! the first one on, the identity of the run and the number of the block. So it shows which run wrote what, and whether one that
//! should have ended went on beside the next.

use anyhow::{Context as _, Result};
use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

/// Size of its disk, MiB.
pub(crate) const MIB: u64 = 64;
/// Bytes of a block.
const BLOCK: usize = 4096;

/// The last block of each run, by the run's identity.
pub(crate) fn records(disk: &Path) -> Result<BTreeMap<String, u64>> {
    let mut file = File::open(disk).with_context(|| format!("opening {}", disk.display()))?;
    let mut all = Vec::new();
    file.read_to_end(&mut all).with_context(|| format!("reading {}", disk.display()))?;
    Ok(read(&all))
}

fn read(disk: &[u8]) -> BTreeMap<String, u64> {
    let mut last = BTreeMap::new();
    for block in disk.chunks_exact(BLOCK) {
        let line = block.split(|b| *b == b'\n').next().unwrap_or_default();
        let Some((run, number)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let Ok(number) = number.trim_end().parse::<u64>() else { continue };
        let highest = last.entry(run.to_owned()).or_insert(0);
        *highest = number.max(*highest);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_last_block() {
        let mut disk = Vec::new();
        for line in ["b 1\n", "b 2\n", "a 3\n", "a 4\n", ""] {
            let mut block = vec![b' '; BLOCK];
            block[..line.len()].copy_from_slice(line.as_bytes());
            disk.extend(block);
        }
        disk.extend([0; BLOCK]);
        let expected = BTreeMap::from([("a".to_owned(), 4), ("b".to_owned(), 2)]);
        assert_eq!(read(&disk), expected);
    }
}
