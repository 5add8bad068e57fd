//! Our own programs: found in a directory, all there, and static (the image has no libraries for them).

use crate::progress::note;
use crate::{elf, util};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// A program found.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

/// Finds `names` in `dir`. A missing one is an error, or a note with `allow_missing`.
pub fn find(dir: &Path, names: &[&str], allow_missing: bool) -> Result<Vec<Program>> {
    let mut out = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        let path = dir.join(name);
        if !path.is_file() {
            missing.push(*name);
            continue;
        }
        let needs =
            elf::dynamic(&util::read(&path)?).with_context(|| format!("{} is no program", path.display()))?;
        ensure!(
            needs.interpreter.is_none() && needs.needed.is_empty(),
            "{} is linked dynamically; the image needs static programs (target-feature=+crt-static)",
            path.display()
        );
        out.push(Program { name: (*name).to_owned(), path });
    }
    if !missing.is_empty() && !allow_missing {
        bail!(
            "{} has no {}: build them first (cargo build --release), or pass --allow-missing for an incomplete image",
            dir.display(),
            missing.join(", ")
        );
    }
    if !missing.is_empty() {
        note("root", &format!("INCOMPLETE image, without {}", missing.join(", ")));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::fake;

    #[test]
    fn missing_and_dynamic_programs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), fake(None, &[])).unwrap();
        assert_eq!(find(dir.path(), &["a"], false).unwrap().len(), 1);
        let e = find(dir.path(), &["a", "b"], false).unwrap_err().to_string();
        assert!(e.contains("has no b"), "{e}");
        assert_eq!(find(dir.path(), &["a", "b"], true).unwrap().len(), 1);
        std::fs::write(dir.path().join("b"), fake(Some("/lib64/ld.so"), &["libc.so.6"])).unwrap();
        let e = find(dir.path(), &["b"], true).unwrap_err().to_string();
        assert!(e.contains("linked dynamically"), "{e}");
    }
}
