//! Room in a file system.

use super::Error;
use lq_api::{Bytes, pool::PoolStatus};
use std::{io, path::Path};

/// Kept free in a pool whatever is asked: running machines write to thin volumes, and a full file system hurts them all.
pub const RESERVE: u64 = 64 * Bytes::MIB;

/// Capacity and free bytes of the file system that holds `path`.
pub(super) fn of(path: &Path) -> Result<PoolStatus, Error> {
    let stat = nix::sys::statvfs::statvfs(path).map_err(|e| Error::Io {
        context: format!("asking for the room in {}", path.display()),
        source: e.into(),
    })?;
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(stat.fragment_size()));
    Ok(PoolStatus { capacity_bytes: bytes(stat.blocks()), free_bytes: bytes(stat.blocks_available()) })
}

/// Refuses where fewer than `needed` bytes are free beyond `reserve`.
pub(super) fn check(path: &Path, needed: u64, reserve: u64) -> Result<(), Error> {
    let free = of(path)?.free_bytes;
    if free.get() < needed.max(1).saturating_add(reserve) {
        // What is to stay free is needed as well: something made at no cost of its own is refused for that.
        return Err(Error::NoSpace { needed: Bytes(needed.saturating_add(reserve)), free });
    }
    Ok(())
}

/// An I/O error in words of this room; a full file system is told apart.
pub(super) fn failed(path: &Path, needed: u64, context: impl Into<String>, source: io::Error) -> Error {
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let free = of(path).map(|room| room.free_bytes).unwrap_or_default();
        return Error::NoSpace { needed: Bytes(needed), free };
    }
    Error::Io { context: context.into(), source }
}
