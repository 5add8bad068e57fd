//! The cluster's agreed state: replicated log, state machine, and the one door to both.
//!
//! ```text
//!  write(op) ──▶ raft ──▶ log on disk (store) ──▶ committed ──▶ State::apply (state) ──▶ readers, watchers
//!                                                      └── every SNAPSHOT_EVERY entries ──▶ snapshot file ──▶ log purged
//! ```
//! Invariants: an acknowledged write survives a power cut; readers see only committed state, and their own writes; nothing
//! outside this module names openraft. A cluster of one has no clock: no beats, no elections but the one at its start.
//! Any member takes writes; one that does not lead passes them on ([`wire`]). What is read is the state as far as it has come
//! to this host, unless [`Cluster::barrier`] was waited for: then it holds everything acknowledged before.

mod autopilot;
mod backup;
mod crash;
mod join;
mod keeper;
mod machine;
#[cfg(test)]
mod many_tests;
mod nightly;
pub mod pairing;
mod reform;
#[cfg(test)]
mod reform_tests;
mod restore;
mod run;
#[cfg(test)]
mod scale_tests;
#[cfg(test)]
mod sim;
mod snapshot;
pub mod state;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub use backup::{BackupError, MAX_BACKUP};
pub use join::JoinError;
pub use keeper::Health;
pub use nightly::KeptBackups;
pub use pairing::{NotWaiting, PairError};
pub use reform::ReformError;
pub use restore::RestoreError;
pub use snapshot::SnapshotError;
pub use state::{
    Application, Authority, Capacity, Change, Command, Kind, Op, Outcome, Peer, Power, Refusal, Reply, State,
    merge::Objects,
};
pub use store::{Identity, StoreError};
pub use wire::{
    CallError, PkiError,
    epochs::{Outdated, Refused as RefusedPeer},
    serve::From as PeerFrom,
};

use axum::{Router, body::Body};
use hyper::{Request, Response, body::Incoming};
use lq_api::{
    HostId,
    cluster::{CreateJoinToken, CreatedJoinToken, JoinPreview},
};
use machine::{Machine, Shared};
use openraft::{
    Config, Instant as _, Raft, ReadPolicy, SnapshotPolicy,
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, RaftError},
};
use state::UpgradeError;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::LogStore;
use tokio::{
    sync::{OwnedRwLockWriteGuard, RwLock, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use types::{Member, NodeId, SnapshotMeta, Types};
use wire::{
    Wire,
    book::{Book, Page},
    epochs::Epochs,
    link::Links,
    pki::{self, HostKey},
    serve::Written,
};

/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 2000;
/// Entries kept behind a snapshot, for members that lag a little.
const KEPT_ENTRIES: u64 = 500;
/// Longest a write may take. A write that takes longer may still happen.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest that the voters take to elect a leader where a majority of them is there, with some to spare.
const ELECTION: Duration = Duration::from_secs(5);
/// Pause before a write is offered again where nobody led.
const WRITE_PAUSE: Duration = Duration::from_millis(100);
/// Longest a host that leaves may take to hand over its vote.
const HAND_OVER: Duration = Duration::from_secs(30);
/// Longest that the replicated log may take to end.
const FAREWELL: Duration = Duration::from_secs(10);
/// Longest a question to the leader may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
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
    /// Key or certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// What was decided before the last end and is to be carried out: an admission to a cluster, a new epoch, a restore.
    #[error("what {path} says cannot be carried out")]
    Pending {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
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
    /// The connection to the leader broke, or the leader changed, after the change was sent.
    #[error("it is not known whether the change happened ({0}): look before you repeat it")]
    Unknown(String),
    /// No majority has been reached for longer than an election takes: it was not even proposed.
    #[error(
        "no majority of the voters is reached: nothing can be changed until more of the voting hosts are back"
    )]
    NoMajority,
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
    wire: Arc<Wire>,
    pairing: Arc<pairing::Pairing>,
    dir: Arc<Path>,
    /// Writes hold it for reading; whoever freezes the state, for writing.
    gate: Arc<RwLock<()>>,
    left: Arc<AtomicBool>,
    /// [`Self::has_arrived`]
    arrived: Arc<AtomicBool>,
    stop: CancellationToken,
    /// Begins when the daemon is to start again because of what the cluster found out.
    again: CancellationToken,
    backups: nightly::Watch,
}

