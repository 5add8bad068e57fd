//! How much the host does, from counters of `/proc` and `/sys`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One metric as it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measured {
    /// As it is.
    Level(f64),
    /// Only grows; its growth per second is what counts.
    Counter(f64),
    /// Cannot be read.
    Unknown,
}

/// Counters of a host.
#[derive(Clone, Debug)]
pub struct HostLoad {
    /// Share of processor time in use.
    pub cpu: Measured,
    /// Bytes.
    pub memory_used: Measured,
    /// Bytes, all physical interfaces.
    pub received: Measured,
    /// Bytes, all physical interfaces.
    pub sent: Measured,
    /// Bytes, all disks.
    pub read: Measured,
    /// Bytes, all disks.
    pub written: Measured,
}

impl Default for HostLoad {
    fn default() -> Self {
        let none = Measured::Unknown;
        Self { cpu: none, memory_used: none, received: none, sent: none, read: none, written: none }
    }
}

/// Reads it. The share of processor time is that since the last look of anyone.
#[must_use]
pub fn load() -> HostLoad {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = super::memory(&text("/proc/meminfo"));
    let used = memory.total_bytes.0.saturating_sub(memory.available_bytes.0);
    load_from(Path::new("/"), super::cpu::sample(&text("/proc/stat")), used)
}

fn load_from(root: &Path, cpu: f64, memory: u64) -> HostLoad {
    // Of the bridge's ports the physical one: what guests say to each other is not the host's.
    let nics: Vec<_> = with_device(root.join("sys/class/net")).collect();
    let disks: Vec<_> = with_device(root.join("sys/block")).collect();
    let count =
        |paths: &[PathBuf], name: &str| sum(paths.iter().map(|p| number(&p.join("statistics").join(name))));
    // Documentation/block/stat.rst: field 3 and 7 are sectors of 512 bytes read and written.
    let sectors = |field: usize| {
        sum(disks.iter().map(|p| {
            let text = fs::read_to_string(p.join("stat")).ok()?;
            Some(text.split_whitespace().nth(field - 1)?.parse::<f64>().ok()? * 512.0)
        }))
    };
    HostLoad {
        cpu: Measured::Level(cpu),
        memory_used: Measured::Level(memory as f64),
        received: count(&nics, "rx_bytes"),
        sent: count(&nics, "tx_bytes"),
        read: sectors(3),
        written: sectors(7),
    }
}

fn with_device(dir: PathBuf) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|path| path.join("device").exists())
}

fn number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The sum; not known as soon as one part is not.
fn sum(mut parts: impl Iterator<Item = Option<f64>>) -> Measured {
    parts.try_fold(0.0, |sum, part| Some(sum + part?)).map_or(Measured::Unknown, Measured::Counter)
}

/// Processor seconds used, and bytes of memory in use, of a process (guest time is part of its user time; guest memory part of its own).
#[must_use]
pub fn process(pid: u32) -> (Measured, Measured) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let cpu = processor_seconds(&stat).map_or(Measured::Unknown, Measured::Counter);
    (cpu, resident_bytes(pid).map_or(Measured::Unknown, |n| Measured::Level(n as f64)))
}

/// The same of a process and those it has started.
#[must_use]
pub fn process_with_children(pid: u32) -> (Measured, Measured) {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(process);
    children.fold(process(pid), |(cpu, memory), (more_cpu, more_memory)| {
        let counters = match (cpu, more_cpu) {
            (Measured::Counter(one), Measured::Counter(other)) => Measured::Counter(one + other),
            (known, _) => known,
        };
        let levels = match (memory, more_memory) {
            (Measured::Level(one), Measured::Level(other)) => Measured::Level(one + other),
            (known, _) => known,
        };
        (counters, levels)
    })
}

/// Bytes of memory a process has in use.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(4096))
}

/// From `/proc/PID/stat` (proc(5)): fields 14 and 15, in hundredths of a second; the name before them may have anything in it.
fn processor_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_uses_counts() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let level = |(_, memory)| if let Measured::Level(bytes) = memory { bytes } else { 0.0 };
        let (alone, of_child) = (level(process(std::process::id())), level(process(child.id())));
        let both = level(process_with_children(std::process::id()));
        assert!(of_child > 0.0 && both > alone * 0.5 + of_child * 0.5, "{alone} {of_child} {both}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(process_with_children(0), (Measured::Unknown, Measured::Unknown)));
    }

    #[test]
    fn physical_devices_are_summed() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (nic, n) in [("eth0", "100"), ("eth1", "20"), ("tap0", "7")] {
            put(&format!("sys/class/net/{nic}/statistics/rx_bytes"), n);
            if nic != "tap0" {
                put(&format!("sys/class/net/{nic}/device/vendor"), "");
            }
        }
        put("sys/block/sda/device/vendor", "");
        put("sys/block/sda/stat", "   10 0 4 0 20 0 8 0 0 0 0\n");
        put("sys/block/loop0/stat", "   10 0 4000 0 20 0 8000 0 0 0 0\n");
        let load = load_from(root.path(), 0.5, 99);
        assert_eq!(load.received, Measured::Counter(120.0));
        assert_eq!(load.sent, Measured::Unknown);
        assert_eq!((load.read, load.written), (Measured::Counter(2048.0), Measured::Counter(4096.0)));
        assert_eq!((load.cpu, load.memory_used), (Measured::Level(0.5), Measured::Level(99.0)));
    }

    #[test]
    fn a_process_of_any_name() {
        let stat = "42 (a) b (c) S 1 2 3 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 1000 200 0";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(processor_seconds("42 (lq-vmm)"), None);
        assert!(
            matches!(process(std::process::id()), (Measured::Counter(_), Measured::Level(m)) if m > 4096.0)
        );
    }
}
