//! Forming the cluster anew from one of its hosts, when the majority of the voters is gone.
//!
//! ```text
//!  preview ─▶ confirmed ─▶ backup ─▶ `reform.json` on disk ─▶ restart ─▶ one transaction of the log: membership of this host
//!                                    (from here it is done)              alone, and the new epoch ─▶ `reform.json` removed
//!  other hosts, met by a call of either side:
//!    of the new epoch, lacking nothing ─▶ `join.json` ─▶ restart ─▶ empty log, follows
//!    declared lost, or ahead           ─▶ `outdated.json`: takes no changes, machines run on, until it joins anew
//! ```
//! Invariants: only a host without a majority does it, and only told so on that host; a host that answers and has more of the
//! log is never passed over silently; a crash anywhere leaves the old cluster or the new one; machines of lost hosts stay
//! placed there.

use super::{
    CallError, Cluster, OpenError, State, WriteError,
    backup::{BackupError, Reason},
    crash, join,
    state::{
        Formation, Position,
        epoch::{self, Verdict},
    },
    store::{self},
    types,
    wire::{
        epochs::Outdated,
        serve::{self, End, Formed},
    },
};
use futures::future::join_all;
use lq_api::{
    HostId, Timestamp,
    recovery::{NewEpoch, ReformCluster, ReformFate, ReformHost, ReformPreview},
};
use openraft::async_runtime::watch::WatchReceiver as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    time::Duration,
};

/// What is carried out at the next start.
pub(super) const PENDING: &str = "reform.json";
/// Longest a host may take to say where its log ends.
const LOOK: Duration = Duration::from_secs(2);

/// Why the cluster was not formed anew.
#[derive(Debug, thiserror::Error)]
pub enum ReformError {
    /// It need not, or cannot, be done here.
    #[error("{}", .0.join("; "))]
    Obstacles(Vec<String>),
    /// The confirmation is wrong.
    #[error("`{0}` is not the name of this host, from which the cluster would be formed anew: it is `{1}`")]
    NotConfirmed(String, String),
    /// The hosts that were named do not fit those that are lost.
    #[error("{}", .0.join("; "))]
    Hosts(Vec<String>),
    /// The state could not be kept before it.
    #[error("the state could not be backed up first")]
    Backup(#[from] BackupError),
    /// The intention could not be stored.
    #[error("the intention could not be stored")]
    Store(#[from] io::Error),
}

/// How another host stands to a new epoch.
fn fate(answer: Option<Option<Position>>, mine: Option<Position>, lost: bool) -> ReformFate {
    match answer {
        _ if lost => ReformFate::Lost,
        None => ReformFate::Silent,
        Some(theirs) if theirs > mine => ReformFate::Newer,
        Some(_) => ReformFate::Follows,
    }
}

/// What speaks against naming exactly these hosts as lost.
fn objections(hosts: &[ReformHost], lost: &BTreeSet<HostId>) -> Vec<String> {
    let mut found = Vec::new();
    for host in hosts {
        let (name, named) = (&host.name, lost.contains(&host.host));
        match (host.fate, named) {
            (ReformFate::Silent, false) => found.push(format!(
                "the host `{name}` does not answer and is not named as lost: name it, or bring it back"
            )),
            (ReformFate::Newer, false) => found.push(format!(
                "the host `{name}` answers and has changes that this host lacks (its log ends at {}): form the cluster \
                 anew there, or name it as lost to give these changes up",
                host.last_index.unwrap_or_default()
            )),
            (ReformFate::Follows, true) => found.push(format!(
                "the host `{name}` answers and comes along by itself: do not name it as lost"
            )),
            _ => {}
        }
    }
    for id in lost {
        if hosts.iter().all(|h| h.host != *id) {
            found.push(format!("there is no other host {id} in the cluster"));
        }
    }
    found
}

fn machines(state: &State, host: HostId) -> Vec<String> {
    let there = state.vms.values().filter(|r| r.vm.status.host == Some(host));
    there.map(|r| r.vm.meta.name.clone()).collect()
}

impl Cluster {
    /// Where the log of this host ends.
    #[must_use]
    pub(super) fn last_position(&self) -> Option<Position> {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        metrics.last_log.as_ref().map(types::position)
    }

    /// The epoch that goes on without this host, where there is one.
    #[must_use]
    pub fn outdated(&self) -> Option<Outdated> {
        self.wire.epochs.outdated()
    }

    /// Hosts of other epochs that were met, and are refused.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<HostId, super::RefusedPeer> {
        self.wire.epochs.refused()
    }

    /// When each host was last heard since this daemon began.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<HostId, Timestamp> {
        self.wire.epochs.heard()
    }

