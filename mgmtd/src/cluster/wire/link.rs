//! What openraft calls: its messages to one other member.

use super::{CallError, Wire};
use crate::cluster::types::{Member, NodeId, Snapshot, SnapshotData, SnapshotMeta, Types, Vote};
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{future::Future, sync::Arc, time::Duration};

/// Longest a snapshot may take to arrive and be stored.
const SNAPSHOT: Duration = Duration::from_secs(300);

/// The line before a snapshot's bytes.
#[derive(Serialize, Deserialize)]
pub(super) struct SnapshotHead {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) length: u64,
}

/// Makes links.
#[derive(Clone)]
pub(in crate::cluster) struct Links(pub(in crate::cluster) Arc<Wire>);

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, _member: &Member) -> Link {
        Link { wire: self.0.clone(), target }
    }
}

/// To one member.
pub(in crate::cluster) struct Link {
    wire: Arc<Wire>,
    target: NodeId,
}

impl Link {
    async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, RPCError<Types>> {
        self.wire.call(self.target.into(), path, body, limit).await.map_err(|e| match e {
            // openraft waits a while before it tries again.
            CallError::Unreachable { .. } | CallError::Refused(_) | CallError::Epoch { .. } => {
                Unreachable::new(&e).into()
            }
            CallError::Broken { .. } => NetworkError::new(&e).into(),
        })
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.call("/raft/append", &rpc, option.hard_ttl()).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.call("/raft/vote", &rpc, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.call("/raft/pre-vote", &rpc, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let head = SnapshotHead { vote, meta: snapshot.meta, length: snapshot.snapshot.len() as u64 };
        let mut body = serde_json::to_vec(&head).map_err(|e| NetworkError::new(&e))?;
        body.push(b'\n');
        body.extend_from_slice(&snapshot.snapshot);
        let sent = self.wire.send(
            self.target.into(),
            "/raft/snapshot",
            "application/octet-stream",
            body.into(),
            SNAPSHOT,
        );
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = sent => sent.map_err(|e| Unreachable::new(&e).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.call("/raft/transfer", &rpc, option.hard_ttl()).await
    }
}
