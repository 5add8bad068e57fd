//! The serial console of a machine, by WebSocket: binary frames are the line's bytes, scroll-back first. It may be opened
//! before the machine runs, and stays open across its restarts; it ends when the machine is deleted, and at the next beat after
//! its user lost the session or the right to it.

use super::super::{Api, extract::Id, problem::Failure};
use crate::{auth::Caller, compute};
use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures::{SinkExt as _, StreamExt as _, stream::SplitSink};
use lq_api::{
    VmId,
    access::{ObjectKind, Permission},
    problem::Kind,
    vm::VmState,
};
use std::{ops::ControlFlow, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Largest frame a client may send: a paste.
const MAX_FRAME: usize = 64 * 1024;
/// Bytes sent in one frame at most.
const CHUNK: usize = 32 * 1024;
/// A silent connection is checked this often.
const BEAT: Duration = Duration::from_secs(30);
const NO_MORE: &str = "your session has ended, or you may not use this console any more";

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(console))
}

/// The serial console, by WebSocket.
#[utoipa::path(
    get, path = "/vms/{id}/console", tag = "vms", params(("id" = VmId, Path)),
    responses((status = 101, description = "WebSocket; binary frames are the line's bytes, scroll-back first"))
)]
async fn console(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    if !exists(&api, id) {
        return Err(Failure::not_found("vm", id));
    }
    let upgrade = upgrade.map_err(|e| {
        let mut problem =
            lq_api::problem::Problem::new(Kind::Malformed, format!("open it as a WebSocket: {e}"));
        problem.status = StatusCode::UPGRADE_REQUIRED.as_u16();
        Failure::from(problem)
    })?;
    let upgrade = upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    Ok(upgrade.on_upgrade(move |socket| serve(api, caller, id, socket)).into_response())
}

fn exists(api: &Api, id: VmId) -> bool {
    api.node.cluster.read(|s| s.vms.contains_key(&id))
}

/// Whether the caller may still use the console, which may be open for days.
fn may_use(api: &Api, caller: &Caller, id: VmId) -> bool {
    api.auth.renew(caller).is_some_and(|caller| {
        api.node.cluster.read(|s| caller.may(Permission::VmConsole, s.object(ObjectKind::Vm, id.0)))
    })
}

async fn serve(api: Arc<Api>, caller: Caller, id: VmId, socket: WebSocket) {
    let (mut to_client, mut from_client) = socket.split();
    let mut changes = api.node.cluster.watch();
    let mut beat = tokio::time::interval(BEAT);
    loop {
        changes.borrow_and_update();
        if !exists(&api, id) {
            return end(&mut to_client, close_code::NORMAL, "the machine was deleted").await;
        }
        if !may_use(&api, &caller, id) {
            return end(&mut to_client, close_code::POLICY, NO_MORE).await;
        }
        let running = api.node.cluster.read(|s| {
            s.vms.get(&id).is_some_and(|r| !matches!(r.vm.status.state, VmState::Stopped | VmState::Failed))
        });
        let line = if running { api.node.fleet.console(id).await } else { Err(compute::Error::NotRunning) };
        match line {
            Ok(line) => {
                let (mut from_guest, mut to_guest) = tokio::io::split(line);
                let mut buffer = vec![0; CHUNK];
                loop {
                    let step = tokio::select! {
                        () = api.ending.cancelled() => {
                            return end(&mut to_client, close_code::AWAY, "the daemon is ending").await;
                        }
                        _ = beat.tick() => {
                            if !may_use(&api, &caller, id) {
                                return end(&mut to_client, close_code::POLICY, NO_MORE).await;
                            }
                            send(&mut to_client, Message::Ping(Vec::new().into())).await
                        }
                        read = from_guest.read(&mut buffer) => match read {
                            Ok(0) | Err(_) => break,
                            Ok(n) => {
                                let bytes = buffer.get(..n).unwrap_or_default().to_vec();
                                send(&mut to_client, Message::Binary(bytes.into())).await
                            }
                        },
                        typed = from_client.next() => match said(typed) {
                            ControlFlow::Break(()) => return,
                            ControlFlow::Continue(bytes) => {
                                // The guest may have ended: what is typed then is lost, as on a real line.
                                let _ = to_guest.write_all(&bytes).await;
                                ControlFlow::Continue(())
                            }
                        },
                    };
                    if step.is_break() {
                        return;
                    }
                }
                // The line ended; the state follows in a moment.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(e) => {
                if !matches!(e, compute::Error::NotRunning) {
                    tracing::warn!(vm = %id, error = %e, "the console cannot be reached; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                let step = tokio::select! {
                    () = api.ending.cancelled() => {
                        return end(&mut to_client, close_code::AWAY, "the daemon is ending").await;
                    }
                    _ = beat.tick() => send(&mut to_client, Message::Ping(Vec::new().into())).await,
                    typed = from_client.next() => said(typed).map_continue(drop),
                    changed = changes.changed() => match changed {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    },
                    // Between "starting" and its line being there nothing changes in the state.
                    () = tokio::time::sleep(Duration::from_millis(500)), if running => ControlFlow::Continue(()),
                };
                if step.is_break() {
                    return;
                }
            }
        }
    }
}

async fn send(to: &mut SplitSink<WebSocket, Message>, message: Message) -> ControlFlow<()> {
    // A client that takes nothing for so long is gone.
    match tokio::time::timeout(BEAT, to.send(message)).await {
        Ok(Ok(())) => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
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

async fn end(to: &mut SplitSink<WebSocket, Message>, code: u16, reason: &'static str) {
    let _ = send(to, Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}
