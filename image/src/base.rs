//! The base: packages resolved by apt from this machine's own sources, downloaded once, unpacked once.
//!
//! ```text
//! <target>/base/debs/         package files, verified by SHA-256; kept between manifests
//! <target>/base/tree/<p_v>/   each package unpacked to a directory of its own (written whole, then renamed)
//! <target>/base/lock.json     the closure a manifest resolved to: with it nothing is asked of the network again
//! ```
//! `--refresh` (or a changed list of wanted packages) resolves anew.

use crate::manifest::Manifest;
use crate::packages::{Package, closure, parse_records};
use crate::progress::Step;
use crate::{tool, util};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An unpacked base.
#[derive(Debug)]
pub struct Base {
    dir: PathBuf,
    /// Every package, by name.
    pub packages: Vec<Package>,
    /// Kernel release, e.g. `6.1.0-40-amd64`.
    pub kernel: String,
    kernel_package: Package,
}

#[derive(Serialize, Deserialize)]
struct Lock {
    /// Hash of what was asked.
    asked: String,
    packages: Vec<Package>,
}

impl Base {
    /// Brings the base up to date.
    pub fn prepare(target: &Path, manifest: &Manifest, refresh: bool) -> Result<Self> {
        tool::require(&["apt-cache", "apt-get", "dpkg-deb", "depmod"])?;
        let dir = target.join("base");
        util::make_dir(&dir.join("debs"))?;
        util::make_dir(&dir.join("tree"))?;
        let packages = resolve(&dir, manifest, refresh)?;
        download(&dir, &packages)?;
        unpack(&dir, &packages)?;
        let (kernel_package, kernel) = find_kernel(&dir, &packages)?;
        let base = Self { dir, kernel, kernel_package, packages };
        base.index_modules()?;
        Ok(base)
    }

    /// The unpacked files of `package`.
    pub fn tree(&self, package: &Package) -> PathBuf {
        self.dir.join("tree").join(package.dir_name())
    }

    /// The package called `name`.
    pub fn package(&self, name: &str) -> Result<&Package> {
        self.packages.iter().find(|p| p.name == name).with_context(|| {
            format!("package {name} is not in the base: add it to packages.want of the manifest")
        })
    }

    /// The package with the kernel.
    pub fn kernel_package(&self) -> &Package {
        &self.kernel_package
    }

    /// The kernel.
    pub fn vmlinuz(&self) -> PathBuf {
        self.tree(&self.kernel_package).join("boot").join(format!("vmlinuz-{}", self.kernel))
    }

    /// Directory with `modules.dep` and `kernel/`.
    pub fn modules_dir(&self) -> PathBuf {
        self.tree(&self.kernel_package).join("lib/modules").join(&self.kernel)
    }

    /// Seconds since 1970 that all files of the image carry: when the kernel package was made.
    pub fn epoch(&self) -> Result<u64> {
        let meta = std::fs::metadata(self.vmlinuz()).context("kernel of the base")?;
        let time = meta.modified()?.duration_since(std::time::UNIX_EPOCH)?;
        Ok(time.as_secs())
    }

    /// Debian's kernel package brings no dependency index; it is made where the package is installed.
    fn index_modules(&self) -> Result<()> {
        let done = self.modules_dir().join("modules.softdep");
        if !done.exists() {
            let step = Step::begin("base", "indexing kernel modules");
            let root = self.tree(&self.kernel_package);
            tool::run("depmod", &["-b".as_ref(), root.as_os_str(), self.kernel.as_ref()], None)?;
            ensure!(done.exists(), "depmod wrote no {}", done.display());
            step.end("");
        }
        Ok(())
    }
}

