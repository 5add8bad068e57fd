//! The file that holds log, vote, committed position and identity: `raft.redb`.
//!
//! Invariants: it is made under another name and takes its own only when it is whole, so a file of this name is never half
//! made; it is never recreated while snapshots lie beside it; an append or vote is on the disk before it is acknowledged.

use super::{
    crash, run,
    state::{Command, Formation, Op, Position, epoch},
    types::{Entry, LogId, Member, NodeId, SnapshotMeta, Types, Vote, log_id, position},
};
use lq_api::HostId;
use openraft::{
    EntryPayload, LogState, Membership, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use redb::{
    Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs, io,
    ops::RangeBounds,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use uuid::Uuid;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Version of the layout of this file.
const FORMAT: u32 = 1;
/// Snapshots that take the place of the present ones with the log.
const NEW_SNAPSHOTS: &str = "snapshots.new";
/// The log is short; what the kernel caches is enough.
const CACHE_BYTES: usize = 2 << 20;

/// Who this host is, fixed at its first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Format of the file.
    pub format: u32,
    /// The host.
    pub host: HostId,
    /// The cluster it made at its first start, or was admitted to.
    pub cluster: Uuid,
    /// It was admitted: its log comes from the others and does not begin here.
    #[serde(default)]
    pub joined: bool,
    /// The epoch of the cluster this log is of.
    #[serde(default = "epoch::first")]
    pub epoch: u64,
}

/// Why the file cannot be used. It is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Damaged or not ours.
    #[error(
        "{path} is damaged ({reason}); it was left as it is. Restore it from a backup, or move it and the directory \
         `snapshots` beside it away to begin with an empty state"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer release wrote it.
    #[error("{path} has format {found}, this release reads {FORMAT}: start the release that wrote it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another process uses it.
    #[error("{path} is in use: another mgmtd runs on this state directory")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Snapshots exist but the log does not.
    #[error(
        "{path} is missing although snapshots of an earlier state exist beside it; restore it, or move them away"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file system failed us.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
}

/// It holds hashes of passwords and keys of sessions: only the daemon reads it.
const MODE: u32 = 0o600;

/// The log.
#[derive(Clone)]
pub(super) struct LogStore {
    db: Arc<Database>,
}

