//! What a member does by itself: brings openraft's membership to what the state says (leader), keeps its clock going while
//! there is more than one member, and asks around when someone unknown calls.

use super::{
    Cluster,
    autopilot::{self, Seen},
    reform,
    types::{Member, NodeId},
};
use lq_api::HostId;
use openraft::{ChangeMembers, Instant as _, async_runtime::watch::WatchReceiver as _};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// A voter silent for longer may be replaced.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// A host silent for longer is not reachable.
pub(super) const SILENT: Duration = Duration::from_secs(3);
/// Entries a host may lack and still be up to date.
const LAG: u64 = 200;
/// Longest a change of membership may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest pause between two tries of a witness to hand the lead over.
const HAND_OVER: Duration = Duration::from_secs(30);
/// Shortest pause between two rounds of asking around.
const ASKING: Duration = Duration::from_secs(2);

/// Which hosts the leader hears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// A majority of the voters answers the leader.
    pub quorum: bool,
    /// Hosts that answer, itself included.
    pub reachable: BTreeSet<HostId>,
    /// Hosts that follow the state but lack much of it.
    pub behind: BTreeSet<HostId>,
    /// How many entries of the log each host lacks, where it is known.
    #[serde(default)]
    pub lag: BTreeMap<HostId, u64>,
}

pub(super) async fn run(cluster: Cluster) {
    let mut asked = Instant::now();
    let mut looked = Instant::now();
    let mut led = cluster.leadership();
    let mut handed = None;
    loop {
        // In this order, not in one by chance: a simulated run can be repeated.
        tokio::select! {
            biased;
            () = cluster.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
            () = cluster.wire.epochs.met.notified() => {
                if let Err(e) = reform::look_at_newer(&cluster).await {
                    tracing::warn!(error = %e, "a newer epoch of the cluster could not be looked at");
                }
                continue;
            }
            () = cluster.wire.book.wanted.notified() => {
                if asked.elapsed() >= ASKING {
                    cluster.wire.refresh().await;
                    asked = Instant::now();
                }
                continue;
            }
        }
        // A new leader may have ended that there was none.
        let elected = cluster.leadership();
        if looked.elapsed() >= ASKING || elected != led {
            (looked, led) = (Instant::now(), elected);
            reform::note_quorum(&cluster).await;
        }
        let outdated = cluster.wire.epochs.is_outdated();
        if outdated || (cluster.is_removed() && !cluster.raft.is_leader()) {
            // Whoever is out does not stand for election, nor keep others from theirs.
            cluster.raft.runtime_config().tick(false);
            continue;
        }
        clock(&cluster);
        if cluster.raft.is_leader() {
            // A step that fails is taken again at the next look.
            match tokio::time::timeout(PATIENCE, step(&cluster)).await {
                Ok(Ok(())) => {
                    if handed.is_none_or(|at: Instant| at.elapsed() >= HAND_OVER) && hand_over(&cluster).await
                    {
                        handed = Some(Instant::now());
                    }
                }
                Ok(Err(e)) => tracing::debug!(error = e, "the membership could not be changed yet"),
                Err(_) => tracing::debug!("the membership could not be changed in time"),
            }
        }
    }
}

/// The only member needs no beats and no elections; who has not come as far as its own epoch stands for none.
fn clock(cluster: &Cluster) {
    let alone = {
        let metrics = cluster.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        membership.nodes().count() == 1 && membership.voter_ids().eq([NodeId::from(cluster.identity.host)])
    };
    cluster.raft.runtime_config().tick(!alone && cluster.has_arrived());
}

/// Hands the lead to a host, where a witness has it: it reaches the others, but not their storage nor their base boards. True
/// where one was found for it, which it may still not come to.
async fn hand_over(cluster: &Cluster) -> bool {
    if !is_witness(cluster, cluster.identity.host) {
        return false;
    }
    let hosts = look(cluster);
    let Some(to) = hosts.iter().find(|s| s.voter && s.alive && s.caught_up && !s.witness) else {
        return false;
    };
    tracing::info!(host = %to.host, "a witness hands the lead over");
    cluster.raft.trigger().transfer_leader(to.host.into()).await.is_ok()
}

fn is_witness(cluster: &Cluster, host: HostId) -> bool {
    cluster.read(|s| s.hosts.get(&host).is_some_and(|record| record.is_witness()))
}

