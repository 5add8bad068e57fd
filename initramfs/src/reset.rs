//! The factory reset: what a host was told is carried out at its next start, before anything of it is used.
//!
//! ```text
//!  /state/factory-reset ──▶ mark in the first sector of the state partition ──▶ data erased, state erased from its end
//!  (written while it runs)    (from here on every start goes on with it)           the mark goes last: all is blank
//! ```
//! What is blank is formatted as at the first start. Invariants: whatever breaks it off, the next start goes on; what was not
//! asked for is not touched; the mark is the last thing that goes.

use crate::{
    block,
    error::{Doing, Error, Result},
    partition::BACKUP_SUPERBLOCKS,
    say, sys,
};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    },
    path::Path,
};

/// Name of the file on the state partition that asks for it.
pub const FILE: &str = "factory-reset";
/// What the first sector of the state partition begins with while it is erased; the byte after it says whether data goes too.
const MARK: &[u8; 24] = b"LIMIQUANTIX-RESET-BEGUN\n";
/// Size of the place of the mark: the part of the partition that goes last.
const PLACE: u64 = 4096;
const CHUNK: usize = 1 << 20;
const BLKDISCARD: libc::c_ulong = 0x1277;

/// Asks for it: durable when this returns.
pub fn ask(state: &Path, data: bool) -> Result<()> {
    let path = state.join(FILE);
    let doing = || format!("write {}", path.display());
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .and_then(|mut f| f.write_all(if data { b"data\n" } else { b"state\n" }).and_then(|()| f.sync_all()))
        .doing(doing)?;
    sys::sync_directory(state).doing(doing)
}

/// What was asked for: `Some(true)` where the data go too.
pub fn asked(state: &Path) -> Option<bool> {
    // Cut off while it was written, it was not acknowledged.
    match fs::read_to_string(state.join(FILE)).ok()?.as_str() {
        "data\n" => Some(true),
        "state\n" => Some(false),
        _ => None,
    }
}

/// Whether it was begun on this partition, and whether the data go too.
pub fn begun(state: &Path) -> Result<Option<bool>> {
    let mut file = block::open(state)?;
    let head = block::read_at(&mut file, 0, MARK.len() + 1).doing(|| format!("read {}", state.display()))?;
    Ok(head.strip_prefix(MARK.as_slice()).and_then(|rest| rest.first()).map(|b| *b == 1))
}

/// Begins it: from now on every start goes on with it. The partition must not be mounted.
pub fn begin(state: &Path, data: bool) -> Result<()> {
    let mut bytes = MARK.to_vec();
    bytes.push(u8::from(data));
    let file = writable(state)?;
    file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).doing(|| format!("mark {}", state.display()))
}

/// Carries it out. Both must not be mounted.
pub fn finish(state: &Path, data: Option<&Path>) -> Result<()> {
    say::info("factory reset: erasing what this host has kept");
    if let Some(data) = data {
        erase_data(data)?;
    }
    let file = writable(state)?;
    let length = length(&file, state)?;
    zero(&file, PLACE, length).doing(|| format!("erase {}", state.display()))?;
    zero(&file, 0, PLACE.min(length)).doing(|| format!("erase {}", state.display()))?;
    say::info("factory reset: done; the host begins anew");
    Ok(())
}

/// A partition of any size: given back to the disk where it takes that, and its file system gone in any case.
fn erase_data(node: &Path) -> Result<()> {
    let file = writable(node)?;
    let length = length(&file, node)?;
    if fs::metadata(node).is_ok_and(|m| m.file_type().is_block_device()) {
        let range: [u64; 2] = [0, length];
        // SAFETY: BLKDISCARD reads two u64. A disk that cannot do it refuses, which changes nothing.
        unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD, range.as_ptr()) };
    }
    let chunk = CHUNK as u64;
    for at in [0].into_iter().chain(BACKUP_SUPERBLOCKS) {
        let (from, to) = (at.min(length), (at + chunk).min(length));
        zero(&file, from, to).doing(|| format!("erase {}", node.display()))?;
    }
    Ok(())
}

/// Zeros from `from` to `to`, durable when this returns.
fn zero(file: &File, from: u64, to: u64) -> std::io::Result<()> {
    let zeros = vec![0u8; CHUNK];
    let mut at = from;
    while at < to {
        let want = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
        file.write_all_at(zeros.get(..want).unwrap_or_default(), at)?;
        at += want as u64;
    }
    file.sync_all()
}

fn writable(node: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        // A device that something is mounted from is refused.
        .custom_flags(libc::O_EXCL)
        .open(node)
        .doing(|| format!("open {}", node.display()))
}

fn length(file: &File, node: &Path) -> Result<u64> {
    let meta = file.metadata().doing(|| format!("look at {}", node.display()))?;
    if meta.file_type().is_block_device() { sys::block_size_bytes(file) } else { Ok(meta.len()) }
        .and_then(|n| if n == 0 { Err(Error::wrong(format!("{} is empty", node.display()))) } else { Ok(n) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition;

    #[test]
    fn what_was_asked_for_is_told_and_what_was_cut_off_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(asked(dir.path()), None);
        ask(dir.path(), true).unwrap();
        assert_eq!(asked(dir.path()), Some(true));
        ask(dir.path(), false).unwrap();
        assert_eq!(asked(dir.path()), Some(false));
        fs::write(dir.path().join(FILE), "dat").unwrap();
        assert_eq!(asked(dir.path()), None);
    }

    #[test]
    fn broken_off_anywhere_the_next_start_goes_on_and_all_is_blank_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (state, data) = (dir.path().join("state"), dir.path().join("data"));
        for path in [&state, &data] {
            File::create(path).unwrap().set_len(160 << 20).unwrap();
            partition::format(path, "x").unwrap();
        }
        assert_eq!(begun(&state).unwrap(), None);
        begin(&state, true).unwrap();
        assert_eq!(begun(&state).unwrap(), Some(true));
        // Broken off after everything but the mark.
        let file = writable(&state).unwrap();
        zero(&file, PLACE, 160 << 20).unwrap();
        assert_eq!(begun(&state).unwrap(), Some(true));
        finish(&state, Some(&data)).unwrap();
        assert_eq!(begun(&state).unwrap(), None);
        for path in [&state, &data] {
            assert!(partition::is_blank(path).unwrap(), "{}", path.display());
        }
    }

    #[test]
    fn data_that_are_to_stay_stay() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        File::create(&state).unwrap().set_len(8 << 20).unwrap();
        begin(&state, false).unwrap();
        assert_eq!(begun(&state).unwrap(), Some(false));
        finish(&state, None).unwrap();
        assert!(partition::is_blank(&state).unwrap());
    }
}
