//! A host's part: it beats to the leader, and hands the lease it is granted to its monitors.
//!
//! ```text
//!   beat ──▶ granted until T, of log position P ──▶ this host has come to P ──▶ every protected machine that is its own
//!    ▲                                                                          then: its monitor's lease ends at T
//!    └────── 500 ms later, or at once where another host leads ◀────────────────┘
//! ```
//! Invariants
//! - T is counted from before the beat was sent, on this host's `CLOCK_BOOTTIME`: however long the answer takes, and whatever the
//!   leader's clock says, it is not later than the leader thinks.
//! - A machine gets the lease only in the epoch in which the state at P or later says that it is this host's. One that waits for a
//!   machine that moves here gets it for the epoch in which that becomes this host's; it touches no disk before.
//! - The state is told that a machine is guarded only after its monitor has taken the lease.

use super::{Answer, BEAT, Beat, Watchdog, boot_ms, leader::Leader};
use crate::{
    cluster::{Cluster, Op},
    compute::Machine,
    reconcile::Node,
};
use lq_api::{
    HostId, VmId,
    event::EventLevel,
    local::vmm::{LeaseConfig, LeaseEnd, LeaseGrant, default_grace, default_margin},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Longest a beat may take.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Longest a host waits for its own log; then it beats anew.
const LAG: Duration = Duration::from_millis(1_000);
/// Longest a monitor may take.
const MONITOR: Duration = Duration::from_millis(1_000);
/// Longest PID 1 may take.
const INIT: Duration = Duration::from_millis(200);
/// A lease that ends sooner is not worth starting a machine with, in milliseconds.
const LEAST: u64 = 1_500;

/// The lease this host has, of the log position it counts at. Shared with whoever starts machines.
#[derive(Debug, Default)]
pub struct HostLease {
    until: AtomicU64,
    known: AtomicU64,
}

impl HostLease {
    fn take(&self, until: u64, known: u64) {
        // The position first: whoever reads the later end reads the later position too.
        self.known.fetch_max(known, Ordering::AcqRel);
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    /// Milliseconds it lasts from `now` on, of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn left(&self, now: u64) -> u64 {
        self.until.load(Ordering::Acquire).saturating_sub(now)
    }

    /// The lease to start a machine with, where the state says that the machine is this host's in that epoch.
    #[must_use]
    pub fn for_start(&self, cluster: &Cluster, vm: VmId, epoch: u64) -> Option<LeaseConfig> {
        let until = self.until.load(Ordering::Acquire);
        let known = self.known.load(Ordering::Acquire);
        let me = cluster.identity().host;
        let own = cluster.read_at(|s, index| {
            let record = s.vms.get(&vm).filter(|_| index >= known);
            record.is_some_and(|r| r.runs_on(me) == Some(epoch) && !r.deleting)
        });
        let enough = until.saturating_sub(boot_ms()) >= LEAST;
        (own && enough).then_some(LeaseConfig {
            grant: LeaseGrant { epoch, until: LeaseEnd::BootMs(until) },
            margin_ms: default_margin(),
            grace_ms: default_grace(),
        })
    }
}

/// What this host has told and done of leases.
#[derive(Default)]
struct Told {
    /// Machines that were freed of theirs, or have none, by process.
    free: BTreeSet<(VmId, Option<u32>)>,
    /// Machines whose guard is being told.
    telling: Arc<Mutex<BTreeSet<VmId>>>,
    /// That this host has none was told.
    alone: bool,
    /// Whether PID 1 was told to let the watchdog be quick.
    closely: Option<bool>,
}

/// Beats until `end`. Call it once the state says which machines are this host's.
pub async fn run(node: Arc<Node>, leader: Arc<Leader>, end: CancellationToken) {
    let mut told = Told::default();
    loop {
        let begun = tokio::time::Instant::now();
        let to = node.cluster.standing().leader;
        tokio::select! {
            () = end.cancelled() => return,
            () = beat(&node, &leader, to, &mut told) => {}
        }
        // Where another one leads by now, it is asked at once.
        let moved = node.cluster.standing().leader.is_some_and(|now| Some(now) != to);
        let pause = if moved { Duration::from_millis(50) } else { Duration::from_millis(BEAT) };
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep_until(begun + pause) => {}
            () = node.cluster.led_by_another(to) => {}
        }
    }
}

async fn beat(node: &Arc<Node>, leader: &Leader, to: Option<HostId>, told: &mut Told) {
    let watchdog = {
        let host = node.host.clone();
        tokio::task::spawn_blocking(move || host.watchdog()).await.unwrap_or_default()
    };
    let beat = Beat { boot: node.host.boot(), sent: boot_ms(), watchdog };
    let answer = match to {
        None => Answer::Denied("no leader is known".into()),
        Some(to) if to == node.id() => leader.beat(to, &beat),
        Some(to) => match node.cluster.insist(to, "/ha/beat", &beat, PATIENCE).await {
            Ok(answer) => answer,
            Err(e) => Answer::Denied(e.to_string()),
        },
    };
    match answer {
        Answer::Granted { until, known } => {
            if node.cluster.reached(known, LAG).await {
                node.lease.take(until, known);
            }
        }
        Answer::Denied(why) => tracing::debug!(why, "no lease was granted"),
    }
    let left = node.lease.left(boot_ms());
    follow(node, told).await;
    let machines = node.fleet.leased().into_iter().filter(|(_, epoch)| epoch.is_some()).count();
    let closely = machines > 0;
    if told.closely != Some(closely) {
        // A PID 1 that is busy holds up no beat.
        match tokio::time::timeout(INIT, node.host.watch(closely)).await {
            Ok(Ok(())) => told.closely = Some(closely),
            Ok(Err(e)) => tracing::debug!(error = %e, "the watchdog's time could not be changed yet"),
            Err(_) => {}
        }
    }
    if left == 0 && machines > 0 && !told.alone {
        told.alone = true;
        let text = format!(
            "this host has no lease any more, because the leader is not reached: its {machines} protected machines stand \
             still until it has one again, or run on another host"
        );
        node.events.system(EventLevel::Error, "ha.lease-over", format!("host/{}", node.id()), text);
    } else if left > 0 && told.alone {
        told.alone = false;
        let text = "this host has a lease again: its protected machines go on";
        node.events.system(EventLevel::Info, "ha.lease-back", format!("host/{}", node.id()), text);
    }
}

