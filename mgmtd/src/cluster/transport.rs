//! How members reach each other. One member needs nobody: [`Alone`]. A transport for many takes its place here and
//! nothing else changes.

use super::types::{Member, NodeId, Snapshot, SnapshotData, Types, Vote};
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{NetSnapshot, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use std::future::Future;

/// What the cluster needs of a transport: a connection to each member.
pub trait Transport:
    RaftNetworkFactory<Types, Network: NetSnapshot<Types, SnapshotData = SnapshotData>>
{
}
impl<T> Transport for T where
    T: RaftNetworkFactory<Types, Network: NetSnapshot<Types, SnapshotData = SnapshotData>>
{
}

/// The transport of a cluster of one: every other member is unreachable.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl RaftNetworkFactory<Types> for Alone {
    type Network = Nobody;

    async fn new_client(&mut self, target: NodeId, _node: &Member) -> Nobody {
        Nobody { target }
    }
}

/// A member that cannot be reached.
#[derive(Clone, Copy, Debug)]
pub struct Nobody {
    target: NodeId,
}

impl Nobody {
    fn unreachable(self) -> Unreachable<Types> {
        let why = format!("this host has no transport to member {}", self.target);
        Unreachable::new(&std::io::Error::new(std::io::ErrorKind::NotConnected, why))
    }
}

impl RaftNetworkV2<Types> for Nobody {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}
