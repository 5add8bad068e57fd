//! The audit log: every change asked for, by whom, from where, and what became of it.

use crate::{AuditId, HostId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// One request that was to change something, or an attempt to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Identity; ordered by time.
    pub id: AuditId,
    /// When it was answered.
    pub at: Timestamp,
    /// Host that answered it. Each host keeps the records of what it answered.
    pub host: HostId,
    /// Who, in words: `admin`, `admin (token backup)`, `root (local)`; the name that was claimed, where nobody logged in.
    pub actor: String,
    /// The user, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// From where: an address, or `this host (uid 0)`.
    pub from: String,
    /// What, e.g. `vm.start`, `user.create`, `session.create`.
    pub action: String,
    /// To which object: `kind/id`, or the kind alone.
    pub target: String,
    /// Name of the object at that time, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
    /// Whether it was done.
    pub outcome: AuditOutcome,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Id of the request, to be found in the daemon's log.
    pub request_id: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AuditOutcome {
    /// Done, or begun as a task.
    Done,
    /// Refused: not allowed, or not acceptable.
    Refused,
    /// Failed by a fault of ours.
    Failed,
}

/// Parameters of `GET /audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct AuditQuery {
    /// Records per page, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<AuditId>,
    /// Only of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Only of actors whose name contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Only actions that begin with this, e.g. `vm.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Only of this object (`kind/id`) or kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only with this outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AuditOutcome>,
    /// Only at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}
