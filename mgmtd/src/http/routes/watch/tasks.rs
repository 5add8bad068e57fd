//! What a watcher is told of tasks: those of this host and of the others, as far as the caller may see them.
//!
//! Invariants: every change since [`Tasks::follow`] is told, the last one of each task, no more often than [`PACE`]; a task that was
//! to be seen while it ran and is not any more (what it was about is gone) is told as gone.

use super::super::{
    super::{
        Api,
        elsewhere::{PACE, Seat},
    },
    tasks::sees_task,
};
use crate::auth::Caller;
use lq_api::{TaskId, task::Task};
use std::collections::BTreeSet;
use tokio::{sync::watch, time::Instant};

/// What a watcher was told.
pub(super) struct Tasks {
    own: watch::Receiver<u64>,
    /// Changes of this host's tasks up to this number were told.
    reached: u64,
    elsewhere: Seat,
    /// Nothing is told before this.
    next: Instant,
    /// Tasks that ran when the caller could see them last.
    running: BTreeSet<TaskId>,
}

impl Tasks {
    /// From now on.
    pub(super) fn follow(api: &Api, caller: &Caller) -> Self {
        let own = api.node.tasks.follow();
        let reached = *own.borrow();
        let elsewhere = api.elsewhere.watch(&api.node.cluster, &api.ending);
        let mut running = api.node.tasks.all();
        running.retain(|t| !t.state.ended());
        running.extend(elsewhere.running());
        let running = api
            .node
            .cluster
            .read(|s| running.iter().filter(|t| sees_task(s, caller, t)).map(|t| t.id).collect());
        Self { own, reached, elsewhere, next: Instant::now(), running }
    }

    /// Comes back when there may be something to tell and it is time to.
    pub(super) async fn news(&mut self) {
        tokio::time::sleep_until(self.next).await;
        let (own, reached) = (&mut self.own, self.reached);
        let own = async {
            if own.wait_for(|number| *number > reached).await.is_err() {
                // Not while there is an API.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = own => {}
            () = self.elsewhere.changed() => {}
        }
    }

    /// What is to be told now: tasks as they are, nothing of those that are not to be seen any more; `None` where this came too
    /// late to know.
    pub(super) fn take(&mut self, api: &Api, caller: &Caller) -> Option<Vec<(TaskId, Option<Task>)>> {
        if Instant::now() < self.next {
            return Some(vec![]);
        }
        let (mut changed, reached) = api.node.tasks.changed_since(self.reached);
        self.reached = reached;
        changed.extend(self.elsewhere.take()?);
        if changed.is_empty() {
            return Some(vec![]);
        }
        self.next = Instant::now() + PACE;
        let told = api.node.cluster.read(|s| {
            let one = |task: Task| {
                let id = task.id;
                if !sees_task(s, caller, &task) {
                    return self.running.remove(&id).then_some((id, None));
                }
                if task.state.ended() {
                    self.running.remove(&id);
                } else {
                    self.running.insert(id);
                }
                Some((id, Some(task)))
            };
            changed.into_iter().filter_map(one).collect()
        });
        Some(told)
    }
}
