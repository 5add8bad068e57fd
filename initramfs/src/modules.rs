//! Kernel modules: which one a device wants (modalias), what it needs (dependencies), and loading it.
//!
//! There is no `modprobe` in the image. [`Index`] reads the files `depmod` makes and is pure; [`Loader`] loads. The kernel's
//! own requests for modules (`/proc/sys/kernel/modprobe`) come to this program too, see `main`.

use crate::{error::chain, sys};
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// Modules a virtualization host has no use for: sound, cameras, display drivers (the firmware's framebuffer and the VGA text
/// console do), and drivers that are known to do harm when loaded for every match.
const UNWANTED_DIRS: [&str; 4] =
    ["kernel/sound/", "kernel/drivers/gpu/", "kernel/drivers/media/", "kernel/drivers/staging/"];
const UNWANTED: [&str; 5] = ["pcspkr", "evbug", "joydev", "mousedev", "floppy"];

/// Patterns are found by their first bytes up to the first wildcard, at most this many: enough for a PCI vendor.
const KEY: usize = 13;

/// What `depmod` knows of the modules of one kernel.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Patterns by their [`key`], each with its module.
    aliases: HashMap<Vec<u8>, Vec<(String, String)>>,
    /// File and dependencies (files, nearest first) by name.
    modules: HashMap<String, (String, Vec<String>)>,
    builtin: HashSet<String>,
}

/// The bytes a text must begin with to match a pattern, at most [`KEY`].
fn key(pattern: &str) -> &[u8] {
    let bytes = pattern.as_bytes();
    let length =
        bytes.iter().take(KEY).position(|b| matches!(b, b'*' | b'?' | b'[')).unwrap_or(bytes.len().min(KEY));
    bytes.get(..length).unwrap_or(bytes)
}

/// Pattern and module of a line of `modules.alias`.
fn alias_line(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("alias ")?.trim_end().rsplit_once(' ')
}

/// The modules for an alias straight from the text of `modules.alias`, for a program that asks once.
pub fn modules_for_alias(text: &str, modalias: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (pattern, module) in text.lines().filter_map(alias_line) {
        let fits =
            modalias.as_bytes().starts_with(key(pattern)) && matches(pattern.as_bytes(), modalias.as_bytes());
        if fits && !found.iter().any(|f| f == module) {
            found.push(module.to_owned());
        }
    }
    found
}

/// A module's name as the kernel writes it.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

impl Index {
    /// Reads the texts of `modules.alias`, `modules.dep` and `modules.builtin`. Lines that make no sense are skipped.
    pub fn parse(alias: &str, dep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for (pattern, module) in alias.lines().filter_map(alias_line) {
            let list = index.aliases.entry(key(pattern).to_vec()).or_default();
            list.push((pattern.to_owned(), module.replace('-', "_")));
        }
        for line in dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                let needs = needs.split_ascii_whitespace().map(str::to_owned).collect();
                index.modules.insert(name_of(path), (path.to_owned(), needs));
            }
        }
        index.builtin = builtin.lines().map(name_of).collect();
        index
    }

    /// Reads the index in `/lib/modules/<release>`.
    pub fn read(dir: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        Self::parse(&text("modules.alias"), &text("modules.dep"), &text("modules.builtin"))
    }

    /// The modules for a device's modalias.
    pub fn for_alias(&self, modalias: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let bytes = modalias.as_bytes();
        let keys = (0..=KEY.min(bytes.len())).filter_map(|n| bytes.get(..n));
        for (pattern, module) in keys.filter_map(|k| self.aliases.get(k)).flatten() {
            if !found.contains(&module.as_str()) && matches(pattern.as_bytes(), bytes) {
                found.push(module);
            }
        }
        found
    }

    /// The files to load for a module, in the order to load them; `None` where there is no such module.
    pub fn load_order(&self, module: &str) -> Option<Vec<&str>> {
        let module = module.replace('-', "_");
        if self.builtin.contains(&module) {
            return Some(Vec::new());
        }
        let (path, needs) = self.modules.get(&module)?;
        // depmod lists the nearest dependency first, so that loading goes from the last to the first.
        Some(needs.iter().rev().chain(std::iter::once(path)).map(String::as_str).collect())
    }

    fn is_unwanted(&self, module: &str) -> bool {
        UNWANTED.contains(&module)
            || self
                .modules
                .get(module)
                .is_some_and(|(path, _)| UNWANTED_DIRS.iter().any(|d| path.contains(d)))
    }
}

/// Shell-style match of `*`, `?` and `[…]` (ranges, `!`), over the whole text, as depmod's patterns use them.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Positions to go on from when a later part fails: after the last `*`, and how much it has eaten.
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            (None, None) => return true,
            (Some(b'?'), Some(_)) => Some(1),
            (Some(b'['), Some(c)) => match_set(pattern.get(p..).unwrap_or(&[]), *c),
            (Some(a), Some(b)) if a == b => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(n), _) => {
                p += n;
                t += 1;
            }
            (None, Some((star, eaten))) if eaten < text.len() => {
                retry = Some((star, eaten + 1));
                p = star;
                t = eaten + 1;
            }
            _ => return false,
        }
    }
}

/// Length of the set at the start of `pattern` where it contains `c`.
fn match_set(pattern: &[u8], c: u8) -> Option<usize> {
    let end = 2 + pattern.get(2..)?.iter().position(|b| *b == b']')?;
    let body = pattern.get(1..end)?;
    let (negated, body) = match body.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, body),
    };
    let mut found = false;
    let mut rest = body;
    loop {
        match rest {
            [low, b'-', high, tail @ ..] => {
                found |= (*low..=*high).contains(&c);
                rest = tail;
            }
            [one, tail @ ..] => {
                found |= *one == c;
                rest = tail;
            }
            [] => break,
        }
    }
    (found != negated).then_some(end + 1)
}

