//! The state and data partitions: made on first boot, checked and repaired, mounted, or stood in for by memory.
//!
//! Only a partition that is blank in every place where ext4 keeps itself is ever formatted. One that cannot be mounted is
//! left as it is; the host starts without it and says so.

use crate::{
    block::{self, Signs},
    error::{Doing, Error, Result, chain},
    mounts, say,
};
use lq_api::local::paths;
use nix::mount::MsFlags;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

const MKFS: &str = "/usr/sbin/mkfs.ext4";
const FSCK: &str = "/usr/sbin/e2fsck";

/// What e2fsck's exit status says (e2fsck(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Nothing was wrong, or only the journal was replayed.
    Clean,
    /// Errors were repaired.
    Repaired,
    /// Errors are left.
    Damaged,
    /// It could not do its work.
    Failed,
}

/// Reads e2fsck's exit status and what it printed.
pub fn verdict(status: i32, output: &str) -> Checked {
    if status & !3 != 0 {
        return if status & 4 != 0 { Checked::Damaged } else { Checked::Failed };
    }
    let routine = |line: &str| {
        line.trim().is_empty()
            || line.contains("recovering journal")
            || line.contains(": clean,")
            || line.contains(" files (")
    };
    // Bitmaps are repaired without a word: a change that no journal explains is a repair.
    let replayed = output.contains("recovering journal") && output.lines().all(routine);
    if status == 0 || replayed { Checked::Clean } else { Checked::Repaired }
}

/// Offsets of ext superblocks besides the first, for 1, 2 and 4 KiB blocks.
pub const BACKUP_SUPERBLOCKS: [u64; 3] = [8193 * 1024, 16384 * 2048, 32768 * 4096];

