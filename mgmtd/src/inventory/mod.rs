//! What this host has: processors, memory, interfaces, disks, and whether it can run guests.
//!
//! Owns nothing: everything is read from `/proc`, `/sys` and the facts PID 1 left at boot, at each call. What cannot be read is
//! left empty and never an error: an inventory with a gap is better than none.

mod clock;
mod cpu;
mod devices;
mod health;
mod load;
mod network;
pub mod pci;

pub use clock::clock_is_set;
pub use health::disk_health;
pub use load::{HostLoad, Measured, load, process, process_with_children, resident_bytes};
pub use network::test_network;

use lq_api::{
    Bytes, Timestamp,
    host::{HostStatus, Memory, Virtualization},
    local::{init::BootFacts, paths},
};
use std::{fs, io::ErrorKind, path::Path};

/// Reads it. The share of processor time in use is that since the last call, at least a second ago, or since the boot at the
/// first.
#[must_use]
pub fn read() -> HostStatus {
    read_from(Path::new("/"))
}

/// Reads it from another root directory (tests).
fn read_from(root: &Path) -> HostStatus {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (facts, mut warnings) = boot_facts(root);
    warnings.extend(facts.as_ref().into_iter().flat_map(|facts| facts.warnings.iter().cloned()));
    HostStatus {
        version: facts.as_ref().map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |f| f.version.clone()),
        kernel: text("proc/sys/kernel/osrelease").trim().to_owned(),
        booted_at: booted_at(&text("proc/stat")),
        boot: facts.as_ref().map_or_else(|| "unknown".to_owned(), boot),
        cpu: cpu::read(&text("proc/cpuinfo"), &text("proc/stat")),
        memory: memory(&text("proc/meminfo")),
        virtualization: virtualization(root, &text("proc/cpuinfo")),
        interfaces: devices::interfaces(root),
        disks: devices::disks(root),
        pci: pci::functions_from(root),
        simulated: false,
        certificate: None,
        warnings,
    }
}

/// The facts PID 1 left, and what is wrong with them. Without PID 1 (a developer's machine) there are none.
fn boot_facts(root: &Path) -> (Option<BootFacts>, Vec<String>) {
    let path = root.join(paths::BOOT_FACTS.trim_start_matches('/'));
    match fs::read(&path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(facts) => (Some(facts), vec![]),
            Err(error) => (None, vec![format!("{} cannot be understood: {error}", path.display())]),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => (None, vec![]),
        Err(error) => (None, vec![format!("{} cannot be read: {error}", path.display())]),
    }
}

fn boot(facts: &BootFacts) -> String {
    match &facts.slot {
        Some(slot) => format!("{}, slot {slot}", facts.mode),
        None => facts.mode.clone(),
    }
}

fn booted_at(stat: &str) -> Timestamp {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    seconds.and_then(|s| Timestamp::from_second(s).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn memory(meminfo: &str) -> Memory {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let bytes = |name| Bytes(field(name).unwrap_or(0).saturating_mul(Bytes::KIB));
    Memory { total_bytes: bytes("MemTotal"), available_bytes: bytes("MemAvailable") }
}

/// Whether `/dev/kvm` can be opened; where not, the likeliest cause and its cure.
fn virtualization(root: &Path, cpuinfo: &str) -> Virtualization {
    let Err(error) = fs::File::options().read(true).write(true).open(root.join("dev/kvm")) else {
        return Virtualization { available: true, reason: None };
    };
    let reason = match (error.kind(), cpu::extension(cpuinfo)) {
        (ErrorKind::PermissionDenied, _) => "/dev/kvm may not be opened by this user: run as root".to_owned(),
        (ErrorKind::NotFound, None) => {
            "the processor offers no hardware virtualization: enable VT-x or AMD-V (SVM) in \
             the firmware's settings, or, if this host is itself virtual, nested virtualization below it"
                .to_owned()
        }
        (ErrorKind::NotFound, Some(extension)) => format!(
            "the processor offers {extension}, but the kernel's KVM did not start: the firmware may have locked it; look \
             for `kvm` in the kernel's messages"
        ),
        (_, _) => format!("/dev/kvm cannot be opened: {error}"),
    };
    Virtualization { available: false, reason: Some(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let path = dir.path().to_owned();
        (dir, path)
    }

    #[test]
    fn this_machine_can_be_read() {
        let status = read();
        assert!(status.memory.total_bytes > Bytes::mib(64) && status.memory.available_bytes.get() > 0);
        assert!(status.cpu.threads >= 1 && status.cpu.cores >= 1 && status.cpu.sockets >= 1);
        assert!((0.0..=1.0).contains(&status.cpu.usage));
        assert!(status.booted_at > Timestamp::UNIX_EPOCH && !status.kernel.is_empty());
    }

    #[test]
    fn facts_of_the_boot_are_shown() {
        let facts = r#"{"mode":"disk","slot":"a","version":"9.8","verified":true,"warnings":["repaired"]}"#;
        let (_dir, root) = root(&[("run/limiquantix/boot.json", facts)]);
        let status = read_from(&root);
        assert_eq!((status.boot.as_str(), status.version.as_str()), ("disk, slot a", "9.8"));
        assert_eq!(status.warnings, ["repaired"]);
    }

    #[test]
    fn damaged_facts_are_a_warning() {
        let (_dir, root) = root(&[("run/limiquantix/boot.json", "{")]);
        assert!(read_from(&root).warnings[0].contains("cannot be understood"));
    }

    #[test]
    fn missing_virtualization_says_what_to_do() {
        let (_dir, root) = root(&[]);
        let reason = |cpuinfo| virtualization(&root, cpuinfo).reason.unwrap();
        assert!(reason("flags\t\t: fpu sse\n").contains("enable VT-x or AMD-V"));
        assert!(reason("flags\t\t: fpu svm sse\n").contains("offers AMD-V"));
    }
}