/// Loads modules of the running kernel; remembers what it has tried.
#[derive(Debug)]
pub struct Loader {
    dir: PathBuf,
    index: Index,
    tried: HashSet<String>,
    seen: HashSet<String>,
    /// Modules that could not be loaded, with the reason.
    pub failures: Vec<String>,
}

impl Loader {
    /// For the running kernel, with the modules under `/lib/modules`.
    pub fn new() -> Self {
        let dir = modules_dir();
        Self { index: Index::read(&dir), dir, ..Self::empty() }
    }

    /// For a program that asks for a few aliases only: those are looked up in the files when asked.
    pub fn for_few() -> (Self, String) {
        let mut loader = Self { dir: modules_dir(), ..Self::empty() };
        let text = |name: &str| fs::read_to_string(loader.dir.join(name)).unwrap_or_default();
        let aliases = text("modules.alias");
        loader.index = Index::parse("", &text("modules.dep"), &text("modules.builtin"));
        (loader, aliases)
    }

    fn empty() -> Self {
        Self {
            dir: PathBuf::new(),
            index: Index::default(),
            tried: HashSet::new(),
            seen: HashSet::new(),
            failures: Vec::new(),
        }
    }

    /// Whether there are modules for this kernel at all.
    pub fn is_empty(&self) -> bool {
        self.index.modules.is_empty()
    }

    /// Loads a module and what it needs. Tells whether it is there now (built in counts).
    pub fn load(&mut self, module: &str) -> bool {
        let Some(files) = self.index.load_order(module) else { return false };
        for file in files {
            if self.tried.insert(file.to_owned())
                && let Err(e) = sys::load_module(&self.dir.join(file))
            {
                // "No such device" is the answer of drivers that looked and found nothing.
                if !chain(&e).contains("os error 19") {
                    self.failures.push(chain(&e));
                }
            }
        }
        true
    }

    /// Loads what an alias asks for, as far as a host has a use for it. Returns how many modules are there now.
    pub fn load_alias(&mut self, alias: &str) -> usize {
        let wanted = self.index.for_alias(alias).into_iter().map(str::to_owned).collect();
        self.load_wanted(wanted)
    }

    /// Loads these modules, but for those a host has no use for. Returns how many are there now.
    pub fn load_wanted(&mut self, wanted: Vec<String>) -> usize {
        let useful: Vec<String> = wanted.into_iter().filter(|m| !self.index.is_unwanted(m)).collect();
        useful.iter().filter(|module| self.load(module)).count()
    }

    /// Loads the modules of every device the kernel shows that was not seen before. Returns how many devices were new.
    pub fn load_for_devices(&mut self) -> usize {
        let mut found = Vec::new();
        collect_modaliases(Path::new("/sys/devices"), 0, &mut found);
        let mut new = 0;
        for modalias in found {
            if self.seen.insert(modalias.clone()) {
                new += 1;
                self.load_alias(&modalias);
            }
        }
        new
    }
}

fn modules_dir() -> PathBuf {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Path::new("/lib/modules").join(release.trim())
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

fn collect_modaliases(dir: &Path, depth: usize, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            // Links lead back up; the tree itself is a tree.
            Ok(kind) if kind.is_dir() && depth < 24 => collect_modaliases(&entry.path(), depth + 1, found),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    found.push(text.trim_end().to_owned());
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_depmod_means_them() {
        let yes = [
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4"),
            ("pci:v00008086d0000[12]5??sv*", "pci:v00008086d000015absv0"),
            ("scsi:t-0x05*", "scsi:t-0x05"),
            ("a[!0-9]c", "abc"),
            ("*", ""),
            ("acpi*:PNP0C0C:*", "acpi:PNP0C0C:"),
            ("a*b*c", "aXbYbZc"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", "ab"), ("a?", "a"), ("a[0-9]", "ax"), ("a*b", "ac"), ("[", "["), ("", "x")]
        {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn dependencies_are_loaded_from_the_far_end() {
        let index = Index::parse(
            "# Aliases\nalias virtio:d00000001v* virtio_net\nalias acpi*:PNP0C0C:* button\nalias pci:* snd_x\n",
            "kernel/drivers/net/virtio_net.ko: kernel/net/net_failover.ko kernel/net/core/failover.ko\n\
             kernel/sound/snd-x.ko:\n",
            "kernel/fs/ext-two.ko\n",
        );
        assert_eq!(index.for_alias("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(index.for_alias("acpi:PNP0C0C:"), ["button"]);
        assert_eq!(modules_for_alias("alias acpi*:PNP0C0C:* button\n", "acpi:PNP0C0C:"), ["button"]);
        let order =
            ["kernel/net/core/failover.ko", "kernel/net/net_failover.ko", "kernel/drivers/net/virtio_net.ko"];
        assert_eq!(index.load_order("virtio-net").unwrap(), order);
        assert_eq!(index.load_order("ext_two"), Some(vec![]));
        assert_eq!(index.load_order("nothing"), None);
        assert!(index.is_unwanted("snd_x") && !index.is_unwanted("virtio_net"));
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_with_a_star(text in "[a-z0-9:]{0,40}", cut in 0usize..40) {
            let cut = cut.min(text.len());
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
            let pattern = format!("{}*", &text[..cut]);
            prop_assert!(matches(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_pattern_is_survived(pattern in proptest::collection::vec(any::<u8>(), 0..30), text in proptest::collection::vec(any::<u8>(), 0..30)) {
            let _ = matches(&pattern, &text);
        }
    }
}
