//! Networks.

use super::super::{
    Api,
    access::{with_labels, without_hidden},
    extract::{Answer, Id, IfMatch, Json, Query, tagged},
    list::{Wanted, sees},
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Op, Reply},
};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    NetworkId,
    access::{ObjectKind, Permission},
    list::{ListQuery, Page},
    network::{CreateNetwork, Network, UpdateNetwork},
    problem::Kind,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete))
}

/// Networks.
#[utoipa::path(
    get, path = "/networks", tag = "networks", params(ListQuery), responses((status = 200, body = Page<Network>))
)]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Network>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        let may_see = sees(&caller, ObjectKind::Network);
        wanted.page(&s.networks, revision, |n: &Arc<Network>| &n.meta, may_see, |n| (**n).clone())
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes a network.
#[utoipa::path(
    post, path = "/networks", tag = "networks", request_body = CreateNetwork, responses((status = 201, body = Network))
)]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(create): Json<CreateNetwork>,
) -> Result<Response, Failure> {
    Failure::check(create.validate())?;
    let id = NetworkId::new();
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Network, id.0), Some(&create.labels), Permission::NetworkWrite)
    })?;
    let op = Op::CreateNetwork { id, create };
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::Network(network) => Ok(tagged(status, &network.meta, &*network)),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// A network.
#[utoipa::path(
    get, path = "/networks/{id}", tag = "networks", params(("id" = NetworkId, Path)),
    responses((status = 200, body = Network))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<NetworkId>) -> Result<Response, Failure> {
    let network = api.node.cluster.read(|s| s.networks.get(&id).cloned());
    let network = network.ok_or_else(|| Failure::not_found("network", id))?;
    Ok(tagged(StatusCode::OK, &network.meta, &*network))
}

/// Changes a network.
#[utoipa::path(
    patch, path = "/networks/{id}", tag = "networks", params(("id" = NetworkId, Path)), request_body = UpdateNetwork,
    responses((status = 200, body = Network))
)]
async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<NetworkId>,
    IfMatch(expect): IfMatch,
    Json(update): Json<UpdateNetwork>,
) -> Result<Response, Failure> {
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Network, id.0), update.labels.as_ref(), Permission::NetworkWrite)
    })?;
    answer(StatusCode::OK, api.node.cluster.write(Op::UpdateNetwork { id, expect, update }).await?)
}

/// Deletes a network no machine is connected to.
#[utoipa::path(
    delete, path = "/networks/{id}", tag = "networks", params(("id" = NetworkId, Path)), responses((status = 204))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<NetworkId>,
    IfMatch(expect): IfMatch,
) -> Result<StatusCode, Failure> {
    let deleted = api.node.cluster.write(Op::DeleteNetwork { id, expect }).await;
    deleted
        .map_err(|e| api.node.cluster.read(|s| without_hidden(s, &caller, (ObjectKind::Network, id.0), e)))?;
    Ok(StatusCode::NO_CONTENT)
}
