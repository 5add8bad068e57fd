//! What an installation would do, decided before anything is written. Pure.
//!
//! The order of refusals: which disk, is it fit, has this answer file made it what it is, is it empty or given up by the
//! erase word.

use super::mark::Mark;
use crate::block::{Disk, Signs, size_text};
use lq_api::{
    answer::{DiskChoice, ERASE_WORD, Install},
    local::layout,
};

const MIB: u64 = 1 << 20;

/// A disk and what was found on it.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// The disk.
    pub disk: Disk,
    /// The host was booted from it.
    pub is_boot_medium: bool,
    /// Bytes of a logical sector.
    pub sector_bytes: u32,
    /// What is on it; empty for a blank disk.
    pub found: Vec<String>,
    /// GUID of its partition table, where it has one.
    pub guid: Option<String>,
}

/// A partition as it will be. Offsets and lengths in bytes, multiples of 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// GPT label.
    pub label: &'static str,
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Device node of the disk.
    pub node: String,
    /// Its size in bytes.
    pub disk_bytes: u64,
    /// Bytes of a logical sector.
    pub sector_bytes: u32,
    /// The partitions in order.
    pub parts: Vec<Part>,
    /// What to tell before it begins.
    pub notes: Vec<String>,
}

impl Plan {
    /// The partition with a label. Every label of the layout is there.
    pub fn part(&self, label: &str) -> Option<Part> {
        self.parts.iter().find(|p| p.label == label).copied()
    }
}

/// Whether an installation of this product is on a disk.
pub fn is_ours(disk: &Disk) -> bool {
    disk.partition(layout::PART_SLOT_A).is_some() && disk.partition(layout::PART_STATE).is_some()
}

/// What is on a disk, for people; empty where it is blank.
pub fn contents(disk: &Disk, signs: &Signs, tail: &[u8]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if is_ours(disk) {
        found.push("a LimiQuantix installation".into());
    }
    found.extend(signs.kinds.iter().map(|k| (*k).to_owned()));
    let labels: Vec<String> = disk
        .partitions
        .iter()
        .map(|p| match &p.label {
            Some(label) => format!("{} \"{label}\" ({})", p.name, size_text(p.size_bytes)),
            None => format!("{} ({})", p.name, size_text(p.size_bytes)),
        })
        .collect();
    if !labels.is_empty() {
        found.push(format!("partitions {}", labels.join(", ")));
    }
    if found.is_empty() && tail.windows(8).any(|w| w == b"EFI PART") {
        found.push("the backup of a GPT partition table".into());
    }
    if found.is_empty() && !signs.blank {
        found.push("data of an unknown kind (the first MiB is not blank)".into());
    }
    found
}

/// The layout of a disk of this size, or the reason why it does not fit.
pub fn lay_out(disk_bytes: u64, image_bytes: u64) -> Result<Vec<Part>, String> {
    if disk_bytes < layout::DISK_MIN_MIB * MIB {
        return Err(format!(
            "it has {}, at least {} are needed",
            size_text(disk_bytes),
            size_text(layout::DISK_MIN_MIB * MIB)
        ));
    }
    if image_bytes > layout::SLOT_MIB * MIB {
        return Err(format!("the root image ({}) does not fit into a slot", size_text(image_bytes)));
    }
    let mut parts = Vec::new();
    let mut offset = MIB;
    for (label, mib) in [
        (layout::PART_BIOS, layout::BIOS_MIB),
        (layout::PART_ESP, layout::ESP_MIB),
        (layout::PART_SLOT_A, layout::SLOT_MIB),
        (layout::PART_SLOT_B, layout::SLOT_MIB),
        (layout::PART_STATE, layout::STATE_MIB),
    ] {
        parts.push(Part { label, offset, length: mib * MIB });
        offset += mib * MIB;
    }
    // The last MiB is the backup of the table's.
    let end = (disk_bytes - MIB) / MIB * MIB;
    parts.push(Part { label: layout::PART_DATA, offset, length: end - offset });
    Ok(parts)
}

fn listed<'a>(disks: impl Iterator<Item = &'a Surveyed>) -> String {
    let lines: Vec<String> = disks
        .map(|d| {
            format!("\n  {}{}", d.disk.describe(), if d.is_boot_medium { " - the boot medium" } else { "" })
        })
        .collect();
    if lines.is_empty() { "\n  none".into() } else { lines.concat() }
}