/// One step towards the membership the state asks for.
async fn step(cluster: &Cluster) -> Result<(), String> {
    let wanted: BTreeMap<NodeId, Member> = cluster.read(|s| {
        let known = s.hosts.iter();
        known
            .filter(|(id, r)| **id == cluster.identity.host || (r.peer.is_some() && r.lost.is_none()))
            .map(|(id, r)| {
                let address = r.peer.as_ref().map(|p| p.address.clone()).unwrap_or_default();
                (NodeId::from(*id), Member { address })
            })
            .collect()
    });
    if wanted.is_empty() {
        return Ok(());
    }
    let (nodes, settled) = {
        let metrics = cluster.raft.metrics();
        let metrics = metrics.borrow_watched();
        let now = &metrics.membership_config;
        let nodes: BTreeSet<NodeId> = now.membership().nodes().map(|(id, _)| *id).collect();
        (nodes, metrics.committed_membership_config == *now)
    };
    if !settled {
        return Ok(());
    }
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    if let Some((id, member)) = wanted.iter().find(|(id, _)| !nodes.contains(id)) {
        tracing::info!(host = %id, "a host begins to follow the state");
        cluster.raft.add_learner(*id, member.clone(), false).await.map_err(|e| failed(&e))?;
        return Ok(());
    }
    let gone: BTreeSet<NodeId> = nodes.iter().copied().filter(|id| !wanted.contains_key(id)).collect();
    // Whoever is gone, or about to go, does not vote.
    let leaving: BTreeSet<NodeId> =
        cluster.read(|s| s.hosts.values().filter(|r| r.leaving).map(|r| r.meta.id.into()).collect());
    let out: BTreeSet<NodeId> = gone.union(&leaving).copied().collect();
    let seen: Vec<Seen> = look(cluster).into_iter().filter(|s| !out.contains(&s.host.into())).collect();
    let voters: BTreeSet<HostId> = cluster.raft.voter_ids().map(HostId::from).collect();
    // One that leads although it is to go hands its vote to whoever is there, and steps down by that.
    let lead = if seen.iter().any(|s| s.host == cluster.identity.host) {
        Some(cluster.identity.host)
    } else {
        let others = seen.iter().filter(|s| s.alive && s.caught_up);
        others.min_by_key(|s| (!s.voter, s.host)).map(|s| s.host)
    };
    let plan = lead.and_then(|lead| autopilot::plan(&seen, lead));
    let still_voting: BTreeSet<HostId> =
        voters.iter().copied().filter(|v| out.contains(&NodeId::from(*v))).collect();
    let plan = plan.or_else(|| {
        // The others are right as they are, but one that is to go votes still.
        let rest: BTreeSet<_> = voters.difference(&still_voting).copied().collect();
        (!still_voting.is_empty() && !rest.is_empty()).then_some(rest)
    });
    if let Some(plan) = plan
        && plan != voters
    {
        tracing::info!(?plan, "the voters change");
        let ids = plan.into_iter().map(NodeId::from).collect();
        let change = ChangeMembers::ReplaceAllVoters(ids);
        cluster.raft.change_membership(change, true).await.map_err(|e| failed(&e))?;
        return Ok(());
    }
    if !gone.is_empty() && gone.iter().all(|g| !voters.contains(&HostId::from(*g))) {
        tracing::info!(?gone, "hosts end to follow the state");
        let change = ChangeMembers::RemoveNodes(gone);
        cluster.raft.change_membership(change, true).await.map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// What the leader sees of every member.
fn look(cluster: &Cluster) -> Vec<Seen> {
    let metrics = cluster.raft.metrics();
    let metrics = metrics.borrow_watched();
    let voters: BTreeSet<NodeId> = metrics.membership_config.membership().voter_ids().collect();
    let last = metrics.last_log_index.unwrap_or_default();
    let me = NodeId::from(cluster.identity.host);
    metrics
        .membership_config
        .membership()
        .nodes()
        .map(|(id, _)| {
            let heard = metrics.heartbeat.as_ref().and_then(|h| h.get(id).copied().flatten());
            let silent = heard.map_or(Duration::MAX, |at| at.elapsed());
            let matched = metrics.replication.as_ref().and_then(|r| r.get(id).copied().flatten());
            let voter = voters.contains(id);
            let patience = if voter { GIVEN_UP } else { SILENT };
            Seen {
                host: (*id).into(),
                voter,
                witness: is_witness(cluster, (*id).into()),
                alive: *id == me || silent < patience,
                caught_up: *id == me || matched.is_some_and(|m| m.index + LAG >= last),
            }
        })
        .collect()
}

/// Which hosts this host hears, where it leads.
pub(super) fn health(cluster: &Cluster) -> Option<Health> {
    if !cluster.raft.is_leader() {
        return None;
    }
    let seen = look(cluster);
    let metrics = cluster.raft.metrics();
    let metrics = metrics.borrow_watched();
    let me = cluster.identity.host;
    let heard = |host: HostId| {
        let at = metrics.heartbeat.as_ref().and_then(|h| h.get(&host.into()).copied().flatten());
        host == me || at.is_some_and(|at| at.elapsed() < SILENT)
    };
    let reachable: BTreeSet<HostId> = seen.iter().map(|s| s.host).filter(|h| heard(*h)).collect();
    let voters = seen.iter().filter(|s| s.voter).count();
    let there = seen.iter().filter(|s| s.voter && reachable.contains(&s.host)).count();
    let behind = seen.iter().filter(|s| !s.caught_up).map(|s| s.host).collect();
    let last = metrics.last_log_index.unwrap_or_default();
    let lag = seen.iter().filter_map(|s| {
        let matched = metrics.replication.as_ref().and_then(|r| r.get(&s.host.into()).copied().flatten());
        let lag = if s.host == me { 0 } else { last.saturating_sub(matched?.index) };
        Some((s.host, lag))
    });
    Some(Health { quorum: there * 2 > voters, reachable, behind, lag: lag.collect() })
}
