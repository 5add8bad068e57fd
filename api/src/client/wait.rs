//! Waiting for what takes time. A host that is away for a moment (its daemon restarts, an upgrade) does not end the
//! waiting; only the limit, a final state, or a refusal does.

use super::{Client, Error};
use crate::{
    TaskId, VmId, VolumeId,
    problem::Kind,
    task::{Task, TaskState},
    vm::{Vm, VmState},
    volume::{Volume, VolumeState},
};
use std::{fmt::Debug, time::Duration};
use tokio::time::Instant;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Give up after this.
    pub limit: Duration,
    /// Longest pause between two looks; it begins at a tenth of it.
    pub interval: Duration,
}

impl Wait {
    /// Give up after `seconds`; look every second.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self { limit: Duration::from_secs(seconds), interval: Duration::from_secs(1) }
    }
}

impl Default for Wait {
    /// Ten minutes.
    fn default() -> Self {
        Self::seconds(600)
    }
}

/// What a look found.
enum Look<T> {
    /// The awaited.
    Done(T),
    /// Not yet; this is the state.
    Not(String),
}

impl Client {
    /// Waits until a task has ended. `watch` sees every look at it.
    ///
    /// # Errors
    /// [`Error::Task`] where it failed or was cancelled, [`Error::Timeout`], else any of [`Error`].
    pub async fn wait_task(
        &self,
        id: TaskId,
        wait: Wait,
        mut watch: impl FnMut(&Task),
    ) -> Result<Task, Error> {
        let task = poll(
            wait,
            || format!("the end of task {id}"),
            async || {
                let task = self.task(id).await?;
                watch(&task);
                let state = match &task.message {
                    Some(message) => format!("{:?}, {message}", task.state),
                    None => format!("{:?}", task.state),
                };
                Ok(if task.state.ended() { Look::Done(task) } else { Look::Not(state) })
            },
        )
        .await?;
        if task.state == TaskState::Succeeded { Ok(task) } else { Err(Error::Task(Box::new(task))) }
    }

    /// Waits until a VM is in `state`. A VM that failed does not get anywhere else by waiting.
    ///
    /// # Errors
    /// [`Error::State`] where it failed instead, [`Error::Timeout`], else any of [`Error`].
    pub async fn wait_vm_state(&self, id: VmId, state: VmState, wait: Wait) -> Result<Vm, Error> {
        poll(
            wait,
            || format!("VM {id} being {}", lower(state)),
            async || {
                let vm = self.vm(id).await?;
                let seen = vm.status.state;
                if seen == state {
                    return Ok(Look::Done(vm));
                }
                // A status that answers to an older specification is not yet a verdict.
                if seen == VmState::Failed && vm.status.observed_generation >= vm.meta.generation {
                    return Err(Error::State {
                        object: format!("VM {}", vm.meta.name),
                        state: lower(seen),
                        reason: vm.status.reason.unwrap_or_else(|| "no reason given".into()),
                    });
                }
                Ok(Look::Not(match vm.status.reason {
                    Some(reason) => format!("{}, {reason}", lower(seen)),
                    None => lower(seen),
                }))
            },
        )
        .await
    }

    /// Waits until a VM does not exist any more.
    ///
    /// # Errors
    /// [`Error::Timeout`], else any of [`Error`].
    pub async fn wait_vm_gone(&self, id: VmId, wait: Wait) -> Result<(), Error> {
        poll(
            wait,
            || format!("the removal of VM {id}"),
            async || match self.vm(id).await {
                Ok(vm) => Ok(Look::Not(lower(vm.status.state))),
                Err(e) if e.is(Kind::NotFound) => Ok(Look::Done(())),
                Err(e) => Err(e),
            },
        )
        .await
    }

    /// Waits until a volume is usable.
    ///
    /// # Errors
    /// [`Error::State`] where it cannot be made, [`Error::Timeout`], else any of [`Error`].
    pub async fn wait_volume(&self, id: VolumeId, wait: Wait) -> Result<Volume, Error> {
        poll(
            wait,
            || format!("volume {id} being ready"),
            async || {
                let volume = self.volume(id).await?;
                match volume.status.state {
                    VolumeState::Ready => Ok(Look::Done(volume)),
                    VolumeState::Creating => Ok(Look::Not("creating".into())),
                    bad @ (VolumeState::Deleting | VolumeState::Failed) => Err(Error::State {
                        object: format!("volume {}", volume.meta.name),
                        state: lower(bad),
                        reason: volume.status.reason.unwrap_or_else(|| "no reason given".into()),
                    }),
                }
            },
        )
        .await
    }

    /// Waits until the host can serve every request.
    ///
    /// # Errors
    /// [`Error::Timeout`], else any of [`Error`] that waiting does not mend.
    pub async fn wait_ready(&self, wait: Wait) -> Result<(), Error> {
        poll(
            wait,
            || format!("{} being ready", self.host()),
            async || {
                let readiness = self.ready().await?;
                Ok(if readiness.ready {
                    Look::Done(())
                } else {
                    Look::Not(format!("waiting for {}", readiness.waiting_for.join(", ")))
                })
            },
        )
        .await
    }
}

fn lower(state: impl Debug) -> String {
    format!("{state:?}").to_lowercase()
}

/// Looks again and again. A transient error counts as "not yet".
async fn poll<T>(
    wait: Wait,
    what: impl Fn() -> String,
    mut look: impl AsyncFnMut() -> Result<Look<T>, Error>,
) -> Result<T, Error> {
    let deadline = Instant::now() + wait.limit;
    let mut pause = wait.interval / 10;
    loop {
        // The first look always happens, even with no time at all.
        let last = match look().await {
            Ok(Look::Done(value)) => return Ok(value),
            Ok(Look::Not(state)) => state,
            Err(e) if e.is_transient() => e.chain(),
            Err(e) => return Err(e),
        };
        if Instant::now() >= deadline {
            return Err(Error::Timeout { what: what(), limit: wait.limit, last });
        }
        tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
        pause = (pause * 3 / 2).min(wait.interval);
    }
}
