//! What hosts measured, added up for the cluster. Pure, but for [`own`], which reads this host's series.

use super::{HOST_METRICS, Series, SeriesError, Subject};
use lq_api::{
    Bytes, HostId, Timestamp, VmId,
    history::{MetricHistory, MetricValues, Span, Unit},
    usage::{HostUsage, Load, MachineUsage},
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// What one host tells another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// The host over time; `cpu` is a share.
    pub history: MetricHistory,
    /// The host over the span.
    pub host: HostUsage,
    /// Its machines over the span.
    pub machines: Vec<MachineUsage>,
}

/// What a host is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Logical processors.
    pub processors: u32,
    /// Memory.
    pub memory: Bytes,
}

/// What this host knows. Blocks.
pub fn own(
    series: &Series,
    host: HostId,
    size: Size,
    machines: &[VmId],
    span: Span,
    now: Timestamp,
) -> Result<Told, SeriesError> {
    let subject = Subject::Host(host);
    let mut load = load(subject, &series.mean(subject, span, now)?);
    // A share of all processors.
    load.cpu = load.cpu.map(|share| share * size.processors as f32);
    let mut told = Told {
        history: series.read(subject, span, now, |_| true)?,
        host: HostUsage { host, processors: size.processors, memory_bytes: size.memory, load },
        machines: Vec::new(),
    };
    for vm in machines {
        let subject = Subject::Vm(*vm);
        let load = self::load(subject, &series.mean(subject, span, now)?);
        if load.kinds().iter().any(Option::is_some) {
            told.machines.push(MachineUsage { vm: *vm, host, load });
        }
    }
    Ok(told)
}

/// The means of a subject by kind of load.
fn load(subject: Subject, means: &[f32]) -> Load {
    let sum = |names: &[&str]| {
        let known = subject.metrics().iter().zip(means);
        let known = known.filter(|((name, _), value)| names.contains(name) && value.is_finite());
        known.map(|(_, value)| *value).reduce(|a, b| a + b)
    };
    Load {
        cpu: sum(&["cpu"]),
        memory: sum(&["memory.used"]),
        disk: sum(&["disk.read", "disk.written"]),
        network: sum(&["net.received", "net.sent"]),
    }
}

/// Sums over hosts. The newest begins and ends the time that is told of: clocks may be an interval apart.
#[must_use]
pub fn total(told: &[Told]) -> MetricHistory {
    let step = told.iter().map(|t| t.history.step_seconds).max().unwrap_or(0).max(1);
    let number = |history: &MetricHistory| history.from.as_second() / i64::from(step);
    let of_step = || told.iter().filter(|t| t.history.step_seconds == step);
    let begin = of_step().map(|t| number(&t.history)).max().unwrap_or(0);
    let length = of_step().filter_map(|t| t.history.metrics.first()).map(|m| m.values.len()).max();
    let metrics = HOST_METRICS.iter().map(|(name, unit)| {
        let mut sums: Vec<Option<f32>> = vec![None; length.unwrap_or(0)];
        for one in of_step() {
            let factor = if *name == "cpu" { one.host.processors as f32 } else { 1.0 };
            let behind = usize::try_from(begin - number(&one.history)).unwrap_or(0);
            let metric = one.history.metrics.iter().find(|m| m.name == *name);
            let values = metric.iter().flat_map(|m| &m.values).skip(behind);
            for (sum, value) in sums.iter_mut().zip(values) {
                if let Some(value) = value {
                    *sum = Some(sum.unwrap_or(0.0) + value * factor);
                }
            }
        }
        let unit = if *unit == Unit::Share { Unit::Processors } else { *unit };
        MetricValues { name: (*name).to_owned(), unit, values: sums }
    });
    MetricHistory {
        from: Timestamp::from_second(begin * i64::from(step)).unwrap_or(Timestamp::UNIX_EPOCH),
        step_seconds: step,
        metrics: metrics.collect(),
    }
}

