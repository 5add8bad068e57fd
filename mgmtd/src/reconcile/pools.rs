//! Keepers of shared pools: one per pool on this host, from when the state names it until it is unmounted again.
//!
//! A keeper carries out what [`Life`] decides, on threads that nobody waits for, and tells the state how this host stands to the
//! pool. The leader tells it of hosts that are silent ([`watch_silent`]), so that what they had to do becomes another's task.

use super::Node;
use crate::{
    causes,
    cluster::{Op, WriteError},
    storage::{
        self, Pool,
        dir::DirPool,
        patient,
        shared::{
            self, Mounter, Opening,
            life::{Job, Life},
            mark::Mark,
        },
    },
    tasks::NewTask,
};
use lq_api::{
    HostId, PoolId,
    event::EventLevel,
    pool::{PoolSpec, PoolState},
    task::Task,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// Pause before the state is told again what it could not be told.
const RETRY: Duration = Duration::from_secs(5);
/// Longest the removal of a pool may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at who is silent.
const ROUND: Duration = Duration::from_secs(5);
/// Rounds a host must have been silent in.
const SILENT: u32 = 2;

/// The shared pools of this host.
pub(super) struct SharedPools {
    mounter: Arc<dyn Mounter>,
    kept: Mutex<BTreeMap<PoolId, Kept>>,
}

#[derive(Clone, Default)]
struct Kept {
    state: Option<PoolState>,
    driver: Option<Arc<DirPool>>,
}

type Outcome = Result<Option<Arc<DirPool>>, String>;

impl SharedPools {
    pub(super) fn new(mounter: Arc<dyn Mounter>) -> Self {
        Self { mounter, kept: Mutex::default() }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<PoolId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver of a pool that is ready.
    pub(super) fn driver(&self, id: PoolId) -> Option<Arc<dyn Pool>> {
        let kept = self.kept().get(&id).cloned().filter(|k| k.state == Some(PoolState::Ready))?;
        Some(kept.driver?)
    }

    fn change(&self, id: PoolId, change: impl FnOnce(&mut Kept)) {
        change(self.kept().entry(id).or_default());
    }
}

impl Node {
    /// Begins to keep the pools nobody keeps yet: those the state names, and those an earlier run of the daemon left mounted.
    pub(super) fn keep_pools(self: &Arc<Self>) {
        if self.host.is_witness() {
            return;
        }
        let mut ids: BTreeSet<PoolId> = self
            .cluster
            .read(|s| s.pools.values().filter(|p| p.spec.is_shared()).map(|p| p.meta.id).collect());
        if self.shared.kept().is_empty() {
            ids.extend(self.shared.mounter.mounted());
        }
        for id in ids {
            let known = self.shared.kept().contains_key(&id);
            if !known {
                self.shared.change(id, |_| {});
                let node = self.clone();
                tokio::spawn(async move { node.keep_pool(id).await });
            }
        }
        let me = self.id();
        let leaving = self.cluster.read(|s| {
            let leaving = s.pools.values().filter(|p| p.deleting).map(|p| p.meta.id);
            leaving.filter(|id| s.holder(*id, None) == Some(me)).collect::<Vec<_>>()
        });
        for id in leaving {
            self.keep(id.0, move |node| async move { node.give_up_pool(id).await });
        }
    }

    async fn keep_pool(self: Arc<Self>, id: PoolId) {
        let begin = Instant::now();
        let mut life = Life::default();
        let mut changes = self.cluster.watch();
        let mut running: Option<oneshot::Receiver<Outcome>> = None;
        let mut tidied = false;
        loop {
            changes.borrow_and_update();
            let record = self.cluster.read(|s| s.pools.get(&id).cloned());
            // What runs on a host that was removed from its cluster is left alone, and so is what it runs from.
            if self.cluster.is_removed() {
                return;
            }
            if let Some(job) = life.step(begin.elapsed(), record.is_some()) {
                running = match self.begin(id, job, record.as_deref()) {
                    Ok(told) => Some(told),
                    Err(e) => {
                        life.ended(begin.elapsed(), Err(causes::chain(&e)));
                        None
                    }
                };
            }
            let (state, reason) = life.state();
            self.stands(id, state, reason);
            if life.is_gone() {
                self.shared.kept().remove(&id);
                self.ended.notify_one();
                return;
            }
            let told = self.tell_pool(id, state, reason).await;
            if state == PoolState::Ready && !std::mem::replace(&mut tidied, true) {
                let node = self.clone();
                tokio::spawn(async move { node.tidy_pool(id).await });
            }
            let due = life.due().map(|due| begin + due);
            let pause = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let done = async {
                match &mut running {
                    Some(told) => told.await.unwrap_or_else(|_| Err("a fault of ours".into())),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                done = done => {
                    running = None;
                    let outcome = done.map(|opened| if let Some(driver) = opened {
                        self.shared.change(id, |kept| kept.driver = Some(driver));
                    });
                    life.ended(begin.elapsed(), outcome);
                }
                _ = changes.changed() => {}
                () = pause => {}
                () = tokio::time::sleep(RETRY), if !told => {}
            }
        }
    }

    /// Begins a job on a thread of its own.
    fn begin(
        &self,
        id: PoolId,
        job: Job,
        record: Option<&crate::cluster::state::PoolRecord>,
    ) -> Result<oneshot::Receiver<Outcome>, storage::Error> {
        let mounter = self.shared.mounter.clone();
        let opened = self.shared.kept().get(&id).and_then(|k| k.driver.clone());
        let mark = Mark::new(self.cluster_id(), id);
        let text = |e: storage::Error| causes::chain(&e);
        let spec = record.and_then(|r| match &r.spec {
            PoolSpec::Nfs(spec) => Some((spec.clone(), r.claimed)),
            PoolSpec::Dir { .. } => None,
        });
        match (job, spec) {
            (Job::Mount, Some((spec, claimed))) => {
                let opening = Opening { host: self.id(), pool: id, spec, mark, claimed };
                patient::spawn(move || {
                    shared::open(mounter.as_ref(), &opening, opened).map(Some).map_err(text)
                })
            }
            (Job::Check, Some((spec, _))) => patient::spawn(move || {
                mounter.ask(id, &spec).map_err(text)?;
                let opened = opened.ok_or_else(|| "it has not been mounted yet".to_owned())?;
                mark.check(opened.path()).map_err(text)?;
                Ok(None)
            }),
            (Job::Mount | Job::Check, None) => {
                Err(storage::Error::Unfit("the pool is not in the state any more".into()))
            }
            (Job::Unmount, _) => patient::spawn(move || mounter.unmount(id).map_err(text).map(|()| None)),
        }
    }

    fn cluster_id(&self) -> uuid::Uuid {
        self.cluster.read(|s| s.cluster.as_ref().map(|c| c.id)).unwrap_or_default()
    }

    /// What this host does with the pool follows at once.
    fn stands(&self, id: PoolId, state: PoolState, reason: Option<&str>) {
        let before = self.shared.kept().entry(id).or_default().state.replace(state);
        if before == Some(state) {
            return;
        }
        self.ended.notify_one();
        let (level, kind, text) = match state {
            PoolState::Ready => (EventLevel::Info, "pool.ready", "this host reaches the pool".to_owned()),
            PoolState::Unreachable => {
                let text = format!("this host does not reach the pool: {}", reason.unwrap_or("unknown"));
                (EventLevel::Error, "pool.unreachable", text)
            }
            PoolState::Mounting | PoolState::Unmounting => return,
        };
        self.events.system(level, kind, format!("pool/{id}"), text);
    }

    /// Tells the state how this host stands to the pool. False where it has to be told again.
    async fn tell_pool(&self, id: PoolId, state: PoolState, reason: Option<&str>) -> bool {
        let me = self.id();
        let known = self.cluster.read(|s| {
            let Some(record) = s.pools.get(&id) else { return true };
            record.hosts.get(&me).is_some_and(|h| h.state == state && h.reason.as_deref() == reason)
        });
        if known {
            return true;
        }
        let op = Op::ObservePool { id, host: me, state, reason: reason.map(str::to_owned) };
        match self.cluster.write(op).await {
            Ok(_) | Err(WriteError::Refused(_)) => true,
            Err(e) => {
                tracing::debug!(pool = %id, error = %e, "the cluster could not be told of the pool yet");
                false
            }
        }
    }

    /// Deletes a shared pool nothing is in.
    pub async fn delete_pool(
        self: &Arc<Self>,
        id: PoolId,
        expect: Option<u64>,
        actor: &str,
    ) -> Result<Task, WriteError> {
        self.events.names().of(&format!("pool/{id}"));
        self.cluster.write(Op::DeletePool { id, expect }).await?;
        let new = NewTask {
            kind: "pool.delete",
            target: format!("pool/{id}"),
            actor: actor.into(),
            cancellable: false,
        };
        let node = self.clone();
        Ok(self.tasks.start(new, |_| async move {
            let gone = node.wait_for(PATIENCE, |s| (!s.pools.contains_key(&id)).then_some(()));
            let late = "its mark could not be taken away yet; it is still being tried. Where its server is gone for good, \
                        delete it again";
            gone.await.map(|()| None).ok_or_else(|| late.into())
        }))
    }

    /// Takes the mark away, then the pool.
    async fn give_up_pool(self: &Arc<Self>, id: PoolId) {
        let driver = self.shared.kept().get(&id).and_then(|k| k.driver.clone());
        let mark = Mark::new(self.cluster_id(), id);
        if let Err(e) = self.remove_waste(id).await {
            tracing::warn!(pool = %id, error = e, "what was deleted in the pool could not be removed");
        }
        let released = match driver {
            Some(driver) => patient::within(RETRY * 4, move || mark.release(driver.path())).await,
            None => Ok(()),
        };
        let written = match released {
            Ok(()) => self.cluster.write(Op::ForgetPool { id }).await.map(drop).map_err(|e| e.to_string()),
            Err(e) => Err(causes::chain(&e)),
        };
        if let Err(e) = written {
            tracing::warn!(pool = %id, error = e, "the pool could not be removed yet");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// As long as this host leads: tells the state which hosts are silent, so that no shared pool counts as ready on them. A host
/// that is heard again says itself how it stands.
pub(super) async fn watch_silent(node: Arc<Node>) {
    let mut silent: BTreeMap<HostId, u32> = BTreeMap::new();
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
        if node.cluster.standing().leader != Some(node.id()) {
            silent.clear();
            continue;
        }
        let Some(health) = node.cluster.health().await else { continue };
        let ready: Vec<(PoolId, HostId)> = node.cluster.read(|s| {
            let pools = s.pools.values().flat_map(|p| p.hosts.values().map(|h| (p.meta.id, h)));
            pools.filter(|(_, h)| h.state == PoolState::Ready).map(|(id, h)| (id, h.host)).collect()
        });
        let hosts: BTreeSet<HostId> = ready.iter().map(|(_, host)| *host).collect();
        silent.retain(|host, _| hosts.contains(host));
        for host in &hosts {
            let heard = *host == node.id() || health.reachable.contains(host);
            let rounds = silent.entry(*host).or_default();
            *rounds = if heard { 0 } else { *rounds + 1 };
        }
        for (id, host) in ready.into_iter().filter(|(_, host)| silent.get(host).is_some_and(|n| *n >= SILENT))
        {
            let reason = Some("the host does not answer".to_owned());
            let op = Op::ObservePool { id, host, state: PoolState::Unreachable, reason };
            if let Err(e) = node.cluster.write(op).await {
                tracing::debug!(error = %e, "the state could not be told of a silent host");
            }
        }
    }
}
