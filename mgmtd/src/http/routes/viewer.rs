//! Someone at a console or a screen of a machine: a WebSocket on the one side, a line of the machine on the other.
//!
//! Invariant: nothing is carried any more once its user may not use the machine's consoles, or their session or token is
//! over: looked at with every change of the state, and every second for what ends by time. The connection keeps its place
//! among all others as long as it is open.

use super::super::{Api, problem::Failure, server::Seat};
use crate::{auth::Caller, compute};
use axum::{
    Extension,
    extract::{
        WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use lq_api::{
    VmId,
    access::{ObjectKind, Permission},
    problem::{Kind, Problem},
};
use std::{ops::ControlFlow, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    time::Interval,
};

/// Largest frame a client may send: a paste.
const MAX_FRAME: usize = 64 * 1024;
/// Bytes sent in one frame at most.
const CHUNK: usize = 32 * 1024;
/// A silent connection is checked this often.
const BEAT: Duration = Duration::from_secs(30);

/// The upgrade, or what to say to a request that is none.
pub(super) fn upgraded(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, Failure> {
    let upgrade = upgrade.map_err(|e| {
        let mut problem = Problem::new(Kind::Malformed, format!("open it as a WebSocket: {e}"));
        problem.status = StatusCode::UPGRADE_REQUIRED.as_u16();
        Failure::from(problem)
    })?;
    Ok(upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME))
}

/// Why a viewer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The client is gone.
    Gone,
    /// The daemon is ending.
    Ending,
    /// They may not go on.
    NotAllowed,
    /// The machine was deleted.
    Deleted,
    /// The machine does not run any more.
    Stopped,
}

impl Over {
    /// What the client is told.
    fn told(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Gone => None,
            Self::Ending => Some((close_code::AWAY, "the daemon is ending")),
            Self::NotAllowed => Some((
                close_code::POLICY,
                "your session has ended, or you may not use this machine's console and screen any more",
            )),
            Self::Deleted => Some((close_code::NORMAL, "the machine was deleted")),
            Self::Stopped => Some((close_code::NORMAL, "the machine ended")),
        }
    }
}

/// One who looks on.
pub(super) struct Viewer {
    api: Arc<Api>,
    caller: Caller,
    vm: VmId,
    to_client: SplitSink<WebSocket, Message>,
    from_client: SplitStream<WebSocket>,
    changes: watch::Receiver<u64>,
    beat: Interval,
    _seat: Option<Extension<Seat>>,
}

impl Viewer {
    pub(super) fn new(
        api: Arc<Api>,
        caller: Caller,
        vm: VmId,
        socket: WebSocket,
        seat: Option<Extension<Seat>>,
    ) -> Self {
        let (to_client, from_client) = socket.split();
        let changes = api.node.cluster.watch();
        let beat = tokio::time::interval(BEAT);
        Self { api, caller, vm, to_client, from_client, changes, beat, _seat: seat }
    }

    /// Refuses to go on where the machine is gone or may not be used any more.
    pub(super) fn check(&mut self) -> Result<(), Over> {
        self.changes.borrow_and_update();
        let caller = self.api.auth.renew(&self.caller);
        self.api.node.cluster.read(|s| {
            if !s.vms.contains_key(&self.vm) {
                return Err(Over::Deleted);
            }
            let object = s.object(ObjectKind::Vm, self.vm.0);
            match caller {
                Some(caller) if caller.may(Permission::VmConsole, object) => Ok(()),
                _ => Err(Over::NotAllowed),
            }
        })
    }

    /// Carries bytes both ways until the line ends.
    pub(super) async fn carry(&mut self, line: Box<dyn compute::Console>) -> Result<(), Over> {
        let (mut from_guest, mut to_guest) = tokio::io::split(line);
        let mut buffer = vec![0; CHUNK];
        // What was typed and not yet taken; nothing more is read before it is.
        let mut typed: Vec<u8> = Vec::new();
        let (api, caller) = (self.api.clone(), self.caller.clone());
        let over = api.auth.over(&caller);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = self.api.ending.cancelled() => return Err(Over::Ending),
                () = &mut over => return Err(Over::NotAllowed),
                changed = self.changes.changed() => {
                    changed.map_err(|_| Over::Ending)?;
                    self.check()?;
                }
                _ = self.beat.tick() => {
                    self.send(Message::Ping(Vec::new().into())).await?;
                }
                read = from_guest.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(n) => {
                        let bytes = buffer.get(..n).unwrap_or_default().to_vec();
                        self.send(Message::Binary(bytes.into())).await?;
                    }
                },
                written = to_guest.write(&typed), if !typed.is_empty() => match written {
                    // The guest may have ended: what is typed then is lost, as on a real line.
                    Ok(0) | Err(_) => typed.clear(),
                    Ok(n) => drop(typed.drain(..n.min(typed.len()))),
                },
                message = self.from_client.next(), if typed.is_empty() => match said(message) {
                    ControlFlow::Break(()) => return Err(Over::Gone),
                    ControlFlow::Continue(bytes) => typed = bytes,
                },
            }
        }
    }

    /// Waits for something to change, at most `limit`; what is typed meanwhile is lost.
    pub(super) async fn wait(&mut self, limit: Duration) -> Result<(), Over> {
        let end = tokio::time::sleep(limit);
        let (api, caller) = (self.api.clone(), self.caller.clone());
        let over = api.auth.over(&caller);
        tokio::pin!(end, over);
        loop {
            tokio::select! {
                () = self.api.ending.cancelled() => return Err(Over::Ending),
                () = &mut over => return Err(Over::NotAllowed),
                changed = self.changes.changed() => return changed.map_err(|_| Over::Ending),
                () = &mut end => return Ok(()),
                _ = self.beat.tick() => {
                    self.send(Message::Ping(Vec::new().into())).await?;
                }
                message = self.from_client.next() => if said(message).is_break() {
                    return Err(Over::Gone);
                },
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Over> {
        // A client that takes nothing for so long is gone.
        match tokio::time::timeout(BEAT, self.to_client.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over::Gone),
        }
    }

    /// Closes, with the reason.
    pub(super) async fn end(mut self, over: Over) {
        if let Some((code, reason)) = over.told() {
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = self.send(Message::Close(Some(frame))).await;
        }
    }
}

fn said(message: Option<Result<Message, axum::Error>>) -> ControlFlow<(), Vec<u8>> {
    match message {
        Some(Ok(Message::Binary(bytes))) => ControlFlow::Continue(bytes.to_vec()),
        Some(Ok(Message::Text(text))) => ControlFlow::Continue(text.as_bytes().to_vec()),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => ControlFlow::Continue(vec![]),
        Some(Ok(Message::Close(_)) | Err(_)) | None => ControlFlow::Break(()),
    }
}
