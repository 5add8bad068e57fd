//! openraft's view of the cluster. Nothing outside `cluster` names an `openraft::` path.

use super::state::{Command, Outcome, Position};
use lq_api::HostId;
use openraft::impls::leader_id_adv::LeaderId;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// Identity of a cluster member: its host's id. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Uuid);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl From<HostId> for NodeId {
    fn from(host: HostId) -> Self {
        Self(host.0)
    }
}
impl From<NodeId> for HostId {
    fn from(node: NodeId) -> Self {
        Self(node.0)
    }
}
/// Only openraft's test suite numbers its nodes.
impl From<u64> for NodeId {
    fn from(n: u64) -> Self {
        Self(Uuid::from_u64_pair(0, n))
    }
}

/// What members know of each other besides the id. Addresses are attributes and may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(unreachable_pub, reason = "part of the public type of the log")]
pub struct Member {
    /// Where its peers reach it; empty for the only member of a cluster.
    #[serde(default)]
    pub address: String,
}

#[cfg(not(test))]
openraft::declare_raft_types!(
    /// Types of the log.
    pub Types:
        D = Command,
        R = Outcome,
        NodeId = NodeId,
        Node = Member,
);

#[cfg(test)]
openraft::declare_raft_types!(
    /// Types of the log; its tasks can be those of a simulated host.
    pub Types:
        D = Command,
        R = Outcome,
        NodeId = NodeId,
        Node = Member,
        AsyncRuntime = super::sim::runtime::Runtime,
);

pub(super) type LogId = openraft::alias::LogIdOf<Types>;
pub(super) type Vote = openraft::alias::VoteOf<Types>;
pub(super) type Entry = openraft::alias::EntryOf<Types>;
pub(super) type Membership = openraft::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
/// A snapshot in memory: the stored form of the state.
pub(super) type SnapshotData = Vec<u8>;
pub(super) type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;

/// The terms of a position in the log, free of openraft's types.
pub(super) fn position(id: &LogId) -> Position {
    Position { term: id.leader_id.term, leader: id.leader_id.node_id.into(), index: id.index }
}

/// The other way.
pub(super) fn log_id(at: &Position) -> LogId {
    LogId { leader_id: LeaderId { term: at.term, node_id: at.leader.into() }, index: at.index }
}
