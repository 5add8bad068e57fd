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
        let mut pace = Pace::new(wait, format!("the end of task {id}"));
        let task = loop {
            let look = self.task(id).await.map(|task| {
                watch(&task);
                if task.state.ended() { Look::Done(task) } else { Look::not(lower(task.state), task.message) }
            });
            if let Some(task) = pace.judge(look).await? {
                break task;
            }
        };
        if task.state == TaskState::Succeeded { Ok(task) } else { Err(Error::Task(Box::new(task))) }
    }

    /// Waits until a VM is in `state`. A VM that failed does not get anywhere else by waiting.
    ///
    /// # Errors
    /// [`Error::State`] where it failed instead, [`Error::Timeout`], else any of [`Error`].
    pub async fn wait_vm_state(&self, id: VmId, state: VmState, wait: Wait) -> Result<Vm, Error> {
        let mut pace = Pace::new(wait, format!("VM {id} being {}", lower(state)));
        loop {
            let look = self.vm(id).await.and_then(|vm| {
                let seen = vm.status.state;
                // A status that answers to an older specification is not yet a verdict.
                let current = vm.status.observed_generation >= vm.meta.generation;
                match seen {
                    _ if seen == state => Ok(Look::Done(vm)),
                    VmState::Failed if current => Err(stuck("VM", vm.meta.name, seen, vm.status.reason)),
                    _ => Ok(Look::not(lower(seen), vm.status.reason)),
                }
            });
            if let Some(vm) = pace.judge(look).await? {
                return Ok(vm);
            }
        }
    }

    /// Waits until a VM does not exist any more.
    ///
    /// # Errors
    /// [`Error::Timeout`], else any of [`Error`].
    pub async fn wait_vm_gone(&self, id: VmId, wait: Wait) -> Result<(), Error> {
        let mut pace = Pace::new(wait, format!("the removal of VM {id}"));
        loop {
            let look = match self.vm(id).await {
                Ok(vm) => Ok(Look::not(lower(vm.status.state), vm.status.reason)),
                Err(e) if e.is(Kind::NotFound) => Ok(Look::Done(())),
                Err(e) => Err(e),
            };
            if pace.judge(look).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Waits until a volume is usable.
    ///
    /// # Errors
    /// [`Error::State`] where it cannot be made, [`Error::Timeout`], else any of [`Error`].
    pub async fn wait_volume(&self, id: VolumeId, wait: Wait) -> Result<Volume, Error> {
        let mut pace = Pace::new(wait, format!("volume {id} being ready"));
        loop {
            let look = self.volume(id).await.and_then(|volume| match volume.status.state {
                VolumeState::Ready => Ok(Look::Done(volume)),
                VolumeState::Creating => Ok(Look::not("creating".into(), volume.status.reason)),
                bad @ (VolumeState::Deleting | VolumeState::Failed) => {
                    Err(stuck("volume", volume.meta.name, bad, volume.status.reason))
                }
            });
            if let Some(volume) = pace.judge(look).await? {
                return Ok(volume);
            }
        }
    }

    /// Waits until the host can serve every request.
    ///
    /// # Errors
    /// [`Error::Timeout`], else any of [`Error`] that waiting does not mend.
    pub async fn wait_ready(&self, wait: Wait) -> Result<(), Error> {
        let mut pace = Pace::new(wait, format!("{} being ready", self.host()));
        loop {
            let look = self.ready().await.map(|readiness| match readiness.ready {
                true => Look::Done(()),
                false => Look::not("not ready".into(), Some(readiness.waiting_for.join(", "))),
            });
            if pace.judge(look).await?.is_some() {
                return Ok(());
            }
        }
    }
}

fn lower(state: impl Debug) -> String {
    format!("{state:?}").to_lowercase()
}

fn stuck(kind: &str, name: String, state: impl Debug, reason: Option<String>) -> Error {
    Error::State {
        object: format!("{kind} {name}"),
        state: lower(state),
        reason: reason.unwrap_or_else(|| "no reason given".into()),
    }
}

/// What a look found.
enum Look<T> {
    /// The awaited.
    Done(T),
    /// Not yet; this is the state.
    Not(String),
}

impl<T> Look<T> {
    fn not(state: String, reason: Option<String>) -> Self {
        Self::Not(match reason {
            Some(reason) => format!("{state}, {reason}"),
            None => state,
        })
    }
}

/// Decides after every look: done, over, or a pause before the next one.
struct Pace {
    wait: Wait,
    what: String,
    deadline: Instant,
    pause: Duration,
}

impl Pace {
    fn new(wait: Wait, what: String) -> Self {
        Self { wait, what, deadline: Instant::now() + wait.limit, pause: wait.interval / 10 }
    }

    /// The awaited, or after a pause nothing. A transient error counts as "not yet".
    async fn judge<T>(&mut self, look: Result<Look<T>, Error>) -> Result<Option<T>, Error> {
        let last = match look {
            Ok(Look::Done(value)) => return Ok(Some(value)),
            Ok(Look::Not(state)) => state,
            Err(e) if e.is_transient() => e.chain(),
            Err(e) => return Err(e),
        };
        if Instant::now() >= self.deadline {
            return Err(Error::Timeout { what: self.what.clone(), limit: self.wait.limit, last });
        }
        tokio::time::sleep_until((Instant::now() + self.pause).min(self.deadline)).await;
        self.pause = (self.pause * 3 / 2).min(self.wait.interval);
        Ok(None)
    }
}