/// Whether a partition holds nothing at all that ext4 could be rebuilt from.
pub fn is_blank(node: &Path) -> Result<bool> {
    if !Signs::read(node)?.blank {
        return Ok(false);
    }
    let mut file = block::open(node)?;
    for offset in BACKUP_SUPERBLOCKS {
        let bytes = block::read_at(&mut file, offset, 1024).doing(|| format!("read {}", node.display()))?;
        if bytes.get(56..58) == Some(&[0x53, 0xef]) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes an ext4 file system.
pub fn format(node: &Path, label: &str) -> Result<()> {
    let output = Command::new(MKFS)
        .args(["-q", "-F", "-L", label])
        .arg(node)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .doing(|| format!("run {MKFS}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::wrong(format!("{MKFS} {} failed ({}): {}", node.display(), output.status, text.trim())))
}

fn check(node: &Path, how: &[&str]) -> Result<(Checked, String)> {
    let output = Command::new(FSCK)
        .args(how)
        .arg(node)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .doing(|| format!("run {FSCK}"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((verdict(output.status.code().unwrap_or(8), &text), text))
}

/// How closely a file system is looked at before it is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Wholly, each time: for a small one that everything depends on. One that was cleanly unmounted and damaged on the disk
    /// since would else be found out only while it is written to, which makes the kernel turn it read-only.
    Whole,
    /// Wholly where it was not cleanly unmounted, or the kernel has met an error in it.
    Suspicions,
}

/// Brings a partition up at `target`. What is worth telling goes into `warnings`; an error means that it is not mounted.
pub fn bring_up(
    node: &Path,
    target: &str,
    (label, look): (&str, Look),
    flags: MsFlags,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let mut warn = |text: String| {
        say::warn(&text);
        warnings.push(text);
    };
    if is_blank(node)? {
        say::info(&format!("{label}: {} is blank; making its file system", node.display()));
        format(node, label)?;
    } else {
        let how: &[&str] = if look == Look::Whole { &["-f", "-p"] } else { &["-p"] };
        let (mut checked, mut text) = check(node, how)?;
        if checked != Checked::Clean {
            log_check(label, &text);
        }
        if matches!(checked, Checked::Damaged | Checked::Failed) {
            say::warn(&format!("{label}: {} is damaged; repairing it", node.display()));
            (checked, text) = check(node, &["-f", "-y"])?;
            log_check(label, &text);
        }
        match checked {
            Checked::Clean => {}
            Checked::Repaired => warn(format!(
                "the {label} partition ({}) had errors, which were repaired; what was in the damaged places may be lost. \
                 Check the disk's health",
                node.display()
            )),
            Checked::Damaged | Checked::Failed => warn(format!(
                "the {label} partition ({}) has errors that could not be repaired: {}. Save what you need and replace the disk",
                node.display(),
                last_line(&text)
            )),
        }
    }
    mounts::mount_at(node, target, "ext4", flags | MsFlags::MS_NOATIME, "errors=remount-ro")
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no reason given").trim()
}

/// Keeps what e2fsck said.
fn log_check(label: &str, text: &str) {
    let dir = format!("{}/log", paths::RUN);
    let _ = fs::create_dir_all(&dir);
    let old = fs::read_to_string(format!("{dir}/fsck-{label}.log")).unwrap_or_default();
    let _ = fs::write(format!("{dir}/fsck-{label}.log"), old + text);
}

/// Memory in place of a partition.
pub fn stand_in(target: &str, bytes: u64, warnings: &mut Vec<String>) {
    if let Err(e) = mounts::mount_kernel(
        "tmpfs",
        target,
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        &format!("mode=0755,size={bytes}"),
    ) {
        say::error(&chain(&e));
        warnings.push(chain(&e));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replayed_journal_is_no_repair() {
        assert_eq!(verdict(0, "lq-state: clean, 11/32768 files, 6000/131072 blocks"), Checked::Clean);
        assert_eq!(
            verdict(1, "/dev/vda5: recovering journal\n/dev/vda5: clean, 1/2 files, 1/2 blocks\n"),
            Checked::Clean
        );
        assert_eq!(
            verdict(1, "lq-state: 11/32768 files (0.0% non-contiguous), 6/7 blocks\n"),
            Checked::Repaired
        );
        assert_eq!(verdict(1, "Inode 12 has wrong size. FIXED.\n"), Checked::Repaired);
        assert_eq!(verdict(4, "UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY."), Checked::Damaged);
        assert_eq!(verdict(5, ""), Checked::Damaged);
        assert_eq!(verdict(8, "Bad magic number in super-block"), Checked::Failed);
    }

    #[test]
    fn damage_since_a_clean_unmount_is_found_by_a_whole_look_only() {
        use std::os::unix::fs::FileExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
        format(&path, "lq-state").unwrap();
        let facts = Command::new("/usr/sbin/dumpe2fs").arg(&path).stderr(Stdio::null()).output().unwrap();
        let facts = String::from_utf8(facts.stdout).unwrap();
        let number = |key: &str| -> u64 {
            let line = facts.lines().find_map(|l| l.trim_start().strip_prefix(key)).unwrap();
            line.trim().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        };
        let (block, bitmap) = (number("Block size:"), number("Block bitmap at"));
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&vec![0xa5; usize::try_from(block).unwrap()], bitmap * block).unwrap();
        assert_eq!(check(&path, &["-p"]).unwrap().0, Checked::Clean);
        assert_ne!(check(&path, &["-f", "-p"]).unwrap().0, Checked::Clean);
        check(&path, &["-f", "-y"]).unwrap();
        assert_eq!(check(&path, &["-f", "-p"]).unwrap().0, Checked::Clean);
    }

    #[test]
    fn only_what_is_blank_everywhere_counts_as_blank() {
        use std::os::unix::fs::FileExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = fs::File::create(&path).unwrap();
        file.set_len(160 << 20).unwrap();
        assert!(is_blank(&path).unwrap());
        file.write_all_at(&[0x53, 0xef], BACKUP_SUPERBLOCKS[2] + 56).unwrap();
        assert!(!is_blank(&path).unwrap());
    }
}
