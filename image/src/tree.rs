//! A file tree in the making: what will be in an image, before anything is written. Paths have no leading slash;
//! parents of every node exist as directories; a path is set once. Owners are always root, so they are not kept.

use crate::util;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where the bytes of a file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine.
    Path(PathBuf),
    /// Made here.
    Bytes(Vec<u8>),
}

impl Source {
    /// The bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Path(p) => util::read(p),
            Self::Bytes(b) => Ok(b.clone()),
        }
    }
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory, mode 0755.
    Dir,
    /// A regular file.
    File {
        /// Its bytes.
        source: Source,
        /// Permission bits, with set-id bits where the source has them (so that the check can see them).
        mode: u32,
    },
    /// A symbolic link.
    Link(String),
    /// A character device, mode 0600.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// A tree.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Sets a node. Setting the same again is fine, anything else at the same path is an error.
    pub fn set(&mut self, path: &str, node: Node) -> Result<()> {
        let path = path.trim_start_matches('/');
        let plain = !path.is_empty() && path.split('/').all(|s| !s.is_empty() && s != "." && s != "..");
        ensure!(plain, "{path:?} is no plain path");
        let mut parent = String::new();
        for part in path.split('/') {
            if !parent.is_empty() {
                match self.nodes.get(&parent) {
                    Some(Node::Dir) => {}
                    Some(_) => bail!("/{path} lies below /{parent}, which is no directory"),
                    None => {
                        self.nodes.insert(parent.clone(), Node::Dir);
                    }
                }
                parent.push('/');
            }
            parent.push_str(part);
        }
        match self.nodes.get(path) {
            Some(old) if *old != node => bail!("/{path} is declared twice, differently"),
            _ => self.nodes.insert(path.to_owned(), node),
        };
        Ok(())
    }

    /// Sets a file of this machine. Permissions become 0755 or 0644 by its executable bit; set-id bits are kept to be found.
    pub fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        let meta = std::fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        ensure!(meta.is_file(), "{} is not a regular file", from.display());
        let bits = meta.permissions().mode();
        let mode = (bits & 0o6000) | if bits & 0o111 != 0 { 0o755 } else { 0o644 };
        self.set(path, Node::File { source: Source::Path(from.to_owned()), mode })
    }

    /// Sets a file with these bytes, mode 0644.
    pub fn bytes(&mut self, path: &str, data: impl Into<Vec<u8>>) -> Result<()> {
        self.set(path, Node::File { source: Source::Bytes(data.into()), mode: 0o644 })
    }

    /// Every node, sorted by path; a directory comes before what it holds.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(p, n)| (p.as_str(), n))
    }

    /// Whether something is at `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_start_matches('/'))
    }

    /// A hash over everything the image will show of this tree.
    pub fn hash(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for (path, node) in &self.nodes {
            let line = match node {
                Node::Dir => "dir".to_owned(),
                Node::File { source: Source::Path(p), mode } => {
                    format!("file {mode:o} {}", util::hash_file(p)?)
                }
                Node::File { source: Source::Bytes(b), mode } => {
                    format!("file {mode:o} {}", hex::encode(Sha256::digest(b)))
                }
                Node::Link(to) => format!("link {to}"),
                Node::Char { major, minor } => format!("char {major} {minor}"),
            };
            hash.update(path.as_bytes());
            hash.update([0]);
            hash.update(line.as_bytes());
            hash.update([0]);
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// Writes the tree to an empty directory. Device nodes need root and do not occur in trees written this way.
    pub fn write_to(&self, dir: &Path) -> Result<()> {
        for (path, node) in &self.nodes {
            let to = dir.join(path);
            let written = match node {
                Node::Dir => std::fs::create_dir(&to),
                Node::File { source, mode } => match source {
                    Source::Path(from) => std::fs::copy(from, &to).map(|_| ()),
                    Source::Bytes(data) => std::fs::write(&to, data),
                }
                .and_then(|()| std::fs::set_permissions(&to, std::fs::Permissions::from_mode(*mode))),
                Node::Link(target) => symlink(target, &to),
                Node::Char { .. } => bail!("/{path} is a device node"),
            };
            written.with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(())
    }
}

/// The place of a path in a tree where `/bin`, `/sbin`, `/lib` and `/lib64` are links into `/usr`.
pub fn merged_usr(path: &str) -> String {
    let path = path.trim_start_matches('/');
    let first = path.split('/').next().unwrap_or("");
    if matches!(first, "bin" | "sbin" | "lib" | "lib64") { format!("usr/{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_appear_and_conflicts_are_refused() {
        let mut t = Tree::default();
        t.bytes("/etc/ssl/x", "1").unwrap();
        t.bytes("/etc/ssl/x", "1").unwrap();
        assert!(t.bytes("/etc/ssl/x", "2").is_err());
        assert!(t.bytes("/etc/ssl/x/y", "2").is_err());
        assert!(t.bytes("/a/../b", "2").is_err());
        let paths: Vec<&str> = t.iter().map(|(p, _)| p).collect();
        assert_eq!(paths, ["etc", "etc/ssl", "etc/ssl/x"]);
    }

    #[test]
    fn the_hash_sees_content_and_mode() {
        let node = |s: &str, mode| Node::File { source: Source::Bytes(s.into()), mode };
        let hash = |n: Node| {
            let mut t = Tree::default();
            t.set("f", n).unwrap();
            t.hash().unwrap()
        };
        assert_eq!(hash(node("a", 0o644)), hash(node("a", 0o644)));
        assert_ne!(hash(node("a", 0o644)), hash(node("b", 0o644)));
        assert_ne!(hash(node("a", 0o644)), hash(node("a", 0o755)));
    }

    #[test]
    fn a_tree_is_written_as_declared() {
        let dir = tempfile::tempdir().unwrap();
        let mut t = Tree::default();
        t.set("bin/x", Node::File { source: Source::Bytes(b"x".to_vec()), mode: 0o755 }).unwrap();
        t.set("lib", Node::Link("usr/lib".into())).unwrap();
        t.write_to(dir.path()).unwrap();
        let mode = std::fs::metadata(dir.path().join("bin/x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(std::fs::read_link(dir.path().join("lib")).unwrap(), Path::new("usr/lib"));
    }

    #[test]
    fn usr_is_merged() {
        assert_eq!(merged_usr("/sbin/mke2fs"), "usr/sbin/mke2fs");
        assert_eq!(merged_usr("/lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(merged_usr("/libx/y"), "libx/y");
    }
}
