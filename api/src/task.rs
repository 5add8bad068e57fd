//! Tasks: long operations as resources, with progress and cancel.

use crate::{TaskId, Timestamp, UserId};
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
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
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
