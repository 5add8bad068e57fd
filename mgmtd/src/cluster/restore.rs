//! Bringing back a backup of the state, under a new epoch.
//!
//! ```text
//!  file ─▶ every section checked ─▶ may it be restored here? ─▶ backup of what is ─▶ `restore.lqb`, then `restore.json`
//!   ─▶ restart ─▶ a log that begins after the restored state (the old one goes to `left/`) ─▶ membership of this host alone and
//!                 the new epoch ─▶ both files removed
//! ```
//! Invariants: nothing is replaced by a file that is not whole; nothing that runs here is unknown to what is restored; a crash
//! anywhere leaves the old state or the new one; sessions and invitations do not come back; every other host is lost until
//! it joins again.

use super::{
    Cluster, Command, Identity, Op, OpenError, SnapshotMeta, State,
    backup::{self, Backup, BackupError, Reason},
    crash, snapshot,
    state::{Formation, HostRecord, Position, SigningKeys},
    store, types,
};
use lq_api::{
    HostId, Timestamp, VmId,
    recovery::{RestoreAs, Restored},
    vm::VmState,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::Arc,
};

/// What is carried out at the next start.
pub(super) const PENDING: &str = "restore.json";
/// The backup it is carried out with.
const FILE: &str = "restore.lqb";

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is not usable.
    #[error("the backup cannot be restored")]
    Backup(#[from] BackupError),
    /// The confirmation is wrong.
    #[error("`{0}` is not the name of this host, whose state would be replaced: it is `{1}`")]
    NotConfirmed(String, String),
    /// The host is not in a state in which its own may be replaced.
    #[error("{0}")]
    NotHere(String),
    /// The present state could not be kept before it.
    #[error("the present state could not be backed up first")]
    Before(#[source] BackupError),
    /// The intention could not be stored.
    #[error("the intention could not be stored")]
    Store(#[from] io::Error),
}

/// What is to be carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Intention {
    /// Who this host is from then on, in the epoch of the backup.
    identity: Identity,
    formation: Formation,
    /// The host as it is now, where the backup does not know it.
    newcomer: Option<Newcomer>,
    /// Hosts that were removed since the backup.
    removed: Vec<HostId>,
    /// The key of the backup's host is taken with its id.
    take_key: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Newcomer {
    record: Arc<HostRecord>,
    pools: Vec<Arc<super::state::PoolRecord>>,
}

/// The host that asks.
struct Here<'a> {
    identity: Identity,
    state: &'a State,
}

/// Whether, and how, a backup may be restored here. Pure.
fn plan(
    here: &Here<'_>,
    backup: &Backup,
    as_whom: RestoreAs,
    at: Timestamp,
) -> Result<Intention, RestoreError> {
    let no = |why: String| Err(RestoreError::NotHere(why));
    let Here { identity, state } = here;
    let Some(me) = state.hosts.get(&identity.host) else {
        return no("this host does not know itself yet: try again in a moment".into());
    };
    let members = state.hosts.values().filter(|r| r.lost.is_none() && r.peer.is_some()).count();
    if members > 1 {
        return no(format!(
            "this host is one of {members} of a cluster: a state is restored on a host that is alone, freshly installed or \
             after its cluster was formed anew"
        ));
    }
    let same = state.cluster.as_ref().is_some_and(|c| c.id == backup.content.cluster);
    let holds_something = !state.vms.is_empty() || !state.volumes.is_empty() || !state.images.is_empty();
    if !same && holds_something {
        return no(format!(
            "the backup is of another cluster ({}), and this host has machines, volumes or images of its own: they would \
             be lost. Restore it on a freshly installed host",
            backup.content.cluster
        ));
    }
    let host = match as_whom {
        RestoreAs::Itself => identity.host,
        RestoreAs::Origin => backup.content.host,
    };
    if host != identity.host && !state.vms.is_empty() {
        return no("this host has machines: it stays the host it is".into());
    }
    if host != backup.who.identity.host && host != identity.host {
        return no("the backup's header and its section `identity` name different hosts".into());
    }
    let known = backup.state.hosts.get(&host);
    let pin = |r: &HostRecord| r.peer.as_ref().map(|p| p.pin.clone());
    if host == identity.host
        && let Some(known) = known
        && pin(known).is_some()
        && pin(me).is_some()
        && pin(known) != pin(me)
    {
        return no("the backup knows this host by another key".into());
    }
    if host != identity.host && known.is_none() {
        return no("the backup does not know the host that made it".into());
    }
    let placed = |id: &VmId| backup.state.vms.get(id).is_some_and(|r| r.vm.status.host == Some(host));
    let running = state.vms.values().filter(|r| r.vm.status.host == Some(identity.host));
    let unknown = running.filter(|r| r.vm.status.state != VmState::Stopped && !placed(&r.vm.meta.id));
    let unknown: Vec<_> = unknown.map(|r| format!("`{}`", r.vm.meta.name)).collect();
    if !unknown.is_empty() {
        return no(format!(
            "the backup does not have the machines {} on this host, which are not stopped: stop them first",
            unknown.join(", ")
        ));
    }
    let epoch = backup.content.epoch.max(backup.state.epoch()).max(if same { identity.epoch } else { 0 });
    let newcomer = known.is_none().then(|| Newcomer {
        record: me.clone(),
        pools: state
            .pools
            .values()
            .filter(|p| state.pool_host(p.meta.id) == Some(identity.host))
            .cloned()
            .collect(),
    });
    Ok(Intention {
        identity: Identity { host, cluster: backup.content.cluster, epoch, joined: false, ..*identity },
        formation: Formation {
            epoch: epoch + 1,
            at,
            by: host,
            base: None,
            lost: backup.state.hosts.keys().copied().filter(|h| *h != host).collect(),
            restored: true,
        },
        newcomer,
        removed: if same { state.removed.keys().copied().collect() } else { vec![] },
        take_key: host != identity.host,
    })
}

/// The state that is begun with, and where its log is taken to end. Pure.
fn restored(backup: Backup, intention: &Intention) -> (State, Position) {
    let mut state = backup.state;
    let term = backup.position.map_or(0, |p| p.term) + 1;
    let revision = backup.position.map_or(0, |p| p.index) + 1;
    // Whoever was logged in, or invited, then is not now.
    state.sessions.clear();
    state.join_tokens.clear();
    state.signing = SigningKeys::default();
    let at = intention.formation.at;
    let mut changes = Vec::new();
    if let Some(Newcomer { record, pools }) = &intention.newcomer {
        state.take_in(revision, at, record, pools);
    }
    for gone in &intention.removed {
        // It may not be there, or be the only one: then there is nothing to do.
        let op = Op::RemoveHost { id: *gone, expect: None, force: true };
        drop(state.apply(revision, &Command { at, op }, &mut changes));
    }
    (state, Position { term, leader: intention.identity.host, index: revision })
}

impl Cluster {
    /// Restores a backup's bytes. After success the daemon has to start again; until then nothing can be changed.
    pub async fn restore(
        &self,
        bytes: Vec<u8>,
        confirm: &str,
        as_whom: RestoreAs,
    ) -> Result<Restored, RestoreError> {
        let decoded = tokio::task::spawn_blocking(move || backup::decode(&bytes).map(|b| (b, bytes))).await;
        let (backup, bytes) = decoded.map_err(io::Error::other)??;
        let me = self.identity;
        let name = self.read(|s| s.host_name(me.host));
        if confirm != name {
            return Err(RestoreError::NotConfirmed(confirm.to_owned(), name));
        }
        let judge =
            || self.read(|s| plan(&Here { identity: me, state: s }, &backup, as_whom, Timestamp::now()));
        judge()?;
        self.backup(Reason::Restore).await.map_err(RestoreError::Before)?;
        let frozen = self.freeze().await;
        let intention = judge()?;
        let dir = self.dir.clone();
        let stored = intention.clone();
        let store = move || {
            crate::durable::write(&dir.join(FILE), 0o600, &bytes)?;
            crate::durable::write(&dir.join(PENDING), 0o600, &serde_json::to_vec(&stored)?)
        };
        tokio::task::spawn_blocking(store).await.map_err(io::Error::other)??;
        frozen.for_good();
        let formation = intention.formation;
        tracing::warn!(epoch = formation.epoch, "a backup of the state is restored on this host");
        Ok(Restored {
            epoch: formation.epoch,
            host: intention.identity.host,
            lost: formation.lost.iter().map(|h| backup.state.host_name(*h)).collect(),
            content: backup.content,
        })
    }
}

/// Carries out what was intended; called before the log is opened.
pub(super) fn carry_out(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(PENDING);
    let failed = |source| OpenError::Pending { path: path.clone(), source };
    let intention: Intention = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // One without the other was never decided on.
            return crate::durable::remove(&dir.join(FILE)).map_err(failed);
        }
        other => serde_json::from_slice(&other.map_err(failed)?).map_err(|e| failed(e.into()))?,
    };
    if !store::is_of(dir, intention.identity.host, &intention.formation)? {
        begin(dir, &intention).map_err(|e| match e {
            BeginError::Io(source) => failed(source),
            BeginError::Open(e) => e,
        })?;
        crash::point().map_err(failed)?;
        store::reform(dir, &intention.formation)?;
        crash::point().map_err(failed)?;
    }
    let finish = || -> io::Result<()> {
        crate::durable::remove(&dir.join("peers.json"))?;
        crash::point()?;
        crate::durable::remove(&path)?;
        crash::point()?;
        crate::durable::remove(&dir.join(FILE))
    };
    finish().map_err(failed)?;
    tracing::warn!(epoch = intention.formation.epoch, "a backup of the state was restored");
    Ok(())
}

