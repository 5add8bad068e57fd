//! Looks at this host and at what only the leader can see, for `judge` to judge. What cannot be read is not known.

use super::judge::{Clock, ClusterFacts, HostFacts, Room};
use crate::{
    causes::chain,
    certificate,
    cluster::Health,
    ha::fence::Boards,
    reconcile::Node,
    telemetry::{Series, Subject},
};
use lq_api::{HostId, PoolId, Timestamp, history::Span, host::DiskHealth, pool::PoolSpec};
use serde::de::DeserializeOwned;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Longest a pool or another host may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at what changes slowly: certificate, clocks, growth.
const SLOWLY: Duration = Duration::from_secs(60);
/// Between two questions to disks: some answer them slowly.
const DISKS: Duration = Duration::from_secs(600);
/// Longest that the disks may take to answer.
const DISKS_PATIENCE: Duration = Duration::from_secs(60);
/// Measurements a growth is seen from: six hours of minutes.
const ENOUGH: usize = 360;

/// What is looked at again only after a while.
#[derive(Default)]
pub(super) struct Looked {
    slowly: Option<Instant>,
    disks: Option<Instant>,
    facts: HostFacts,
    growth: Option<f64>,
}

fn due(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

impl Looked {
    /// What this host knows of itself now.
    pub(super) async fn host(
        &mut self,
        node: &Arc<Node>,
        series: &Arc<Series>,
        state_dir: &Path,
        health: Option<&Health>,
    ) -> &HostFacts {
        if due(&mut self.disks, DISKS) {
            let host = node.host.clone();
            let asked = tokio::task::spawn_blocking(move || host.disk_health());
            // A disk that does not answer keeps its thread, not us.
            if let Ok(Ok(disks)) = tokio::time::timeout(DISKS_PATIENCE, asked).await {
                self.facts.disks = disks;
            }
        }
        if due(&mut self.slowly, SLOWLY) {
            let path: PathBuf = state_dir.join(certificate::FILE);
            let end = tokio::task::spawn_blocking(move || certificate::read(&path)?.not_after).await;
            self.facts.certificate_end = end.ok().flatten();
            self.facts.clock = clock(node, health).await;
            let (series, me) = (series.clone(), node.id());
            let growth = tokio::task::spawn_blocking(move || {
                let history =
                    series.read(Subject::Host(me), Span::Day, Timestamp::now(), |m| m == "pool.used");
                let history = history.ok()?;
                growth(&history.metrics.first()?.values, history.step_seconds)
            });
            self.growth = growth.await.ok().flatten();
        }
        let host = node.host.clone();
        if let Ok(status) = tokio::task::spawn_blocking(move || host.status()).await {
            let memory = status.memory;
            self.facts.memory = Some((memory.total_bytes.0, memory.available_bytes.0));
            // That it is a simulation is as it should be.
            self.facts.warnings = if status.simulated { vec![] } else { status.warnings };
        }
        self.facts.backups = node.cluster.kept_backups();
        let mine = node.cluster.read(|s| {
            let own =
                s.pools.values().filter(|p| matches!(p.spec, PoolSpec::Dir { host } if host == node.id()));
            own.map(|p| p.meta.id).collect::<Vec<_>>()
        });
        self.facts.pools.clear();
        for pool in mine {
            let room = match room(node, pool).await {
                Room::Of(status, _) => {
                    let full = self.growth.and_then(|per_second| {
                        Duration::try_from_secs_f64(status.free_bytes.0 as f64 / per_second).ok()
                    });
                    Room::Of(status, full)
                }
                other => other,
            };
            self.facts.pools.push((pool, room));
        }
        &self.facts
    }

    /// What disks said last.
    pub(super) fn disks(&self) -> &[(String, DiskHealth)] {
        &self.facts.disks
    }
}

/// What the leader sees of the cluster.
pub(super) async fn cluster(node: &Arc<Node>, boards: &Boards, health: Health) -> ClusterFacts {
    let voters = node.cluster.standing().voters.into_iter().collect();
    let shared = node
        .cluster
        .read(|s| s.pools.values().filter(|p| p.spec.is_shared()).map(|p| p.meta.id).collect::<Vec<_>>());
    let mut rooms = std::collections::BTreeMap::new();
    for pool in shared {
        let holder = node.cluster.read(|s| s.holder(pool, Some(node.id())));
        let room = match holder {
            Some(host) if host == node.id() => room(node, pool).await,
            Some(host) => {
                let told = ask::<Option<lq_api::pool::PoolStatus>>(node, host, "/host/pool", &pool).await;
                told.flatten().map_or(Room::Unknown, |status| Room::Of(status, None))
            }
            None => Room::Unknown,
        };
        rooms.insert(pool, room);
    }
    ClusterFacts { health, voters, rooms, boards: boards.statuses() }
}

async fn room(node: &Arc<Node>, pool: PoolId) -> Room {
    let Some(driver) = node.pool(pool) else { return Room::Unknown };
    match tokio::time::timeout(PATIENCE, driver.status()).await {
        Ok(Ok(status)) => Room::Of(status, None),
        Ok(Err(e)) => Room::Broken(chain(&e)),
        Err(_) => Room::Broken(format!("it did not answer within {} s", PATIENCE.as_secs())),
    }
}

async fn ask<T: DeserializeOwned>(
    node: &Node,
    host: HostId,
    path: &str,
    body: &impl serde::Serialize,
) -> Option<T> {
    node.cluster.ask(host, path, body, PATIENCE).await.ok()
}

/// This host's clock: beside the leader's where there is another, and as the kernel says.
async fn clock(node: &Arc<Node>, health: Option<&Health>) -> Clock {
    let among_others = health.is_some_and(|h| h.reachable.len() > 1);
    let leader = node.cluster.standing().leader.filter(|l| *l != node.id());
    let ahead = match leader.filter(|_| among_others) {
        Some(leader) => {
            let (began, before) = (Instant::now(), Timestamp::now());
            let theirs: Option<Timestamp> = ask(node, leader, "/host/clock", &()).await;
            // Theirs was read somewhere between question and answer.
            let middle = before.as_duration().as_secs_f64() + began.elapsed().as_secs_f64() / 2.0;
            theirs.map(|t| middle - t.as_duration().as_secs_f64())
        }
        None => None,
    };
    Clock { synchronised: node.host.clock_is_set(), ahead, among_others, trouble: node.time.trouble() }
}

/// Growth in bytes per second by least squares over what was measured; `None` where it does not grow, or too little is known.
fn growth(values: &[Option<f32>], step_seconds: u32) -> Option<f64> {
    let points: Vec<(f64, f64)> = (0u32..)
        .zip(values)
        .filter_map(|(n, v)| Some((f64::from(n) * f64::from(step_seconds), f64::from((*v)?))))
        .collect();
    if points.len() < ENOUGH {
        return None;
    }
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (over, under) = points
        .iter()
        .fold((0.0, 0.0), |(over, under), p| (over + (p.0 - x) * (p.1 - y), under + (p.0 - x) * (p.0 - x)));
    Some(over / under).filter(|slope| slope.is_finite() && *slope > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_seen_only_where_enough_is_known() {
        let line = |n: u16, per_minute: f32| -> Vec<Option<f32>> {
            (0..n).map(|m| Some(1e6 + f32::from(m) * per_minute)).collect()
        };
        let slope = growth(&line(400, 60.0), 60).unwrap();
        assert!((slope - 1.0).abs() < 1e-3, "{slope}");
        assert_eq!(growth(&line(400, -60.0), 60), None);
        assert_eq!(growth(&line(400, 0.0), 60), None);
        assert_eq!(growth(&line(300, 60.0), 60), None);
        let mut gaps = line(800, 60.0);
        gaps.iter_mut().step_by(2).for_each(|v| *v = None);
        assert!((growth(&gaps, 60).unwrap() - 1.0).abs() < 1e-3);
    }
}
