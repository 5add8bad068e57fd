//! What objects looked like before they changed or went: a watcher is told that something is gone only where they could see
//! it before.
//!
//! Owns the labels of every object as of the last look at the state, and those that objects had before each change of them.
//! Follows the state by itself ([`Former::keep_up`]); whoever decides by it has it look first ([`Former::follow`]).
//! Invariant: what is remembered is never newer than what is asked about; of what was forgotten is said that nobody saw it.

use crate::{
    auth::Caller,
    cluster::{Cluster, State, state::Object},
};
use lq_api::access::ObjectKind;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Earlier labels remembered.
const KEPT: usize = 4096;

type Labels = Arc<BTreeMap<String, String>>;
type Key = (ObjectKind, Uuid);

/// What objects looked like before.
#[derive(Default)]
pub(super) struct Former(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Log position up to which this has looked; nothing before the first look.
    reached: Option<u64>,
    now: HashMap<Key, Labels>,
    past: VecDeque<Past>,
}

/// Labels an object had until this log position.
struct Past {
    revision: u64,
    key: Key,
    labels: Labels,
}

impl Inner {
    fn change(&mut self, state: &State, revision: u64, key: Key) {
        let found = state.labels(key.0, key.1).map(|(labels, _)| labels);
        if found == self.now.get(&key).map(|labels| &**labels) {
            return;
        }
        let old = match found {
            Some(labels) => self.now.insert(key, Arc::new(labels.clone())),
            None => self.now.remove(&key),
        };
        if let Some(labels) = old {
            self.past.push_back(Past { revision, key, labels });
        }
        if self.past.len() > KEPT {
            self.past.pop_front();
        }
    }

    fn begin(&mut self, state: &State, revision: u64) {
        let keys = state.vms.keys().map(|id| (ObjectKind::Vm, id.0));
        let keys = keys.chain(state.images.keys().map(|id| (ObjectKind::Image, id.0)));
        let keys = keys.chain(state.volumes.keys().map(|id| (ObjectKind::Volume, id.0)));
        let keys = keys.chain(state.networks.keys().map(|id| (ObjectKind::Network, id.0)));
        let keys = keys.chain(state.pools.keys().map(|id| (ObjectKind::Pool, id.0)));
        let keys = keys.chain(state.hosts.keys().map(|id| (ObjectKind::Host, id.0)));
        self.past.clear();
        self.now =
            keys.filter_map(|key| Some((key, Arc::new(state.labels(key.0, key.1)?.0.clone())))).collect();
        self.reached = Some(revision);
    }
}

impl Former {
    /// Looks at what has changed since the last look.
    pub(super) fn follow(&self, cluster: &Cluster) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The changes first: the state is then at least as new.
        let changes = inner.reached.and_then(|reached| cluster.changes_since(reached));
        cluster.read_at(|state, revision| match changes {
            None => inner.begin(state, revision),
            Some(changes) => {
                for change in &changes {
                    if let Some(kind) = change.kind.object() {
                        inner.change(state, change.revision, (kind, change.id));
                    }
                    inner.reached = Some(change.revision);
                }
            }
        });
    }

    /// Follows the state until the daemon ends.
    pub(super) async fn keep_up(self: Arc<Self>, cluster: Cluster, ending: CancellationToken) {
        let mut changes = cluster.watch();
        loop {
            changes.borrow_and_update();
            self.follow(&cluster);
            tokio::select! {
                () = ending.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Whether the caller, with the rights they have, could see the object at some time after `revision`, before it changed.
    pub(super) fn was_seen(&self, caller: &Caller, (kind, id): Key, revision: u64) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut past = inner.past.iter().filter(|p| p.revision > revision && p.key == (kind, id));
        past.any(|p| caller.may(kind.read_permission(), Object::Of { kind, id, labels: &p.labels }))
    }
}
