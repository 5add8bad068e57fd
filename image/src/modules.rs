//! Kernel modules: which ones the manifest chooses, what those need, and the index files that describe just them.

use crate::base::Base;
use crate::progress::note;
use crate::tree::Tree;
use crate::{glob, manifest, util};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The index `depmod` made of all modules of a kernel. Paths are relative to the release's directory.
#[derive(Debug, Default)]
pub struct Index {
    /// Path of a module → paths of what it needs, directly and indirectly.
    needs: BTreeMap<String, Vec<String>>,
    /// Name of a module → its path.
    by_name: BTreeMap<String, String>,
    /// Lines of `modules.alias`: pattern and module name.
    aliases: Vec<(String, String)>,
    /// Module name → what should be loaded with it, as written (module names or aliases).
    soft: BTreeMap<String, Vec<String>>,
    /// `modules.builtin`.
    builtin: String,
    builtin_modinfo: Vec<u8>,
    order: String,
}

/// A choice of modules, closed under what they need.
#[derive(Debug, Default)]
pub struct Selection {
    /// Paths, e.g. `kernel/fs/squashfs/squashfs.ko`.
    pub paths: BTreeSet<String>,
    /// Patterns that chose nothing: neither a module nor something built into the kernel.
    pub unmatched: Vec<String>,
}

impl Index {
    /// Reads the index of a release's directory.
    pub fn load(dir: &Path) -> Result<Self> {
        let text = |name: &str| {
            let bytes = util::read(&dir.join(name))?;
            String::from_utf8(bytes).with_context(|| format!("{name} of {} is not text", dir.display()))
        };
        let mut index =
            Self::parse(&text("modules.dep")?, &text("modules.alias")?, &text("modules.softdep")?);
        index.builtin = text("modules.builtin")?;
        index.order = text("modules.order")?;
        index.builtin_modinfo = util::read(&dir.join("modules.builtin.modinfo"))?;
        Ok(index)
    }

    fn parse(dep: &str, alias: &str, softdep: &str) -> Self {
        let mut index = Self::default();
        for (path, needs) in dep.lines().filter_map(|l| l.split_once(':')) {
            index.by_name.insert(name(path), path.to_owned());
            index.needs.insert(path.to_owned(), needs.split_whitespace().map(str::to_owned).collect());
        }
        for rest in alias.lines().filter_map(|l| l.strip_prefix("alias ")) {
            if let Some((pattern, module)) = rest.rsplit_once(' ') {
                index.aliases.push((pattern.to_owned(), name(module)));
            }
        }
        for rest in softdep.lines().filter_map(|l| l.strip_prefix("softdep ")) {
            let mut words = rest.split_whitespace();
            if let Some(module) = words.next() {
                let with = words.filter(|w| *w != "pre:" && *w != "post:").map(str::to_owned);
                index.soft.entry(name(module)).or_default().extend(with);
            }
        }
        index
    }

    /// Puts what `choice` comes to into `tree`, below `<dir>/<release>/`, with the index of just that.
    pub fn add_to(
        &self,
        tree: &mut Tree,
        base: &Base,
        choice: &manifest::Modules,
        dir: &str,
        room: &str,
    ) -> Result<Selection> {
        let selection = self.select(choice);
        for pattern in &selection.unmatched {
            note(room, &format!("the kernel has no module {pattern:?} (manifest, {room}.include)"));
        }
        let to = format!("{dir}/{}", base.kernel);
        for path in &selection.paths {
            tree.file(&format!("{to}/{path}"), &base.modules_dir().join(path))?;
        }
        for (name, content) in self.files(&selection.paths) {
            tree.bytes(&format!("{to}/{name}"), content)?;
        }
        Ok(selection)
    }

    /// What a manifest's choice comes to.
    pub fn select(&self, choice: &manifest::Modules) -> Selection {
        let mut out = Selection::default();
        let inner = |path: &str| path.strip_prefix("kernel/").unwrap_or(path).to_owned();
        for pattern in &choice.include {
            let mut any = false;
            for path in self.needs.keys().filter(|p| glob::matches(pattern, &inner(p))) {
                any = true;
                if !glob::any(&choice.exclude, &inner(path)) {
                    self.add(path, &mut out.paths);
                }
            }
            if !any && !self.builtin.lines().any(|l| glob::matches(pattern, &inner(l))) {
                out.unmatched.push(pattern.clone());
            }
        }
        out
    }

    fn add(&self, path: &str, chosen: &mut BTreeSet<String>) {
        if !chosen.insert(path.to_owned()) {
            return;
        }
        for need in self.needs.get(path).into_iter().flatten() {
            self.add(need, chosen);
        }
        for soft in self.soft.get(&name(path)).into_iter().flatten() {
            for path in self.providers(soft) {
                self.add(&path, chosen);
            }
        }
    }

