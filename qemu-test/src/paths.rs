//! Where the harness finds what it tests and where it leaves its traces.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// The places the harness works with.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The repository.
    pub(crate) repo: PathBuf,
    /// Build directory: `$CARGO_TARGET_DIR`, or `target` in the repository.
    pub(crate) target: PathBuf,
}

impl Paths {
    /// Finds the repository from the working directory upwards.
    pub(crate) fn find() -> Result<Self> {
        let mut dir = std::env::current_dir().context("reading the working directory")?;
        while !(dir.join("Cargo.toml").is_file() && dir.join("qemu-test").is_dir()) {
            if !dir.pop() {
                bail!("run this inside a checkout of the repository (no qemu-test/ found upwards from here)");
            }
        }
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| dir.join("target"), PathBuf::from);
        let target = if target.is_absolute() { target } else { dir.join(target) };
        Ok(Self { repo: dir, target })
    }

    /// The product's ISO.
    pub(crate) fn iso(&self) -> PathBuf {
        self.target.join("limiquantix.iso")
    }
    /// The ISO with the fault agent in it: for tests only.
    pub(crate) fn test_iso(&self) -> PathBuf {
        self.target.join("limiquantix-test.iso")
    }
    /// A program of ours, built for release.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.target.join("x86_64-unknown-linux-gnu/release").join(name)
    }
    /// Guest images.
    pub(crate) fn guests(&self) -> PathBuf {
        self.target.join("guest")
    }
    /// One directory per test with all its logs.
    pub(crate) fn e2e(&self) -> PathBuf {
        self.target.join("e2e")
    }
    /// State of `just run`.
    pub(crate) fn run(&self) -> PathBuf {
        self.target.join("run")
    }
}

/// Fails with what to do when `path` is missing.
pub(crate) fn need(path: &Path, remedy: &str) -> Result<()> {
    if !path.exists() {
        bail!("{} is missing: {remedy}", path.display());
    }
    Ok(())
}
