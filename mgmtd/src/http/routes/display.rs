//! The screen of a machine, by WebSocket: binary frames are the bytes of one RFB (VNC) connection, as noVNC speaks it. It
//! ends with the machine's run, when the daemon ends, and at the next beat after its user lost the session or the right to it.

use super::{
    super::{Api, extract::Id, problem::Failure},
    console::{BEAT, CHUNK, MAX_FRAME, NO_MORE, end, may_use, said, send, upgraded},
};
use crate::{auth::Caller, compute};
use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use lq_api::{VmId, problem::Kind};
use std::{ops::ControlFlow, sync::Arc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The subprotocol viewers in browsers ask for.
const SUBPROTOCOL: &str = "binary";

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(display))
}

/// The screen, by WebSocket.
#[utoipa::path(
    get, path = "/vms/{id}/display", tag = "vms", params(("id" = VmId, Path)),
    responses((status = 101, description = "WebSocket; binary frames are the bytes of an RFB 3.8 (VNC) connection"))
)]
async fn display(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VmId>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let Some(shown) = api.node.cluster.read(|s| s.vms.get(&id).map(|r| r.vm.spec.display == Some(true)))
    else {
        return Err(Failure::not_found("vm", id));
    };
    if !shown {
        let why = "the machine has no display: it boots a kernel directly, or `spec.display` is false";
        return Err(Failure::new(Kind::Conflict, why));
    }
    let upgrade = upgraded(upgrade)?.protocols([SUBPROTOCOL]);
    // Connected before the answer, so that a viewer learns why where it cannot be.
    let line = api.node.fleet.display(id).await.map_err(|e| match e {
        compute::Error::NotRunning => {
            Failure::new(Kind::Conflict, "the machine is not running: start it first")
        }
        other => Failure::new(Kind::Unavailable, format!("the machine's display cannot be reached: {other}")),
    })?;
    let upgrade = upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    Ok(upgrade.on_upgrade(move |socket| serve(api, caller, id, line, socket)).into_response())
}

async fn serve(api: Arc<Api>, caller: Caller, id: VmId, line: Box<dyn compute::Console>, socket: WebSocket) {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_guest, mut to_guest) = tokio::io::split(line);
    let mut beat = tokio::time::interval(BEAT);
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
                Ok(0) | Err(_) => return end(&mut to_client, close_code::NORMAL, "the machine ended").await,
                Ok(n) => {
                    let bytes = buffer.get(..n).unwrap_or_default().to_vec();
                    send(&mut to_client, Message::Binary(bytes.into())).await
                }
            },
            typed = from_client.next() => match said(typed) {
                ControlFlow::Continue(bytes) => match to_guest.write_all(&bytes).await {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => return end(&mut to_client, close_code::NORMAL, "the machine ended").await,
                },
                ControlFlow::Break(()) => return,
            },
        };
        if step.is_break() {
            return;
        }
    }
}