    /// Modules called `wanted`, or having exactly that alias.
    fn providers(&self, wanted: &str) -> Vec<String> {
        if let Some(path) = self.by_name.get(&name(wanted)) {
            return vec![path.clone()];
        }
        let named = self.aliases.iter().filter(|(pattern, _)| pattern == wanted);
        named.filter_map(|(_, module)| self.by_name.get(module).cloned()).collect()
    }

    /// The index files that describe only `chosen`: file name and content. Binary forms are left out: only `lq-init`
    /// reads these, and it reads text.
    pub fn files(&self, chosen: &BTreeSet<String>) -> Vec<(&'static str, Vec<u8>)> {
        let names: BTreeSet<String> = chosen.iter().map(|p| name(p)).collect();
        let mut dep = String::new();
        for (path, needs) in self.needs.iter().filter(|(p, _)| chosen.contains(*p)) {
            dep.push_str(&format!("{path}:{}\n", needs.iter().map(|n| format!(" {n}")).collect::<String>()));
        }
        let mut alias = String::new();
        for (pattern, module) in self.aliases.iter().filter(|(_, m)| names.contains(m)) {
            alias.push_str(&format!("alias {pattern} {module}\n"));
        }
        let mut soft = String::new();
        for (module, with) in self.soft.iter().filter(|(m, _)| names.contains(*m)) {
            soft.push_str(&format!("softdep {module} pre: {}\n", with.join(" ")));
        }
        let order: String =
            self.order.lines().filter(|l| chosen.contains(*l)).map(|l| format!("{l}\n")).collect();
        vec![
            ("modules.dep", dep.into_bytes()),
            ("modules.alias", alias.into_bytes()),
            ("modules.softdep", soft.into_bytes()),
            ("modules.order", order.into_bytes()),
            ("modules.builtin", self.builtin.clone().into_bytes()),
            ("modules.builtin.modinfo", self.builtin_modinfo.clone()),
        ]
    }
}

/// The name the kernel gives a module: its file name without suffix, `-` as `_`.
pub fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko
kernel/fs/jbd2/jbd2.ko:
kernel/fs/mbcache.ko:
kernel/fs/ocfs2/ocfs2.ko: kernel/fs/jbd2/jbd2.ko
kernel/crypto/crc32c_generic.ko:
kernel/drivers/md/dm-mod.ko:
kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-mod.ko
";
    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias crypto-crc32c crc32c_generic
alias fs-ext4 ext4
alias fs-ocfs2 ocfs2
";
    const SOFT: &str = "softdep ext4 pre: crypto-crc32c\nsoftdep ocfs2 pre: nothing-like-it post: mbcache\n";

    fn choice(include: &[&str], exclude: &[&str]) -> manifest::Modules {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        manifest::Modules { include: own(include), exclude: own(exclude) }
    }

    fn chosen(include: &[&str], exclude: &[&str]) -> Vec<String> {
        let s = Index::parse(DEP, ALIAS, SOFT).select(&choice(include, exclude));
        s.paths.iter().map(|p| name(p)).collect()
    }

    #[test]
    fn needs_and_soft_needs_come_along() {
        assert_eq!(chosen(&["fs/ext4/**"], &[]), ["crc32c_generic", "ext4", "jbd2", "mbcache"]);
        assert_eq!(chosen(&["**/dm-verity.ko"], &[]), ["dm_mod", "dm_verity"]);
        assert_eq!(chosen(&["fs/ocfs2/**"], &[]), ["jbd2", "mbcache", "ocfs2"]);
    }

    #[test]
    fn exclusion_holds_but_not_against_a_need() {
        assert_eq!(chosen(&["fs/**"], &["fs/ext4/**", "fs/jbd2/**"]), ["jbd2", "mbcache", "ocfs2"]);
    }

    #[test]
    fn patterns_that_choose_nothing_are_told() {
        let mut index = Index::parse(DEP, ALIAS, SOFT);
        index.builtin = "kernel/crypto/sha256_generic.ko\n".to_owned();
        let s = index.select(&choice(&["crypto/sha256_generic.ko", "fs/zfs/**"], &[]));
        assert_eq!(s.unmatched, ["fs/zfs/**"]);
    }

    #[test]
    fn the_index_describes_only_what_is_there() {
        let index = Index::parse(DEP, ALIAS, SOFT);
        let s = index.select(&choice(&["fs/ext4/**"], &[]));
        let files: BTreeMap<_, _> = index.files(&s.paths).into_iter().collect();
        let text = |n: &str| String::from_utf8(files[n].clone()).unwrap();
        assert!(text("modules.dep").contains("ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko\n"));
        assert!(!text("modules.dep").contains("ocfs2"));
        assert_eq!(text("modules.alias"), "alias crypto-crc32c crc32c_generic\nalias fs-ext4 ext4\n");
        assert_eq!(text("modules.softdep"), "softdep ext4 pre: crypto-crc32c\n");
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(name("kernel/drivers/md/dm-mod.ko"), "dm_mod");
        assert_eq!(name("kernel/x/y.ko.xz"), "y");
    }
}
