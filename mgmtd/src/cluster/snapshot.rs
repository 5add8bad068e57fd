//! Snapshot files: `snapshots/state-<log position>.json`.
//!
//! One line of header (JSON: log position, membership, length and SHA-256 of what follows), then the state. Written whole or
//! not at all; older ones are removed after that. So there is always a whole one.

use super::types::SnapshotMeta;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

#[derive(Serialize, Deserialize)]
struct Header {
    /// `limiquantix-state`
    what: String,
    meta: SnapshotMeta,
    length: u64,
    sha256: String,
}

const WHAT: &str = "limiquantix-state";

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Damaged.
    #[error("{path} is damaged ({reason}); it was left as it is. Restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system failed us.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
}

/// Reads a file of at most `limit` bytes.
pub(super) fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Names of the snapshots in `dir`, newest last.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("state-") && path.extension().is_some_and(|e| e == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The newest snapshot.
pub(super) fn load(dir: &Path) -> Result<Option<(SnapshotMeta, Vec<u8>)>, SnapshotError> {
    let failed = |path: &Path, source| SnapshotError::Io { path: path.to_owned(), source };
    let Some(path) = list(dir).map_err(|e| failed(dir, e))?.pop() else { return Ok(None) };
    let bytes = fs::read(&path).map_err(|e| failed(&path, e))?;
    parse(&bytes).map(Some).map_err(|reason| SnapshotError::Damaged { path, reason })
}

fn parse(bytes: &[u8]) -> Result<(SnapshotMeta, Vec<u8>), String> {
    let end = bytes.iter().position(|b| *b == b'\n').ok_or("it has no header")?;
    let (head, rest) = bytes.split_at(end);
    let body = rest.get(1..).unwrap_or_default();
    let header: Header = serde_json::from_slice(head).map_err(|e| format!("its header: {e}"))?;
    if header.what != WHAT {
        return Err("it is not a snapshot of the cluster's state".into());
    }
    if header.length != body.len() as u64 || header.sha256 != hex::encode(Sha256::digest(body)) {
        return Err("its content does not match its checksum".into());
    }
    Ok((header.meta, body.to_vec()))
}

/// Writes a snapshot and removes the older ones.
pub(super) fn save(dir: &Path, meta: &SnapshotMeta, body: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let header = Header {
        what: WHAT.into(),
        meta: meta.clone(),
        length: body.len() as u64,
        sha256: hex::encode(Sha256::digest(body)),
    };
    let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
    let path = dir.join(format!("state-{index:020}.json"));
    let mut head = serde_json::to_vec(&header)?;
    head.push(b'\n');
    // It holds hashes of passwords and keys of sessions.
    crate::durable::write_parts(&path, 0o600, &[&head, body])?;
    for old in list(dir)? {
        if old < path {
            fs::remove_file(old)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_read_and_the_older_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let meta = SnapshotMeta::default();
        save(dir.path(), &meta, b"{}").unwrap();
        assert_eq!(load(dir.path()).unwrap().unwrap().1, b"{}");
        assert_eq!(list(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &SnapshotMeta::default(), br#"{"format":1}"#).unwrap();
        let path = list(dir.path()).unwrap().pop().unwrap();
        let good = fs::read(&path).unwrap();
        for n in 0..good.len() {
            let mut bad = good.clone();
            bad[n] ^= 0x04;
            // A flip inside the header's membership or log id is caught by its parser or leads to another valid header;
            // the content itself must always be caught.
            if n > good.iter().position(|b| *b == b'\n').unwrap() {
                assert!(parse(&bad).is_err(), "byte {n}");
            }
        }
    }
}
