//! Events: what happened, for people.

use crate::{EventId, Timestamp};
use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Identity; ordered by time.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// How grave.
    pub level: EventLevel,
    /// What kind, e.g. `vm.started`.
    pub kind: String,
    /// To which object: `kind/id`.
    pub target: String,
    /// In words.
    pub message: String,
    /// Who caused it, where someone did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EventLevel {
    /// As expected.
    Info,
    /// Someone may want to look.
    Warning,
    /// Someone has to act.
    Error,
}
