//! The root image: the tree the manifest declares, our programs, and the closure of what they need, as a squashfs
//! followed by its dm-verity hash tree.
//!
//! ```text
//! root.img = squashfs, padded to 4096 │ verity superblock │ hash tree
//!            0 ─────────── data_bytes ┘                     image_bytes
//! ```
//! The same inputs give the same bytes: files are sorted, owned by root and dated like the kernel; salt and UUID come
//! from the content's hash.

use crate::base::Base;
use crate::manifest::Manifest;
use crate::modules::{Index, Selection};
use crate::progress::{Step, note};
use crate::tree::{Node, Source, Tree, merged_usr};
use crate::{bins, closure, elf, forbid, glob, sbom, tool, util};
use anyhow::{Context, Result, ensure};
use lq_api::local::{layout, paths};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Programs of ours in the image.
pub const PROGRAMS: [&str; 4] = ["lq-init", "mgmtd", "lq-vmm", "lq-console"];

const BLOCK: u64 = 4096;
/// xz would be 11 % smaller, but is read several times slower, at every start of a program.
const SQUASHFS: [&str; 6] = ["-comp", "zstd", "-Xcompression-level", "19", "-b", "262144"];
/// A fifth larger, made in a few seconds instead of a minute.
const SQUASHFS_QUICK: [&str; 6] = ["-comp", "zstd", "-Xcompression-level", "2", "-b", "262144"];

/// What the image is made with, besides the base.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Directory with our programs.
    pub bin: &'a Path,
    /// Go on where some are missing.
    pub allow_missing: bool,
    /// Compress quickly rather than well.
    pub quick: bool,
    /// The fault agent of end-to-end tests.
    pub test_agent: Option<&'a Path>,
}

impl Options<'_> {
    fn squashfs(&self) -> &'static [&'static str; 6] {
        if self.quick { &SQUASHFS_QUICK } else { &SQUASHFS }
    }
}

/// Makes the root image in `out` (`root.img`, `root.json`), unless it is there already.
pub fn build(
    base: &Base,
    manifest: &Manifest,
    out: &Path,
    options: Options<'_>,
) -> Result<layout::RootManifest> {
    tool::require(&["mksquashfs", "veritysetup"])?;
    let step = Step::begin("root", "collecting files");
    let (tree, packages, modules) = assemble(base, manifest, options)?;
    forbid::check(&tree)?;
    let inputs = util::hash_of(&[
        tree.hash()?.as_bytes(),
        options.squashfs().join(" ").as_bytes(),
        &base.epoch()?.to_le_bytes(),
    ]);
    step.end(&format!("{} files of {} packages, {} modules", tree.iter().count(), packages, modules));

    let (image, json, stamp) = (out.join("root.img"), out.join("root.json"), out.join("root.stamp"));
    if util::fresh(&stamp, &inputs, &[&image, &json]) {
        note("root", "root.img is up to date");
        return Ok(serde_json::from_slice(&util::read(&json)?)?);
    }
    let step = Step::begin("root", "compressing");
    let partial = out.join("root.img.new");
    squash(base, &tree, out, &partial, options.squashfs())?;
    let made = seal(&partial, &inputs, &base.kernel)?;
    let limit = layout::SLOT_MIB << 20;
    ensure!(
        made.image_bytes <= limit,
        "the root image has {}, a slot holds {}: use release programs, or leave out modules in the manifest",
        util::mib(made.image_bytes),
        util::mib(limit)
    );
    std::fs::rename(&partial, &image)?;
    util::write_json(&json, &made)?;
    util::stamp(&stamp, &inputs)?;
    step.end(&util::mib(made.image_bytes));
    Ok(made)
}

fn squash(base: &Base, tree: &Tree, out: &Path, image: &Path, compression: &[&str]) -> Result<()> {
    let stage = out.join("root.stage");
    util::remove_dir(&stage)?;
    util::make_dir(&stage)?;
    tree.write_to(&stage)?;
    if image.exists() {
        std::fs::remove_file(image)?;
    }
    let epoch = base.epoch()?.to_string();
    let mut args: Vec<&std::ffi::OsStr> = vec![stage.as_os_str(), image.as_os_str()];
    let fixed = [
        "-noappend",
        "-all-root",
        "-no-xattrs",
        "-no-progress",
        "-quiet",
        "-mkfs-time",
        &epoch,
        "-all-time",
        &epoch,
    ];
    args.extend(compression.iter().chain(fixed.iter()).map(std::ffi::OsStr::new));
    tool::run("mksquashfs", &args, None)?;
    util::remove_dir(&stage)
}