impl LogStore {
    /// Opens `raft.redb` in `dir`, or makes it at the first start.
    pub(super) fn open(dir: &Path) -> Result<(Self, Identity), StoreError> {
        let path = dir.join("raft.redb");
        let failed = |source| StoreError::Io { path: path.clone(), source };
        match fs::metadata(&path) {
            Ok(_) => fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).map_err(failed)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => make(dir, &path)?,
            Err(e) => return Err(failed(e)),
        }
        // A damaged page may make the library panic: that is a damaged file too, not a fault of the daemon.
        let opened = std::panic::catch_unwind(|| read(&path));
        opened.unwrap_or_else(|_| Err(damaged(&path, "it cannot be parsed")))
    }

    fn put_meta(&self, key: &str, value: &impl Serialize, durability: Durability) -> io::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        let mut tx = self.db.begin_write().map_err(io::Error::other)?;
        tx.set_durability(durability).map_err(io::Error::other)?;
        tx.open_table(META)
            .map_err(io::Error::other)?
            .insert(key, bytes.as_slice())
            .map_err(io::Error::other)?;
        tx.commit().map_err(io::Error::other)
    }

    fn meta<T: DeserializeOwned>(&self, key: &str) -> io::Result<Option<T>> {
        let tx = self.db.begin_read().map_err(io::Error::other)?;
        let table = tx.open_table(META).map_err(io::Error::other)?;
        let value = table.get(key).map_err(io::Error::other)?;
        value.map(|v| serde_json::from_slice(v.value())).transpose().map_err(io::Error::other)
    }

    fn entries(&self, range: impl RangeBounds<u64>) -> io::Result<Vec<Entry>> {
        let tx = self.db.begin_read().map_err(io::Error::other)?;
        let table = tx.open_table(LOG).map_err(io::Error::other)?;
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        table
            .range(range)
            .map_err(io::Error::other)?
            .map(|item| {
                let (_, value) = item.map_err(io::Error::other)?;
                serde_json::from_slice(value.value()).map_err(io::Error::other)
            })
            .collect()
    }

    /// Runs a write off the async threads: it waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let this = self.clone();
        run::off_thread(move || work(&this)).await?
    }

    /// Where the log ends, and the present vote.
    fn end(&self) -> io::Result<(Option<LogId>, Option<Vote>)> {
        let tx = self.db.begin_read().map_err(io::Error::other)?;
        let table = tx.open_table(LOG).map_err(io::Error::other)?;
        let last = table.last().map_err(io::Error::other)?;
        let last: Option<Entry> =
            last.map(|(_, v)| serde_json::from_slice(v.value())).transpose().map_err(io::Error::other)?;
        Ok((last.map(|e| e.log_id).or(self.meta("purged")?), self.meta("vote")?))
    }

    /// Whether the beginning of this epoch is in the log.
    pub(super) fn holds_epoch(&self, epoch: u64) -> io::Result<bool> {
        let begins = |entry: &Entry| match &entry.payload {
            EntryPayload::Normal(Command { op: Op::Reform { formation }, .. }) => formation.epoch == epoch,
            _ => false,
        };
        Ok(self.entries(..)?.iter().any(begins))
    }

    /// Says that the log is one that others bring, of this epoch.
    #[cfg(test)]
    pub(super) fn pretend_joined(&self, epoch: u64) -> io::Result<()> {
        let identity = self.meta::<Identity>("identity")?.map(|i| Identity { joined: true, epoch, ..i });
        let tx = self.db.begin_write().map_err(io::Error::other)?;
        tx.open_table(META).map_err(io::Error::other)?.remove("vote").map_err(io::Error::other)?;
        tx.commit().map_err(io::Error::other)?;
        self.put_meta("identity", &identity, Durability::Immediate)
    }

    /// `snapshot` is where the newest snapshot ends.
    fn write_formation(
        &self,
        identity: Identity,
        formation: &Formation,
        snapshot: Option<LogId>,
    ) -> io::Result<()> {
        let (last, vote) = self.end()?;
        // A snapshot that was just installed, before the log was told: nothing of the log is needed.
        let ahead = snapshot.filter(|s| last.is_none_or(|l| l.index < s.index));
        let last = ahead.or(last);
        let me = NodeId::from(identity.host);
        let term = vote.map_or(0, |v| v.leader_id.term).max(last.map_or(0, |l| l.leader_id.term)) + 1;
        let vote = Vote::new_committed(term, me);
        let next = last.map_or(0, |l| l.index + 1);
        let base = last.as_ref().map(position).filter(|_| !formation.restored);
        let formation = Formation { base, ..formation.clone() };
        let alone = Membership::new(vec![[me].into()], BTreeMap::from([(me, Member::default())]));
        let payloads = [
            EntryPayload::Membership(alone.map_err(io::Error::other)?),
            EntryPayload::Normal(Command {
                at: formation.at,
                op: Op::Reform { formation: formation.clone() },
            }),
        ];
        let identity = Identity { epoch: formation.epoch, joined: false, ..identity };
        let mut tx = self.db.begin_write().map_err(io::Error::other)?;
        tx.set_durability(Durability::Immediate).map_err(io::Error::other)?;
        {
            let mut log = tx.open_table(LOG).map_err(io::Error::other)?;
            if ahead.is_some() {
                log.retain(|_, _| false).map_err(io::Error::other)?;
            }
            for (index, payload) in (next..).zip(payloads) {
                let log_id = log_id(&Position { term, leader: identity.host, index });
                let bytes = serde_json::to_vec(&Entry { log_id, payload })?;
                log.insert(index, bytes.as_slice()).map_err(io::Error::other)?;
            }
            let mut meta = tx.open_table(META).map_err(io::Error::other)?;
            if let Some(purged) = &ahead {
                put(&mut meta, "purged", purged)?;
            }
            put(&mut meta, "vote", &vote)?;
            put(&mut meta, "identity", &identity)?;
        }
        tx.commit().map_err(io::Error::other)
    }

    fn change_log(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, u64, &[u8]>) -> Result<(), redb::StorageError>,
        purged: Option<&LogId>,
    ) -> io::Result<()> {
        let mut tx = self.db.begin_write().map_err(io::Error::other)?;
        tx.set_durability(Durability::Immediate).map_err(io::Error::other)?;
        {
            let mut table = tx.open_table(LOG).map_err(io::Error::other)?;
            change(&mut table).map_err(io::Error::other)?;
        }
        if let Some(purged) = purged {
            let bytes = serde_json::to_vec(purged)?;
            let mut table = tx.open_table(META).map_err(io::Error::other)?;
            table.insert("purged", bytes.as_slice()).map_err(io::Error::other)?;
        }
        tx.commit().map_err(io::Error::other)
    }
}

fn put(meta: &mut redb::Table<'_, &str, &[u8]>, key: &str, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    meta.insert(key, bytes.as_slice()).map_err(io::Error::other)?;
    Ok(())
}

fn damaged(path: &Path, reason: impl ToString) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

