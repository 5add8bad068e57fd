//! Storage pools.

use super::super::{
    Api,
    extract::{Answer, Id, Query, tagged},
    list::{Wanted, sees},
    peer,
    problem::Failure,
};
use crate::{auth::Caller, cluster::state::PoolRecord};
use axum::{extract::State, http::StatusCode, response::Response};
use futures::future::join_all;
use lq_api::{
    PoolId,
    access::ObjectKind,
    list::{ListQuery, Page},
    pool::Pool,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

async fn with_room(api: &Api, mut pool: Pool) -> Pool {
    pool.status = peer::pool_room(api, pool.meta.id).await;
    pool
}

fn show(record: &PoolRecord) -> Pool {
    Pool { meta: record.meta.clone(), spec: record.spec.clone(), status: None }
}

/// Storage pools.
#[utoipa::path(get, path = "/pools", tag = "pools", params(ListQuery), responses((status = 200, body = Page<Pool>)))]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Pool>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        wanted.page(&s.pools, revision, |r| &r.meta, sees(&caller, ObjectKind::Pool), |r| show(r))
    });
    let items = join_all(page.items.into_iter().map(|pool| with_room(&api, pool))).await;
    Ok(Answer(StatusCode::OK, Page { items, next_cursor: page.next_cursor, revision: page.revision }))
}

/// A storage pool.
#[utoipa::path(
    get, path = "/pools/{id}", tag = "pools", params(("id" = PoolId, Path)), responses((status = 200, body = Pool))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<PoolId>) -> Result<Response, Failure> {
    let pool = api.node.cluster.read(|s| s.pools.get(&id).map(|r| show(r)));
    let pool = with_room(&api, pool.ok_or_else(|| Failure::not_found("pool", id))?).await;
    Ok(tagged(StatusCode::OK, &pool.meta, &pool))
}
