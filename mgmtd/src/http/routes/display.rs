//! The screen of a machine, by WebSocket: binary frames are the bytes of one RFB (VNC) connection, as noVNC speaks it. It
//! ends with the machine's run, when the daemon ends, and as soon as its user has lost the session or the right to it.

use super::{
    super::{Api, extract::Id, problem::Failure, server::Seat},
    viewer::{Over, Viewer, upgraded},
};
use crate::{auth::Caller, compute};
use axum::{
    Extension,
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    response::{IntoResponse as _, Response},
};
use lq_api::{VmId, problem::Kind};
use std::sync::Arc;
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
    seat: Option<Extension<Seat>>,
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
    let serve = move |socket| async move {
        let mut viewer = Viewer::new(api, caller, id, socket, seat);
        let carried = match viewer.check() {
            Ok(()) => viewer.carry(line).await,
            Err(over) => Err(over),
        };
        viewer.end(carried.err().unwrap_or(Over::Stopped)).await;
    };
    Ok(upgrade.on_upgrade(serve).into_response())
}
