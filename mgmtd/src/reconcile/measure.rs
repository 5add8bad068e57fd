//! What is measured of a host and of its machines, and when: counters are read every 5 seconds, and what is kept is their growth per
//! second. What cannot be read is not a value (never a zero).

use super::{
    Node,
    disk_errors::{self, DiskErrors},
};
use crate::{
    compute::Machine,
    inventory::{HostLoad, Measured},
    telemetry::{HOST_METRICS, Series, SeriesError, Subject, VM_METRICS},
};
use futures::{StreamExt as _, stream};
use lq_api::{
    Timestamp, VmId,
    event::EventLevel,
    local::vmm::{IoStats, Stats},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// A machine that has not answered by then is left out this time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Machines asked at a time.
const ABREAST: usize = 16;
/// Looks between two searches for values of machines that are no more.
const SWEEP: u32 = 60;

/// Measures until `end`.
pub async fn follow(node: Arc<Node>, series: Arc<Series>, end: CancellationToken) {
    let mut last = HashMap::new();
    let mut errors = DiskErrors::default();
    let mut failing = false;
    let mut looks = 0_u32;
    let mut beat = tokio::time::interval(EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = beat.tick() => {}
        }
        let looked = look(&node, &mut last, &mut errors).await;
        looks = looks.wrapping_add(1);
        let known: Option<HashSet<VmId>> =
            (looks % SWEEP == 1).then(|| node.cluster.read(|s| s.vms.keys().copied().collect()));
        let series = series.clone();
        let kept = tokio::task::spawn_blocking(move || keep(&series, &looked, known.as_ref())).await;
        match kept {
            Ok(Ok(())) => failing = false,
            Ok(Err(e)) if !failing => {
                failing = true;
                tracing::warn!(error = %e, "what was measured is lost");
            }
            Ok(Err(_)) => {}
            Err(e) => tracing::error!(error = %e, "keeping the metric history ended by a fault of ours"),
        }
    }
}

type Looked = (Timestamp, Vec<(Subject, Vec<f32>)>);

fn keep(series: &Series, (at, rows): &Looked, known: Option<&HashSet<VmId>>) -> Result<(), SeriesError> {
    for (subject, row) in rows {
        series.record(*subject, *at, row)?;
    }
    if let Some(known) = known {
        for gone in series.machines()?.into_iter().filter(|vm| !known.contains(vm)) {
            series.forget(Subject::Vm(gone))?;
        }
        series.flush()?;
    }
    Ok(())
}

/// What was found of a subject, and when.
type Look = (Subject, Instant, Vec<Measured>);

/// The last look at each subject, to measure growth from.
type Last = HashMap<Subject, (Instant, Vec<Measured>)>;

async fn look(node: &Arc<Node>, last: &mut Last, errors: &mut DiskErrors) -> Looked {
    let host = node.host.clone();
    let load = tokio::task::spawn_blocking(move || host.load()).await.unwrap_or_default();
    let pool_used = match node.local_pool().status().await {
        Ok(status) => status.capacity_bytes.0.saturating_sub(status.free_bytes.0) as f64,
        Err(_) => f64::NAN,
    };
    let mut all = vec![(Subject::Host(node.id()), Instant::now(), of_host(&load, pool_used))];
    let running = node.fleet.running();
    let ids = running.iter().map(|machine| machine.vm()).collect();
    let asked: Vec<_> = running.into_iter().map(ask).collect();
    let machines: Vec<Option<_>> = stream::iter(asked).buffer_unordered(ABREAST).collect().await;
    let (machines, failed): (Vec<Look>, Vec<_>) = machines.into_iter().flatten().unzip();
    all.extend(machines);
    for (vm, counts) in errors.look(Instant::now(), &ids, &failed) {
        tell(node, vm, &counts);
    }
    let mut now = HashMap::new();
    let rows = all.into_iter().map(|(subject, at, measured)| {
        let before = last.get(&subject).map(|(at, measured)| (*at, measured.as_slice()));
        let row = growth(before, at, &measured);
        now.insert(subject, (at, measured));
        (subject, row)
    });
    let rows = rows.collect();
    *last = now;
    (Timestamp::now(), rows)
}

