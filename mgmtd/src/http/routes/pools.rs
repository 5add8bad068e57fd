//! Storage pools.

use super::super::{
    Api,
    extract::{Answer, Id, Query, tagged},
    list::{Wanted, sees},
    problem::Failure,
};
use crate::{auth::Caller, cluster::state::PoolRecord};
use axum::{extract::State, http::StatusCode, response::Response};
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
    if let Some(driver) = api.node.pool(pool.meta.id) {
        match driver.status().await {
            Ok(status) => pool.status = Some(status),
            Err(e) => tracing::warn!(pool = pool.meta.name, error = %e, "its room is not known"),
        }
    }
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
    let mut items = Vec::with_capacity(page.items.len());
    for pool in page.items {
        items.push(with_room(&api, pool).await);
    }
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
