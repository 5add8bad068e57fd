//! Volumes.

use super::super::{
    Api,
    access::{may_fill, may_use_image, with_labels, without_hidden},
    extract::{Answer, Id, IfMatch, Json, Query, tagged},
    list::{Wanted, sees},
    problem::Failure,
};
use crate::{
    auth::Caller,
    cluster::{Op, Reply, WriteError},
};
use axum::{extract::State, http::StatusCode, response::Response};
use lq_api::{
    VolumeId,
    access::{ObjectKind, Permission},
    list::{ListQuery, Page},
    meta::MetadataPatch,
    problem::Kind,
    task::Task,
    volume::{CreateVolume, GrowVolume, Volume},
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(grow))
}

/// Volumes.
#[utoipa::path(
    get, path = "/volumes", tag = "volumes", params(ListQuery), responses((status = 200, body = Page<Volume>))
)]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Page<Volume>>, Failure> {
    let wanted = Wanted::parse(&query)?;
    let page = api.node.cluster.read_at(|s, revision| {
        let may_see = sees(&caller, ObjectKind::Volume);
        wanted.page(&s.volumes, revision, |v: &Arc<Volume>| &v.meta, may_see, |v| (**v).clone())
    });
    Ok(Answer(StatusCode::OK, page))
}

/// Makes a volume, empty or as a clone of an image. It is `creating` at first; wait for `ready` or `failed`.
#[utoipa::path(
    post, path = "/volumes", tag = "volumes", request_body = CreateVolume, responses((status = 201, body = Volume))
)]
async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(mut create): Json<CreateVolume>,
) -> Result<Response, Failure> {
    Failure::check(create.validate())?;
    let id = VolumeId::new();
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Volume, id.0), Some(&create.labels), Permission::StorageWrite)
    })?;
    if let Some(source) = create.spec.source {
        api.node.cluster.read(|s| may_use_image(s, &caller, source, "spec.source"))?;
    }
    create.spec.pool = Some(api.node.cluster.read(|s| may_fill(s, &caller, create.spec.pool))?);
    let op = Op::CreateVolume { id, create };
    answer(StatusCode::CREATED, api.node.cluster.write(op).await?)
}

fn answer(status: StatusCode, reply: Reply) -> Result<Response, Failure> {
    match reply {
        Reply::Volume(volume) => Ok(tagged(status, &volume.meta, &*volume)),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// A volume.
#[utoipa::path(
    get, path = "/volumes/{id}", tag = "volumes", params(("id" = VolumeId, Path)),
    responses((status = 200, body = Volume))
)]
async fn get(State(api): State<Arc<Api>>, Id(id): Id<VolumeId>) -> Result<Response, Failure> {
    let volume = api.node.cluster.read(|s| s.volumes.get(&id).cloned());
    let volume = volume.ok_or_else(|| Failure::not_found("volume", id))?;
    Ok(tagged(StatusCode::OK, &volume.meta, &*volume))
}

/// Changes name and labels.
#[utoipa::path(
    patch, path = "/volumes/{id}", tag = "volumes", params(("id" = VolumeId, Path)), request_body = MetadataPatch,
    responses((status = 200, body = Volume))
)]
async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VolumeId>,
    IfMatch(expect): IfMatch,
    Json(patch): Json<MetadataPatch>,
) -> Result<Response, Failure> {
    api.node.cluster.read(|s| {
        with_labels(s, &caller, (ObjectKind::Volume, id.0), patch.labels.as_ref(), Permission::StorageWrite)
    })?;
    answer(StatusCode::OK, api.node.cluster.write(Op::UpdateVolume { id, expect, patch }).await?)
}

fn veiled(api: &Api, caller: &Caller, id: VolumeId, e: WriteError) -> Failure {
    api.node.cluster.read(|s| without_hidden(s, caller, (ObjectKind::Volume, id.0), e))
}

/// Deletes a volume no machine has, and what is on it.
#[utoipa::path(
    delete, path = "/volumes/{id}", tag = "volumes", params(("id" = VolumeId, Path)),
    responses((status = 202, body = Task))
)]
async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VolumeId>,
    IfMatch(expect): IfMatch,
) -> Result<Answer<Task>, Failure> {
    let deleted = api.node.delete_volume(id, expect, &caller.actor).await;
    let task = deleted.map_err(|e| veiled(&api, &caller, id, e))?;
    Ok(Answer(StatusCode::ACCEPTED, task))
}

/// Grows a volume no running machine uses.
#[utoipa::path(
    post, path = "/volumes/{id}/grow", tag = "volumes", params(("id" = VolumeId, Path)), request_body = GrowVolume,
    responses((status = 202, body = Task))
)]
async fn grow(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<VolumeId>,
    IfMatch(expect): IfMatch,
    Json(grow): Json<GrowVolume>,
) -> Result<Answer<Task>, Failure> {
    let grown = api.node.grow_volume(id, expect, grow.size_bytes, &caller.actor).await;
    let task = grown.map_err(|e| veiled(&api, &caller, id, e))?;
    Ok(Answer(StatusCode::ACCEPTED, task))
}
