//! Running the programs of other people: looked for before use, named with the Debian package that has them when
//! missing, and their last words shown when they fail.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Every program this tool calls, and the Debian package that brings it.
const PROVIDERS: &[(&str, &str)] = &[
    ("apt-cache", "apt"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("depmod", "kmod"),
    ("mksquashfs", "squashfs-tools"),
    ("veritysetup", "cryptsetup-bin"),
    ("zstd", "zstd"),
    ("grub-mkimage", "grub-common"),
    ("xorriso", "xorriso"),
    ("mformat", "mtools"),
    ("mmd", "mtools"),
    ("mcopy", "mtools"),
];

/// Says at once which of `tools` are missing and what to install.
pub fn require(tools: &[&str]) -> Result<()> {
    let missing: Vec<&str> = tools.iter().copied().filter(|t| find(t).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().filter_map(|t| provider(t)).collect();
    packages.sort_unstable();
    packages.dedup();
    bail!(
        "missing on this machine: {}. Install it with `apt-get install --no-install-recommends {}`",
        missing.join(", "),
        packages.join(" ")
    );
}

/// A command for `tool` with a plain environment, so that the result does not depend on who calls.
pub fn command(tool: &str) -> Result<Command> {
    require(&[tool])?;
    let path = find(tool).with_context(|| format!("{tool} has gone"))?;
    let mut command = Command::new(path);
    command.env("LC_ALL", "C").env("TZ", "UTC").env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
    Ok(command)
}

/// Runs `tool` to its end and gives what it wrote to standard output. A failure carries the end of its messages.
pub fn run<S: AsRef<OsStr>>(tool: &str, args: &[S], dir: Option<&Path>) -> Result<String> {
    run_at(tool, args, dir, None)
}

/// Like [`run`], with the time that tools for reproducible builds take for now (seconds since 1970).
pub fn run_at<S: AsRef<OsStr>>(
    tool: &str,
    args: &[S],
    dir: Option<&Path>,
    epoch: Option<u64>,
) -> Result<String> {
    let mut command = command(tool)?;
    command.args(args);
    if let Some(epoch) = epoch {
        command.env("SOURCE_DATE_EPOCH", epoch.to_string());
    }
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    let out = command.output().with_context(|| format!("cannot run {tool}"))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        let text = if text.trim().is_empty() { String::from_utf8_lossy(&out.stdout) } else { text };
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        let tail = lines.get(lines.len().saturating_sub(12)..).unwrap_or(&[]).join("\n  ");
        bail!("{tool} failed ({}):\n  {tail}", out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn provider(tool: &str) -> Option<&'static str> {
    PROVIDERS.iter().find(|(name, _)| *name == tool).map(|(_, package)| *package)
}

/// Looks in `PATH` and in the system directories, which the `PATH` of users other than root often lacks.
fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(tool))
        .find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named() {
        let e = require(&["no-such-tool-at-all"]).unwrap_err().to_string();
        assert!(e.contains("no-such-tool-at-all"), "{e}");
    }

    #[test]
    fn every_tool_has_a_provider() {
        assert_eq!(provider("xorriso"), Some("xorriso"));
        assert_eq!(provider("veritysetup"), Some("cryptsetup-bin"));
    }

    #[test]
    fn a_failure_carries_the_last_words() {
        let e = run("dpkg-deb", &["-x", "/nonexistent.deb", "/nonexistent"], None).unwrap_err().to_string();
        assert!(e.contains("dpkg-deb failed") && e.contains("nonexistent"), "{e}");
    }
}
