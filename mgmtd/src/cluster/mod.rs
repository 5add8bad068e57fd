//! The cluster's agreed state: replicated log, state machine, and the one door to both.
//!
//! ```text
//!  write(op) ──▶ raft ──▶ log on disk (store) ──▶ committed ──▶ State::apply (state) ──▶ readers, watchers
//!                                                      └── every SNAPSHOT_EVERY entries ──▶ snapshot file ──▶ log purged
//! ```
//! Invariants: an acknowledged write survives a power cut; readers see only committed state, and their own writes; nothing
//! outside this module names openraft. A cluster of one has no clock: no beats, no elections but the one at its start.

mod machine;
mod snapshot;
pub mod state;
mod store;
#[cfg(test)]
mod tests;
mod transport;
mod types;

pub use snapshot::SnapshotError;
pub use state::{Change, Command, Kind, Op, Power, Refusal, Reply, State};
pub use store::{Identity, StoreError};
pub use transport::{Alone, Transport};

use lq_api::{HostId, Timestamp};
use machine::{Machine, Shared};
use openraft::{Config, Raft, SnapshotPolicy, async_runtime::watch::WatchReceiver as _};
use state::UpgradeError;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use store::LogStore;
use tokio::sync::watch;
use types::{Member, NodeId, Types};

/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 2000;
/// Entries kept behind a snapshot, for members that lag a little.
const KEPT_ENTRIES: u64 = 500;
/// Longest a write may take. A write that takes longer may still happen.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest the store may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Why the state cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A snapshot file.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The state in it.
    #[error("the newest snapshot in {path} cannot be used")]
    State {
        /// Directory of the snapshots.
        path: PathBuf,
        /// Why.
        #[source]
        source: UpgradeError,
    },
    /// The directory.
    #[error("cannot make the directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// openraft.
    #[error("the replicated log did not start: {0}")]
    Raft(String),
}

/// Why a write did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The state refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was not confirmed in time and may still happen.
    #[error("the change was not confirmed within {} seconds; it may still happen", WRITE_TIMEOUT.as_secs())]
    Timeout,
    /// The log takes no writes.
    #[error("the cluster takes no changes now: {0}")]
    Unavailable(String),
}

/// The cluster as one of its members sees it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    raft: Raft<Types, Machine>,
    shared: Arc<Shared>,
    identity: Identity,
}

/// Opens the log; a predecessor that is just ending is waited for.
async fn open_store(dir: &Path) -> Result<(LogStore, Identity), StoreError> {
    let patience = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let place = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || LogStore::open(&place)).await;
        match opened.map_err(|e| StoreError::Io { path: dir.to_owned(), source: io::Error::other(e) })? {
            Err(StoreError::InUse { .. }) if tokio::time::Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

/// Who leads and who votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The leader, where one is known.
    pub leader: Option<HostId>,
    /// Its term.
    pub term: u64,
    /// Members whose votes count.
    pub voters: Vec<HostId>,
}

impl Cluster {
    /// Opens the state in `dir`, made at the first start as a cluster of one. Returns when every write ever acknowledged
    /// is applied.
    pub async fn open(dir: &Path, transport: impl Transport) -> Result<Self, OpenError> {
        fs::create_dir_all(dir).map_err(|source| OpenError::Directory { path: dir.to_owned(), source })?;
        let (log, identity) = open_store(dir).await?;
        let shared = Shared::load(dir.join("snapshots"))?;
        let failed = |e: &dyn std::fmt::Display| OpenError::Raft(e.to_string());
        let config = Config {
            cluster_name: "limiquantix".into(),
            heartbeat_interval: 300,
            election_timeout_min: 1500,
            election_timeout_max: 3000,
            install_snapshot_timeout: 60_000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
            max_in_snapshot_log_to_keep: KEPT_ENTRIES,
            enable_pre_vote: Some(true),
            // The only voter needs no timer; a host that is joined by others switches it on.
            enable_tick: false,
            api_channel_size: Some(1024),
            notification_channel_size: Some(1024),
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(|e| failed(&e))?);
        let id = NodeId::from(identity.host);
        let raft =
            Raft::new(id, config, transport, log, Machine(shared.clone())).await.map_err(|e| failed(&e))?;
        if raft.is_initialized().await.map_err(|e| failed(&e))? {
            // Without a timer nobody else begins the election.
            raft.trigger().elect(false).await.map_err(|e| failed(&e))?;
        } else {
            raft.initialize(BTreeMap::from([(id, Member::default())])).await.map_err(|e| failed(&e))?;
        }
        raft.wait(Some(START_TIMEOUT))
            .metrics(
                |m| {
                    m.current_leader == Some(id)
                        && m.last_applied.as_ref().map(|l| l.index) >= m.last_log_index
                },
                "this host leads and has applied its log",
            )
            .await
            .map_err(|e| failed(&e))?;
        Ok(Self { raft, shared, identity })
    }

    /// Who this host is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Changes the state. Returns when the change is durable and visible to this host's readers.
    pub async fn write(&self, op: Op) -> Result<Reply, WriteError> {
        let command = Command { at: Timestamp::now(), op };
        match tokio::time::timeout(WRITE_TIMEOUT, self.raft.client_write(command)).await {
            Err(_) => Err(WriteError::Timeout),
            Ok(Err(e)) => Err(WriteError::Unavailable(e.to_string())),
            Ok(Ok(response)) => Ok(response.data?),
        }
    }

    /// Looks at the committed state; `look` must be quick.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.shared.read(look)
    }

    /// Like [`Self::read`], with the log position the state is of.
    pub fn read_at<R>(&self, look: impl FnOnce(&State, u64) -> R) -> R {
        self.shared.read_at(look)
    }

    /// Grows with each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.watch()
    }

    /// Changes after `revision`; `None` where they are not known any more and the watcher has to read everything anew.
    #[must_use]
    pub fn changes_since(&self, revision: u64) -> Option<Vec<Change>> {
        self.shared.changes_since(revision)
    }

    /// Who leads and who votes.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let metrics = self.raft.metrics().borrow_watched().clone();
        Standing {
            leader: metrics.current_leader.map(HostId::from),
            term: metrics.current_term,
            voters: self.raft.voter_ids().map(HostId::from).collect(),
        }
    }

    /// Ends when the log has failed for good, with the reason: the daemon must be restarted.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(e) = &metrics.borrow_watched().running_state {
                return e.to_string();
            }
            if metrics.changed().await.is_err() {
                return "the replicated log has ended".into();
            }
        }
    }

    /// Stops taking part. What was acknowledged stays.
    pub async fn shutdown(&self) {
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!(error = %e, "the replicated log did not end cleanly");
        }
    }
}
