//! This host's part of the work: brings what is towards what should be.
//!
//! Level-triggered: whenever the cluster's state changes, [`sync`] looks at all of it, resolves what this host is to run
//! ([`resolve`], pure) and tells the fleet of machines, the fabric of networks, and the keepers of storage. Every step may be
//! repeated after a crash. The use cases of the API that take time ([`vms`], [`storage`]) change the state and then wait
//! for the host to follow.

mod copies;
mod disk_errors;
mod foreign;
pub mod host;
pub mod measure;
pub mod moves;
mod observe;
mod pools;
mod resolve;
pub mod storage;
mod sync;
pub mod vms;

pub use foreign::ForeignError;
pub use observe::Watcher;

use crate::{
    cluster::{Cluster, Op, Reply, State, WriteError},
    compute::{Fleet, Hypervisor},
    ha::host::HostLease,
    network::Fabric,
    storage::{Pool, shared::Mounter},
    tasks::Tasks,
    telemetry::Events,
    time::Time,
};
use host::HostControl;
use lq_api::{HostId, ImageId, PoolId, event::EventLevel, pool::PoolSpec};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Uploads at a time.
const UPLOADS: usize = 4;

/// What this host does its work with: real, or simulated.
pub struct Parts {
    /// Kind of monitor.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The pool `local`.
    pub pool: Arc<dyn Pool>,
    /// Mounts of shared pools.
    pub mounter: Arc<dyn Mounter>,
    /// Networks.
    pub fabric: Arc<dyn Fabric>,
    /// The host itself.
    pub host: Arc<dyn HostControl>,
    /// Its clock.
    pub time: Arc<Time>,
}

/// This host.
pub struct Node {
    /// The agreed state.
    pub cluster: Cluster,
    /// The event log.
    pub events: Events,
    /// Long operations.
    pub tasks: Arc<Tasks>,
    /// The machines of this host.
    pub fleet: Fleet,
    /// The networks of this host.
    pub fabric: Arc<dyn Fabric>,
    /// The host itself.
    pub host: Arc<dyn HostControl>,
    /// Its clock.
    pub time: Arc<Time>,
    /// Begins when the daemon is to start again: the host has joined another cluster.
    pub again: CancellationToken,
    /// The lease this host has for its protected machines.
    pub lease: Arc<HostLease>,
    pool: Arc<dyn Pool>,
    shared: pools::SharedPools,
    uploads: Arc<Semaphore>,
    /// Those begun since this daemon started.
    receiving: Mutex<HashSet<Uuid>>,
    /// Images of other pools that are in this host's pool too, or are to be.
    copies: Mutex<HashMap<ImageId, copies::Copied>>,
    /// Objects a keeper is at work on.
    busy: Mutex<HashSet<Uuid>>,
    /// Machines that come and go.
    moves: moves::Moves,
    /// Held by whoever removes bytes, so that nobody is late with it.
    removing: tokio::sync::Mutex<()>,
    /// A keeper has ended: what changed under its hands is looked at again.
    ended: Notify,
    stop: CancellationToken,
}

