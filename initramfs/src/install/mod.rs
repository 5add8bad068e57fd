//! The unattended installer.
//!
//! ```text
//! survey the disks ─► plan (pure: choose, refuse, lay out) ─► wipe ─► contents ─► verify ─► partition table and boot code
//! ```
//! Invariants: nothing is written before the plan stands; a disk with anything on it is written only with the erase word; the
//! table and the boot code come last, so that a broken-off installation leaves a disk that does not start at all.

pub mod esp;
pub mod grub;
pub mod mark;
pub mod plan;
pub mod table;
pub mod window;
pub mod write;

use crate::{
    block::{self, Signs},
    cmdline::{BootArgs, Mode},
    error::{Doing, Error, Result},
    handover::{Handover, MEDIUM},
    say, stage1, sys,
};
use lq_api::{
    answer::{Answer, Install},
    local::install::InstallDisk,
};
use plan::Surveyed;
use std::{fs, path::Path};

/// Installs as the answer file says. An error means that the disk does not start and says why.
pub fn run(answer: &Answer, wanted: &Install, args: &BootArgs, boot_disk: &str) -> Result<()> {
    let root = args.root.as_ref().ok_or_else(|| Error::wrong("the kernel command line has no lq.root="))?;
    let manifest = stage1::read_manifest()?;
    let disks = survey(boot_disk);
    let mark = mark::Mark::of(answer);
    let plan = plan::plan(&disks, wanted, mark, manifest.image_bytes).map_err(Error::Wrong)?;
    for note in &plan.notes {
        say::info(note);
    }
    let guid = mark.disk_guid();
    let config = grub::Config {
        disk: guid,
        root: root.clone(),
        keep: args.keep.clone(),
        version: manifest.version.clone(),
    };
    let source =
        write::Source { medium: Path::new(MEDIUM).to_owned(), verified: "/dev/dm-0".into(), manifest };
    write::install(&plan, &source, &config, answer)?;
    say::info(&format!(
        "LimiQuantix {} is installed on {}. Remove the installation medium",
        source.manifest.version, plan.node
    ));
    Ok(())
}

/// Installs as an answer file says that a person at the console has filled in. Only on a live host.
pub fn by_hand(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).doing(|| format!("read {}", file.display()))?;
    let answer = Answer::parse(&text).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Error::wrong(lines.join("; "))
    })?;
    let args = BootArgs::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    if args.mode == Mode::Disk {
        return Err(Error::wrong("this host runs from its disk: start it from the installation medium"));
    }
    let wanted = answer.install.clone().ok_or_else(|| Error::wrong("no disk was chosen"))?;
    run(&answer, &wanted, &args, &Handover::read().boot_disk)
}

/// The disks there are to choose from, and what is on them.
pub fn disks(boot_disk: &str) -> Vec<InstallDisk> {
    let image_bytes = stage1::read_manifest().map_or(0, |m| m.image_bytes);
    survey(boot_disk)
        .into_iter()
        .map(|d| InstallDisk {
            node: d.disk.path().display().to_string(),
            text: d.disk.describe(),
            ours: plan::is_ours(&d.disk),
            unfit: plan::unfit(&d, image_bytes),
            found: d.found,
        })
        .collect()
}

/// Looks at every disk.
fn survey(boot_disk: &str) -> Vec<Surveyed> {
    block::scan(Path::new("/sys"))
        .into_iter()
        .filter(|d| !d.optical && d.size_bytes > 0)
        .map(|disk| {
            let path = disk.path();
            let opened = block::open(&path).ok();
            let sector_bytes = opened.as_ref().and_then(|f| sys::sector_bytes(f).ok()).unwrap_or(512);
            let tail = opened
                .and_then(|mut f| block::read_at(&mut f, disk.size_bytes.saturating_sub(4096), 4096).ok());
            let found = match (Signs::read(&path), tail) {
                (Ok(signs), Some(tail)) => plan::contents(&disk, &signs, &tail),
                // What cannot be read cannot be judged, and is not touched.
                _ => vec!["(it cannot be read)".into()],
            };
            let guid = block::disk_guid(&path);
            Surveyed { is_boot_medium: disk.name == boot_disk, sector_bytes, found, guid, disk }
        })
        .collect()
}
