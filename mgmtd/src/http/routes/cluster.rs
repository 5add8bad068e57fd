//! The cluster, and the description of the API itself.

use super::super::{Api, extract::Answer, openapi, problem::Failure};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lq_api::cluster::Cluster;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(cluster)).route("/openapi.json", axum::routing::get(document))
}

/// The cluster as this host sees it.
#[utoipa::path(get, path = "/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
async fn cluster(State(api): State<Arc<Api>>) -> Answer<Cluster> {
    let cluster = &api.node.cluster;
    let standing = cluster.standing();
    let (id, revision) = cluster.read_at(|s, revision| (s.cluster.as_ref().map(|c| c.id), revision));
    let answer = Cluster {
        id: id.unwrap_or_else(|| cluster.identity().cluster),
        this_host: cluster.identity().host,
        leader: standing.leader,
        term: standing.term,
        voters: standing.voters,
        revision,
    };
    Answer(StatusCode::OK, answer)
}

async fn document() -> Result<Response, Failure> {
    let text = openapi::document().map_err(|e| Failure::internal(&e))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}
