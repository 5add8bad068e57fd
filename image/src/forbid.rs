//! What must never be in an image: shells, logins, package managers, set-id files, scripts (nothing could run them) and
//! files anyone may write. The appliance has no shell to escape to because this check ends the build when one slips in.

use crate::elf;
use crate::tree::{Node, Tree};
use anyhow::{Result, bail};

/// Names of programs, wherever they lie and whatever they are (a link is as bad as a file).
const NAMES: &[&str] = &[
    // shells and what brings one along
    "sh", "bash", "rbash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "tcsh", "csh", "busybox", "toybox",
    "klibc", // interpreters
    "perl", "python", "python3", "awk", "mawk", "gawk", "lua", "tclsh",
    // logins and changes of identity
    "login", "su", "sudo", "doas", "runuser", "sulogin", "getty", "agetty", "mingetty", "passwd", "chsh",
    "newgrp", "sshd", "dropbear", "telnetd", "pkexec", // package managers and other init systems
    "apt", "apt-get", "aptitude", "dpkg", "dpkg-deb", "rpm", "yum", "dnf", "apk", "pip", "systemd",
    "upstart",
];

/// Directories whose files are read by people and never run.
const DOCUMENTS: &str = "usr/share/";

/// Fails with every offence of a tree.
pub fn check(tree: &Tree) -> Result<()> {
    let mut bad = Vec::new();
    for (path, node) in tree.iter() {
        if let Some(why) = offence(path, node)? {
            bad.push(format!("/{path}: {why}"));
        }
    }
    if !bad.is_empty() {
        bail!("{} files may not be in an image:\n  {}", bad.len(), bad.join("\n  "));
    }
    Ok(())
}

fn offence(path: &str, node: &Node) -> Result<Option<&'static str>> {
    if path.starts_with(DOCUMENTS) && !matches!(node, Node::File { mode, .. } if mode & 0o111 != 0) {
        return Ok(None);
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    // `/etc/passwd` is the list of users that libraries read, not the program of that name.
    if !matches!(node, Node::Dir) && NAMES.contains(&name) && path != "etc/passwd" {
        return Ok(Some("a shell, login, interpreter or package manager"));
    }
    let Node::File { source, mode } = node else { return Ok(None) };
    if mode & 0o6000 != 0 {
        return Ok(Some("set-user-id or set-group-id"));
    }
    if mode & 0o022 != 0 {
        return Ok(Some("writable by others than its owner"));
    }
    if mode & 0o111 == 0 {
        return Ok(None);
    }
    let data = source.read()?;
    if data.starts_with(b"#!") {
        return Ok(Some("a script"));
    }
    if elf::is_elf(&data) && data.windows(9).any(|w| w == b"BusyBox v") {
        return Ok(Some("BusyBox under another name"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Source;

    fn with(path: &str, data: &[u8], mode: u32) -> Result<()> {
        let mut t = Tree::default();
        t.set(path, Node::File { source: Source::Bytes(data.to_vec()), mode }).unwrap();
        check(&t)
    }

    #[test]
    fn offences_are_found() {
        for (path, data, mode) in [
            ("usr/bin/dash", b"\x7fELF".as_slice(), 0o755),
            ("opt/x/busybox", b"\x7fELF", 0o644),
            ("usr/bin/tool", b"#!/bin/sh\n", 0o755),
            ("usr/bin/tool", b"\x7fELF", 0o4755),
            ("usr/bin/tool", b"\x7fELF", 0o2755),
            ("usr/bin/tool", b"\x7fELF", 0o757),
            ("usr/bin/tool", b"\x7fELF .. BusyBox v1.35", 0o755),
            ("usr/share/x/sh", b"\x7fELF", 0o755),
        ] {
            assert!(with(path, data, mode).is_err(), "{path} {mode:o}");
        }
        let mut t = Tree::default();
        t.set("bin/sh", Node::Link("dash".into())).unwrap();
        assert!(check(&t).unwrap_err().to_string().contains("/bin/sh"));
    }

    #[test]
    fn good_files_pass() {
        with("usr/sbin/nft", b"\x7fELF", 0o755).unwrap();
        with("etc/passwd", b"root:x:0:0::/:/\n", 0o644).unwrap();
        with("usr/share/doc/limiquantix/copyright/dash", b"#!", 0o644).unwrap();
        let mut t = Tree::default();
        t.set("etc/apt", Node::Dir).unwrap();
        check(&t).unwrap();
    }
}
