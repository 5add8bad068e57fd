//! What is left when the majority of a cluster is gone: forming it anew from a survivor, backups of its state, restoring one.

use crate::{HostId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How the present epoch of a cluster began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Formed {
    /// When.
    pub at: Timestamp,
    /// Name of the host it was formed from.
    pub by: String,
    /// From a backup.
    pub restored: bool,
}

/// What is lost while no majority of the voters is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QuorumLoss {
    /// Since when this host reaches no majority; absent where it has not noticed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Hosts that do not answer this one.
    pub missing: Vec<MissingHost>,
    /// What is not possible, in words.
    pub means: Vec<String>,
    /// What can be done about it, in words.
    pub remedy: String,
}

/// A host that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MissingHost {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// When it was last heard; absent where it never was since the daemon of the answering host began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heard: Option<Timestamp>,
    /// Its vote counts.
    pub voter: bool,
}

/// The cluster goes on in an epoch that this host is not of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Outdated {
    /// The epoch of the cluster.
    pub epoch: u64,
    /// When it began.
    pub at: Timestamp,
    /// Name of the host it was formed from.
    pub by: String,
    /// All of it in words, with what to do.
    pub reason: String,
}

/// A host that is refused because it is of another epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedMember {
    /// Its epoch.
    pub epoch: u64,
    /// When it was last refused.
    pub at: Timestamp,
}

/// `GET /cluster/reform`: what forming the cluster anew from this host would mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReformPreview {
    /// The epoch that would begin.
    pub epoch: u64,
    /// Name of this host; given as `confirm` it confirms.
    pub confirm: String,
    /// Where the log of this host ends.
    pub last_index: u64,
    /// Why it cannot be done at all; empty where it can.
    pub obstacles: Vec<String>,
    /// The other hosts.
    pub hosts: Vec<ReformHost>,
}

/// A host, as seen before a cluster is formed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReformHost {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// What would become of it.
    pub fate: ReformFate,
    /// When it was last heard; absent where it never was since the daemon of this host began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heard: Option<Timestamp>,
    /// Where its log ends, where it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_index: Option<u64>,
    /// Names of the machines placed on it. They stay placed there and are not started elsewhere.
    pub machines: Vec<String>,
}

/// What becomes of a host when the cluster is formed anew without asking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ReformFate {
    /// It answers and comes along by itself.
    Follows,
    /// It answers and has changes that this host lacks: form the cluster anew there, or name it as lost to go on without
    /// them.
    Newer,
    /// It does not answer: it has to be named as lost.
    Silent,
    /// It was named as lost before.
    Lost,
}

/// `POST /cluster/reform`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReformCluster {
    /// Name of this host, from which the cluster is formed anew.
    pub confirm: String,
    /// The hosts that are lost: every one that does not answer, and every one whose newer changes are given up.
    pub lost: Vec<HostId>,
}

/// What began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewEpoch {
    /// The epoch.
    pub epoch: u64,
    /// The backup of the state before it.
    pub backup: String,
}

/// Why a backup of the state was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BackupReason {
    /// The day is over.
    Nightly,
    /// Someone asked for it.
    Manual,
    /// Before the cluster was formed anew.
    Reform,
    /// Before a host was removed.
    Removal,
    /// Before a backup was restored.
    Restore,
    /// Before the host joined another cluster.
    Join,
    /// At the first start of another release.
    Upgrade,
}

impl BackupReason {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::Nightly, Self::Manual, Self::Reform, Self::Removal, Self::Restore, Self::Join, Self::Upgrade];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::Manual => "manual",
            Self::Reform => "reform",
            Self::Removal => "removal",
            Self::Restore => "restore",
            Self::Join => "join",
            Self::Upgrade => "upgrade",
        }
    }
}

/// A backup of the cluster's state on the answering host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StateBackup {
    /// Its name: the file without `.lqb`.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Why.
    pub reason: BackupReason,
    /// Size of the file.
    pub size_bytes: u64,
    /// What it is of; absent where the file cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<BackupContent>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackupContent {
    /// The release that made it.
    pub release: String,
    /// The cluster.
    pub cluster: Uuid,
    /// Its epoch.
    pub epoch: u64,
    /// The host that made it.
    pub host: HostId,
    /// That host's name.
    pub host_name: String,
    /// The last change it holds.
    pub revision: u64,
}

/// As whom a host takes a restored state over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RestoreAs {
    /// As the host it is, added to those of the backup unless it is one of them.
    #[default]
    Itself,
    /// As the host that made the backup, with its id and key: for a host that was installed anew and has the data of the old
    /// one. That one must never be switched on again.
    Origin,
}

/// Answer to `POST /cluster/restore`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Restored {
    /// The epoch that begins.
    pub epoch: u64,
    /// What was restored.
    pub content: BackupContent,
    /// The host this one is from now on.
    pub host: HostId,
    /// Names of the hosts that are lost until they join again.
    pub lost: Vec<String>,
}
