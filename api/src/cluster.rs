//! The cluster: its members, and how hosts come in.

use crate::{
    HostId, Timestamp, TokenId,
    problem::FieldError,
    recovery::{Formed, Outdated, QuorumLoss, RefusedMember},
};
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
    /// The host that leads, where one does; absent where no majority is reached: whoever led last may not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<HostId>,
    /// Term of the leader.
    pub term: u64,
    /// Hosts whose votes count.
    pub voters: Vec<HostId>,
    /// Last change applied here.
    pub revision: u64,
    /// Whether changes are possible: a majority of the voters is reached.
    #[serde(default)]
    pub quorum: bool,
    /// Grows when the cluster is formed anew after its majority was lost; 1 at first.
    #[serde(default = "first")]
    pub epoch: u64,
    /// How the present epoch began, unless it is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formed: Option<Formed>,
    /// What is lost while there is no majority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<QuorumLoss>,
    /// The cluster goes on without this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outdated: Option<Outdated>,
    /// What is wrong, in words an administrator can act on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Every host, with its part in the cluster.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// A host's part in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it does for the cluster.
    pub role: MemberRole,
    /// Whether the leader hears it; absent where nobody could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
    /// How many changes it lacks of those the leader knows; absent where nobody could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Since when the cluster goes on without it; it comes back by joining anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// It was met, and is refused because it is of another epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedMember>,
}

/// What a host does for the cluster's agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MemberRole {
    /// It leads.
    Leader,
    /// It votes.
    Voter,
    /// It follows the state without a vote.
    Follower,
    /// It has been admitted and is being brought up to date.
    Joining,
    /// The cluster was formed anew without it.
    Lost,
}

fn first() -> u64 {
    1
}

/// A join token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinToken {
    /// Identity.
    pub id: TokenId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How many hosts may still join with it.
    pub uses_left: u32,
}

/// `POST /cluster/join-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateJoinToken {
    /// Minutes it lasts, 1 to 10080 (a week).
    #[serde(default = "an_hour")]
    pub minutes: u32,
    /// How many hosts may join with it, 1 to 100.
    #[serde(default = "one")]
    pub uses: u32,
}

fn an_hour() -> u32 {
    60
}
fn one() -> u32 {
    1
}

impl Default for CreateJoinToken {
    fn default() -> Self {
        Self { minutes: an_hour(), uses: one() }
    }
}

impl CreateJoinToken {
    /// Every fault.
    #[must_use]
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if !(1..=10_080).contains(&self.minutes) {
            errors.push(FieldError::new("minutes", "is not between 1 and 10080 (a week)"));
        }
        if !(1..=100).contains(&self.uses) {
            errors.push(FieldError::new("uses", "is not between 1 and 100"));
        }
        errors
    }
}

/// A new join token with its text, shown once.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedJoinToken {
    /// The token.
    #[serde(flatten)]
    pub token: JoinToken,
    /// Its text: given to `POST /cluster/join` on the host that joins, or as `[cluster] join` in its answer file.
    pub text: String,
}

/// `POST /cluster/join` and `POST /cluster/join/preview`, asked of the host that joins.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinCluster {
    /// Text of a join token of the cluster.
    pub token: String,
    /// Objects of this host whose names are taken there may be given others, as the preview tells.
    #[serde(default)]
    pub rename: bool,
}

/// What joining will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinPreview {
    /// The cluster.
    pub cluster: Uuid,
    /// Names of its hosts.
    pub hosts: Vec<String>,
    /// Objects of the joining host that get another name because theirs is taken.
    pub renamings: Vec<Renaming>,
    /// Networks of the joining host that nothing uses; the cluster's own of the same name take their place.
    pub left_out: Vec<String>,
    /// Machines that come along; those that run go on running.
    pub machines: Vec<String>,
}

/// An object that gets another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renaming {
    /// Kind of the object.
    pub kind: String,
    /// The object; its id stays.
    pub id: Uuid,
    /// Its name so far.
    pub from: String,
    /// Its name in the cluster.
    pub to: String,
    /// It was named by a person, so `rename` must allow it.
    pub needs_consent: bool,
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
