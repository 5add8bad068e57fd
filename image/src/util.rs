//! Small helpers: files written whole, hashes, sizes for people.

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Makes a directory and its parents.
pub fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make directory {}", path.display()))
}

/// Removes a directory tree, if it is there, also where its directories may not be written (as those out of an ISO).
pub fn remove_dir(path: &Path) -> Result<()> {
    let removed = std::fs::remove_dir_all(path).or_else(|e| {
        if e.kind() == std::io::ErrorKind::PermissionDenied {
            unlock(path)?;
            return std::fs::remove_dir_all(path);
        }
        Err(e)
    });
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn unlock(dir: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads a file, naming it when that fails.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file whole: under another name first, so that a reader never sees half of it.
pub fn write(path: &Path, data: &[u8]) -> Result<()> {
    let mut name = path.file_name().context("no file name")?.to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    std::fs::write(&temporary, data).with_context(|| format!("cannot write {}", temporary.display()))?;
    std::fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a value as JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write(path, &text)
}

/// SHA-256 of a file, hexadecimal.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(buffer.get(..n).unwrap_or(&[])),
        }
    }
}

/// SHA-256 over parts, each with its length, so that no two lists of parts look alike.
pub fn hash_of(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// Length of a file in bytes.
pub fn size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
}

/// A size for people.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Whether `outputs` were made from inputs with this hash (by [`stamp`]).
pub fn fresh(stamp_path: &Path, inputs: &str, outputs: &[&Path]) -> bool {
    outputs.iter().all(|o| o.exists())
        && std::fs::read_to_string(stamp_path).is_ok_and(|s| s.trim() == inputs)
}

/// Notes that outputs were made from inputs with this hash.
pub fn stamp(stamp_path: &Path, inputs: &str) -> Result<()> {
    write(stamp_path, format!("{inputs}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_directories_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        make_dir(&top.join("inner/most")).unwrap();
        for d in ["top/inner/most", "top/inner", "top"] {
            std::fs::set_permissions(dir.path().join(d), std::fs::Permissions::from_mode(0o555)).unwrap();
        }
        remove_dir(&top).unwrap();
        assert!(!top.exists());
        remove_dir(&top).unwrap();
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(hash_of(&[b"ab", b"c"]), hash_of(&[b"a", b"bc"]));
    }

    #[test]
    fn a_stamp_is_fresh_only_for_its_inputs_and_outputs() {
        let dir = tempfile::tempdir().unwrap();
        let (out, s) = (dir.path().join("out"), dir.path().join("s"));
        stamp(&s, "1").unwrap();
        assert!(!fresh(&s, "1", &[&out]), "the output is missing");
        write(&out, b"x").unwrap();
        assert!(fresh(&s, "1", &[&out]));
        assert!(!fresh(&s, "2", &[&out]));
        assert_eq!(
            hash_file(&out).unwrap(),
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        );
    }
}
