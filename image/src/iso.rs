//! The hybrid ISO: an ISO 9660 file system that BIOS starts by El Torito and by its MBR, and UEFI by El Torito and by an
//! appended EFI system partition. The same file is a CD and, written to it whole, a USB stick.

use crate::grub::{self, Images};
use crate::progress::{Step, note};
use crate::{tool, util};
use anyhow::{Context, Result, bail, ensure};
use lq_api::answer::Answer;
use lq_api::local::layout::{self, RootManifest};
use std::path::{Path, PathBuf};

/// Largest ISO, in bytes: the promise of the design.
pub const BUDGET: u64 = 250 << 20;

/// EFI system partition and basic data, as xorriso takes partition types.
const TYPE_ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

/// What goes into an ISO.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Directory with `vmlinuz`, `initrd`, `root.img`, `root.json`.
    pub dir: &'a Path,
    /// Description of the root image.
    pub root: &'a RootManifest,
    /// GRUB.
    pub grub: &'a Images,
    /// Further kernel words.
    pub words: &'a str,
    /// Date of everything, seconds since 1970.
    pub epoch: u64,
}

/// Name of this build: GRUB of one build does not start the kernel of another.
pub fn id(root: &RootManifest) -> String {
    root.root_hash.chars().take(16).collect()
}

/// Writes the ISO, unless the one there was made from the same parts.
pub fn build(parts: &Parts<'_>, iso: &Path) -> Result<()> {
    tool::require(&["xorriso"])?;
    let config_dir = parts.dir.join("iso");
    util::make_dir(&config_dir)?;
    util::write(&config_dir.join("grub.cfg"), grub::iso_config(parts.root).as_bytes())?;
    util::write(&config_dir.join("words.cfg"), grub::words_config(parts.words)?.as_bytes())?;
    util::write(&config_dir.join("mode.cfg"), grub::mode_config(false).as_bytes())?;
    util::write(&config_dir.join("id"), b"")?;

    let id_file = grub::id_file(&id(parts.root));
    let mut files: Vec<(&str, PathBuf)> =
        ["vmlinuz", "initrd", "root.img", "root.json"].map(|n| (n, parts.dir.join(n))).into();
    files.extend(["boot.img", "core.img", "bootx64.efi"].map(|n| (n, parts.grub.path(n))));
    let mut maps: Vec<(String, PathBuf)> = files.into_iter().map(|(n, p)| (format!("/lq/{n}"), p)).collect();
    maps.extend(["grub.cfg", "words.cfg", "mode.cfg"].map(|n| (format!("/lq/grub/{n}"), config_dir.join(n))));
    maps.push((id_file, config_dir.join("id")));
    maps.push(("/lq/grub/eltorito.img".into(), parts.grub.path("eltorito.img")));
    let efi = parts.grub.path("efiboot.img");

    let mut hashes =
        vec![util::hash_file(&efi)?, util::hash_file(&Images::hybrid_mbr())?, parts.epoch.to_string()];
    let fixed = fixed_arguments(parts.epoch);
    hashes.extend(fixed.iter().cloned());
    for (to, from) in &maps {
        hashes.push(format!("{to} {}", util::hash_file(from)?));
    }
    let inputs = util::hash_of(&hashes.iter().map(String::as_bytes).collect::<Vec<_>>());
    let stamp = parts.dir.join("iso.stamp");
    // The stamp also holds what was written, so that a remastered or damaged ISO is not taken for a fresh one.
    let made = |iso: &Path| Ok::<_, anyhow::Error>(format!("{inputs} {}", util::hash_file(iso)?));
    if iso.exists() && util::fresh(&stamp, &made(iso)?, &[iso]) {
        note("iso", &format!("{} is up to date", iso.display()));
        return Ok(());
    }
    let step = Step::begin("iso", "writing");
    if let Some(parent) = iso.parent() {
        util::make_dir(parent)?;
    }
    let partial = with_suffix(iso, ".new")?;
    let text =
        |p: &Path| p.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", p.display()));
    let mut args = fixed;
    args.extend(["--grub2-mbr".into(), text(&Images::hybrid_mbr())?]);
    args.extend(["-append_partition".into(), "2".into(), TYPE_ESP.into(), text(&efi)?]);
    args.extend(["-o".into(), text(&partial)?]);
    for (to, from) in &maps {
        args.push(format!("{to}={}", text(from)?));
    }
    tool::run_at("xorriso", &args, None, Some(parts.epoch))?;
    let size = util::size(&partial)?;
    std::fs::rename(&partial, iso)?;
    util::stamp(&stamp, &made(iso)?)?;
    step.end(&util::mib(size));
    if size > BUDGET {
        note("iso", &format!("WARNING: larger than the budget of {}", util::mib(BUDGET)));
    }
    Ok(())
}

