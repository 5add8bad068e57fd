//! Use cases of machines that take time: the wish goes to the state, a task waits for the host to follow.

use super::Node;
use crate::{
    causes,
    cluster::{Op, Power, Refusal, Reply, WriteError},
    tasks::NewTask,
};
use lq_api::{
    VmId,
    task::Task,
    vm::{PowerState, RestartPolicy, RestartVm, StopVm, Vm, VmState, VmStatus},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Longest a machine may take to follow, besides the time its guest was given to stop.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest a host may take to begin what a machine of it is told.
const SOON: Duration = Duration::from_secs(10);

impl Node {
    /// Changes a machine's power state. The task ends when the machine has followed.
    pub async fn power_vm(
        self: &Arc<Self>,
        id: VmId,
        expect: Option<u64>,
        power: Power,
        actor: &str,
    ) -> Result<Task, WriteError> {
        let kind = match &power {
            Power::Start => "vm.start",
            Power::Stop(_) => "vm.stop",
            Power::Reset => "vm.reset",
            Power::Pause => "vm.pause",
            Power::Resume => "vm.resume",
        };
        let limit = match &power {
            Power::Stop(how) if !how.force => PATIENCE + Duration::from_secs(how.timeout_seconds.into()),
            _ => PATIENCE,
        };
        let wanted = self.told_power(id, expect, power).await?;
        let new = NewTask { kind, target: format!("vm/{id}"), actor: actor.into(), cancellable: true };
        let node = self.clone();
        Ok(self.tasks.start(new, |_| async move {
            let done = node.wait_for(limit, |state| match state.vms.get(&id) {
                None => Some(Err("the machine was deleted meanwhile".to_owned())),
                Some(record) => followed(&record.vm, &wanted),
            });
            let late = || format!("the machine did not follow within {} seconds", limit.as_secs());
            done.await.unwrap_or_else(|| Err(late())).map(|()| None)
        }))
    }

    /// Restarts the guest of a machine that runs. The machine is told to stop and at once to start again: it is never left
    /// stopped because nobody was there to start it.
    pub async fn restart_vm(
        self: &Arc<Self>,
        id: VmId,
        expect: Option<u64>,
        how: RestartVm,
        actor: &str,
    ) -> Result<Task, WriteError> {
        let before = self.cluster.read(|s| s.vms.get(&id).map(|r| r.vm.status.clone()));
        let before = before.ok_or_else(|| WriteError::Refused(Refusal::not_found("vm", id)))?;
        if before.state != VmState::Running {
            let why = "the machine does not run: there is no guest to restart";
            return Err(WriteError::Refused(Refusal::Conflict(why.into())));
        }
        let begun = Instant::now();
        let grace = Duration::from_secs(how.timeout_seconds.into());
        let stop = Power::Stop(StopVm { force: false, timeout_seconds: how.timeout_seconds });
        let asked = self.told_power(id, expect, stop).await?;
        let target = format!("vm/{id}");
        let new = NewTask { kind: "vm.restart", target, actor: actor.into(), cancellable: false };
        let node = self.clone();
        Ok(self.tasks.start(new, |_| async move {
            let heard = node.wait_for(SOON, |state| match state.vms.get(&id) {
                None => Some(Err("the machine was deleted meanwhile".to_owned())),
                Some(r) if r.vm.meta.generation > asked.meta.generation => {
                    Some(Err("it was told otherwise meanwhile".to_owned()))
                }
                Some(r) => (r.vm.status.observed_generation >= asked.meta.generation).then_some(Ok(())),
            });
            // A host that does not say whether it has pressed the button yet is told to start the machine again all the same.
            heard.await.unwrap_or(Ok(()))?;
            let wanted = node.told_power(id, None, Power::Start).await.map_err(|e| e.to_string())?;
            let limit = PATIENCE + grace;
            let done = node.wait_for(limit, |state| match state.vms.get(&id) {
                None => Some(Err("the machine was deleted meanwhile".to_owned())),
                Some(record) => restarted(&record.vm, &wanted, &before, begun.elapsed() >= grace),
            });
            let late = || format!("the machine did not follow within {} seconds", limit.as_secs());
            done.await.unwrap_or_else(|| Err(late())).map(|()| None)
        }))
    }

    async fn told_power(&self, id: VmId, expect: Option<u64>, power: Power) -> Result<Arc<Vm>, WriteError> {
        match self.cluster.write(Op::PowerVm { id, expect, power }).await? {
            Reply::Vm(vm) => Ok(vm),
            _ => Err(WriteError::Unavailable("an unexpected answer of the state".into())),
        }
    }

    /// Deletes a machine. Its volumes stay.
    pub async fn delete_vm(
        self: &Arc<Self>,
        id: VmId,
        expect: Option<u64>,
        actor: &str,
    ) -> Result<Task, WriteError> {
        self.events.names().of(&format!("vm/{id}"));
        self.cluster.write(Op::DeleteVm { id, expect }).await?;
        let new = NewTask {
            kind: "vm.delete",
            target: format!("vm/{id}"),
            actor: actor.into(),
            cancellable: false,
        };
        let node = self.clone();
        Ok(self.tasks.start(new, |_| async move {
            let gone = node.wait_for(PATIENCE, |s| (!s.vms.contains_key(&id)).then_some(()));
            gone.await
                .map(|()| None)
                .ok_or_else(|| "its process has not ended; it will be tried again".into())
        }))
    }

    /// Removes a machine from the state once its process is gone.
    pub(super) async fn forget_vm(self: &Arc<Self>, id: VmId) {
        self.fleet.gone(id).await;
        let shared = self.cluster.read(|s| s.vms.get(&id).and_then(|r| r.vars));
        for place in self.own_pools().into_iter().chain(shared) {
            let left = match self.pool(place) {
                None => "the pool is not reached by this host now".to_owned(),
                Some(pool) => match pool.delete_vars(id).await {
                    Ok(()) => continue,
                    Err(e) => causes::chain(&e),
                },
            };
            tracing::warn!(vm = %id, error = left, "what the machine's firmware and TPM keep remains for now");
            if let Err(e) = self.cluster.write(Op::LeaveVars { pool: place, vm: id }).await {
                tracing::warn!(vm = %id, error = %e, "the machine could not be removed yet");
                tokio::time::sleep(Duration::from_secs(5)).await;
                return;
            }
        }
        if let Err(e) = self.cluster.write(Op::ForgetVm { id }).await {
            tracing::warn!(vm = %id, error = %e, "the machine could not be removed yet");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}

/// Whether the machine that was told to stop and to start again runs anew, or why it will not. `late`: the time its guest had
/// to power off is over.
fn restarted(now: &Vm, wanted: &Vm, before: &VmStatus, late: bool) -> Option<Result<(), String>> {
    let runs = now.status.state == VmState::Running;
    if runs && now.status.started_at == before.started_at && now.meta.generation == wanted.meta.generation {
        let ignored =
            "the guest did not power off in time and goes on running: reset the machine, or stop it by force";
        return late.then(|| Err(ignored.to_owned()));
    }
    followed(now, wanted)
}

/// Whether the machine has followed the wish it had when `wanted` was answered, or why it will not.
fn followed(now: &Vm, wanted: &Vm) -> Option<Result<(), String>> {
    if now.meta.generation > wanted.meta.generation && now.spec.power != wanted.spec.power {
        let ended_itself = now.spec.power == PowerState::Stopped && now.spec.restart != RestartPolicy::Always;
        let word = if ended_itself {
            "it was stopped, or the guest switched itself off"
        } else {
            "it was told otherwise"
        };
        return Some(Err(format!("{word} meanwhile")));
    }
    if now.status.observed_generation < wanted.meta.generation {
        return None;
    }
    match (now.status.state, wanted.spec.power) {
        (VmState::Running, PowerState::Running)
        | (VmState::Paused, PowerState::Paused)
        | (VmState::Stopped, PowerState::Stopped) => Some(Ok(())),
        (VmState::Failed, PowerState::Stopped) => Some(Ok(())),
        (VmState::Failed, _) => {
            Some(Err(now.status.reason.clone().unwrap_or_else(|| "the machine failed".into())))
        }
        _ => None,
    }
}
