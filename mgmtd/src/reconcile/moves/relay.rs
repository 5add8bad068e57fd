//! Passes the frames of a moving machine on between a monitor of this host and the other host. Each is shown to a [`Gate`] first,
//! and one that the gate does not let pass ends the stream there.

use crate::compute::{Console, frames::Frame};
use async_trait::async_trait;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

/// Decides on frames, and may take its time over one.
#[async_trait]
pub(super) trait Gate: Sync {
    /// One of the monitor here, for the other host.
    async fn outward(&self, frame: &Frame) -> bool;
    /// One of the other host, for the monitor here.
    async fn inward(&self, frame: &Frame) -> bool;
}

/// Passes frames on until either side ends, a gate closes, or something breaks.
pub(super) async fn relay(
    local: Box<dyn Console>,
    peer: impl AsyncRead + AsyncWrite + Unpin + Send,
    gate: &impl Gate,
) -> io::Result<()> {
    let (mut from_local, mut to_local) = tokio::io::split(local);
    let (mut from_peer, mut to_peer) = tokio::io::split(peer);
    let outward = async {
        let mut frame = Frame::default();
        while frame.read(&mut from_local).await? && gate.outward(&frame).await {
            to_peer.write_all(frame.bytes()).await?;
            to_peer.flush().await?;
        }
        io::Result::Ok(())
    };
    let inward = async {
        let mut frame = Frame::default();
        while frame.read(&mut from_peer).await? && gate.inward(&frame).await {
            to_local.write_all(frame.bytes()).await?;
            to_local.flush().await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        ended = outward => ended,
        ended = inward => ended,
    }
}