fn resolve(dir: &Path, manifest: &Manifest, refresh: bool) -> Result<Vec<Package>> {
    let asked = util::hash_of(&[
        manifest.packages.want.join("\n").as_bytes(),
        manifest.packages.leave_out.join("\n").as_bytes(),
    ]);
    let lock_path = dir.join("lock.json");
    if let Ok(text) = std::fs::read(&lock_path)
        && let Ok(lock) = serde_json::from_slice::<Lock>(&text)
        && lock.asked == asked
        && !refresh
    {
        return Ok(lock.packages);
    }
    let step = Step::begin("base", "resolving packages");
    // An empty status file: what happens to be installed on this machine must not matter.
    let status = ["-o", "Dir::State::status=/dev/null"];
    let packages = closure(&manifest.packages.want, &manifest.packages.leave_out, |names| {
        let mut command = tool::command("apt-cache")?;
        command.args(status).args(["show", "--no-all-versions"]).args(names);
        // A name without a record makes apt-cache fail though it prints the others; the closure judges.
        let out = command.output().context("cannot run apt-cache")?;
        Ok(parse_records(&String::from_utf8_lossy(&out.stdout)))
    })?;
    step.end(&format!("{} packages", packages.len()));
    util::write_json(&lock_path, &Lock { asked, packages: packages.clone() })?;
    Ok(packages)
}

fn download(dir: &Path, packages: &[Package]) -> Result<()> {
    let debs = dir.join("debs");
    let missing: Vec<&Package> = packages
        .iter()
        .filter(|p| !debs.join(p.file_name()).exists() && !unpacked(dir, p).exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let bytes: u64 = missing.iter().map(|p| p.size).sum();
    let step = Step::begin("base", &format!("downloading {} packages, {}", missing.len(), util::mib(bytes)));
    // A directory of its own: a broken download never looks like a whole one.
    let partial = dir.join("partial");
    util::remove_dir(&partial)?;
    util::make_dir(&partial)?;
    // Without apt's sandbox user, which could not write here.
    let mut args: Vec<String> = ["-q", "-o", "APT::Sandbox::User=root", "download"].map(Into::into).into();
    args.extend(missing.iter().map(|p| format!("{}={}", p.name, p.version)));
    tool::run("apt-get", &args, Some(&partial)).context(
        "packages cannot be downloaded. The archive may have newer versions by now: run `apt-get update`, then \
         `lq-image base --refresh`",
    )?;
    for p in missing {
        let file = partial.join(p.file_name());
        let hash = util::hash_file(&file)?;
        ensure!(hash == p.sha256, "{} has SHA-256 {hash}, its record says {}", file.display(), p.sha256);
        std::fs::rename(&file, debs.join(p.file_name()))?;
    }
    util::remove_dir(&partial)?;
    step.end("");
    Ok(())
}

fn unpacked(dir: &Path, p: &Package) -> PathBuf {
    dir.join("tree").join(p.dir_name())
}

fn unpack(dir: &Path, packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|p| !unpacked(dir, p).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let step = Step::begin("base", &format!("unpacking {} packages", missing.len()));
    for p in missing {
        let partial = dir.join("tree").join(format!(".{}", p.dir_name()));
        util::remove_dir(&partial)?;
        let deb = dir.join("debs").join(p.file_name());
        tool::run("dpkg-deb", &["-x".as_ref(), deb.as_os_str(), partial.as_os_str()], None)?;
        std::fs::rename(&partial, unpacked(dir, p))?;
    }
    step.end("");
    Ok(())
}

fn find_kernel(dir: &Path, packages: &[Package]) -> Result<(Package, String)> {
    for p in packages.iter().filter(|p| p.name.starts_with("linux-image-")) {
        let Ok(entries) = std::fs::read_dir(unpacked(dir, p).join("boot")) else { continue };
        for entry in entries {
            if let Some(release) = entry?.file_name().to_string_lossy().strip_prefix("vmlinuz-") {
                return Ok((p.clone(), release.to_owned()));
            }
        }
    }
    anyhow::bail!(
        "no package of the base has a kernel: packages.want of the manifest must name one (linux-image-…)"
    )
}