/// Appends the hash tree and checks the whole.
fn seal(image: &Path, inputs: &str, kernel: &str) -> Result<layout::RootManifest> {
    let data_bytes = util::size(image)?.next_multiple_of(BLOCK);
    std::fs::OpenOptions::new().write(true).open(image)?.set_len(data_bytes)?;
    let content = util::hash_file(image)?;
    let salt = util::hash_of(&[b"salt", content.as_bytes()]);
    let offset = format!("--hash-offset={data_bytes}");
    let file = image.to_str().context("the path of the image is not UTF-8")?;
    let output = tool::run(
        "veritysetup",
        &[
            "format",
            "--hash=sha256",
            "--data-block-size=4096",
            "--hash-block-size=4096",
            &format!("--data-blocks={}", data_bytes / BLOCK),
            &offset,
            &format!("--salt={salt}"),
            &format!("--uuid={}", uuid_from(inputs)),
            file,
            file,
        ],
        None,
    )?;
    let root_hash = root_hash(&output).context("veritysetup printed no root hash")?;
    tool::run("veritysetup", &["verify", &offset, file, file, &root_hash], None)
        .context("the new image does not verify")?;
    Ok(layout::RootManifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel.to_owned(),
        data_bytes,
        image_bytes: util::size(image)?,
        root_hash,
        salt,
    })
}

fn root_hash(output: &str) -> Option<String> {
    let (_, value) =
        output.lines().filter_map(|l| l.split_once(':')).find(|(k, _)| k.trim() == "Root hash")?;
    let value = value.trim();
    (value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit())).then(|| value.to_owned())
}

fn uuid_from(hash: &str) -> String {
    let part = |r| hash.get(r).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32))
}

/// The tree, and how many packages and modules are in it.
fn assemble(base: &Base, manifest: &Manifest, options: Options<'_>) -> Result<(Tree, usize, usize)> {
    let mut tree = Tree::default();
    let mut used: BTreeSet<String> = BTreeSet::new();
    for dir in &manifest.directories {
        tree.set(dir, Node::Dir)?;
    }
    for link in &manifest.symlink {
        tree.set(&link.path, Node::Link(link.to.clone()))?;
    }
    for text in &manifest.text {
        let content = text.content.trim_start_matches('\n').replace("@VERSION@", env!("CARGO_PKG_VERSION"));
        tree.bytes(&text.path, content)?;
    }
    for file in &manifest.file {
        add_package_file(&mut tree, base, file)?;
        used.insert(file.package.clone());
    }
    for program in bins::find(options.bin, &PROGRAMS, options.allow_missing)? {
        tree.file(&format!("{}/{}", paths::BIN, program.name), &program.path)?;
    }
    if let Some(agent) = options.test_agent {
        tree.file(paths::TEST_AGENT, agent)?;
        note("root", "TEST image: it holds the fault agent and is not for release");
    }
    add_libraries(&mut tree, base, &mut used)?;
    let index = Index::load(&base.modules_dir())?;
    let selection = index.add_to(&mut tree, base, &manifest.root, "usr/lib/modules", "root")?;
    used.insert(base.kernel_package().name.clone());
    add_firmware(&mut tree, base, &selection, &mut used)?;
    sbom::add(&mut tree, base, &used)?;
    Ok((tree, used.len(), selection.paths.len()))
}

