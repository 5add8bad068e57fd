//! The support bundle: what somebody needs to understand a host they cannot look at, in one archive (tar, gzip).
//!
//! Invariants: nothing of it is a secret. What is known to hold one is not taken in, and every text goes through
//! [`redact::Redactor`], which knows the secrets of the state and what ours look like. Bounded in size: of a log its end.

mod archive;
mod redact;

use crate::cluster::State;
use archive::Archive;
use lq_api::local::logs;
use redact::Redactor;
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Most of a log that is taken in: its end.
const MAX_LOG: u64 = 1 << 20;
/// Most in all, before it is packed.
const MAX_ALL: usize = 48 << 20;

/// Files of the kernel that say how the host is.
const KERNEL_FILES: [&str; 14] = [
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/cmdline",
    "/proc/modules",
    "/proc/interrupts",
    "/proc/diskstats",
    "/proc/self/mounts",
    "/proc/net/dev",
    "/proc/net/route",
    "/proc/net/arp",
    "/proc/pressure/io",
];

/// A support bundle in the making.
pub struct Bundle {
    redactor: Redactor,
    archive: Archive,
    room: usize,
}

impl Bundle {
    /// An empty one of a cluster with this state.
    #[must_use]
    pub fn new(state: &State) -> Self {
        Self { redactor: Redactor::of(state), archive: Archive::default(), room: MAX_ALL }
    }

    /// Adds a text, without its secrets.
    pub fn text(&mut self, name: &str, text: &str) {
        if text.len() <= self.room {
            let text = self.redactor.clean(text);
            self.room = self.room.saturating_sub(text.len());
            self.archive.add(name, text.as_bytes());
        }
    }

    /// Adds an object as JSON.
    pub fn object(&mut self, name: &str, object: &impl Serialize) {
        match serde_json::to_string_pretty(object) {
            Ok(text) => self.text(name, &text),
            Err(e) => self.text(name, &format!("it could not be written: {e}")),
        }
    }

    /// Adds what the kernel and the programs of this host have said. `run` is the directory of what is gone at each boot.
    pub fn host(&mut self, run: &Path) {
        for path in KERNEL_FILES {
            let text = fs::read(path).unwrap_or_default();
            self.text(path.trim_start_matches('/'), &String::from_utf8_lossy(&text));
        }
        self.text("kernel.log", &logs::kernel());
        self.file("boot.json", &run.join("boot.json"));
        for path in files(&run.join("log"), "log") {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            self.file(&format!("log/{name}"), &path);
        }
        for dir in files(&run.join("vms"), "") {
            let vm = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            for name in [lq_api::local::paths::VM_LOG, lq_api::local::paths::VM_EXIT] {
                self.file(&format!("vms/{vm}/{name}"), &dir.join(name));
            }
        }
    }

    /// Adds the end of a file, where there is one.
    fn file(&mut self, name: &str, path: &Path) {
        if let Some(text) = end_of(path) {
            self.text(name, &text);
        }
    }

    /// The archive.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.archive.finish()
    }
}

/// What is in a directory, by name; with this ending where one is given.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|p| ending.is_empty() || p.extension().is_some_and(|e| e == ending)).collect();
    found.sort();
    found
}

/// The end of a log; none where it is no file.
fn end_of(path: &Path) -> Option<String> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    logs::end_of(path, MAX_LOG).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(end_of(dir.path()), None);
    }

    #[test]
    fn a_bundle_holds_what_was_put_in_and_is_bounded() {
        let mut bundle = Bundle::new(&State::new());
        bundle.text("small", "kept");
        bundle.text("large", &"x".repeat(MAX_ALL));
        let room = bundle.room;
        assert_eq!(room, MAX_ALL - 4);
        assert!(bundle.finish().len() < 1024);
    }
}
