//! The serial console of a machine, by WebSocket: binary frames are the line's bytes, scroll-back first. It may be opened
//! before the machine runs, and stays open across its restarts; it ends when the machine is deleted, and as soon as its user
//! has lost the session or the right to it.

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
use lq_api::{VmId, vm::VmState};
use std::{sync::Arc, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Longest without a change of the state before the line of a machine that runs is tried again: between "starting" and the
/// line being there nothing changes in the state.
const AGAIN: Duration = Duration::from_millis(500);
/// The same where nothing is expected.
const LONG: Duration = Duration::from_secs(3600);
/// Pause after a line that ended or cannot be reached.
const PAUSE: Duration = Duration::from_millis(200);

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
    seat: Option<Extension<Seat>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    if api.node.cluster.read(|s| !s.vms.contains_key(&id)) {
        return Err(Failure::not_found("vm", id));
    }
    let upgrade = upgraded(upgrade)?;
    let serve = move |socket| async move {
        let mut viewer = Viewer::new(api.clone(), caller, id, socket, seat);
        if let Err(over) = follow(&api, id, &mut viewer).await {
            viewer.end(over).await;
        }
    };
    Ok(upgrade.on_upgrade(serve).into_response())
}

/// Follows the machine from run to run.
async fn follow(api: &Api, id: VmId, viewer: &mut Viewer) -> Result<(), Over> {
    loop {
        viewer.check()?;
        let running = api.node.cluster.read(|s| {
            s.vms.get(&id).is_some_and(|r| !matches!(r.vm.status.state, VmState::Stopped | VmState::Failed))
        });
        let line = if running { api.node.fleet.console(id).await } else { Err(compute::Error::NotRunning) };
        match line {
            Ok(line) => {
                viewer.carry(line).await?;
                // The line ended; the state follows in a moment.
                viewer.wait(PAUSE).await?;
            }
            Err(compute::Error::NotRunning) => viewer.wait(if running { AGAIN } else { LONG }).await?,
            Err(e) => {
                tracing::warn!(vm = %id, error = %e, "the console cannot be reached; trying again");
                viewer.wait(5 * PAUSE).await?;
            }
        }
    }
}
