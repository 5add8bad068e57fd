//! The base manifest (`image/base.toml`): which packages, which files of them, which kernel modules go where.
//! Read once; everything in it is checked here, so that the builders can rely on it.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// A base manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub version: u32,
    /// Packages to get.
    pub packages: Packages,
    /// Empty directories of the root image (mount points, mostly); absolute paths.
    pub directories: Vec<String>,
    /// Files taken from packages.
    #[serde(default)]
    pub file: Vec<PackageFile>,
    /// Files written here.
    #[serde(default)]
    pub text: Vec<Text>,
    /// Symbolic links.
    #[serde(default)]
    pub symlink: Vec<Symlink>,
    /// Modules of the initramfs.
    pub initrd: Modules,
    /// Modules of the root image.
    pub root: Modules,
}

/// What is asked of the package archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Wanted packages; their dependencies come along.
    pub want: Vec<String>,
    /// Patterns of package names that are never fetched, though something depends on them.
    pub leave_out: Vec<String>,
}

/// A file of a package.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageFile {
    /// The package.
    pub package: String,
    /// Absolute path (or pattern, with `*`) in the package.
    pub from: String,
    /// Further names of it in the image: links beside it or absolute.
    #[serde(default)]
    pub links: Vec<String>,
}

/// A text file of the image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Absolute path.
    pub path: String,
    /// What it says. `@VERSION@` becomes the version of LimiQuantix.
    pub content: String,
}

/// A symbolic link of the image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symlink {
    /// Absolute path.
    pub path: String,
    /// Where it points.
    pub to: String,
}

/// A choice of kernel modules by patterns on their paths below `kernel/`. What a chosen module needs comes along.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Chosen.
    pub include: Vec<String>,
    /// Not chosen though included.
    #[serde(default)]
    pub exclude: Vec<String>,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the base manifest {}: run from the repository or name it with --manifest",
                path.display()
            )
        })?;
        Self::parse(&text).with_context(|| format!("base manifest {}", path.display()))
    }

    /// Parses and checks a manifest.
    pub fn parse(text: &str) -> Result<Self> {
        let m: Self = toml::from_str(text)?;
        ensure!(m.version == 1, "version is {}, this program reads version 1", m.version);
        ensure!(!m.packages.want.is_empty(), "packages.want is empty");
        let mut seen = BTreeSet::new();
        let paths = m
            .directories
            .iter()
            .chain(m.file.iter().map(|f| &f.from))
            .chain(m.text.iter().map(|t| &t.path))
            .chain(m.symlink.iter().map(|s| &s.path));
        for path in paths {
            check_path(path)?;
            ensure!(seen.insert(path.as_str()), "{path} is declared twice");
        }
        for f in &m.file {
            ensure!(!f.package.is_empty(), "file {} names no package", f.from);
            for link in &f.links {
                ensure!(!link.is_empty() && !link.contains(".."), "file {}: bad link name {link:?}", f.from);
            }
        }
        for (what, modules) in [("initrd", &m.initrd), ("root", &m.root)] {
            ensure!(!modules.include.is_empty(), "{what}.include is empty");
            for p in modules.include.iter().chain(&modules.exclude) {
                if p.starts_with('/') || p.starts_with("kernel/") || p.is_empty() {
                    bail!("{what}: pattern {p:?} must be relative to the kernel/ directory of the modules");
                }
            }
        }
        Ok(m)
    }
}

fn check_path(path: &str) -> Result<()> {
    let good = path.starts_with('/')
        && path.len() > 1
        && path.split('/').skip(1).all(|s| !s.is_empty() && s != "." && s != "..");
    ensure!(good, "{path:?} is not an absolute, plain path");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::glob;

    const GOOD: &str = r#"
        version = 1
        directories = ["/proc"]
        [packages]
        want = ["nftables"]
        leave_out = ["debconf*"]
        [[file]]
        package = "nftables"
        from = "/usr/sbin/nft"
        [[text]]
        path = "/etc/hosts"
        content = "127.0.0.1 localhost\n"
        [initrd]
        include = ["fs/squashfs/**"]
        [root]
        include = ["fs/**"]
        exclude = ["fs/ocfs2/**"]
    "#;

    #[test]
    fn a_good_manifest_is_read() {
        let m = Manifest::parse(GOOD).unwrap();
        assert_eq!(m.file[0].from, "/usr/sbin/nft");
        assert_eq!(m.root.exclude, ["fs/ocfs2/**"]);
    }

    /// Loaded when the first shared pool is mounted: `nfsv4` and all it needs.
    #[test]
    fn hosts_have_the_kernels_nfs() {
        let base = Manifest::parse(include_str!("../base.toml")).unwrap();
        for module in [
            "fs/nfs/nfs.ko",
            "fs/nfs/nfsv4.ko",
            "fs/lockd/lockd.ko",
            "fs/nfs_common/grace.ko",
            "fs/netfs/netfs.ko",
            "fs/fscache/fscache.ko",
            "net/sunrpc/sunrpc.ko",
            "net/dns_resolver/dns_resolver.ko",
        ] {
            assert!(
                glob::any(&base.root.include, module) && !glob::any(&base.root.exclude, module),
                "{module}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (GOOD.replace("version = 1", "version = 2"), "version is 2"),
            (GOOD.replace("\"/proc\"", "\"/proc\", \"/proc\""), "declared twice"),
            (GOOD.replace("/etc/hosts", "/etc/../hosts"), "not an absolute"),
            (GOOD.replace("/etc/hosts", "etc/hosts"), "not an absolute"),
            (GOOD.replace("[\"fs/**\"]", "[\"kernel/fs/**\"]"), "relative to the kernel/"),
            (GOOD.replace("exclude =", "omit ="), "unknown field"),
        ];
        for (text, want) in cases {
            let e = format!("{:#}", Manifest::parse(&text).unwrap_err());
            assert!(e.contains(want), "{want}: {e}");
        }
    }

    #[test]
    fn the_manifest_of_this_repository_is_good() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("base.toml");
        let m = Manifest::load(&path).unwrap();
        assert!(m.packages.want.iter().any(|p| p.starts_with("linux-image")));
    }
}