fn make(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { path: path.to_owned(), source };
    let snapshots = super::snapshot::list(&dir.join("snapshots")).map_err(failed)?;
    if !snapshots.is_empty() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let identity = Identity {
        format: FORMAT,
        host: HostId::new(),
        cluster: Uuid::now_v7(),
        joined: false,
        epoch: epoch::FIRST,
    };
    let all = || -> io::Result<()> {
        fs::rename(build(dir, &identity, None)?, path)?;
        fs::File::open(dir)?.sync_all()
    };
    all().map_err(failed)
}

/// An empty log of this identity, beginning after `purged`, whole and durable, under another name.
fn build(dir: &Path, identity: &Identity, purged: Option<&LogId>) -> io::Result<PathBuf> {
    let new = dir.join("raft.redb.new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&new)?;
        fill(redb::backends::FileBackend::new(file).map_err(io::Error::other)?, identity, purged)?;
    }
    fs::File::open(&new)?.sync_all()?;
    fs::File::open(dir)?.sync_all()?;
    Ok(new)
}

/// Makes an empty log of this identity, beginning after `purged`, of what holds nothing yet.
pub(super) fn fill(
    backend: impl StorageBackend,
    identity: &Identity,
    purged: Option<&LogId>,
) -> io::Result<()> {
    let db =
        Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend).map_err(io::Error::other)?;
    let tx = db.begin_write().map_err(io::Error::other)?;
    tx.open_table(LOG).map_err(io::Error::other)?;
    {
        let mut meta = tx.open_table(META).map_err(io::Error::other)?;
        put(&mut meta, "identity", identity)?;
        if let Some(purged) = purged {
            put(&mut meta, "purged", purged)?;
        }
    }
    tx.commit().map_err(io::Error::other)
}

/// Leaves the log for an empty one of `cluster` and `epoch`, to be filled by the others: the log and its snapshots go to
/// `left/`, and the host keeps its id. Repeated after a crash it goes on where it was.
pub(super) fn change_cluster(dir: &Path, cluster: Uuid, epoch: u64) -> Result<(), StoreError> {
    exchange(dir, |now| {
        ((now.cluster, now.epoch) != (cluster, epoch))
            .then_some((Identity { cluster, joined: true, epoch, ..*now }, None))
    })
}

