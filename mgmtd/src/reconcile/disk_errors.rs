//! Requests of guests to their disks that fail: told as events of their machines, as only the guests would know of them else.
//!
//! Counted by the monitors since their start, read with everything else that is measured ([`super::measure`]). Invariants: what
//! failed is told once, at the latest [`PAUSE`] after it failed; what failed before this daemon began is not told again.

use crate::cluster::State;
use lq_api::{VmId, vm::VmSpec};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// Shortest pause between two events of one machine.
pub(super) const PAUSE: Duration = Duration::from_secs(600);

/// Failed requests by disk, in the order of the specification.
type Counts = Vec<u64>;

/// What is known of the machines of this host.
#[derive(Default)]
pub(super) struct DiskErrors {
    began: bool,
    machines: HashMap<VmId, Known>,
}

#[derive(Default)]
struct Known {
    /// As far as they were told.
    told: Counts,
    at: Option<Instant>,
}

impl DiskErrors {
    /// Looks at what was counted of machines that run; which of them have failed requests to be told of, and how many by disk.
    pub(super) fn look(
        &mut self,
        now: Instant,
        running: &HashSet<VmId>,
        counted: &[(VmId, Counts)],
    ) -> Vec<(VmId, Counts)> {
        self.machines.retain(|vm, _| running.contains(vm));
        let began = std::mem::replace(&mut self.began, true);
        let mut news = Vec::new();
        for (vm, counts) in counted {
            let known = self.machines.entry(*vm).or_insert_with(|| Known {
                // At its first look the daemon does not know since when they are there.
                told: if began { vec![] } else { counts.clone() },
                at: None,
            });
            known.told.resize(counts.len(), 0);
            for (told, count) in known.told.iter_mut().zip(counts) {
                // A monitor that was started anew counts anew.
                *told = if count < told { 0 } else { *told };
            }
            let more: Counts = counts.iter().zip(&known.told).map(|(count, told)| count - told).collect();
            let rested = known.at.is_none_or(|at| now.duration_since(at) >= PAUSE);
            if rested && more.iter().any(|more| *more > 0) {
                *known = Known { told: counts.clone(), at: Some(now) };
                news.push((*vm, more));
            }
        }
        news
    }
}

/// In words, with the names of the volumes.
pub(super) fn words(state: &State, spec: &VmSpec, counts: &[u64]) -> String {
    let failed = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let by_disk: Vec<String> = failed
        .map(|(n, count)| {
            let volume = spec.disks.get(n).and_then(|disk| state.volumes.get(&disk.volume));
            let name = volume.map_or_else(|| format!("disk {}", n + 1), |v| format!("`{}`", v.meta.name));
            let requests = if *count == 1 { "request" } else { "requests" };
            format!("{count} {requests} to {name}")
        })
        .collect();
    format!("The guest had I/O errors: {} failed.", by_disk.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_once_and_not_at_every_look() {
        let (one, two) = (VmId::new(), VmId::new());
        let running = HashSet::from([one, two]);
        let mut errors = DiskErrors::default();
        let begin = Instant::now();
        let mut look = |after: u64, counted: &[(VmId, Counts)]| {
            errors.look(begin + Duration::from_secs(after), &running, counted)
        };
        assert_eq!(look(0, &[(one, vec![7, 0])]), [], "of before the daemon began");
        assert_eq!(look(5, &[(one, vec![7, 0]), (two, vec![0])]), []);
        assert_eq!(look(10, &[(one, vec![7, 3]), (two, vec![0])]), [(one, vec![0, 3])]);
        // One that does not answer for a while is not forgotten; what fails meanwhile is told when it is time.
        assert_eq!(look(15, &[]), []);
        assert_eq!(look(20, &[(one, vec![9, 3]), (two, vec![1])]), [(two, vec![1])]);
        assert_eq!(look(700, &[(one, vec![9, 3]), (two, vec![1])]), [(one, vec![2, 0])]);
        // Started anew it counts anew, also with another disk.
        assert_eq!(look(1400, &[(one, vec![1, 0, 4])]), [(one, vec![1, 0, 4])]);
        assert_eq!(errors.look(begin, &HashSet::new(), &[]), []);
        assert!(errors.machines.is_empty());
    }

    #[test]
    fn the_disks_are_named() {
        let spec: VmSpec = serde_json::from_value(serde_json::json!({
            "vcpus": 1, "memory_bytes": 1 << 27, "disks": [{"volume": lq_api::VolumeId::new()}]
        }))
        .unwrap();
        let words = |counts: &[u64]| words(&State::new(), &spec, counts);
        assert_eq!(words(&[1]), "The guest had I/O errors: 1 request to disk 1 failed.");
        let two = "The guest had I/O errors: 2 requests to disk 1, 3 requests to disk 3 failed.";
        assert_eq!(words(&[2, 0, 3]), two);
    }
}
