//! What is in an ISO: sizes of its parts, its boot ways, and whether its root image verifies.

use crate::progress::Step;
use crate::{iso, tool, util};
use anyhow::{Context, Result};
use lq_api::local::layout::RootManifest;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Sizes in bytes; the names are those of the figures.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// LimiQuantix version.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// The whole ISO.
    pub iso_bytes: u64,
    /// Files below `/lq` by name.
    pub parts: BTreeMap<String, u64>,
    /// The squashfs within `root.img`.
    pub root_squashfs_bytes: u64,
    /// The hash tree within `root.img`.
    pub root_verity_bytes: u64,
    /// `root.img` verified against the root hash of `root.json`.
    pub root_verified: bool,
    /// Ways to start it, as the ISO's tables say.
    pub boot: Vec<String>,
}

/// Takes an ISO apart, in a directory beside `scratch_beside` that is removed again.
pub fn inspect(path: &Path, scratch_beside: &Path) -> Result<Summary> {
    tool::require(&["xorriso", "veritysetup"])?;
    let step = Step::begin("inspect", &format!("reading {}", path.display()));
    let scratch = iso::with_suffix(scratch_beside, ".inspect")?;
    util::remove_dir(&scratch)?;
    util::make_dir(&scratch)?;
    let result = summary(path, &scratch);
    util::remove_dir(&scratch)?;
    step.end("");
    result
}

fn summary(path: &Path, scratch: &Path) -> Result<Summary> {
    let dir = scratch.join("lq");
    let args = ["-report_about", "SORRY", "-osirrox", "on", "-indev"].map(std::ffi::OsStr::new);
    let mut extract: Vec<&std::ffi::OsStr> = args.into();
    extract.extend([path.as_os_str(), "-extract".as_ref(), "/lq".as_ref(), dir.as_os_str()]);
    tool::run("xorriso", &extract, None)
        .with_context(|| format!("{} is no ISO of LimiQuantix", path.display()))?;
    let root: RootManifest =
        serde_json::from_slice(&util::read(&dir.join("root.json"))?).context("/lq/root.json")?;
    let image = dir.join("root.img");
    let offset = format!("--hash-offset={}", root.data_bytes);
    let verify = [
        "verify".as_ref(),
        offset.as_ref(),
        image.as_os_str(),
        image.as_os_str(),
        root.root_hash.as_ref() as &std::ffi::OsStr,
    ];
    let mut parts = BTreeMap::new();
    for entry in std::fs::read_dir(&dir)? {
        let entry = entry?;
        if entry.metadata()?.is_file() {
            parts.insert(entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len());
        }
    }
    let mut report: Vec<&std::ffi::OsStr> =
        ["-report_about", "SORRY", "-indev"].map(std::ffi::OsStr::new).into();
    report.push(path.as_os_str());
    report.extend(["-report_el_torito", "plain", "-report_system_area", "plain"].map(std::ffi::OsStr::new));
    Ok(Summary {
        iso_bytes: util::size(path)?,
        parts,
        root_squashfs_bytes: root.data_bytes,
        root_verity_bytes: root.image_bytes.saturating_sub(root.data_bytes),
        root_verified: tool::run("veritysetup", &verify, None).is_ok(),
        boot: boot_ways(&tool::run("xorriso", &report, None)?),
        version: root.version,
        kernel: root.kernel,
    })
}

/// The lines of xorriso's report that say how a machine can start from the medium.
fn boot_ways(report: &str) -> Vec<String> {
    let telling =
        ["El Torito boot img", "System area summary", "GPT partition name", "GPT type GUID", "MBR partition"];
    let lines = report.lines().filter(|l| telling.iter().any(|t| l.starts_with(t)));
    lines.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

impl Summary {
    /// For people.
    pub fn table(&self) -> String {
        let mut out = format!("LimiQuantix {}, kernel {}\n", self.version, self.kernel);
        let mut line =
            |name: &str, bytes: u64| out.push_str(&format!("  {name:<16}{:>12}\n", util::mib(bytes)));
        for (name, bytes) in &self.parts {
            line(name, *bytes);
        }
        line("ISO", self.iso_bytes);
        out.push_str(if self.root_verified {
            "root image verified\n"
        } else {
            "ROOT IMAGE DOES NOT VERIFY\n"
        });
        for way in &self.boot {
            out.push_str(&format!("  {way}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_ways_are_picked() {
        let report = "El Torito catalog  : 33  1\nEl Torito boot img :   1  BIOS  y   none  0x0000  0x00      4         300\n\
                      System area options: 0x1\nSystem area summary: MBR protective-msdos-label GPT\n";
        let ways = boot_ways(report);
        assert_eq!(ways.len(), 2);
        assert!(ways[0].contains("BIOS y none") && ways[1].ends_with("GPT"));
    }
}