/// Leaves the log for one of `identity` that begins after this snapshot of a state. Repeated after a crash it goes on where
/// it was.
pub(super) fn begin_from(
    dir: &Path,
    identity: &Identity,
    meta: &SnapshotMeta,
    body: &[u8],
) -> Result<(), StoreError> {
    let path = dir.join("raft.redb");
    if path.exists() {
        // What an earlier attempt left is made anew; once the old log is out of the way it is whole and stays.
        let prepare = || -> io::Result<()> {
            let new = dir.join(NEW_SNAPSHOTS);
            match fs::remove_dir_all(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            super::snapshot::save(&new, meta, body)?;
            fs::File::open(dir)?.sync_all()
        };
        prepare().map_err(|source| StoreError::Io { path, source })?;
    }
    exchange(dir, |_| Some((*identity, meta.last_log_id)))
}

/// Whether the log is of this host and epoch already.
pub(super) fn is_of(dir: &Path, host: HostId, formation: &Formation) -> Result<bool, StoreError> {
    if !dir.join("raft.redb").exists() {
        return Ok(false);
    }
    let identity = LogStore::open(dir)?.1;
    Ok(identity.host == host && identity.epoch >= formation.epoch)
}

/// Puts the log `wanted` says in the place of the present one, unless it says none.
///
/// ```text
///  raft.redb.new built ─▶ snapshots ─▶ left/ ─▶ raft.redb ─▶ left/ ─▶ snapshots.new ─▶ snapshots ─▶ raft.redb.new ─▶ raft.redb
///   (the old log stands, and is begun with anew)        │ (the old log is out of the way: from here only forward)
/// ```
fn exchange(
    dir: &Path,
    wanted: impl FnOnce(&Identity) -> Option<(Identity, Option<LogId>)>,
) -> Result<(), StoreError> {
    let path = dir.join("raft.redb");
    let failed = |source| StoreError::Io { path: path.clone(), source };
    let (new, snapshots) = (dir.join("raft.redb.new"), dir.join("snapshots"));
    let come_forward = || -> io::Result<()> {
        rename_if_there(&dir.join(NEW_SNAPSHOTS), &snapshots)?;
        crash::point()?;
        fs::rename(&new, &path)?;
        crash::point()?;
        fs::File::open(dir)?.sync_all()
    };
    // Moved away already: what takes its place was whole before that.
    if !path.exists() && new.exists() {
        return come_forward().map_err(failed);
    }
    let now = LogStore::open(dir)?.1;
    let Some((identity, purged)) = wanted(&now) else { return Ok(()) };
    let all = || -> io::Result<()> {
        build(dir, &identity, purged.as_ref())?;
        crash::point()?;
        let left = dir.join("left").join(format!("{}-{}", now.cluster, now.epoch));
        fs::create_dir_all(&left)?;
        // Left there by an earlier stay in the same cluster and epoch.
        remove_dir_if_there(&left.join("snapshots"), &snapshots)?;
        rename_if_there(&snapshots, &left.join("snapshots"))?;
        crash::point()?;
        fs::rename(&path, left.join("raft.redb"))?;
        crash::point()?;
        fs::File::open(&left)?.sync_all()?;
        fs::File::open(dir)?.sync_all()?;
        come_forward()
    };
    all().map_err(failed)
}

/// Removes `old`, where there is something to take its place.
fn remove_dir_if_there(old: &Path, next: &Path) -> io::Result<()> {
    if next.exists() && old.exists() { fs::remove_dir_all(old) } else { Ok(()) }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Makes this host the only member, under the epoch `formation` says: its whole log counts as agreed, and behind it come a
/// membership of this host alone and the beginning of the epoch. One transaction of the file, so a crash leaves the old
/// cluster or the new one. Repeated it does nothing.
pub(super) fn reform(dir: &Path, formation: &Formation) -> Result<(), StoreError> {
    let path = dir.join("raft.redb");
    let (store, identity) = LogStore::open(dir)?;
    if identity.epoch >= formation.epoch {
        return Ok(());
    }
    let failed = |source| StoreError::Io { path: path.clone(), source };
    let snapshot = super::snapshot::load(&dir.join("snapshots")).map_err(|e| failed(io::Error::other(e)))?;
    let snapshot = snapshot.and_then(|(meta, _)| meta.last_log_id);
    store.write_formation(identity, formation, snapshot).map_err(failed)
}

fn open_file(path: &Path) -> Result<Database, redb::DatabaseError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    #[cfg(test)]
    if let Some(disk) = super::sim::disk::here() {
        return builder.create_with_backend(disk);
    }
    builder.open(path)
}

fn read(path: &Path) -> Result<(LogStore, Identity), StoreError> {
    let mut db = open_file(path).map_err(|e| match e {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        redb::DatabaseError::Storage(redb::StorageError::Io(source))
            if source.kind() != io::ErrorKind::InvalidData
                && source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            StoreError::Io { path: path.to_owned(), source }
        }
        other => damaged(path, other),
    })?;
    // Every page is checked against its sum once at each start; the log is short.
    match db.check_integrity() {
        Ok(true) => {}
        Ok(false) => return Err(damaged(path, "its pages did not match their checksums")),
        Err(e) => return Err(damaged(path, e)),
    }
    let store = LogStore { db: Arc::new(db) };
    let identity: Identity = store
        .meta("identity")
        .map_err(|e| damaged(path, e))?
        .ok_or_else(|| damaged(path, "it does not say which host it belongs to"))?;
    if identity.format > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), found: identity.format });
    }
    Ok((store, identity))
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.entries(range)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.meta("vote")
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let last_purged_log_id: Option<LogId> = self.meta("purged")?;
        Ok(LogState { last_purged_log_id, last_log_id: self.end()?.0 })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.blocking(move |s| s.put_meta("vote", &vote, Durability::Immediate)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // May lag after a power cut: it becomes durable with the next append. What it spares is only replay,
        // as long as nobody leads after a start but by an election.
        self.put_meta("committed", &committed, Durability::None)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.meta::<Option<LogId>>("committed")?.flatten())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encoded = entries
            .into_iter()
            .map(|e| Ok((e.log_id.index, serde_json::to_vec(&e)?)))
            .collect::<io::Result<Vec<_>>>()?;
        // Writes that come while the disk is busy wait in the queue and are appended together: group commit.
        let done = self
            .blocking(move |s| {
                s.change_log(
                    |table| {
                        for (index, bytes) in &encoded {
                            table.insert(index, bytes.as_slice())?;
                        }
                        Ok(())
                    },
                    None,
                )
            })
            .await;
        let told = match &done {
            Ok(()) => Ok(()),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        callback.io_completed(told);
        done
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index.saturating_add(1));
        self.blocking(move |s| s.change_log(|table| table.retain_in(from.., |_, _| false), None)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.blocking(move |s| {
            s.change_log(|table| table.retain_in(..=upto.index, |_, _| false), Some(&upto))
        })
        .await
    }
}
