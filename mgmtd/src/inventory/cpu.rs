//! Processors: what they are and how busy.

use lq_api::{host::Cpu, local::vmm::CpuModel};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Times in use and in all, in clock ticks.
type Ticks = (u64, u64);

/// The usage last found and what it was found from: two reads close together show the same.
static LAST: Mutex<Option<(Instant, Ticks, f64)>> = Mutex::new(None);

const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn read(cpuinfo: &str, stat: &str) -> Cpu {
    let fields = |name: &'static str| {
        cpuinfo.lines().filter_map(move |line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let threads = u32::try_from(fields("processor").count()).unwrap_or(u32::MAX).max(1);
    let sockets: BTreeSet<_> = fields("physical id").collect();
    let cores: BTreeSet<_> = fields("physical id").zip(fields("core id")).collect();
    let count = |n: usize, otherwise| u32::try_from(n).ok().filter(|n| *n > 0).unwrap_or(otherwise);
    let flags: BTreeSet<_> = fields("flags").next().unwrap_or_default().split_whitespace().collect();
    let lacks = CpuModel::HIGHEST.features().iter().filter(|f| !flags.contains(*f));
    Cpu {
        lacks: lacks.map(|f| (*f).to_owned()).collect(),
        model: fields("model name").next().unwrap_or("unknown").to_owned(),
        threads,
        cores: count(cores.len(), threads),
        sockets: count(sockets.len(), 1),
        usage: sample(stat),
    }
}

/// Share of all processor time in use since the last look, at least [`INTERVAL`] ago. `stat` is `/proc/stat`.
pub(super) fn sample(stat: &str) -> f64 {
    let now = ticks(stat);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match *last {
        Some((at, _, usage)) if at.elapsed() < INTERVAL => usage,
        before => {
            let usage = usage(before.map_or((0, 0), |(_, ticks, _)| ticks), now);
            *last = Some((Instant::now(), now, usage));
            usage
        }
    }
}

fn usage(before: Ticks, now: Ticks) -> f64 {
    let busy = now.0.saturating_sub(before.0);
    let all = now.1.saturating_sub(before.1);
    if all == 0 { 0.0 } else { (busy as f64 / all as f64).clamp(0.0, 1.0) }
}

/// From the first line of `/proc/stat`: user nice system idle iowait irq softirq steal (guest time is in user already).
fn ticks(stat: &str) -> Ticks {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let values: Vec<u64> = line.split_whitespace().take(8).filter_map(|v| v.parse().ok()).collect();
    let all: u64 = values.iter().sum();
    let idle: u64 = values.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// The virtualization extension the processor tells of.
pub(super) fn extension(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'))?.1;
    flags.split_whitespace().find_map(|flag| match flag {
        "vmx" => Some("VT-x"),
        "svm" => Some("AMD-V"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_cores_and_threads() {
        let thread = |n: u8, socket: u8, core: u8| {
            format!("processor\t: {n}\nmodel name\t: X 1\nphysical id\t: {socket}\ncore id\t\t: {core}\n\n")
        };
        let info: String =
            [(0, 0, 0), (1, 0, 0), (2, 0, 1), (3, 1, 0)].map(|(n, s, c)| thread(n, s, c)).concat();
        let cpu = read(&info, "");
        assert_eq!((cpu.model.as_str(), cpu.threads, cpu.cores, cpu.sockets), ("X 1", 4, 3, 2));
    }

    #[test]
    fn usage_is_the_share_of_time_not_idle() {
        let stat = "cpu  10 0 10 60 20 0 0 0 0 0\ncpu0 1 2 3\n";
        assert_eq!(ticks(stat), (20, 100));
        assert_eq!(usage((20, 100), (70, 200)), 0.5);
        assert_eq!(usage((20, 100), (20, 100)), 0.0);
    }
}
