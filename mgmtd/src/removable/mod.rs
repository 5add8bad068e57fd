//! Removable drives: which are plugged in, and writing a file to one.
//!
//! Owns nothing that lasts: what is plugged in is read from `/sys` and from the first bytes of each partition ([`signs`]), a
//! file is written while the file system is mounted for that alone ([`write`]).
//!
//! Invariants: nothing is written to what this host uses, was booted or installed from; what is on a drive is never executed,
//! nor a name on it followed; a file is whole on the drive under its name, or not there.

mod signs;
mod write;

use lq_api::{Bytes, removable::RemovableDrive};
use signs::{FileSystem, Signs};
use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, TryLockError},
};
pub use write::PREFIX;

/// What began partitions of ours are named with.
const OURS: &str = "lq-";

/// Why a file was not written, or the drives not looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was pulled out, or never there.
    #[error("there is no removable drive `{device}`: {there}")]
    NoSuch {
        /// What was asked for.
        device: String,
        /// What there is.
        there: String,
    },
    /// Nothing is written to it.
    #[error("nothing can be written to `{device}`: it {why}")]
    Unfit {
        /// The drive.
        device: String,
        /// Why.
        why: String,
    },
    /// One at a time.
    #[error("another file is being written to a removable drive: try again when that has ended")]
    Busy,
    /// It has no room.
    #[error("`{device}` is full: {needed} are needed, {free} are free; nothing was left on it")]
    Full {
        /// The drive.
        device: String,
        /// The file's size.
        needed: Bytes,
        /// Room there is.
        free: Bytes,
    },
    /// The kernel says no.
    #[error("{doing} on `{device}` failed: {hint}")]
    Failed {
        /// The drive.
        device: String,
        /// What was done.
        doing: &'static str,
        /// What it may be.
        hint: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// The removable drives of this host.
pub struct Drives {
    root: PathBuf,
    /// Drives are looked at exclusively, and so is the one written to: never both.
    busy: Mutex<()>,
}

impl Default for Drives {
    fn default() -> Self {
        Self::new("/".into())
    }
}

/// A drive that can be written to.
struct Fit {
    node: PathBuf,
    system: FileSystem,
}

impl Drives {
    /// As seen below `root`: `/`, but in tests.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, busy: Mutex::default() }
    }

    /// What is plugged in, by name. May take seconds of the calling thread where a drive is slow.
    pub fn list(&self) -> Result<Vec<RemovableDrive>, Error> {
        let _held = self.hold()?;
        Ok(self.look().into_iter().map(|(drive, _)| drive).collect())
    }

    /// Writes a file, and unmounts the drive again. Takes as long as the drive does of the calling thread. `name` is a plain
    /// file name that begins with [`PREFIX`] and is not there yet.
    pub fn write(&self, device: &str, name: &str, content: &[u8]) -> Result<(), Error> {
        let _held = self.hold()?;
        let found = self.look();
        let there = || match found.iter().map(|(d, _)| d.device.as_str()).collect::<Vec<_>>() {
            names if names.is_empty() => "none is plugged in".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        let Some((drive, fit)) = found.iter().find(|(d, _)| d.device == device) else {
            return Err(Error::NoSuch { device: device.to_owned(), there: there() });
        };
        let Some(fit) = fit else {
            let why = drive.unfit.clone().unwrap_or_default();
            return Err(Error::Unfit { device: device.to_owned(), why });
        };
        write::to_drive(device, &fit.node, fit.system, name, content)
    }

    fn hold(&self) -> Result<std::sync::MutexGuard<'_, ()>, Error> {
        match self.busy.try_lock() {
            Ok(held) => Ok(held),
            // What it guards is outside, and was unmounted by its end.
            Err(TryLockError::Poisoned(held)) => Ok(held.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::Busy),
        }
    }

    fn look(&self) -> Vec<(RemovableDrive, Option<Fit>)> {
        let mut found = Vec::new();
        for (name, dir) in entries(&self.root.join("sys/block")) {
            if is_removable(&name, &dir) {
                self.look_at(&name, &dir, &mut found);
            }
        }
        found
    }

    /// Adds the partitions of a drive, or the drive where it has none.
    fn look_at(&self, name: &str, dir: &Path, found: &mut Vec<(RemovableDrive, Option<Fit>)>) {
        let parts: Vec<(String, PathBuf)> =
            entries(dir).into_iter().filter(|(_, path)| path.join("partition").exists()).collect();
        let labels = parts.iter().filter_map(|(_, path)| {
            let uevent = fs::read_to_string(path.join("uevent")).ok()?;
            uevent.lines().find_map(|l| l.strip_prefix("PARTNAME=")).map(str::to_owned)
        });
        let ours = labels.into_iter().any(|label| label.starts_with(OURS));
        // The partitions of an installation medium are parts of its image.
        let medium = !parts.is_empty() && self.signs(name).is_ok_and(|s| s.medium);
        let read_only = attribute(dir, "ro").as_deref() == Some("1");
        let model = model(dir);
        let volumes = if parts.is_empty() { vec![(name.to_owned(), dir.to_owned())] } else { parts };
        for (device, path) in volumes {
            let size = size(&path);
            if size < signs::LEAST {
                // Where the logical partitions are told of, or no card is in.
                continue;
            }
            let mut drive = RemovableDrive {
                device: device.clone(),
                size_bytes: Bytes(size),
                model: model.clone(),
                file_system: None,
                label: None,
                unfit: None,
            };
            let mut fit = None;
            let refused = if ours {
                Some("is part of an installation of LimiQuantix".to_owned())
            } else if medium {
                Some("is part of an installation medium".to_owned())
            } else if read_only {
                Some("is write-protected".to_owned())
            } else {
                None
            };
            drive.unfit = refused.or_else(|| match self.signs(&device) {
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Some("is in use by this host".to_owned()),
                Err(e) => Some(format!("cannot be read ({e}): plug it in again, or take another")),
                Ok(Signs { system: Some(system), label, .. }) => {
                    drive.file_system = Some(system.name().to_owned());
                    drive.label = label;
                    fit = Some(Fit { node: self.node(&device), system });
                    None
                }
                Ok(Signs { other, .. }) => Some(format!(
                    "has {}: format it on another computer as FAT, exFAT or ext4",
                    other.unwrap_or("no file system that this host knows")
                )),
            });
            found.push((drive, fit));
        }
    }

    fn node(&self, device: &str) -> PathBuf {
        self.root.join("dev").join(device)
    }

    /// What the first bytes of a device say. `EBUSY`: the host has it mounted, or part of it.
    fn signs(&self, device: &str) -> io::Result<Signs> {
        let mut options = fs::File::options();
        options.read(true).custom_flags(libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let mut head = Vec::with_capacity(signs::HEAD);
        options.open(self.node(device))?.take(signs::HEAD as u64).read_to_end(&mut head)?;
        Ok(Signs::of(&head))
    }
}

/// Entries of a directory, by name: `sda2` before `sda10`.
fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(String, PathBuf)> =
        entries.filter_map(|e| Some((e.file_name().into_string().ok()?, e.path()))).collect();
    found.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    found
}

fn attribute(dir: &Path, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(dir.join(name)).ok()?).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// In bytes; 0 where no card is in.
fn size(dir: &Path) -> u64 {
    // In units of 512 bytes whatever the drive's own sector size.
    attribute(dir, "size").and_then(|s| s.parse::<u64>().ok()).unwrap_or(0).saturating_mul(512)
}

/// Whether it can be pulled out: what says so itself, and what hangs on USB, as large sticks call themselves disks. No optical
/// drives.
fn is_removable(name: &str, dir: &Path) -> bool {
    let usb = || {
        let place = fs::canonicalize(dir).unwrap_or_default();
        place.components().any(|c| c.as_os_str().to_string_lossy().starts_with("usb"))
    };
    dir.join("device").exists()
        && !name.starts_with("sr")
        && (attribute(dir, "removable").as_deref() == Some("1") || usb())
}

fn model(dir: &Path) -> Option<String> {
    let words = ["device/vendor", "device/model"].into_iter().filter_map(|name| attribute(dir, name));
    let text: String = words.collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