/// What xorriso is told whatever goes into the ISO.
fn fixed_arguments(epoch: u64) -> Vec<String> {
    let mut args: Vec<String> =
        ["-as", "mkisofs", "-quiet", "-volid", layout::ISO_LABEL].map(Into::into).into();
    args.extend(["-rational-rock", "-joliet", "-graft-points"].map(Into::into));
    // xorriso takes SOURCE_DATE_EPOCH for the volume and ids, but dates of files from where they lie.
    args.extend(["--set_all_file_dates".into(), format!("={epoch}")]);
    // BIOS: El Torito without emulation, and an MBR that finds the same image on a stick.
    args.extend(["-b", "lq/grub/eltorito.img", "-no-emul-boot", "-boot-load-size", "4"].map(Into::into));
    args.extend(["-boot-info-table", "--grub2-boot-info", "--protective-msdos-label"].map(Into::into));
    args.extend(
        ["-partition_cyl_align", "off", "-partition_offset", "16", "--mbr-force-bootable"].map(Into::into),
    );
    // UEFI: one FAT image, seen as a partition on a stick and as El Torito image on a CD.
    args.extend(["-appended_part_as_gpt", "-eltorito-alt-boot"].map(Into::into));
    args.extend(
        ["-e", "--interval:appended_partition_2:all::", "-no-emul-boot", "-c", "lq/grub/boot.cat"]
            .map(Into::into),
    );
    args
}

/// Copies an ISO with an answer file and other kernel words in it. Both boot ways stay as they are.
pub fn add_answer(iso: &Path, out: &Path, answer: Option<&Path>, words: Option<&str>) -> Result<()> {
    tool::require(&["xorriso"])?;
    ensure!(iso.is_file(), "there is no ISO {}", iso.display());
    ensure!(answer.is_some() || words.is_some(), "neither --answer nor --append is given: nothing to do");
    let same = std::fs::canonicalize(out).is_ok_and(|o| std::fs::canonicalize(iso).is_ok_and(|i| i == o));
    ensure!(!same, "--out must be another file than --iso");
    let scratch = with_suffix(out, ".parts")?;
    util::remove_dir(&scratch)?;
    util::make_dir(&scratch)?;
    let result = remaster(iso, out, answer, words, &scratch);
    util::remove_dir(&scratch)?;
    result
}

fn remaster(
    iso: &Path,
    out: &Path,
    answer: Option<&Path>,
    words: Option<&str>,
    scratch: &Path,
) -> Result<()> {
    let mut maps: Vec<(PathBuf, String)> = Vec::new();
    if let Some(path) = answer {
        let text = String::from_utf8(util::read(path)?)
            .with_context(|| format!("{} is not text", path.display()))?;
        let parsed = match Answer::parse(&text) {
            Ok(parsed) => parsed,
            Err(faults) => {
                let lines: Vec<String> =
                    faults.iter().map(|f| format!("{}: {}", f.field, f.reason)).collect();
                bail!("answer file {}:\n  {}", path.display(), lines.join("\n  "));
            }
        };
        let mode = scratch.join("mode.cfg");
        util::write(&mode, grub::mode_config(parsed.install.is_some()).as_bytes())?;
        maps.push((path.to_owned(), format!("/lq/{}", layout::ANSWER_FILE)));
        maps.push((mode, "/lq/grub/mode.cfg".into()));
    }
    if let Some(words) = words {
        let file = scratch.join("words.cfg");
        util::write(&file, grub::words_config(words)?.as_bytes())?;
        maps.push((file, "/lq/grub/words.cfg".into()));
    }
    let step = Step::begin("iso", "remastering");
    let partial = with_suffix(out, ".new")?;
    if partial.exists() {
        std::fs::remove_file(&partial)?;
    }
    let mut args: Vec<std::ffi::OsString> = vec!["-report_about".into(), "SORRY".into()];
    args.extend(["-indev".into(), iso.into(), "-outdev".into(), partial.as_os_str().to_owned()]);
    args.extend(["-boot_image", "any", "replay"].map(Into::into));
    for (from, to) in &maps {
        args.extend(["-map".into(), from.as_os_str().to_owned(), to.into()]);
    }
    args.push("-commit".into());
    tool::run("xorriso", &args, None)?;
    let size = util::size(&partial)?;
    std::fs::rename(&partial, out)?;
    step.end(&util::mib(size));
    Ok(())
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> Result<PathBuf> {
    let mut name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_owned();
    name.push(suffix);
    Ok(path.with_file_name(name))
}
