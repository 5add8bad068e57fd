//! The initramfs: `lq-init` as `/init`, the modules that find, verify and mount the root, and nothing else.

use crate::base::Base;
use crate::manifest::Manifest;
use crate::modules::Index;
use crate::progress::{Step, note};
use crate::root::Options;
use crate::tree::{Node, Source, Tree};
use crate::{bins, cpio, forbid, tool, util};
use anyhow::{Result, ensure};
use std::path::Path;

const ZSTD: [&str; 5] = ["-q", "-f", "-19", "-T0", "--check"];
/// A quarter larger, made in a second.
const ZSTD_QUICK: [&str; 5] = ["-q", "-f", "-5", "-T0", "--check"];

/// Makes `initrd` (and a copy of the kernel, `vmlinuz`) in `out`, unless they are there already.
pub fn build(base: &Base, manifest: &Manifest, out: &Path, options: Options<'_>) -> Result<()> {
    tool::require(&["zstd"])?;
    let mut tree = Tree::default();
    for dir in ["dev", "proc", "sys", "run", "tmp", "etc"] {
        tree.set(dir, Node::Dir)?;
    }
    // The kernel opens it for /init before anything is mounted.
    tree.set("dev/console", Node::Char { major: 5, minor: 1 })?;
    for program in bins::find(options.bin, &["lq-init"], options.allow_missing)? {
        tree.set("init", Node::File { source: Source::Path(program.path), mode: 0o755 })?;
    }
    let zstd = if options.quick { ZSTD_QUICK } else { ZSTD };
    let index = Index::load(&base.modules_dir())?;
    let selection = index.add_to(&mut tree, base, &manifest.initrd, "lib/modules", "initrd")?;
    forbid::check(&tree)?;

    let (image, kernel, stamp) = (out.join("initrd"), out.join("vmlinuz"), out.join("initrd.stamp"));
    let inputs = util::hash_of(&[tree.hash()?.as_bytes(), zstd.join(" ").as_bytes(), base.kernel.as_bytes()]);
    if util::fresh(&stamp, &inputs, &[&image, &kernel]) {
        note("initrd", "initrd is up to date");
        return Ok(());
    }
    let step = Step::begin("initrd", "compressing");
    kernel_can_read(base)?;
    let plain = out.join("initrd.cpio");
    let archive = cpio::pack(&tree)?;
    util::write(&plain, &archive)?;
    let partial = out.join("initrd.new");
    let mut args: Vec<&std::ffi::OsStr> = zstd.iter().map(std::ffi::OsStr::new).collect();
    args.extend([plain.as_os_str(), "-o".as_ref(), partial.as_os_str()]);
    tool::run("zstd", &args, None)?;
    std::fs::remove_file(&plain)?;
    std::fs::rename(&partial, &image)?;
    util::write(&kernel, &util::read(&base.vmlinuz())?)?;
    util::stamp(&stamp, &inputs)?;
    let sizes = format!("{}, {} unpacked", util::mib(util::size(&image)?), util::mib(archive.len() as u64));
    step.end(&format!("{} modules, {sizes}", selection.paths.len()));
    Ok(())
}

fn kernel_can_read(base: &Base) -> Result<()> {
    let name = format!("config-{}", base.kernel);
    let config = util::read(&base.tree(base.kernel_package()).join("boot").join(name))?;
    let has = String::from_utf8_lossy(&config).lines().any(|l| l == "CONFIG_RD_ZSTD=y");
    ensure!(has, "kernel {} cannot read an initramfs compressed with zstd", base.kernel);
    Ok(())
}