/// Those that did most: `top` of each kind of load.
#[must_use]
pub fn most(machines: &[MachineUsage], top: usize) -> Vec<MachineUsage> {
    let mut chosen = HashSet::new();
    for kind in 0..Load::default().kinds().len() {
        let mut ranked: Vec<(f32, usize)> =
            machines.iter().enumerate().filter_map(|(n, m)| Some((m.load.kinds()[kind]?, n))).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        chosen.extend(ranked.into_iter().take(top).map(|(_, n)| n));
    }
    let taken = machines.iter().enumerate().filter(|(n, _)| chosen.contains(n));
    taken.map(|(_, machine)| machine.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(begin: i64, processors: u32, values: &[Option<f32>]) -> Told {
        let metric =
            |name: &str| MetricValues { name: name.into(), unit: Unit::Share, values: values.to_vec() };
        Told {
            history: MetricHistory {
                from: Timestamp::from_second(begin * 5).unwrap(),
                step_seconds: 5,
                metrics: vec![metric("cpu"), metric("net.sent")],
            },
            host: HostUsage {
                host: HostId::new(),
                processors,
                memory_bytes: Bytes(0),
                load: Load::default(),
            },
            machines: vec![],
        }
    }

    #[test]
    fn hosts_are_added_up_at_the_same_times() {
        let all = total(&[
            told(100, 4, &[Some(0.5), None, None, Some(1.0)]),
            // Its clock is an interval ahead.
            told(101, 8, &[None, None, Some(0.25), Some(1.0)]),
        ]);
        assert_eq!((all.from.as_second(), all.step_seconds), (505, 5));
        let values = |name: &str| all.metrics.iter().find(|m| m.name == name).unwrap().values.clone();
        assert_eq!(values("cpu"), [None, None, Some(4.0 + 2.0), Some(8.0)]);
        assert_eq!(values("net.sent"), [None, None, Some(1.25), Some(1.0)]);
        assert_eq!(values("memory.used"), [None; 4]);
        assert!(total(&[]).metrics[0].values.is_empty());
    }

    #[test]
    fn what_was_measured_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let series = Series::open(dir.path()).unwrap();
        let (host, vm, idle) = (HostId::new(), VmId::new(), VmId::new());
        let at = |second: i64| Timestamp::from_second(1_900_000_800 + second).unwrap();
        let mut row = [f32::NAN; 12];
        row[0] = 1.5;
        row[2] = 10.0;
        series.record(Subject::Vm(vm), at(0), &row).unwrap();
        series.record(Subject::Host(host), at(0), &[0.5, 1e9, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let size = Size { processors: 8, memory: Bytes::gib(32) };
        let told = own(&series, host, size, &[vm, idle], Span::Hour, at(4)).unwrap();
        assert_eq!(told.host.load.kinds(), [Some(4.0), Some(1e9), Some(7.0), Some(3.0)]);
        assert_eq!(told.machines.len(), 1, "of the other nothing is known");
        assert_eq!(told.machines[0].load.kinds(), [Some(1.5), None, Some(10.0), None]);
    }

    proptest! {
        #[test]
        fn the_most_are_among_those_chosen(loads in prop::collection::vec(prop::option::of(0.0_f32..10.0), 0..40), top in 1_usize..8) {
            let machines: Vec<_> = loads.iter().map(|cpu| MachineUsage {
                vm: VmId::new(), host: HostId::new(), load: Load { cpu: *cpu, ..Load::default() },
            }).collect();
            let chosen = most(&machines, top);
            let known = loads.iter().flatten().count();
            prop_assert_eq!(chosen.len(), known.min(top));
            let least = chosen.iter().filter_map(|m| m.load.cpu).fold(f32::INFINITY, f32::min);
            let more = loads.iter().flatten().filter(|cpu| **cpu > least).count();
            prop_assert!(more < top.max(1));
        }
    }
}
