//! The cluster: in the beginning, one host.

use crate::HostId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// State of the cluster as this host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cluster {
    /// Identity of the cluster.
    pub id: Uuid,
    /// The host that answered.
    pub this_host: HostId,
    /// The host that leads, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<HostId>,
    /// Term of the leader.
    pub term: u64,
    /// Hosts whose votes count.
    pub voters: Vec<HostId>,
    /// Last change applied here.
    pub revision: u64,
}

/// `GET /ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readiness {
    /// Everything a request may need is there.
    pub ready: bool,
    /// What is missing.
    #[serde(default)]
    pub waiting_for: Vec<String>,
}