    /// Since when this host reaches no majority of the voters; `None` while it does.
    #[must_use]
    pub fn no_quorum_since(&self) -> Option<Timestamp> {
        self.wire.epochs.no_quorum_since()
    }

    /// Where the logs of the others end, of those that answer.
    async fn ends(&self) -> BTreeMap<HostId, Option<Position>> {
        let me = self.identity.host;
        let others: Vec<HostId> = self.read(|s| {
            let known = s.hosts.iter().filter(|(id, r)| **id != me && r.peer.is_some() && r.lost.is_none());
            known.map(|(id, _)| *id).collect()
        });
        let asked = others.into_iter().map(|host| async move {
            let end: Result<End, _> = self.wire.call(host, "/cluster/end", &(), LOOK).await;
            Some((host, end.ok()?.last))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// What forming the cluster anew from this host would mean.
    pub async fn preview_reform(&self) -> ReformPreview {
        let mut obstacles = Vec::new();
        if self.is_removed() {
            obstacles.push("this host was removed from the cluster".to_owned());
        }
        if let Some(outdated) = self.outdated() {
            obstacles.push(outdated.to_string());
        }
        if self.health().await.is_some_and(|h| h.quorum) {
            obstacles
                .push("a majority of the voters is reached: the cluster takes changes as it is".to_owned());
        }
        let mine = self.last_position();
        let (ends, heard) = (self.ends().await, self.heard());
        let me = self.identity.host;
        self.read(|s| {
            if !s.hosts.contains_key(&me) {
                obstacles.push("this host does not know the state of the cluster yet".to_owned());
            }
            let others = s.hosts.values().filter(|r| r.meta.id != me && r.peer.is_some());
            let hosts: Vec<ReformHost> = others
                .map(|record| {
                    let host = record.meta.id;
                    let answer = ends.get(&host).copied();
                    ReformHost {
                        host,
                        name: record.meta.name.clone(),
                        fate: fate(answer, mine, record.lost.is_some()),
                        last_heard: heard.get(&host).copied(),
                        last_index: answer.flatten().map(|p| p.index),
                        machines: machines(s, host),
                    }
                })
                .collect();
            if hosts.is_empty() && obstacles.is_empty() {
                obstacles.push("this host has no other hosts to go on without".to_owned());
            }
            ReformPreview {
                epoch: self.identity.epoch + 1,
                confirm: s.host_name(me),
                last_index: mine.map_or(0, |p| p.index),
                obstacles,
                hosts,
            }
        })
    }

    /// Forms the cluster anew from this host. After success the daemon has to start again; until then nothing can be changed.
    pub async fn reform(&self, wanted: &ReformCluster) -> Result<NewEpoch, ReformError> {
        let preview = self.preview_reform().await;
        if !preview.obstacles.is_empty() {
            return Err(ReformError::Obstacles(preview.obstacles));
        }
        if wanted.confirm != preview.confirm {
            return Err(ReformError::NotConfirmed(wanted.confirm.clone(), preview.confirm));
        }
        let lost: BTreeSet<HostId> = wanted.lost.iter().copied().collect();
        let objections = objections(&preview.hosts, &lost);
        if !objections.is_empty() {
            return Err(ReformError::Hosts(objections));
        }
        let backup = self.backup(Reason::Reform).await?;
        let formation = Formation {
            epoch: preview.epoch,
            at: Timestamp::now(),
            by: self.identity.host,
            base: None,
            lost: lost.into_iter().collect(),
            restored: false,
        };
        let frozen = self.freeze().await;
        let file = self.dir.join(PENDING);
        let stored = formation.clone();
        tokio::task::spawn_blocking(move || intend(&file, &stored)).await.map_err(io::Error::other)??;
        frozen.for_good();
        tracing::warn!(epoch = formation.epoch, lost = ?formation.lost, "the cluster is formed anew from this host");
        Ok(NewEpoch { epoch: formation.epoch, backup })
    }

    /// Ends when the daemon is to start again because of something the cluster found out by itself.
    pub async fn wants_restart(&self) {
        self.again.cancelled().await;
    }
}

/// From here on it is done, whenever the daemon ends.
pub(super) fn intend(file: &Path, formation: &Formation) -> io::Result<()> {
    crate::durable::write(file, 0o600, &serde_json::to_vec(formation)?)
}

/// Carries out what was intended; called before the log is opened.
pub(super) fn carry_out(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(PENDING);
    let failed = |source| OpenError::Pending { path: path.clone(), source };
    let formation: Formation = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => serde_json::from_slice(&other.map_err(failed)?).map_err(|e| failed(e.into()))?,
    };
    crash::point().map_err(failed)?;
    store::reform(dir, &formation)?;
    crash::point().map_err(failed)?;
    finish(dir).map_err(failed)?;
    tracing::warn!(epoch = formation.epoch, "the cluster was formed anew from this host");
    Ok(())
}

/// What was told in the epoch before counts no more.
fn finish(dir: &Path) -> io::Result<()> {
    crate::durable::remove(&dir.join("peers.json"))?;
    crash::point()?;
    crate::durable::remove(&dir.join(PENDING))
}

/// Looks whether a majority is there, and where none is, who answers.
pub(super) async fn note_quorum(cluster: &Cluster) {
    let health = cluster.health().await;
    let there = health.as_ref().is_some_and(|h| h.quorum);
    if let Some(health) = health {
        cluster.wire.epochs.note_heard(&health.reachable);
    }
    cluster.wire.epochs.note_quorum(there);
    if !there {
        // That they answer is noted by asking.
        drop(cluster.ends().await);
    }
}

/// Asks a host of a newer epoch what became of the cluster, and follows, or knows from then on that this host is out.
pub(super) async fn look_at_newer(cluster: &Cluster) -> Result<(), WriteError> {
    let epochs = &cluster.wire.epochs;
    let Some(host) = epochs.take_newer().filter(|_| !cluster.again.is_cancelled()) else { return Ok(()) };
    let failed = |e: &dyn std::fmt::Display| WriteError::Unavailable(e.to_string());
    let asked: Result<Formed, CallError> =
        cluster.wire.call(host, serve::FORMATION, &epochs.own(), LOOK).await;
    let Formed { told, page } = asked.map_err(|e| failed(&e))?;
    match (epoch::judge(epochs.own(), cluster.last_position(), &told), page) {
        (Verdict::Nothing, _) => {}
        (Verdict::Follow, Some(page)) if page.cluster == cluster.identity.cluster => {
            tracing::warn!(
                epoch = told.epoch,
                by = told.by,
                "this host follows the cluster into its new epoch"
            );
            let frozen = cluster.freeze().await;
            join::store(&cluster.dir, page).await.map_err(|e| failed(&e))?;
            frozen.for_good();
            cluster.again.cancel();
        }
        (Verdict::Follow | Verdict::Lost | Verdict::Ahead, _) => {
            epochs.set_outdated(told).map_err(|e| failed(&e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn host(n: u128, fate: ReformFate) -> ReformHost {
        ReformHost {
            host: HostId(Uuid::from_u128(n)),
            name: format!("h{n}"),
            fate,
            last_heard: None,
            last_index: Some(9),
            machines: vec![],
        }
    }

    fn ids(numbers: &[u128]) -> BTreeSet<HostId> {
        numbers.iter().map(|n| HostId(Uuid::from_u128(*n))).collect()
    }

    #[test]
    fn exactly_those_that_are_lost_are_to_be_named() {
        let hosts = [
            host(1, ReformFate::Silent),
            host(2, ReformFate::Newer),
            host(3, ReformFate::Follows),
            host(4, ReformFate::Lost),
        ];
        assert!(objections(&hosts, &ids(&[1, 2])).is_empty());
        assert!(objections(&hosts, &ids(&[1, 2, 4])).is_empty());
        for (lost, word) in [
            (&[2][..], "`h1` does not answer"),
            (&[1], "`h2` answers and has changes"),
            (&[1, 2, 3], "`h3` answers and comes along"),
            (&[1, 2, 9], "no other host"),
        ] {
            let found = objections(&hosts, &ids(lost));
            assert!(found.len() == 1 && found[0].contains(word), "{found:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_with_more_is_passed_over(
            mine in proptest::option::of((0u64..4, 0u64..9)),
            theirs in proptest::option::of(proptest::option::of((0u64..4, 0u64..9))),
            lost: bool,
        ) {
            let at = |(term, index)| Position { term, leader: HostId(Uuid::nil()), index };
            let (mine, theirs) = (mine.map(at), theirs.map(|t| t.map(at)));
            let found = fate(theirs, mine, lost);
            let follows = !lost && theirs.is_some_and(|t| t <= mine);
            prop_assert_eq!(found == ReformFate::Follows, follows);
            prop_assert_eq!(found == ReformFate::Newer, !lost && theirs.is_some_and(|t| t > mine));
        }
    }
}