enum BeginError {
    Io(io::Error),
    Open(OpenError),
}

impl From<io::Error> for BeginError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Puts the restored state in the place of the present one.
fn begin(dir: &Path, intention: &Intention) -> Result<(), BeginError> {
    let bytes = snapshot::read_bounded(&dir.join(FILE), backup::MAX_BACKUP)?;
    let backup = backup::decode(&bytes).map_err(io::Error::other)?;
    if intention.take_key {
        crate::durable::write(&dir.join("host.key"), 0o600, backup.who.key.as_bytes())?;
        crash::point()?;
    }
    let (state, position) = restored(backup, intention);
    let me = intention.identity.host.into();
    let log_id = types::log_id(&position);
    let nodes = BTreeMap::from([(me, types::Member::default())]);
    let alone = openraft::Membership::new(vec![BTreeSet::from([me])], nodes).map_err(io::Error::other)?;
    let meta = SnapshotMeta {
        last_log_id: Some(log_id),
        last_membership: types::Membership::new(Some(log_id), alone),
    };
    let body = serde_json::to_vec(&state).map_err(io::Error::from)?;
    store::begin_from(dir, &intention.identity, &meta, &body).map_err(|e| BeginError::Open(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{
        Peer,
        backup::tests::{state, who},
    };
    use uuid::Uuid;

    fn backup_of(state: &State, host: HostId, epoch: u64) -> Backup {
        let cluster = state.cluster.as_ref().unwrap().id;
        let mut who = who(host, cluster);
        who.identity.epoch = epoch;
        let position = Some(Position { term: 4, leader: host, index: 90 });
        let of = backup::Of { at: Timestamp::now(), reason: Reason::Manual, state, position, who: &who };
        backup::decode(&backup::encode(&of).unwrap()).unwrap()
    }

    fn described(state: &mut State, host: HostId) {
        let peer = Peer { pin: format!("pin of {host}"), address: "192.0.2.1:7443".into() };
        let op = Op::DescribeHost { host, peer, capacity: None };
        state.apply(2, &Command { at: Timestamp::UNIX_EPOCH, op }, &mut Vec::new()).unwrap();
    }

    fn here(state: &State, host: HostId, epoch: u64) -> Here<'_> {
        let cluster = state.cluster.as_ref().unwrap().id;
        let identity = Identity { epoch, ..who(host, cluster).identity };
        Here { identity, state }
    }

    #[test]
    fn a_fresh_host_comes_in_beside_those_of_the_backup_or_as_its_origin() {
        let (old, new) = (HostId::new(), HostId::new());
        let mut kept = state(old, Uuid::now_v7());
        described(&mut kept, old);
        let mut fresh = state(new, Uuid::now_v7());
        described(&mut fresh, new);
        let backup = backup_of(&kept, old, 3);
        let at = Timestamp::now();

        let intention = plan(&here(&fresh, new, 1), &backup, RestoreAs::Itself, at).unwrap();
        assert_eq!((intention.identity.host, intention.formation.epoch), (new, 4));
        assert_eq!(intention.formation.lost, [old]);
        assert!(!intention.take_key);
        let (state, position) = restored(backup.clone(), &intention);
        assert_eq!((position.term, position.index), (5, 91));
        let names: BTreeSet<_> = state.hosts.values().map(|r| r.meta.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["h1", "h1-2"]));
        let names: BTreeSet<_> = state.pools.values().map(|r| r.meta.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["local", "local-2"]));
        assert!(state.hosts[&new].meta.revision == 91);

        let intention = plan(&here(&fresh, new, 1), &backup, RestoreAs::Origin, at).unwrap();
        assert_eq!(intention.identity.host, old);
        assert!(intention.take_key && intention.formation.lost.is_empty());
        let (state, _) = restored(backup, &intention);
        assert_eq!(state.hosts, kept.hosts);
        assert_eq!(state.pools, kept.pools);
    }

    #[test]
    fn what_would_be_lost_is_not_replaced() {
        let (one, two) = (HostId::new(), HostId::new());
        let cluster = Uuid::now_v7();
        let mut kept = state(one, cluster);
        described(&mut kept, one);
        let backup = backup_of(&kept, one, 1);
        let at = Timestamp::now();
        let refused = |here: &Here<'_>| plan(here, &backup, RestoreAs::Itself, at).err().unwrap().to_string();
        // Two members.
        let mut pair = kept.clone();
        pair.take_in(
            3,
            at,
            &{
                let mut other = (*kept.hosts[&one]).clone();
                other.meta.id = two;
                Arc::new(other)
            },
            &[],
        );
        assert!(refused(&here(&pair, one, 1)).contains("one of 2"));
        // The other one is lost: the cluster was formed anew.
        let mut record = (*pair.hosts[&two]).clone();
        record.lost = Some(super::super::state::epoch::Lost { at, epoch: 2 });
        pair.hosts.insert(two, Arc::new(record));
        let intention = plan(&here(&pair, one, 2), &backup, RestoreAs::Itself, at).unwrap();
        assert_eq!(intention.formation.epoch, 3);
        // Another key.
        let mut other = kept.clone();
        let mut record = (*kept.hosts[&one]).clone();
        record.peer.as_mut().unwrap().pin = "else".into();
        other.hosts.insert(one, Arc::new(record));
        assert!(refused(&here(&other, one, 1)).contains("another key"));
    }
}