fn choose<'a>(disks: &'a [Surveyed], choice: &DiskChoice) -> Result<&'a Surveyed, String> {
    let fit = |d: &&Surveyed| {
        !d.is_boot_medium && !d.disk.read_only && d.disk.size_bytes >= layout::DISK_MIN_MIB * MIB
    };
    let none = || {
        format!(
            "there is no disk to install to: at least {} and not the boot medium are needed. Disks found:{}",
            size_text(layout::DISK_MIN_MIB * MIB),
            listed(disks.iter())
        )
    };
    let named = |what: &str, test: &dyn Fn(&Disk) -> bool| {
        let mut hits = disks.iter().filter(|d| test(&d.disk));
        match (hits.next(), hits.next()) {
            (Some(disk), None) => Ok(disk),
            (Some(_), Some(_)) => {
                Err(format!("several disks have {what}:{}", listed(disks.iter().filter(|d| test(&d.disk)))))
            }
            (None, _) => Err(format!("no disk has {what}. Disks found:{}", listed(disks.iter()))),
        }
    };
    let by_size = |d: &&Surveyed| (d.disk.size_bytes, std::cmp::Reverse(d.disk.name.clone()));
    match choice {
        DiskChoice::Auto => {
            let mut fits = disks.iter().filter(fit);
            match (fits.next(), fits.next()) {
                (Some(disk), None) => Ok(disk),
                (None, _) => Err(none()),
                (Some(_), Some(_)) => Err(format!(
                    "`disk = \"auto\"` needs a single disk to choose, but there are several. Name one by \
                     \"serial:…\", \"wwn:…\" or \"/dev/…\", or say \"smallest\" or \"largest\":{}",
                    listed(disks.iter().filter(fit))
                )),
            }
        }
        DiskChoice::Smallest => {
            disks.iter().filter(fit).min_by_key(|d| (d.disk.size_bytes, d.disk.name.clone())).ok_or_else(none)
        }
        DiskChoice::Largest => disks.iter().filter(fit).max_by_key(by_size).ok_or_else(none),
        DiskChoice::Path(path) => named(&format!("the node {path}"), &|d| d.path().to_str() == Some(path)),
        DiskChoice::Serial(serial) => {
            named(&format!("the serial number {serial}"), &|d| d.serial.as_deref() == Some(serial))
        }
        DiskChoice::Wwn(wwn) => {
            named(&format!("the world-wide name {wwn}"), &|d| d.wwn.as_deref() == Some(wwn))
        }
    }
}

/// Why a disk cannot be installed to, whatever is on it.
pub fn unfit(disk: &Surveyed, image_bytes: u64) -> Option<String> {
    if disk.is_boot_medium {
        return Some("is the medium this host was booted from".into());
    }
    if disk.disk.read_only {
        return Some("is read-only".into());
    }
    lay_out(disk.disk.size_bytes, image_bytes).err().map(|reason| format!("is too small: {reason}"))
}

/// Decides. The error is for people: what is wrong and what to write into the answer file.
pub fn plan(disks: &[Surveyed], wanted: &Install, mark: Mark, image_bytes: u64) -> Result<Plan, String> {
    let field = |reason: String| format!("install.disk: {reason}");
    let choice: DiskChoice = wanted.disk.parse().map_err(field)?;
    let chosen = choose(disks, &choice).map_err(field)?;
    let what = chosen.disk.describe();
    if let Some(reason) = unfit(chosen, image_bytes) {
        return Err(field(format!("{what} {reason}")));
    }
    let parts = lay_out(chosen.disk.size_bytes, image_bytes).map_err(field)?;
    if !wanted.again && chosen.guid.as_deref().is_some_and(|guid| mark.is_on(guid)) {
        return Err(format!(
            "this answer file has installed LimiQuantix on {what} already. Remove the installation medium and start the host \
             from its disk. To install again all the same, and lose what is on it, add this line under [install]:\n\
             \x20 again = true"
        ));
    }
    let mut notes = vec![format!("installing to {what}")];
    if !chosen.found.is_empty() {
        let found = chosen.found.join("; ");
        if wanted.erase.as_deref() != Some(ERASE_WORD) {
            return Err(format!(
                "install.erase: {what} is not blank. Found: {found}. To lose all of it, add this line under [install]:\n\
                 \x20 erase = \"{ERASE_WORD}\""
            ));
        }
        notes.push(format!("erasing, as the answer file allows: {found}"));
    }
    Ok(Plan {
        node: chosen.disk.path().display().to_string(),
        disk_bytes: chosen.disk.size_bytes,
        sector_bytes: chosen.sector_bytes,
        parts,
        notes,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