impl Node {
    /// The host with its parts. [`Self::run`] does the work.
    #[must_use]
    pub fn new(cluster: Cluster, events: Events, tasks: Arc<Tasks>, parts: Parts) -> Arc<Self> {
        let lease = Arc::new(HostLease::default());
        let going_down = parts.hypervisor.going_down();
        let watcher = Watcher::new(cluster.clone(), events.clone(), going_down, lease.clone());
        let fleet = Fleet::new(parts.hypervisor, Arc::new(watcher));
        Arc::new(Self {
            cluster,
            events,
            tasks,
            fleet,
            fabric: parts.fabric,
            host: parts.host,
            time: parts.time,
            again: CancellationToken::new(),
            lease,
            pool: parts.pool,
            shared: pools::SharedPools::new(parts.mounter),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            receiving: Mutex::default(),
            copies: Mutex::default(),
            busy: Mutex::default(),
            moves: moves::Moves::default(),
            removing: tokio::sync::Mutex::default(),
            ended: Notify::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Tells the cluster that the host started. Once it knows, the state here is no older than that.
    pub async fn greet(&self) -> Result<(), WriteError> {
        let boot = self.host.boot();
        let known = self.cluster.read(|s| s.hosts.get(&self.id()).and_then(|host| host.boot));
        let started = Op::HostStarted { host: self.id(), name: self.host.name(), boot };
        let answer = self.cluster.write(started).await?;
        // Once for each boot, and not again when the daemon starts anew.
        if known != Some(boot) && self.host.was_cut_off() {
            let text = "the host's last run was cut off: it lost power, was reset, or its kernel failed. Machines that ran on it \
                        were cut off with it";
            self.events.system(EventLevel::Warning, "host.cut-off", format!("host/{}", self.id()), text);
        }
        match answer {
            Reply::Started(told) => {
                for (vm, what) in told {
                    self.events.system(EventLevel::Info, "vm.autostart", format!("vm/{vm}"), what);
                }
            }
            other => tracing::error!(?other, "an unexpected answer of the state"),
        }
        Ok(())
    }

    /// This host's id.
    #[must_use]
    pub fn id(&self) -> HostId {
        self.cluster.identity().host
    }

    /// The driver of a pool, where it is this host's, or shared and ready.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> Option<Arc<dyn Pool>> {
        self.cluster.read(|s| self.pool_in(s, id))
    }

    /// The same by a state that is being read.
    fn pool_in(&self, state: &State, id: PoolId) -> Option<Arc<dyn Pool>> {
        match state.pools.get(&id)?.spec {
            PoolSpec::Dir { host } => (host == self.id()).then(|| self.pool.clone()),
            PoolSpec::Nfs(_) => self.shared.driver(id),
        }
    }

    /// The pools of this host alone.
    fn own_pools(&self) -> Vec<PoolId> {
        let me = self.id();
        self.cluster.read(|s| s.pools.keys().copied().filter(|id| s.only_on(Some(*id), me)).collect())
    }

    /// Driver of the pool on this host.
    pub fn local_pool(&self) -> &dyn Pool {
        self.pool.as_ref()
    }

    /// Takes over what runs and follows the state until [`Self::stop`]; `ready` is called when it does for the first time.
    /// Machines go on running after that.
    ///
    /// What runs is taken over whether or not the cluster can be reached. Nothing is started or removed before the cluster
    /// knows that the host is there: until then the state here may be too old, and a machine of it may run elsewhere.
    /// `greeted` says that it knows already.
    pub async fn run(self: &Arc<Self>, greeted: bool, ready: impl FnOnce()) {
        // Before it is known what runs nothing may be started.
        let mut told = false;
        loop {
            let adopted = tokio::select! {
                () = self.stop.cancelled() => return,
                adopted = self.fleet.adopt() => adopted,
            };
            let Err(e) = adopted else { break };
            tracing::warn!(error = %e, "the machines that run could not be taken over; trying again");
            if !std::mem::replace(&mut told, true) {
                let text = format!("the machines that run could not be taken over yet: {e}");
                self.events.system(EventLevel::Error, "host.failed", format!("host/{}", self.id()), text);
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(2)) => {}
            }
        }
        if !greeted && !self.greet_until_heard().await {
            return;
        }
        self.recover().await;
        self.evacuate_again();
        tokio::spawn(pools::watch_silent(self.clone()));
        sync::run(self, ready).await;
    }

    fn tell_removed(&self) {
        let text = "this host was removed from its cluster; what runs on it is left alone".to_owned();
        self.events.system(EventLevel::Error, "host.removed", format!("host/{}", self.id()), text);
    }

    /// Tells the cluster again and again that the host started; false where it never will be heard.
    async fn greet_until_heard(&self) -> bool {
        let mut told = false;
        loop {
            let heard = tokio::select! {
                () = self.stop.cancelled() => return false,
                heard = self.greet() => heard,
            };
            let Err(e) = heard else { return true };
            if self.cluster.is_removed() {
                self.tell_removed();
                return false;
            }
            if let Some(outdated) = self.cluster.outdated() {
                let text = format!("{outdated}; what runs on it is left alone");
                self.events.system(EventLevel::Error, "host.outdated", format!("host/{}", self.id()), text);
                return false;
            }
            tracing::warn!(error = %e, "the cluster could not be told that this host started; trying again");
            if !std::mem::replace(&mut told, true) {
                let text = format!("the cluster could not be told that this host started, trying again: {e}");
                self.events.system(EventLevel::Warning, "host.alone", format!("host/{}", self.id()), text);
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Begins when [`Self::run`] ends.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Ends [`Self::run`].
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until `look` finds what it looks for, or `limit` has passed.
    async fn wait_for<R>(&self, limit: Duration, mut look: impl FnMut(&State) -> Option<R>) -> Option<R> {
        let mut changes = self.cluster.watch();
        tokio::time::timeout(limit, async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = self.cluster.read(&mut look) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        })
        .await
        .ok()
        .flatten()
    }

    /// Does `work` in the background unless something is being done to the object already. The state's next change starts
    /// it again where it is still needed.
    fn keep<F>(self: &Arc<Self>, id: Uuid, work: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(held) = AtWork::begin(self, |node| &node.busy, id) else { return };
        let work = work(self.clone());
        tokio::spawn(async move {
            let _held = held;
            if let Err(e) = tokio::spawn(work).await {
                tracing::error!(object = %id, error = %e, "a fault of ours");
            }
        });
    }
}

/// Something this daemon is at work on, while it lives; what follows is looked at again after it.
struct AtWork {
    node: Arc<Node>,
    among: fn(&Node) -> &Mutex<HashSet<Uuid>>,
    id: Uuid,
}

impl AtWork {
    /// None: it is at work on that already.
    fn begin(node: &Arc<Node>, among: fn(&Node) -> &Mutex<HashSet<Uuid>>, id: Uuid) -> Option<Self> {
        lock(among(node)).insert(id).then(|| Self { node: node.clone(), among, id })
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        lock((self.among)(&self.node)).remove(&self.id);
        self.node.ended.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
