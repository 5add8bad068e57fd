//! Tasks: long operations as resources, with progress and cancel.

use crate::{Bytes, TaskId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// A long operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Task {
    /// Identity.
    pub id: TaskId,
    /// What is done, e.g. `vm.stop`.
    pub kind: String,
    /// The object it is done to: `kind/id`.
    pub target: String,
    /// Its name then, which stays also once it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// Who asked.
    pub actor: String,
    /// The user, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Where it is.
    pub state: TaskState,
    /// Share done, 0 to 1, where it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// What it is doing, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How a machine's move to another host goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationProgress>,
    /// What became of each object, where the task is about several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<TaskResult>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

impl Task {
    /// One that begins.
    #[must_use]
    pub fn begun(
        kind: impl Into<String>,
        target: impl Into<String>,
        actor: impl Into<String>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id: TaskId::new(),
            kind: kind.into(),
            target: target.into(),
            target_name: None,
            actor: actor.into(),
            user: None,
            state: TaskState::Running,
            progress: None,
            message: None,
            migration: None,
            results: vec![],
            created_at,
            ended_at: None,
        }
    }

    /// Whether this tells anything new to who knows the same task as `known`. Nothing says which of two states is the later one, but
    /// one that has ended does not run again.
    #[must_use]
    pub fn is_news_after(&self, known: &Self) -> bool {
        self != known && (self.state.ended() || !known.state.ended())
    }
}

/// Parameters of `GET /tasks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct TaskQuery {
    /// Tasks per page, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<TaskId>,
    /// Only tasks in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// Only tasks of this object: `kind/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// How a machine's move to another host goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MigrationProgress {
    /// What is being done.
    pub phase: MovePhase,
    /// Bytes of memory sent, as they went (compressed).
    pub sent_bytes: Bytes,
    /// Passes over the memory so far.
    pub rounds: u32,
    /// Bytes the guest wrote to in a second, during the last pass; absent before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty_bytes_per_second: Option<Bytes>,
    /// Per cent of its time that is taken from the guest so that it can be moved.
    pub throttle_percent: u8,
    /// How long the guest stood still, in microseconds, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_micros: Option<u64>,
}

/// What is being done to move a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MovePhase {
    /// The other host makes a place for it.
    #[default]
    Preparing,
    /// Its memory is sent while it runs.
    Copying,
    /// It stands still and changes hands.
    Switching,
    /// It runs on the other host.
    Moved,
}

/// What became of one object of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskResult {
    /// The object: `kind/id`.
    pub target: String,
    /// Its name.
    pub name: String,
    /// Whether it became what was wanted.
    pub done: bool,
    /// What was done, or why it was not.
    pub message: String,
}

/// Where a task is: `Running` → `Succeeded` | `Failed` | `Cancelled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Under way.
    Running,
    /// Done.
    Succeeded,
    /// Ended without its aim; `message` says why.
    Failed,
    /// Ended because someone asked.
    Cancelled,
}

impl TaskState {
    /// Whether the task has ended.
    #[must_use]
    pub const fn ended(self) -> bool {
        !matches!(self, Self::Running)
    }
}