/// Notes that requests of a guest to its disks failed.
fn tell(node: &Node, vm: VmId, counts: &[u64]) {
    let text = node.cluster.read(|s| Some(disk_errors::words(s, &s.vms.get(&vm)?.vm.spec, counts)));
    if let Some(text) = text {
        node.events.system(EventLevel::Warning, "vm.disk-errors", format!("vm/{vm}"), text);
    }
}

/// What a machine says, and how many requests to each of its disks have failed.
async fn ask(machine: Arc<dyn Machine>) -> Option<(Look, (VmId, Vec<u64>))> {
    let stats = tokio::time::timeout(PATIENCE, machine.stats()).await.ok()?.ok()?;
    let failed = stats.disks.iter().map(|io| io.errors).collect();
    let look = (Subject::Vm(machine.vm()), Instant::now(), of_machine(machine.as_ref(), &stats));
    Some((look, (machine.vm(), failed)))
}

/// Levels as they are, counters as growth per second. A counter that fell began anew.
fn growth(before: Option<(Instant, &[Measured])>, at: Instant, now: &[Measured]) -> Vec<f32> {
    let rate = |n: usize, to: f64| {
        let (then, before) = before?;
        let Some(Measured::Counter(from)) = before.get(n) else { return None };
        let seconds = at.duration_since(then).as_secs_f64();
        (to >= *from && seconds > 0.0).then(|| (to - from) / seconds)
    };
    let values = now.iter().enumerate().map(|(n, measured)| match measured {
        Measured::Level(level) => *level,
        Measured::Counter(to) => rate(n, *to).unwrap_or(f64::NAN),
        Measured::Unknown => f64::NAN,
    });
    // For a chart f32 is exact enough.
    #[allow(clippy::cast_possible_truncation)]
    values.map(|v| v as f32).collect()
}

fn of_host(load: &HostLoad, pool_used: f64) -> Vec<Measured> {
    let all = vec![
        load.cpu,
        load.memory_used,
        load.received,
        load.sent,
        load.read,
        load.written,
        Measured::Level(pool_used),
    ];
    debug_assert_eq!(all.len(), HOST_METRICS.len());
    all
}

fn of_machine(machine: &dyn Machine, stats: &Stats) -> Vec<Measured> {
    let sum = |all: &[IoStats], field: fn(&IoStats) -> u64| {
        Measured::Counter(all.iter().map(field).fold(0_u64, u64::saturating_add) as f64)
    };
    let (cpu, memory) = machine.usage();
    let errors = stats.disks.iter().chain(&stats.nics).map(|io| io.errors).fold(0, u64::saturating_add);
    let all = vec![
        cpu,
        memory,
        sum(&stats.disks, |io| io.read_bytes),
        sum(&stats.disks, |io| io.written_bytes),
        sum(&stats.disks, |io| io.reads),
        sum(&stats.disks, |io| io.writes),
        sum(&stats.nics, |io| io.read_bytes),
        sum(&stats.nics, |io| io.written_bytes),
        sum(&stats.nics, |io| io.reads),
        sum(&stats.nics, |io| io.writes),
        Measured::Counter(stats.exits as f64),
        Measured::Counter(errors as f64),
    ];
    debug_assert_eq!(all.len(), VM_METRICS.len());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_rates_and_what_is_unknown_stays_so() {
        let then = Instant::now();
        let now = then + Duration::from_secs(5);
        let before =
            [Measured::Counter(10.0), Measured::Counter(10.0), Measured::Unknown, Measured::Level(1.0)];
        let after =
            [Measured::Counter(60.0), Measured::Counter(3.0), Measured::Counter(9.0), Measured::Level(2.0)];
        let row = growth(Some((then, &before)), now, &after);
        assert_eq!((row[0], row[3]), (10.0, 2.0));
        assert!(row[1].is_nan() && row[2].is_nan(), "began anew; not known before");
        assert!(growth(None, now, &after)[0].is_nan());
    }
}
