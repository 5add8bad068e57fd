//! The replicated state machine around the pure [`State`]: shares it with readers, tells watchers, makes snapshots.

use super::{
    run, snapshot,
    state::{Change, Position, Refusal, Reply, State, read_state},
    types::{LogId, Membership, Snapshot, SnapshotData, SnapshotMeta, Types, position},
};
use futures::{Stream, TryStreamExt as _};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::watch;

/// Changes kept for watchers that reconnect.
const KEPT_CHANGES: usize = 4096;

/// The state as its readers see it.
pub(super) struct Shared {
    inner: RwLock<Inner>,
    revision: watch::Sender<u64>,
    snapshots: PathBuf,
}

struct Inner {
    state: State,
    applied: Option<LogId>,
    membership: Membership,
    changes: VecDeque<Change>,
    /// Every change above this log position is in `changes`.
    complete_above: u64,
}

impl Shared {
    /// The state of the newest snapshot, or an empty one.
    pub(super) fn load(snapshots: PathBuf) -> Result<Arc<Self>, super::OpenError> {
        let (meta, state) = match snapshot::load(&snapshots)? {
            None => (SnapshotMeta::default(), State::new()),
            Some((meta, body)) => {
                let state = read_state(&body)
                    .map_err(|source| super::OpenError::State { path: snapshots.clone(), source })?;
                (meta, state)
            }
        };
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
        let inner = Inner {
            state,
            applied: meta.last_log_id,
            membership: meta.last_membership,
            changes: VecDeque::new(),
            complete_above: index,
        };
        Ok(Arc::new(Self { inner: RwLock::new(inner), revision: watch::Sender::new(index), snapshots }))
    }

    /// Looks at the state. The state does not move meanwhile, so `look` must be quick.
    pub(super) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.inner.read().unwrap_or_else(PoisonError::into_inner).state)
    }

    /// Like [`Self::read`], with the log position the state is of.
    pub(super) fn read_at<R>(&self, look: impl FnOnce(&State, u64) -> R) -> R {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        look(&inner.state, inner.applied.as_ref().map_or(0, |id| id.index))
    }

    /// Like [`Self::read`], with the whole position the state is of.
    pub(super) fn read_with_position<R>(&self, look: impl FnOnce(&State, Option<Position>) -> R) -> R {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        look(&inner.state, inner.applied.as_ref().map(position))
    }

    /// Changes after `revision`; `None` where they are not known any more.
    pub(super) fn changes_since(&self, revision: u64) -> Option<Vec<Change>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        (revision >= inner.complete_above)
            .then(|| inner.changes.iter().filter(|c| c.revision > revision).copied().collect())
    }

    /// Grows with each entry applied.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

/// What openraft drives.
#[derive(Clone)]
pub(super) struct Machine(pub(super) Arc<Shared>);

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, state) = {
            let inner = self.0.inner.read().unwrap_or_else(PoisonError::into_inner);
            let meta = SnapshotMeta { last_log_id: inner.applied, last_membership: inner.membership.clone() };
            (meta, inner.state.clone())
        };
        let dir = self.0.snapshots.clone();
        run::off_thread(move || {
            let body = serde_json::to_vec(&state)?;
            snapshot::save(&dir, &meta, &body)?;
            Ok(Snapshot { meta, snapshot: body })
        })
        .await?
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        let inner = self.0.inner.read().unwrap_or_else(PoisonError::into_inner);
        Ok((inner.applied, inner.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = entry.log_id.index;
            #[cfg(test)]
            super::sim::applied(&entry);
            let outcome = {
                let mut guard = self.0.inner.write().unwrap_or_else(PoisonError::into_inner);
                let inner = &mut *guard;
                inner.applied = Some(entry.log_id);
                let mut changes = Vec::new();
                let outcome = match &entry.payload {
                    EntryPayload::Blank => Ok(Reply::Done),
                    EntryPayload::Membership(membership) => {
                        inner.membership = Membership::new(Some(entry.log_id), membership.clone());
                        Ok(Reply::Done)
                    }
                    EntryPayload::Normal(command) => match command.op.term() {
                        Some(term) if term != entry.log_id.committed_leader_id().term => {
                            Err(Refusal::Conflict("it was decided in an earlier term".into()))
                        }
                        _ => inner.state.apply(index, command, &mut changes),
                    },
                };
                inner.changes.extend(changes);
                while inner.changes.len() > KEPT_CHANGES {
                    if let Some(gone) = inner.changes.pop_front() {
                        inner.complete_above = gone.revision;
                    }
                }
                outcome
            };
            self.0.revision.send_replace(index);
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, body: SnapshotData) -> Result<(), io::Error> {
        let state = read_state(&body).map_err(io::Error::other)?;
        let (dir, kept) = (self.0.snapshots.clone(), meta.clone());
        run::off_thread(move || snapshot::save(&dir, &kept, &body)).await??;
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
        {
            let mut inner = self.0.inner.write().unwrap_or_else(PoisonError::into_inner);
            inner.state = state;
            inner.applied = meta.last_log_id;
            inner.membership = meta.last_membership.clone();
            inner.changes.clear();
            inner.complete_above = index;
        }
        self.0.revision.send_replace(index);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let dir = self.0.snapshots.clone();
        let found = run::off_thread(move || snapshot::load(&dir)).await?.map_err(io::Error::other)?;
        Ok(found.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}
