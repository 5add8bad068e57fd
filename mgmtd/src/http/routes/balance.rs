//! Balancing: what is wanted of it, and what is recommended.

use super::super::{
    Api,
    extract::{Answer, Json},
    peer,
    problem::Failure,
};
use crate::{auth::Caller, cluster::Op};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    access::ObjectKind,
    balance::{Balance, BalanceSpec},
    event::EventLevel,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(recommendations)).routes(routes!(set_balance))
}

/// How the hosts are loaded, and which machines would better run elsewhere. To follow a recommendation:
/// `POST /vms/{id}/migrate` with the host it names.
#[utoipa::path(get, path = "/cluster/recommendations", tag = "cluster", responses((status = 200, body = Balance)))]
async fn recommendations(State(api): State<Arc<Api>>, caller: Caller) -> Answer<Balance> {
    let mut balance = peer::balance(&api).await;
    api.node.cluster.read(|s| {
        let sees =
            |kind, id| s.labels(kind, id).is_some() && caller.may(kind.read_permission(), s.object(kind, id));
        balance.hosts.retain(|host| sees(ObjectKind::Host, host.host.0));
        balance.items.retain(|item| {
            sees(ObjectKind::Vm, item.vm.0)
                && sees(ObjectKind::Host, item.from.0)
                && sees(ObjectKind::Host, item.to.0)
        });
    });
    Answer(StatusCode::OK, balance)
}

/// Says who decides about moves for balance, and how many machines move at a time.
#[utoipa::path(
    put, path = "/cluster/balance", tag = "cluster", request_body = BalanceSpec,
    responses((status = 200, body = BalanceSpec))
)]
async fn set_balance(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(spec): Json<BalanceSpec>,
) -> Result<Answer<BalanceSpec>, Failure> {
    Failure::check(spec.validate())?;
    api.node.cluster.write(Op::SetBalance { spec }).await?;
    let mode = serde_json::to_value(spec.mode).ok().and_then(|v| v.as_str().map(str::to_owned));
    let text = format!("{} set balancing to {}", caller.actor, mode.unwrap_or_default());
    let id = api.node.cluster.identity().cluster;
    api.node.events.system(EventLevel::Info, "balance.set", format!("cluster/{id}"), text);
    Ok(Answer(StatusCode::OK, spec))
}
