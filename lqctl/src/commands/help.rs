//! Help outside the program: completion of shells and manual pages, both made from the words of the command line.

use crate::{cli::Cli, output::line};
use anyhow::Context as _;
use clap::CommandFactory as _;
use std::path::Path;

/// Prints the completion script of a shell.
pub(super) fn completion(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lqctl", &mut script);
    line(&String::from_utf8_lossy(&script))
}

/// Writes `lqctl.1`, `lqctl-vm.1`, `lqctl-vm-start.1`, … into a directory.
pub(super) fn manual(directory: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(directory.is_dir(), "there is no directory {}", directory.display());
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("writing manual pages to {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        manual(dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("lqctl-vm-create.1")).unwrap();
        assert!(page.contains("disk\\-from\\-image"), "{page}");
        assert!(manual(&dir.path().join("missing")).is_err());
    }
}
