//! A simulated host: its tasks, its disk, and the real [`Cluster`] on it.
//!
//! ```text
//!        start                        crash (power cut, daemon killed, disk failed)
//!  down ───────▶ running: opening ─▶ up ─────────────────────────────────────────▶ down
//!                                    │ ▲ go on
//!                                    ▼ │
//!                                   halted: nothing of it is polled, time goes on
//! ```
//! Each start is a new life: tasks and open files of an earlier one reach nothing any more.

use super::{
    World,
    disk::{Disk, Left},
    runtime,
};
use crate::cluster::{Cluster, run};
use axum::Router;
use lq_api::HostId;
use openraft::async_runtime::watch::WatchReceiver as _;
use std::{
    future::Future,
    mem,
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
    time::Duration,
};
use tokio::task::AbortHandle;
use uuid::Uuid;

#[derive(Default)]
struct Inner {
    life: u64,
    running: bool,
    halted: bool,
    /// Tasks that wait for it to go on.
    wakers: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    up: Option<Up>,
}

struct Up {
    cluster: Cluster,
    /// What its peers' port serves.
    router: Router,
}

pub(super) struct Host {
    pub(super) number: usize,
    pub(super) id: HostId,
    pub(super) dir: tempfile::TempDir,
    pub(super) disk: Arc<Disk>,
    inner: Mutex<Inner>,
}

impl Host {
    pub(super) fn new(number: usize) -> Arc<Self> {
        // Where syncing a file costs nothing, if there is such a place: what is lost with the power is decided by `Disk`.
        let fast = std::path::Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(fast).or_else(|_| tempfile::tempdir()).unwrap();
        let id = HostId(Uuid::from_u64_pair(0, number as u64 + 1));
        Arc::new(Self { number, id, dir, disk: Arc::default(), inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(super) fn life(&self) -> u64 {
        self.inner().life
    }

    pub(super) fn is_running(&self) -> bool {
        self.inner().running
    }

    pub(super) fn is_halted(&self) -> bool {
        self.inner().halted
    }

    /// Whether a task of this life may go on; it is woken when it may.
    pub(super) fn may_poll(&self, life: u64, waker: &Waker) -> bool {
        let mut inner = self.inner();
        if inner.life != life {
            return false;
        }
        if inner.halted {
            inner.wakers.push(waker.clone());
        }
        !inner.halted
    }

    /// Ends with the host.
    pub(super) fn owns(&self, task: AbortHandle) {
        let mut inner = self.inner();
        if inner.tasks.len() == inner.tasks.capacity() {
            inner.tasks.retain(|t| !t.is_finished());
        }
        inner.tasks.push(task);
    }

    pub(super) fn cluster(&self) -> Option<Cluster> {
        self.inner().up.as_ref().map(|up| up.cluster.clone())
    }

    pub(super) fn router(&self) -> Option<Router> {
        self.inner().up.as_ref().map(|up| up.router.clone())
    }

    pub(super) fn halt(&self) {
        self.inner().halted = true;
    }

    pub(super) fn go_on(&self) {
        let wakers = {
            let mut inner = self.inner();
            inner.halted = false;
            mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Everything on it ends at once.
    pub(super) fn crash(&self, left: Left) {
        let old = {
            let mut inner = self.inner();
            let life = inner.life + 1;
            mem::replace(&mut *inner, Inner { life, ..Inner::default() })
        };
        self.disk.crash(left);
        old.tasks.iter().for_each(AbortHandle::abort);
    }

    /// Does something on it; `None` where it ends meanwhile, or is down.
    pub(super) async fn does<T, F>(self: &Arc<Self>, work: impl FnOnce(Cluster) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let work = work(self.cluster()?);
        runtime::spawn_on(self, work).await.ok()
    }

    /// The daemon starts.
    pub(super) fn start(self: &Arc<Self>, world: &Arc<World>) {
        {
            let mut inner = self.inner();
            if mem::replace(&mut inner.running, true) {
                return;
            }
        }
        world.note(format!("host {} starts", self.number));
        let (host, world) = (self.clone(), world.clone());
        runtime::spawn_on(self, async move {
            match Cluster::open(host.dir.path()).await {
                Err(e) => host.fails(&world, &crate::causes::chain(&e)),
                Ok(cluster) => {
                    world.note(format!("host {} is up", host.number));
                    run::spawn(host.clone().watch(world.clone(), cluster.clone()));
                    let router = cluster.peer_router(Router::new());
                    host.inner().up = Some(Up { cluster: cluster.clone(), router });
                    let why = cluster.failed().await;
                    host.fails(&world, &why);
                }
            }
        });
    }

    /// Tells who leads.
    async fn watch(self: Arc<Self>, world: Arc<World>, cluster: Cluster) {
        let mut metrics = cluster.raft.metrics();
        loop {
            let (leads, term) = {
                let now = metrics.borrow_watched();
                (now.state.is_leader(), now.current_term)
            };
            if leads {
                world.leads(&self, term);
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// The daemon ends because the log cannot go on, and is started again as by PID 1.
    fn fails(self: &Arc<Self>, world: &Arc<World>, why: &str) {
        world.note(format!("host {} fails", self.number));
        if !self.disk.fails() {
            world.violated(format!("host {} failed although its disk did not: {why}", self.number));
        }
        let (host, world, life) = (self.clone(), world.clone(), self.life());
        // Not a task of the host: it has to outlive it.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if host.life() == life {
                host.crash(Left::Nothing);
                tokio::time::sleep(Duration::from_secs(1)).await;
                host.start(&world);
            }
        });
    }
}
