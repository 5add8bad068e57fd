//! Storage pools.

use super::super::{
    Api,
    access::{with_labels, without_hidden},
    extract::{Answer, Id, IfMatch, Json, Query, tagged},
    list::{Wanted, sees},
    peer,
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Op, Reply, State as Agreed, state::PoolRecord},
};
use axum::{extract::State, http::StatusCode, response::Response};
use futures::future::join_all;
use lq_api::{
    PoolId,
    access::{ObjectKind, Permission},
    list::{ListQuery, Page},
    meta::{MetadataPatch, check_labels, check_name},
    pool::{AdoptFile, CreatePool, DeleteForeign, Pool},
    problem::Kind,
    task::Task,
};
use std::{sync::Arc, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Longest the files of a pool may take to be looked through for an answer that tells more than them.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(adopt_foreign))
        .routes(routes!(delete_foreign))
}

async fn with_room(api: &Api, mut pool: Pool) -> Pool {
    pool.status = peer::pool_room(api, pool.meta.id).await;
    pool
}

/// A pool as the caller may see it: without the hosts that they may not see.
pub(super) fn visible(state: &Agreed, caller: &Caller, record: &PoolRecord) -> Pool {
    let mut pool = record.show();
    pool.hosts.retain(|h| caller.may(Permission::HostRead, state.object(ObjectKind::Host, h.host.0)));
    pool
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
        wanted.page(
            &s.pools,
            revision,
            |r| &r.meta,
            sees(&caller, ObjectKind::Pool),
            |r| visible(s, &caller, r),
        )
    });
    let items = join_all(page.items.into_iter().map(|pool| with_room(&api, pool))).await;
    Ok(Answer(StatusCode::OK, Page { items, next_cursor: page.next_cursor, revision: page.revision }))
}

/// Makes a shared pool. Every host mounts it; how each stands to it is in its `hosts`.
#[utoipa::path(
    post, path = "/pools", tag = "pools", request_body = CreatePool, responses((status = 201, body = Pool))
)]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(create): Json<CreatePool>,
) -> Result<Response, Failure> {
    Failure::check(create.validate())?;
    let id = PoolId::new();
    answer(&api, &caller, StatusCode::CREATED, id, Op::CreatePool { id, create }).await
}

/// Carries out a change and answers with the pool.
async fn answer(
    api: &Api,
    caller: &Caller,
    status: StatusCode,
    id: PoolId,
    op: Op,
) -> Result<Response, Failure> {
    let Reply::Pool(pool) = api.node.cluster.write(op).await? else {
        return Err(Failure::new(Kind::Internal, "an unexpected answer of the state"));
    };
    let pool =
        api.node.cluster.read(|s| s.pools.get(&id).map(|r| visible(s, caller, r))).unwrap_or((*pool).clone());
    Ok(tagged(status, &pool.meta, &pool))
}

/// A storage pool.
#[utoipa::path(
    get, path = "/pools/{id}", tag = "pools", params(("id" = PoolId, Path)), responses((status = 200, body = Pool))
)]
async fn get(State(api): State<Arc<Api>>, caller: Caller, Id(id): Id<PoolId>) -> Result<Response, Failure> {
    let pool = api.node.cluster.read(|s| s.pools.get(&id).map(|r| visible(s, &caller, r)));
    let mut pool = with_room(&api, pool.ok_or_else(|| Failure::not_found("pool", id))?).await;
    if api.node.pool(id).is_some() {
        match tokio::time::timeout(PATIENCE, api.node.foreign(id)).await {
            Ok(Ok(files)) => pool.foreign = files,
            Ok(Err(e)) => tracing::warn!(pool = %id, error = %e, "its foreign files are not known"),
            Err(_) => tracing::warn!(pool = %id, "its foreign files are not known: it does not answer"),
        }
    }
    Ok(tagged(StatusCode::OK, &pool.meta, &pool))
}

/// Changes name and labels.
#[utoipa::path(
    patch, path = "/pools/{id}", tag = "pools", params(("id" = PoolId, Path)), request_body = MetadataPatch,
    responses((status = 200, body = Pool))
)]
async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<PoolId>,
    IfMatch(expect): IfMatch,
    Json(patch): Json<MetadataPatch>,
) -> Result<Response, Failure> {
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Pool, id.0), patch.labels.as_ref(), Permission::StorageWrite)
    })?;
    answer(&api, &caller, StatusCode::OK, id, Op::UpdatePool { id, expect, patch }).await
}

/// Deletes a shared pool nothing is in. The directory is free for another pool afterwards.
#[utoipa::path(
    delete, path = "/pools/{id}", tag = "pools", params(("id" = PoolId, Path)),
    responses((status = 202, body = Task))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<PoolId>,
    IfMatch(expect): IfMatch,
) -> Result<Answer<Task>, Failure> {
    let deleted = api.node.delete_pool(id, expect, &caller.actor).await;
    let task = deleted
        .map_err(|e| api.node.cluster.read(|s| without_hidden(s, &caller, (ObjectKind::Pool, id.0), e)))?;
    Ok(Answer(StatusCode::ACCEPTED, task))
}

/// Makes a volume or an image of a file that belongs to no object. It keeps its place and its id; a clone needs its image first.
#[utoipa::path(
    post, path = "/pools/{id}/foreign/adopt", tag = "pools", params(("id" = PoolId, Path)), request_body = AdoptFile,
    responses((status = 202, body = Task))
)]
async fn adopt_foreign(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<PoolId>,
    Json(adopt): Json<AdoptFile>,
) -> Result<Answer<Task>, Failure> {
    let errors = check_name("name", &adopt.name).into_iter().chain(check_labels("labels", &adopt.labels));
    Failure::check(errors.collect())?;
    Ok(Answer(StatusCode::ACCEPTED, api.node.adopt_foreign(id, adopt, &caller.actor).await?))
}

/// Deletes a file that belongs to no object, for ever. To name it is to confirm it.
#[utoipa::path(
    post, path = "/pools/{id}/foreign/delete", tag = "pools", params(("id" = PoolId, Path)), request_body = DeleteForeign,
    responses((status = 204))
)]
async fn delete_foreign(
    State(api): State<Arc<Api>>,
    Id(id): Id<PoolId>,
    Json(delete): Json<DeleteForeign>,
) -> Result<StatusCode, Failure> {
    api.node.delete_foreign(id, &delete.file).await?;
    Ok(StatusCode::NO_CONTENT)
}
