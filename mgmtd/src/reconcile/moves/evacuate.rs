//! A host in maintenance: every machine that runs on it moves away, as one task with a result for each.
//!
//! That the host is in maintenance is in the agreed state; the task only does the work. A daemon that starts again on such a host
//! begins a new task for what is still to do.

use super::{super::Node, Follower, MoveError};
use crate::{
    cluster::{Op, Power, WriteError, state::Maintenance},
    placement,
    tasks::{Handle, NewTask},
};
use futures::{StreamExt as _, stream};
use lq_api::{
    VmId,
    event::EventLevel,
    host::HostMaintenance,
    local::vmm::MigrateOptions,
    task::{MigrationProgress, Task, TaskResult},
    vm::StopVm,
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Machines moved at a time.
const ABREAST: usize = 2;
/// Longest a machine may take to shut down besides the time its guest has.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whoever asks for what is asked by nobody.
const SYSTEM: &str = "system";

/// Hears of one of many moves: only whether all are called off counts.
struct OneOfMany(CancellationToken);

impl Follower for OneOfMany {
    fn progress(&self, _: Option<f64>, _: MigrationProgress, _: &str) {}
    fn goes_through(&self) {}
    fn cancelled(&self) -> CancellationToken {
        self.0.clone()
    }
}

impl Node {
    /// Puts this host in maintenance, or ends it. The task ends when no machine runs here any more, or none of those that do can be
    /// moved.
    pub async fn set_maintenance(
        self: &Arc<Self>,
        expect: Option<u64>,
        wish: HostMaintenance,
        actor: &str,
    ) -> Result<Task, WriteError> {
        let (id, shut_down) = (self.id(), wish.shut_down);
        let maintenance = wish.on.then_some(Maintenance { shut_down });
        self.cluster.write(Op::SetMaintenance { id, expect, maintenance }).await?;
        let word = if wish.on { "put it in maintenance" } else { "ended its maintenance" };
        let text = format!("{actor} {word}");
        self.events.system(EventLevel::Info, "host.maintenance", format!("host/{id}"), text);
        if wish.on {
            return Ok(self.evacuate(shut_down, actor));
        }
        let new = self.maintenance_task("host.reopen", actor);
        Ok(self.tasks.start(new, |_| async { Ok(Some("the host takes machines again".into())) }))
    }

    fn maintenance_task(&self, kind: &'static str, actor: &str) -> NewTask {
        NewTask { kind, target: format!("host/{}", self.id()), actor: actor.into(), cancellable: true }
    }

    /// Goes on with what a daemon before this one left.
    pub(in crate::reconcile) fn evacuate_again(self: &Arc<Self>) {
        let me = self.id();
        let maintenance = self.cluster.read(|s| s.hosts.get(&me).and_then(|h| h.maintenance));
        if let Some(Maintenance { shut_down }) = maintenance
            && !self.to_evacuate().is_empty()
        {
            self.evacuate(shut_down, SYSTEM);
        }
    }

    /// Machines that are this host's and not at rest.
    fn to_evacuate(&self) -> Vec<(VmId, String)> {
        let me = self.id();
        self.cluster.read(|s| {
            let here = s.vms.values().filter(|r| r.vm.status.host == Some(me) && !r.at_rest());
            here.map(|r| (r.vm.meta.id, r.vm.meta.name.clone())).collect()
        })
    }

    fn evacuate(self: &Arc<Self>, shut_down: bool, actor: &str) -> Task {
        let node = self.clone();
        let by = actor.to_owned();
        self.tasks.start_asked(self.maintenance_task("host.evacuate", actor), |handle| async move {
            let machines = node.to_evacuate();
            let count = machines.len();
            let cancelled = handle.cancelled();
            handle.progress(Some(0.0), format!("{count} machines are to move"));
            let work = machines.into_iter().map(|(vm, name)| {
                let (node, cancelled, by) = (node.clone(), cancelled.clone(), by.clone());
                async move { node.evacuate_one(vm, name, shut_down, cancelled, &by).await }
            });
            let mut done = stream::iter(work).buffer_unordered(ABREAST);
            let mut results: Vec<TaskResult> = Vec::with_capacity(count);
            while let Some(result) = done.next().await {
                results.push(result);
                tell(&handle, &results, count);
            }
            match stay(&results) {
                None => Ok(Some(format!("{count} machines are elsewhere or at rest"))),
                Some(why) => Err(why),
            }
        })
    }

    async fn evacuate_one(
        self: &Arc<Self>,
        vm: VmId,
        name: String,
        shut_down: bool,
        cancelled: CancellationToken,
        actor: &str,
    ) -> TaskResult {
        let result =
            |done, message| TaskResult { target: format!("vm/{vm}"), name: name.clone(), done, message };
        let me = self.id();
        if cancelled.is_cancelled() {
            return result(false, "not tried: the task was cancelled".into());
        }
        if !self.cluster.read(|s| s.in_maintenance(me)) {
            return result(false, "not tried: the maintenance was ended".into());
        }
        let moved = match self.claim(vm, None, None).await {
            Ok(claimed) => {
                let follower = OneOfMany(cancelled.clone());
                self.depart(vm, claimed, MigrateOptions::default(), &follower).await
            }
            Err(MoveError::Nowhere(decision)) => Err(placement::explain(&decision)),
            Err(e) => Err(e.to_string()),
        };
        match moved {
            Ok(message) => result(true, message),
            Err(reason) if shut_down && !cancelled.is_cancelled() => match self.shut_down(vm, actor).await {
                Ok(()) => result(true, format!("shut down: {reason}")),
                Err(why) => result(false, format!("{reason}; it could not be shut down either: {why}")),
            },
            Err(reason) => result(false, reason),
        }
    }

    async fn shut_down(self: &Arc<Self>, vm: VmId, actor: &str) -> Result<(), String> {
        let stop = StopVm::default();
        let limit = PATIENCE + Duration::from_secs(stop.timeout_seconds.into());
        let task = self.power_vm(vm, None, Power::Stop(stop), actor).await.map_err(|e| e.to_string())?;
        tracing::debug!(%vm, task = %task.id, "shut down because it cannot be moved");
        let rests = self.wait_for(limit, |s| s.vms.get(&vm).is_none_or(|r| r.at_rest()).then_some(()));
        rests.await.ok_or_else(|| "it did not end in time".into())
    }
}

/// Which machines stay and why: of many the first, the rest is in the task's results.
fn stay(results: &[TaskResult]) -> Option<String> {
    const TOLD: usize = 3;
    let stay: Vec<_> = results.iter().filter(|r| !r.done).collect();
    let first = stay.iter().take(TOLD).map(|r| format!("`{}`: {}", r.name, r.message));
    let first = first.collect::<Vec<_>>().join("; ");
    let more = match stay.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!stay.is_empty()).then(|| format!("{} of {} machines stay ({first}{more})", stay.len(), results.len()))
}

fn tell(handle: &Handle, results: &[TaskResult], count: usize) {
    let share = results.len() as f64 / count.max(1) as f64;
    handle.progress(Some(share), format!("{} of {count} machines", results.len()));
    handle.results(results.to_vec());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_which_machines_stay_and_why() {
        let result = |n: u32, done| TaskResult {
            target: format!("vm/{n}"),
            name: format!("web{n}"),
            done,
            message: "no room".into(),
        };
        assert_eq!(stay(&[result(1, true)]), None);
        let few = stay(&[result(1, true), result(2, false)]).unwrap();
        assert_eq!(few, "1 of 2 machines stay (`web2`: no room)");
        let many: Vec<_> = (0..5).map(|n| result(n, false)).collect();
        let many = stay(&many).unwrap();
        assert!(
            many.starts_with("5 of 5 machines stay (`web0`: no room; ") && many.ends_with("; and 2 more)"),
            "{many}"
        );
    }
}