/// Hands the lease to the monitors that are to have it, and frees those that are not.
async fn follow(node: &Arc<Node>, told: &mut Told) {
    let until = node.lease.until.load(Ordering::Acquire);
    let known = node.lease.known.load(Ordering::Acquire);
    let me = node.id();
    // Machines that are this host's, or move here: epoch, since when they are to be guarded, and whether the state knows that they are.
    let own: BTreeMap<VmId, (u64, Option<u64>, bool)> = node.cluster.read_at(|s, index| {
        let records = s.vms.values().filter(|_| index >= known);
        let mine = records.filter_map(|r| {
            // What waits for a machine that moves here has nothing to tell: its owner has.
            let told = r.is_guarded() || r.vm.status.host != Some(me);
            Some((r.vm.meta.id, (r.runs_on(me)?, r.guard.map(|g| g.since), told)))
        });
        mine.collect()
    });
    let lasts = until > boot_ms();
    let running = node.fleet.leased();
    told.free.retain(|(vm, pid)| running.iter().any(|(m, _)| m.vm() == *vm && m.pid() == *pid));
    let work = running.into_iter().filter_map(|(machine, wanted)| {
        let (epoch, since, guarded) = *own.get(&machine.vm())?;
        match (wanted, since) {
            (Some(wanted), Some(since)) if wanted == epoch && lasts => {
                told.free.remove(&(machine.vm(), machine.pid()));
                let tell = (!guarded).then_some(since);
                Some(Work::Lease { machine, epoch, tell })
            }
            (None, None) if !told.free.contains(&(machine.vm(), machine.pid())) => {
                Some(Work::Free { machine, epoch })
            }
            // The state and what the driver was told are of different times: the next look sees them agree.
            _ => None,
        }
    });
    let work: Vec<Work> = work.collect();
    let done = futures::future::join_all(work.into_iter().map(|work| work.carry_out(until, lasts))).await;
    for done in done.into_iter().flatten() {
        match done {
            Done::Freed(vm, pid) => {
                told.free.insert((vm, pid));
            }
            Done::Guarded { vm, epoch, since } => tell(node, told, vm, epoch, since),
        }
    }
}

enum Work {
    Lease { machine: Arc<dyn Machine>, epoch: u64, tell: Option<u64> },
    Free { machine: Arc<dyn Machine>, epoch: u64 },
}

enum Done {
    Freed(VmId, Option<u32>),
    Guarded { vm: VmId, epoch: u64, since: u64 },
}

impl Work {
    async fn carry_out(self, until: u64, lasts: bool) -> Option<Done> {
        let grant = |epoch| LeaseGrant { epoch, until: LeaseEnd::BootMs(until) };
        match self {
            Self::Lease { machine, epoch, tell } => {
                let vm = machine.vm();
                let taken = tokio::time::timeout(MONITOR, machine.lease(grant(epoch))).await;
                match taken {
                    Ok(Ok(())) => Some(Done::Guarded { vm, epoch, since: tell? }),
                    Ok(Err(e)) => {
                        tracing::debug!(%vm, error = %crate::causes::chain(&e), "a monitor did not take its lease");
                        None
                    }
                    Err(_) => {
                        tracing::warn!(%vm, "a monitor does not take its lease in time; its machine will stand still");
                        None
                    }
                }
            }
            Self::Free { machine, epoch } => {
                let grant = lasts.then(|| grant(epoch));
                let freed = tokio::time::timeout(MONITOR, machine.unlease(grant)).await;
                match freed {
                    Ok(Ok(())) => Some(Done::Freed(machine.vm(), machine.pid())),
                    _ => None,
                }
            }
        }
    }
}

/// Tells the state that a machine is guarded.
fn tell(node: &Arc<Node>, told: &Told, vm: VmId, epoch: u64, since: u64) {
    let telling = told.telling.clone();
    if !telling.lock().unwrap_or_else(PoisonError::into_inner).insert(vm) {
        return;
    }
    let node = node.clone();
    tokio::spawn(async move {
        let op = Op::GuardVm { id: vm, host: node.id(), epoch, since };
        if let Err(e) = node.cluster.write(op).await {
            tracing::debug!(%vm, error = %e, "that a machine is guarded could not be told yet");
        }
        telling.lock().unwrap_or_else(PoisonError::into_inner).remove(&vm);
    });
}

/// What the kernel says of the host's watchdog.
#[must_use]
pub fn watchdog() -> Watchdog {
    let read = |file: &str| std::fs::read_to_string(format!("/sys/class/watchdog/watchdog0/{file}"));
    match (read("identity"), read("timeout")) {
        (Ok(name), Ok(seconds)) => Watchdog::Present {
            name: name.trim().to_owned(),
            seconds: seconds.trim().parse().unwrap_or(u32::MAX),
        },
        _ => Watchdog::Absent,
    }
}
