//! Whether the host's last run ended in order: a file on the state partition that is there for as long as it runs.
//!
//! Found at a start, the run before was cut off: by a power cut, a reset, a kernel that failed. Invariant: it goes only when
//! everything has ended and what was written is on the disk.

use crate::{
    error::{Doing, Result},
    sys::sync_directory,
};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::Path,
};

const FILE: &str = "running";

/// Begins a run, durably. True where the one before was cut off.
pub fn begin(state: &Path) -> Result<bool> {
    let path = state.join(FILE);
    let doing = || format!("write {}", path.display());
    let before = path.exists();
    if !before {
        File::create(&path).and_then(|file| file.sync_all()).doing(doing)?;
        sync_directory(state).doing(doing)?;
    }
    Ok(before)
}

/// Ends it in order, durably. Nothing is done where none was begun.
pub fn end(state: &Path) -> Result<()> {
    let path = state.join(FILE);
    let removed = match fs::remove_file(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => sync_directory(state),
    };
    removed.doing(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_not_end_is_told_of_at_the_next_start_and_each_after_it_until_one_does() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!begin(dir.path()).unwrap(), "the first start");
        assert!(begin(dir.path()).unwrap(), "cut off");
        end(dir.path()).unwrap();
        assert!(!begin(dir.path()).unwrap(), "it had ended in order");
        end(dir.path()).unwrap();
        end(dir.path()).unwrap();
    }
}