/// While it lives the state takes no changes from this host.
struct Frozen {
    _gate: OwnedRwLockWriteGuard<()>,
    left: Arc<AtomicBool>,
}

impl Frozen {
    /// The state takes none ever again.
    fn for_good(self) {
        self.left.store(true, Ordering::Release);
    }
}

/// Opens the log; a predecessor that is just ending is waited for.
async fn open_store(dir: &Path) -> Result<(LogStore, Identity), StoreError> {
    let patience = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let place = dir.to_owned();
        let opened = run::off_thread(move || LogStore::open(&place)).await;
        match opened.map_err(|source| StoreError::Io { path: dir.to_owned(), source })? {
            Err(StoreError::InUse { .. }) if tokio::time::Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

/// That this host leads, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leading {
    /// Its term.
    pub term: u64,
    /// How long ago something was sent that a majority of the voters has answered to; `None`: never in this term. The next
    /// leader is elected after that moment, because one of that majority has to vote for it.
    pub followed: Option<Duration>,
}

/// Why a decision bound to a term was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The state refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This host does not lead any more, or the log takes nothing. What was decided may still happen, in its term.
    #[error("{0}")]
    Over(String),
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
    /// All members.
    pub members: Vec<HostId>,
}

impl Cluster {
    /// Opens the state in `dir`, made at the first start as a cluster of one. A host that is alone has every write ever
    /// acknowledged applied when this returns; one of several catches up with the others meanwhile.
    pub async fn open(dir: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(dir).map_err(|source| OpenError::Directory { path: dir.to_owned(), source })?;
        carry_out_pending(dir).await?;
        let (log, identity) = open_store(dir).await?;
        let shared = Shared::load(dir.join("snapshots"))?;
        let unreadable = |source| StoreError::Io { path: dir.to_owned(), source };
        let book = Book::open(dir, identity.cluster, identity.epoch, shared.clone()).map_err(unreadable)?;
        let epochs = Epochs::open(dir, identity.epoch).map_err(unreadable)?;
        let wire = Wire::new(identity.host, identity.cluster, Arc::new(book), epochs);
        // A log that is being brought by others begins with memberships of before: this host may have been a voter of them, even
        // the only one, and would stand for election by them.
        let arrived = !identity.joined
            || shared.read(State::epoch) >= identity.epoch
            || log.holds_epoch(identity.epoch).map_err(unreadable)?;
        let failed = |e: &dyn std::fmt::Display| OpenError::Raft(e.to_string());
        let (snapshot_every, kept_entries) = run::snapshot_pace((SNAPSHOT_EVERY, KEPT_ENTRIES));
        let config = Config {
            cluster_name: identity.cluster.to_string(),
            heartbeat_interval: 300,
            // Who follows stands for election after the longest of these, for which it holds to its leader, and one between
            // them: 2.25 to 3 s after the leader's last word. Decision 13 counts on it.
            election_timeout_min: 750,
            election_timeout_max: 1500,
            install_snapshot_timeout: 60_000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
            max_in_snapshot_log_to_keep: kept_entries,
            enable_pre_vote: Some(true),
            // Up to where the log is agreed may be lost with the power: a leader that simply went on after a restart would
            // answer readers with less than what was acknowledged. One that is elected knows it before it answers.
            enable_leader_restore: Some(false),
            // The only voter needs no timer; the keeper switches it on as soon as there are more.
            enable_tick: false,
            api_channel_size: Some(1024),
            notification_channel_size: Some(1024),
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(|e| failed(&e))?);
        let id = NodeId::from(identity.host);
        let links = Links(wire.clone());
        let raft =
            Raft::new(id, config, links, log, Machine(shared.clone())).await.map_err(|e| failed(&e))?;
        let begun = raft.is_initialized().await.map_err(|e| failed(&e))?;
        if !begun && !identity.joined {
            raft.initialize(BTreeMap::from([(id, Member::default())])).await.map_err(|e| failed(&e))?;
        }
        let (voter, alone) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            (arrived && membership.voter_ids().eq([id]), membership.nodes().count() == 1)
        };
        let cluster = Self {
            raft,
            shared,
            identity,
            wire,
            pairing: Arc::default(),
            dir: dir.into(),
            gate: Arc::default(),
            left: Arc::default(),
            arrived: Arc::new(arrived.into()),
            stop: CancellationToken::new(),
            again: CancellationToken::new(),
            backups: nightly::Watch::default(),
        };
        if voter && begun {
            // Nobody else begins the election.
            cluster.raft.trigger().elect(false).await.map_err(|e| failed(&e))?;
        }
        if voter || (!begun && !identity.joined) {
            let wait = cluster.raft.wait(Some(START_TIMEOUT));
            let leads = wait.metrics(
                |m| {
                    m.current_leader == Some(id)
                        && m.last_applied.as_ref().map(|l| l.index) >= m.last_log_index
                },
                "this host leads and has applied its log",
            );
            leads.await.map_err(|e| failed(&e))?;
        }
        cluster.raft.runtime_config().tick(!alone && arrived);
        cluster.certify()?;
        run::spawn(keeper::run(cluster.clone()));
        Ok(cluster)
    }

    /// Whether this host has come as far as its own epoch, so that the memberships it knows are of it.
    fn has_arrived(&self) -> bool {
        if !self.arrived.load(Ordering::Acquire) && self.read(State::epoch) >= self.identity.epoch {
            self.arrived.store(true, Ordering::Release);
        }
        self.arrived.load(Ordering::Acquire)
    }

    /// Takes a certificate for the peers, where the cluster has an authority already.
    fn certify(&self) -> Result<(), PkiError> {
        let Some(page) = self.wire.book.page() else { return Ok(()) };
        self.wire.certify(HostKey::load(&self.dir)?, page.authority)
    }

    /// Sees to it that the cluster has an authority: made at the first start, or at the first start of a release that knows
    /// it. Only for a host that is alone or follows a leader.
    pub async fn ensure_authority(&self) -> Result<(), WriteError> {
        let unusable = |e: PkiError| WriteError::Unavailable(e.to_string());
        if self.read(|s| s.cluster.as_ref().is_some_and(|c| c.authority.is_none())) {
            let authority = pki::new_authority(self.identity.cluster).map_err(unusable)?;
            self.write(Op::SetAuthority { authority }).await?;
        }
        if self.wire.server_config().is_none() {
            self.certify().map_err(unusable)?;
        }
        Ok(())
    }

    /// SHA-256 of this host's public key: what its peers know it by.
    pub fn pin(&self) -> Result<String, PkiError> {
        Ok(HostKey::load(&self.dir)?.pin())
    }

    /// What the port for the peers serves with; `None` before there is a certificate.
    #[must_use]
    pub fn peer_tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.wire.server_config()
    }

    /// What the port for the peers serves; `more` is open to hosts of the cluster only.
    pub fn peer_router(&self, more: Router) -> Router {
        wire::serve::router(self.clone(), more)
    }

    /// Who a certificate shown at the peers' port is of.
    #[must_use]
    pub fn peer_of(&self, certificate: &rustls::pki_types::CertificateDer<'_>) -> Option<HostId> {
        self.wire.book.identify(certificate).ok()
    }

    /// Sends a request to another host and hands over its answer as it comes.
    pub async fn pass(&self, host: HostId, request: Request<Body>) -> Result<Response<Incoming>, CallError> {
        self.wire.pass(host, request).await
    }

    /// Asks another host something it alone knows. One that could not be reached a moment ago is not tried again at once.
    pub async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        host: HostId,
        path: &str,
        body: &impl serde::Serialize,
        limit: Duration,
    ) -> Result<T, CallError> {
        self.wire.ask(host, path, body, limit).await
    }

    /// Who this host is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Changes the state. Returns when the change is durable and visible to this host's readers.
    pub async fn write(&self, op: Op) -> Result<Reply, WriteError> {
        let _open = self.gate.clone().try_read_owned().map_err(|_| left())?;
        if self.left.load(Ordering::Acquire) {
            return Err(left());
        }
        if self.is_removed() {
            return Err(WriteError::Unavailable("this host was removed from it".into()));
        }
        if let Some(outdated) = self.outdated() {
            return Err(WriteError::Unavailable(outdated.to_string()));
        }
        let command = Command { at: run::now(), op };
        let end = Instant::now() + WRITE_TIMEOUT;
        let mut why = "no leader is known".to_owned();
        loop {
            if let Some(failed) = self.failure() {
                return Err(WriteError::Unavailable(failed));
            }
            if self.lacks_majority() {
                return Err(WriteError::NoMajority);
            }
            let leader = match tokio::time::timeout_at(end, self.raft.client_write(command.clone())).await {
                Err(_) => return Err(WriteError::Timeout),
                Ok(Ok(response)) => return Ok(response.data?),
                Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => to.leader_id,
                Ok(Err(RaftError::APIError(e @ ClientWriteError::LogEntryDiscarded(_)))) => {
                    return Err(WriteError::Unknown(e.to_string()));
                }
                // This host's log failed under it: the others may have it, and agree on it without this host.
                Ok(Err(RaftError::Fatal(e))) => return Err(WriteError::Unknown(e.to_string())),
                Ok(Err(e)) => return Err(WriteError::Unavailable(e.to_string())),
            };
            if let Some(leader) = leader.filter(|l| HostId::from(*l) != self.identity.host) {
                let rest = end.saturating_duration_since(Instant::now());
                match self.wire.call(leader.into(), "/cluster/write", &command, rest).await {
                    Ok(Written::Done { index, outcome }) => {
                        let reply = outcome?;
                        self.applied(index, end).await.map_err(|()| WriteError::Timeout)?;
                        return Ok(reply);
                    }
                    Ok(Written::Unknown { reason }) => return Err(WriteError::Unknown(reason)),
                    Err(CallError::Broken { reason, .. }) => return Err(WriteError::Unknown(reason)),
                    Ok(Written::NotLeading) => {}
                    Err(e) => why = e.to_string(),
                }
            }
            if Instant::now() + WRITE_PAUSE >= end {
                return Err(WriteError::Unavailable(format!("{why}; a majority of its voters is needed")));
            }
            tokio::time::sleep(WRITE_PAUSE).await;
        }
    }

    /// Whether this host knows that no majority of the voters is reached, for longer than an election takes.
    fn lacks_majority(&self) -> bool {
        let silent = match self.leading() {
            Some(Leading { followed: Some(ago), .. }) => Some(ago),
            _ => self.wire.epochs.no_quorum_for(),
        };
        silent.is_some_and(|silent| silent >= ELECTION)
    }

    /// Whether this host leads, and how sure that is.
    #[must_use]
    pub fn leading(&self) -> Option<Leading> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if !metrics.state.is_leader() {
            return None;
        }
        let me = NodeId::from(self.identity.host);
        // Nobody else elects a leader where nobody else votes.
        let alone = metrics.membership_config.membership().voter_ids().eq([me]);
        let followed = metrics.last_quorum_acked.map(|at| at.elapsed());
        Some(Leading {
            term: metrics.current_term,
            followed: if alone { Some(Duration::ZERO) } else { followed },
        })
    }

    /// Waits until this host, which leads, has applied everything of the terms before its own; up to which log position.
    pub async fn take_the_lead(&self) -> Result<u64, String> {
        let index = self.leader_read_index().await?;
        let applied = self.applied(index, Instant::now() + ASK_TIMEOUT).await;
        applied.map(|()| index).map_err(|()| "the log is not applied in time".to_owned())
    }

    /// Decides something where this host leads, and nowhere else. However long that takes: it is not known before the answer
    /// whether it happens.
    pub async fn decide(&self, op: Op) -> Result<Reply, DecideError> {
        let (Ok(_open), false) = (self.gate.clone().try_read_owned(), self.left.load(Ordering::Acquire))
        else {
            return Err(DecideError::Over("this host is joining another cluster".into()));
        };
        let command = Command { at: run::now(), op };
        match self.raft.client_write(command).await {
            Ok(response) => Ok(response.data?),
            Err(e) => Err(DecideError::Over(e.to_string())),
        }
    }

    /// Waits until the state here is that of this log position, at most `limit`.
    pub async fn reached(&self, index: u64, limit: Duration) -> bool {
        self.applied(index, Instant::now() + limit).await.is_ok()
    }

    /// Like [`Self::ask`], again and again at once: for what cannot wait for a host that was silent a moment ago.
    pub async fn insist<T: serde::de::DeserializeOwned>(
        &self,
        host: HostId,
        path: &str,
        body: &impl serde::Serialize,
        limit: Duration,
    ) -> Result<T, CallError> {
        self.wire.call(host, path, body, limit).await
    }

    /// Proposes a command of another host, where this one leads.
    async fn propose(&self, command: Command) -> Written {
        let unknown = |e: &dyn std::fmt::Display| Written::Unknown { reason: e.to_string() };
        let (Ok(_open), false) = (self.gate.clone().try_read_owned(), self.left.load(Ordering::Acquire))
        else {
            return Written::NotLeading;
        };
        if self.wire.epochs.is_outdated() || self.lacks_majority() {
            return Written::NotLeading;
        }
        match tokio::time::timeout(WRITE_TIMEOUT, self.raft.client_write(command)).await {
            Err(_) => unknown(&"it was not confirmed in time"),
            Ok(Ok(response)) => Written::Done { index: response.log_id.index, outcome: response.data },
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Written::NotLeading,
            Ok(Err(e)) => unknown(&e),
        }
    }

    /// Waits until the state has come to this log position here.
    async fn applied(&self, index: u64, end: Instant) -> Result<(), ()> {
        let mut revision = self.shared.watch();
        let reached = tokio::time::timeout_at(end, revision.wait_for(|r| *r >= index)).await;
        reached.map_err(|_| ())?.map(drop).map_err(|_| ())
    }

    /// Returns when everything that was acknowledged anywhere before the call is visible to this host's readers.
    pub async fn barrier(&self) -> Result<(), WriteError> {
        let end = Instant::now() + ASK_TIMEOUT;
        let none = |why: String| WriteError::Unavailable(why);
        let index = if self.raft.is_leader() {
            self.leader_read_index().await.map_err(none)?
        } else {
            let leader = self.standing().leader.ok_or_else(|| none("no leader is known".into()))?;
            let asked = self.wire.call(leader, "/cluster/read-index", &(), ASK_TIMEOUT).await;
            asked.map_err(|e| none(e.to_string()))?
        };
        self.applied(index, end).await.map_err(|()| none("this host lags behind the others".into()))
    }

    /// Where readers must have come to see all that is acknowledged now, as the leader knows it.
    async fn leader_read_index(&self) -> Result<u64, String> {
        let asked =
            tokio::time::timeout(ASK_TIMEOUT, self.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await;
        let found = asked.map_err(|_| "a majority of the voters did not answer in time".to_owned())?;
        found.map(|id| id.log_id().index).map_err(|e| e.to_string())
    }

    fn leader_health(&self) -> Option<Health> {
        keeper::health(self)
    }

    /// Which hosts the leader hears; `None` where no leader can be asked.
    pub async fn health(&self) -> Option<Health> {
        if let Some(health) = self.leader_health() {
            return Some(health);
        }
        let leader = self.standing().leader.filter(|l| *l != self.identity.host)?;
        match self.wire.call(leader, "/cluster/health", &(), keeper::SILENT).await {
            Ok(health) => Some(health),
            Err(e) => {
                tracing::debug!(error = %e, "the leader could not be asked");
                None
            }
        }
    }

    /// Whether this host was removed from its cluster.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.wire.book.is_removed(self.identity.host) || self.wire.dismissed.load(Ordering::Relaxed)
    }

    /// Removes a host for ever. First it gives up its vote: once removed nobody listens to it any more, and if it was the
    /// only one to vote nobody else could lead.
    pub async fn remove_host(&self, id: HostId, expect: Option<u64>, force: bool) -> Result<(), WriteError> {
        self.backup(backup::Reason::Removal).await.map_err(|e| {
            WriteError::Unavailable(format!(
                "the state could not be backed up first: {}",
                crate::causes::chain(&e)
            ))
        })?;
        self.write(Op::LeaveHost { id, expect, force }).await?;
        let end = Instant::now() + HAND_OVER;
        loop {
            let standing = self.standing();
            if !standing.voters.contains(&id) && standing.leader.is_some_and(|l| l != id) {
                break;
            }
            if Instant::now() >= end {
                let why = "the host still votes; its vote is handed over as soon as another host is up to date: try again";
                return Err(WriteError::Unavailable(why.into()));
            }
            tokio::time::sleep(WRITE_PAUSE).await;
        }
        match self.write(Op::RemoveHost { id, expect: None, force }).await {
            // Nobody tells this host any more that it is out.
            Err(WriteError::Timeout) if id == self.identity.host => Ok(()),
            removed => removed.map(drop),
        }
    }

    /// Makes a join token of this cluster.
    pub async fn create_join_token(&self, new: &CreateJoinToken) -> Result<CreatedJoinToken, WriteError> {
        join::create_token(self, new).await
    }

    /// What joining the token's cluster would do.
    pub async fn preview_join(&self, token: &str) -> Result<JoinPreview, JoinError> {
        join::ask_preview(self, token).await
    }

    /// Joins the token's cluster. After success the daemon has to start again; until then nothing can be changed.
    pub async fn join(&self, token: &str, rename: bool) -> Result<(), JoinError> {
        join::join(self, &self.dir, token, rename).await
    }

    /// Ends changes by this host once those under way are done.
    async fn freeze(&self) -> Frozen {
        Frozen { _gate: self.gate.clone().write_owned().await, left: self.left.clone() }
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
            members: metrics
                .membership_config
                .membership()
                .nodes()
                .map(|(id, _)| HostId::from(*id))
                .collect(),
        }
    }

    /// Who leads, where it is known, and in which term.
    fn leadership(&self) -> (Option<NodeId>, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.current_leader, metrics.current_term)
    }

    /// Why the log has failed for good, where it has.
    fn failure(&self) -> Option<String> {
        self.raft.metrics().borrow_watched().running_state.as_ref().err().map(ToString::to_string)
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

    /// Ends when another host leads than this one; never where the log has ended.
    pub async fn led_by_another(&self, than: Option<HostId>) {
        let mut metrics = self.raft.metrics();
        loop {
            let now = metrics.borrow_watched().current_leader.map(HostId::from);
            if now.is_some() && now != than {
                return;
            }
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Stops taking part. What was acknowledged stays.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        // It may be at something that needs hosts which are gone. Nothing is lost by leaving it there: what was acknowledged
        // is on the disk.
        match tokio::time::timeout(FAREWELL, self.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!(error = %e, "the replicated log did not end cleanly"),
            Err(_) => tracing::warn!("the replicated log did not end within {} s", FAREWELL.as_secs()),
        }
    }
}

fn left() -> WriteError {
    WriteError::Unavailable(
        "this host is about to start again in another cluster or epoch; try again in a moment".into(),
    )
}

/// Carries out what the last run left to do.
async fn carry_out_pending(dir: &Path) -> Result<(), OpenError> {
    let pending = [join::PENDING, reform::PENDING, restore::PENDING];
    if pending.iter().any(|name| dir.join(name).exists()) && dir.join("raft.redb").exists() {
        // The predecessor may be just ending.
        drop(open_store(dir).await);
    }
    change_cluster(dir)?;
    reform::carry_out(dir)?;
    restore::carry_out(dir)
}

/// Carries out an admission to another cluster, or the step to a newer epoch of the same one.
fn change_cluster(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(join::PENDING);
    let failed = |source| OpenError::Pending { path: path.clone(), source };
    let page: Page = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => serde_json::from_slice(&other.map_err(failed)?).map_err(|e| failed(e.into()))?,
    };
    wire::book::store(&dir.join("peers.json"), &page).map_err(failed)?;
    store::change_cluster(dir, page.cluster, page.epoch)?;
    crate::durable::remove(&path).map_err(failed)?;
    tracing::info!(cluster = %page.cluster, epoch = page.epoch, "this host follows another log from now on");
    Ok(())
}