fn add_package_file(tree: &mut Tree, base: &Base, file: &crate::manifest::PackageFile) -> Result<()> {
    let package = base.package(&file.package)?;
    let root = base.tree(package);
    let pattern = file.from.trim_start_matches('/');
    let (dir, _) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let mut found = false;
    let entries = std::fs::read_dir(root.join(dir));
    for entry in entries.with_context(|| format!("{} has no directory /{dir}", package.name))? {
        let entry = entry?;
        let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
        if !glob::matches(pattern, &path) {
            continue;
        }
        found = true;
        let to = merged_usr(&path);
        match closure::resolve(&root, &entry.path()) {
            Some(_) if entry.file_type()?.is_symlink() && pattern.contains('*') => {
                let target = std::fs::read_link(entry.path())?;
                tree.set(&to, Node::Link(target.to_string_lossy().into_owned()))?;
            }
            Some(real) => tree.file(&to, &real)?,
            None => continue,
        }
        for link in &file.links {
            let parent = to.rsplit_once('/').map_or("", |(p, _)| p);
            let name = to.rsplit('/').next().unwrap_or(&to);
            tree.set(&format!("{parent}/{link}"), Node::Link(name.to_owned()))?;
        }
    }
    ensure!(found, "package {} {} has no {}", package.name, package.version, file.from);
    Ok(())
}

/// Adds the dynamic loader and the libraries of every program that is in the tree already.
fn add_libraries(tree: &mut Tree, base: &Base, used: &mut BTreeSet<String>) -> Result<()> {
    let mut programs = Vec::new();
    for (path, node) in tree.iter() {
        if let Node::File { source, mode } = node
            && mode & 0o111 != 0
        {
            let data = source.read()?;
            if elf::is_elf(&data) {
                programs.push((path.to_owned(), data));
            }
        }
    }
    let roots: Vec<PathBuf> = base.packages.iter().map(|p| base.tree(p)).collect();
    let libraries = closure::libraries(&roots)?;
    let needs = closure::closure(programs, |name| libraries.get(name).map(|p| util::read(p)).transpose())?;
    for name in &needs.libraries {
        let file = libraries.get(name).with_context(|| format!("{name} has gone"))?;
        tree.file(&format!("usr/lib/x86_64-linux-gnu/{name}"), file)?;
        let owner = base.packages.iter().find(|p| file.starts_with(base.tree(p)));
        used.extend(owner.map(|p| p.name.clone()));
    }
    for interpreter in &needs.interpreters {
        let name = interpreter.rsplit('/').next().unwrap_or(interpreter);
        tree.set(&merged_usr(interpreter), Node::Link(format!("../lib/x86_64-linux-gnu/{name}")))?;
    }
    Ok(())
}

/// Adds the firmware that chosen modules ask for, as far as the base has it.
fn add_firmware(
    tree: &mut Tree,
    base: &Base,
    selection: &Selection,
    used: &mut BTreeSet<String>,
) -> Result<()> {
    let mut lacking = BTreeSet::new();
    for path in &selection.paths {
        let data = util::read(&base.modules_dir().join(path))?;
        for wanted in elf::modinfo(&data, "firmware").unwrap_or_default() {
            let found = base.packages.iter().find_map(|p| {
                let root = base.tree(p);
                let dirs = ["lib/firmware", "usr/lib/firmware"];
                let file = dirs.iter().find_map(|d| closure::resolve(&root, &root.join(d).join(&wanted)))?;
                Some((p.name.clone(), file))
            });
            match found {
                Some((package, file)) => {
                    tree.file(&format!("usr/lib/firmware/{wanted}"), &file)?;
                    used.insert(package);
                }
                None => {
                    lacking.insert(crate::modules::name(path));
                }
            }
        }
    }
    if !lacking.is_empty() {
        let list = Source::Bytes(lacking.iter().map(|m| format!("{m}\n")).collect::<String>().into_bytes());
        tree.set(
            "usr/share/doc/limiquantix/modules-without-firmware",
            Node::File { source: list, mode: 0o644 },
        )?;
        note("root", &format!("{} modules can use firmware that no package of the base has", lacking.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_hash_is_found() {
        let hash = "a".repeat(64);
        let text =
            format!("VERITY header information for x\nSalt:            \tbb\nRoot hash:      \t{hash}\n");
        assert_eq!(root_hash(&text), Some(hash));
        assert_eq!(root_hash("Root hash: short\n"), None);
    }

    #[test]
    fn a_uuid_has_its_form() {
        let u = uuid_from(&"0123456789abcdef".repeat(4));
        assert_eq!(u, "01234567-89ab-4def-8123-456789abcdef");
    }
}
