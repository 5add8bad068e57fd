//! What the first stage tells the second: a file under `/run`, which moves along into the verified root.

use crate::error::{Doing, Error, Result};
use lq_api::local::paths;
use serde::{Deserialize, Serialize};
use std::{fs, path::PathBuf};

/// Where the boot medium stays mounted.
pub const MEDIUM: &str = "/run/limiquantix/medium";

/// What the first stage found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Kernel name of the disk booted from (never a partition).
    pub boot_disk: String,
    /// Things that went wrong.
    pub warnings: Vec<String>,
    /// The root image is verified.
    pub verified: bool,
}

fn path() -> PathBuf {
    PathBuf::from(paths::RUN).join("stage1.json")
}

impl Handover {
    /// Writes it.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::wrong(e.to_string()))?;
        fs::create_dir_all(paths::RUN).doing(|| format!("make {}", paths::RUN))?;
        fs::write(path(), text).doing(|| format!("write {}", path().display()))
    }

    /// Reads it; empty where the first stage was not ours (a test machine).
    pub fn read() -> Self {
        fs::read(path()).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    }
}
